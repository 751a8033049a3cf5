-- What is known of a login's client, one-time tokens that reset a password, API keys of services (auth_), and
-- invitations into projects (project_). Of every secret the store has the SHA-256 alone.

-- As the client called itself and where it came from, when it logged in.
ALTER TABLE auth_logins ADD COLUMN user_agent TEXT;
ALTER TABLE auth_logins ADD COLUMN address TEXT;
-- Tokens were given last; none since the login if it is empty.
ALTER TABLE auth_logins ADD COLUMN refreshed_at INTEGER CHECK (refreshed_at >= 0);

CREATE INDEX auth_logins_live ON auth_logins (user_id, id) WHERE revoked_at IS NULL;

-- Used and expired ones stay for a while, so that who comes late is told so.
CREATE TABLE auth_resets (
    token_hash BLOB    NOT NULL PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    TEXT    NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL CHECK (expires_at >= 0),
    -- Used, or withdrawn by another change of the password.
    used_at    INTEGER CHECK (used_at >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX auth_resets_user ON auth_resets (user_id);
CREATE INDEX auth_resets_expiry ON auth_resets (expires_at);

CREATE TABLE auth_api_keys (
    id           TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    -- What the key is good for; everything if it is empty.
    project_id   TEXT    REFERENCES project_projects (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    secret_hash  BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    -- Names, a space between.
    permissions  TEXT    NOT NULL CHECK (permissions <> ''),
    -- Its maker; none if it was made on the command line.
    created_by   TEXT    REFERENCES auth_users (id) ON DELETE SET NULL,
    created_at   INTEGER NOT NULL CHECK (created_at >= 0),
    expires_at   INTEGER CHECK (expires_at >= 0),
    -- To a minute.
    last_used_at INTEGER CHECK (last_used_at >= 0)
) STRICT;

CREATE INDEX auth_api_keys_project ON auth_api_keys (project_id, id);
CREATE INDEX auth_api_keys_maker ON auth_api_keys (created_by);

CREATE TABLE project_invitations (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id TEXT    NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    token_hash BLOB    NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    role       TEXT    NOT NULL CHECK (role IN ('viewer', 'commenter', 'editor', 'owner')),
    -- The login of the only one who may accept it, in lower case; anybody if it is empty.
    login_key  TEXT    CHECK (login_key <> ''),
    uses       INTEGER NOT NULL CHECK (uses > 0),
    used       INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    -- It is good only while this user owns the project.
    inviter_id TEXT    NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL CHECK (created_at >= 0),
    expires_at INTEGER NOT NULL CHECK (expires_at >= 0)
) STRICT;

CREATE INDEX project_invitations_project ON project_invitations (project_id, id);
CREATE INDEX project_invitations_inviter ON project_invitations (inviter_id);
CREATE INDEX project_invitations_expiry ON project_invitations (expires_at);

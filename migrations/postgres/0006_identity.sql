-- What is known of a login's client, one-time tokens that reset a password, API keys of services (auth_), and
-- invitations into projects (project_). Of every secret the store has the SHA-256 alone.

ALTER TABLE auth_logins
    -- As the client called itself and where it came from, when it logged in.
    ADD COLUMN user_agent   TEXT,
    ADD COLUMN address      TEXT,
    -- Tokens were given last; none since the login if it is empty.
    ADD COLUMN refreshed_at BIGINT CHECK (refreshed_at >= 0);

CREATE INDEX auth_logins_live ON auth_logins (user_id, id) WHERE revoked_at IS NULL;

-- Used and expired ones stay for a while, so that who comes late is told so.
CREATE TABLE auth_resets (
    token_hash BYTEA  NOT NULL PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL CHECK (expires_at >= 0),
    -- Used, or withdrawn by another change of the password.
    used_at    BIGINT CHECK (used_at >= 0)
);

CREATE INDEX auth_resets_user ON auth_resets (user_id);
CREATE INDEX auth_resets_expiry ON auth_resets (expires_at);

CREATE TABLE auth_api_keys (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    -- What the key is good for; everything if it is empty.
    project_id   TEXT COLLATE "C" REFERENCES project_projects (id) ON DELETE CASCADE,
    name         TEXT   NOT NULL,
    secret_hash  BYTEA  NOT NULL CHECK (octet_length(secret_hash) = 32),
    -- Names, a space between.
    permissions  TEXT   NOT NULL CHECK (permissions <> ''),
    -- Its maker; none if it was made on the command line.
    created_by   TEXT COLLATE "C" REFERENCES auth_users (id) ON DELETE SET NULL,
    created_at   BIGINT NOT NULL CHECK (created_at >= 0),
    expires_at   BIGINT CHECK (expires_at >= 0),
    -- To a minute.
    last_used_at BIGINT CHECK (last_used_at >= 0)
);

CREATE INDEX auth_api_keys_project ON auth_api_keys (project_id, id);
CREATE INDEX auth_api_keys_maker ON auth_api_keys (created_by);

CREATE TABLE project_invitations (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    token_hash BYTEA  NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    role       TEXT   NOT NULL CHECK (role IN ('viewer', 'commenter', 'editor', 'owner')),
    -- The login of the only one who may accept it, in lower case; anybody if it is empty.
    login_key  TEXT COLLATE "C" CHECK (login_key <> ''),
    uses       BIGINT NOT NULL CHECK (uses > 0),
    used       BIGINT NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    -- It is good only while this user owns the project.
    inviter_id TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    expires_at BIGINT NOT NULL CHECK (expires_at >= 0)
);

CREATE INDEX project_invitations_project ON project_invitations (project_id, id);
CREATE INDEX project_invitations_inviter ON project_invitations (inviter_id);
CREATE INDEX project_invitations_expiry ON project_invitations (expires_at);

-- Who may log in (auth_), what they work in (project_), and the row that a readiness probe writes.
-- All times are milliseconds since the Unix epoch; all ids are text, UUID v7 unless said otherwise.
-- What is listed or paged by text is compared byte by byte (COLLATE "C"), whatever the database's locale is.

CREATE TABLE store_health (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    touches BIGINT  NOT NULL
) WITH (fillfactor = 50);

INSERT INTO store_health (id, touches) VALUES (1, 0);

CREATE TABLE auth_users (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    login         TEXT   NOT NULL CHECK (login <> ''),
    -- The login in Unicode lower case, made by the hub as lower() depends on the locale: what logins are compared by.
    login_key     TEXT COLLATE "C" NOT NULL UNIQUE CHECK (login_key <> ''),
    name          TEXT   NOT NULL,
    password_hash TEXT   NOT NULL,
    created_at    BIGINT NOT NULL CHECK (created_at >= 0)
);

-- One row per login: the family of refresh tokens that grew from it.
CREATE TABLE auth_logins (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    revoked_at BIGINT CHECK (revoked_at >= 0)
);

CREATE INDEX auth_logins_user ON auth_logins (user_id, revoked_at);
CREATE INDEX auth_logins_revoked ON auth_logins (revoked_at) WHERE revoked_at IS NOT NULL;

-- Used tokens stay until they expire: a second use is how a stolen copy shows.
CREATE TABLE auth_refresh_tokens (
    token_hash BYTEA  NOT NULL PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    login_id   TEXT COLLATE "C" NOT NULL REFERENCES auth_logins (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL CHECK (expires_at >= 0),
    used_at    BIGINT CHECK (used_at >= 0)
);

CREATE INDEX auth_refresh_tokens_login ON auth_refresh_tokens (login_id);
CREATE INDEX auth_refresh_tokens_expiry ON auth_refresh_tokens (expires_at);

CREATE TABLE project_projects (
    -- Chosen by its maker: letters, digits and hyphens.
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9-]+$'),
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL CHECK (created_at >= 0)
);

-- A user who is a member can't be deleted from under a project: it could lose its last owner.
CREATE TABLE project_members (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE RESTRICT,
    role       TEXT   NOT NULL CHECK (role IN ('viewer', 'commenter', 'editor', 'owner')),
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    PRIMARY KEY (project_id, user_id)
);

CREATE INDEX project_members_user ON project_members (user_id, project_id);
CREATE INDEX project_members_owners ON project_members (project_id) WHERE role = 'owner';

-- Who outside issuers (OpenID Connect) say that somebody is: the user that stands for a subject, its
-- logins, and what its claims have granted. Times are milliseconds since the Unix epoch.

-- One user for one subject of one issuer. Its user has no password.
CREATE TABLE auth_identities (
    issuer        TEXT    NOT NULL CHECK (issuer <> ''),
    subject       TEXT    NOT NULL CHECK (subject <> ''),
    user_id       TEXT    NOT NULL UNIQUE REFERENCES auth_users (id) ON DELETE CASCADE,
    created_at    INTEGER NOT NULL CHECK (created_at >= 0),
    -- When the newest token seen was issued: the claims of older ones change nothing.
    claims_at     INTEGER NOT NULL DEFAULT 0 CHECK (claims_at >= 0),
    -- All tokens that were issued by then are refused.
    refused_until INTEGER NOT NULL DEFAULT 0 CHECK (refused_until >= 0),
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

-- The login session that stands for a session at the issuer.
CREATE TABLE auth_outside_logins (
    user_id       TEXT    NOT NULL REFERENCES auth_identities (user_id) ON DELETE CASCADE,
    -- A hash of the issuer's session id; empty where the issuer names none.
    session       TEXT    NOT NULL,
    login_id      TEXT    NOT NULL UNIQUE REFERENCES auth_logins (id) ON DELETE CASCADE,
    -- All tokens of the session that were issued by then are refused: an earlier login was revoked.
    refused_until INTEGER NOT NULL CHECK (refused_until >= 0),
    -- When the last token seen expires.
    seen_until    INTEGER NOT NULL CHECK (seen_until >= 0),
    PRIMARY KEY (user_id, session)
) STRICT, WITHOUT ROWID;

CREATE INDEX auth_outside_logins_age ON auth_outside_logins (seen_until);

-- What the issuer's claims granted in a project.
CREATE TABLE auth_grants (
    user_id    TEXT    NOT NULL REFERENCES auth_identities (user_id) ON DELETE CASCADE,
    project_id TEXT    NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    role       TEXT    NOT NULL CHECK (role IN ('viewer', 'commenter', 'editor', 'owner')),
    -- The role that the member had by hand; none if they were no member.
    base_role  TEXT    CHECK (base_role IN ('viewer', 'commenter', 'editor', 'owner')),
    -- Whether the membership is as the grant made it. Not if the member had as much before, nor once
    -- somebody has set it by hand.
    mine       INTEGER NOT NULL CHECK (mine IN (0, 1)),
    PRIMARY KEY (user_id, project_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX auth_grants_project ON auth_grants (project_id, user_id);

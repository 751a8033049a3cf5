-- Plans and their steps (planning_).

CREATE TABLE planning_plans (
    id              TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id      TEXT    NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    requested_by    TEXT    REFERENCES auth_users (id) ON DELETE SET NULL,
    -- Makes a repeated request the same plan; told apart per requester and project.
    idempotency_key TEXT    CHECK (idempotency_key <> ''),
    request         TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    -- Why it failed, in words; only then.
    reason          TEXT,
    -- Raised by each worker that takes the plan: messages of older attempts are ignored.
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    lease_owner     TEXT,
    lease_until     INTEGER CHECK (lease_until >= 0),
    -- What the plan rests on and what it says beyond its steps.
    body            TEXT    CHECK (json_valid(body)),
    tokens_used     INTEGER NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    created_at      INTEGER NOT NULL CHECK (created_at >= 0),
    updated_at      INTEGER NOT NULL CHECK (updated_at >= 0),
    finished_at     INTEGER CHECK (finished_at >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (reason IS NULL OR status = 'failed')
) STRICT;

CREATE INDEX planning_plans_project ON planning_plans (project_id, id);
CREATE INDEX planning_plans_requester ON planning_plans (requested_by) WHERE requested_by IS NOT NULL;
CREATE INDEX planning_plans_open ON planning_plans (lease_until) WHERE status IN ('queued', 'running');
CREATE UNIQUE INDEX planning_plans_once ON planning_plans (project_id, requested_by, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE planning_steps (
    plan_id    TEXT    NOT NULL REFERENCES planning_plans (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL CHECK (position >= 0),
    -- The attempt that wrote it.
    attempt    INTEGER NOT NULL CHECK (attempt >= 0),
    title      TEXT    NOT NULL,
    detail     TEXT    NOT NULL DEFAULT '',
    status     TEXT    NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped')),
    files      TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(files)),
    depends_on TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(depends_on)),
    minutes    INTEGER CHECK (minutes >= 0),
    updated_at INTEGER NOT NULL CHECK (updated_at >= 0),
    PRIMARY KEY (plan_id, position)
) STRICT, WITHOUT ROWID;

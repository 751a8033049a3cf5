-- Plans and their steps (planning_).

CREATE TABLE planning_plans (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id      TEXT COLLATE "C" NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    requested_by    TEXT COLLATE "C" REFERENCES auth_users (id) ON DELETE SET NULL,
    -- Makes a repeated request the same plan; told apart per requester and project.
    idempotency_key TEXT COLLATE "C" CHECK (idempotency_key <> ''),
    request         TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    -- Why it failed, in words; only then.
    reason          TEXT,
    -- Raised by each worker that takes the plan: messages of older attempts are ignored.
    attempt         BIGINT  NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    lease_owner     TEXT,
    lease_until     BIGINT  CHECK (lease_until >= 0),
    -- What the plan rests on and what it says beyond its steps. JSON and not JSONB, here and below: it is
    -- checked and kept, never queried, and JSONB refuses texts that hold \u0000.
    body            JSON,
    tokens_used     BIGINT  NOT NULL DEFAULT 0 CHECK (tokens_used >= 0),
    created_at      BIGINT  NOT NULL CHECK (created_at >= 0),
    updated_at      BIGINT  NOT NULL CHECK (updated_at >= 0),
    finished_at     BIGINT  CHECK (finished_at >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (reason IS NULL OR status = 'failed')
);

CREATE INDEX planning_plans_project ON planning_plans (project_id, id);
CREATE INDEX planning_plans_requester ON planning_plans (requested_by) WHERE requested_by IS NOT NULL;
CREATE INDEX planning_plans_open ON planning_plans (lease_until) WHERE status IN ('queued', 'running');
CREATE UNIQUE INDEX planning_plans_once ON planning_plans (project_id, requested_by, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TABLE planning_steps (
    plan_id    TEXT COLLATE "C" NOT NULL REFERENCES planning_plans (id) ON DELETE CASCADE,
    position   BIGINT NOT NULL CHECK (position >= 0),
    -- The attempt that wrote it.
    attempt    BIGINT NOT NULL CHECK (attempt >= 0),
    title      TEXT   NOT NULL,
    detail     TEXT   NOT NULL DEFAULT '',
    status     TEXT   NOT NULL CHECK (status IN ('pending', 'running', 'done', 'failed', 'skipped')),
    files      JSON   NOT NULL DEFAULT '[]',
    depends_on JSON   NOT NULL DEFAULT '[]',
    minutes    BIGINT CHECK (minutes >= 0),
    updated_at BIGINT NOT NULL CHECK (updated_at >= 0),
    PRIMARY KEY (plan_id, position)
);

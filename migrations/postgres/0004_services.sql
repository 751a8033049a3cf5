-- What the services around the hub keep: notifications (notify_), usage (usage_), domain events (events_).

CREATE TABLE notify_notifications (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C" REFERENCES project_projects (id) ON DELETE CASCADE,
    -- The event that caused it: one event tells one user once, however often it is delivered.
    event_id   TEXT COLLATE "C" NOT NULL,
    kind       TEXT   NOT NULL CHECK (kind <> ''),
    -- Bursts of one group are told as one notification with a count.
    group_key  TEXT COLLATE "C",
    grouped    BIGINT NOT NULL DEFAULT 1 CHECK (grouped >= 1),
    data       JSON   NOT NULL,
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    read_at    BIGINT CHECK (read_at >= 0),
    UNIQUE (user_id, event_id)
);

CREATE INDEX notify_notifications_feed ON notify_notifications (user_id, id);
CREATE INDEX notify_notifications_unread ON notify_notifications (user_id, group_key) WHERE read_at IS NULL;
CREATE INDEX notify_notifications_age ON notify_notifications (created_at);
CREATE INDEX notify_notifications_project ON notify_notifications (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE notify_preferences (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    kind    TEXT COLLATE "C" NOT NULL CHECK (kind <> ''),
    mode    TEXT NOT NULL CHECK (mode IN ('live', 'digest', 'off')),
    PRIMARY KEY (user_id, kind)
);

-- Per user, project and hour; what belongs to no project (time on an idle session) has none.
CREATE TABLE usage_hourly (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour         BIGINT NOT NULL CHECK (hour >= 0 AND hour % 3600000 = 0),
    user_id      TEXT COLLATE "C" NOT NULL REFERENCES auth_users (id) ON DELETE CASCADE,
    project_id   TEXT COLLATE "C" REFERENCES project_projects (id) ON DELETE CASCADE,
    connected_ms BIGINT NOT NULL DEFAULT 0 CHECK (connected_ms >= 0),
    messages     BIGINT NOT NULL DEFAULT 0 CHECK (messages >= 0),
    bytes_in     BIGINT NOT NULL DEFAULT 0 CHECK (bytes_in >= 0),
    bytes_out    BIGINT NOT NULL DEFAULT 0 CHECK (bytes_out >= 0),
    edits        BIGINT NOT NULL DEFAULT 0 CHECK (edits >= 0),
    plans        BIGINT NOT NULL DEFAULT 0 CHECK (plans >= 0),
    tokens_in    BIGINT NOT NULL DEFAULT 0 CHECK (tokens_in >= 0),
    tokens_out   BIGINT NOT NULL DEFAULT 0 CHECK (tokens_out >= 0)
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX usage_hourly_cell ON usage_hourly (user_id, hour, coalesce(project_id, ''));
CREATE INDEX usage_hourly_project ON usage_hourly (project_id, hour) WHERE project_id IS NOT NULL;

-- Written in the transaction of the change that it tells of; deleted once the bus has confirmed it.
-- Transactions of one subject take its lock before their positions, so that its order is that of the commits.
CREATE TABLE events_outbox (
    position   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   TEXT COLLATE "C" NOT NULL UNIQUE CHECK (event_id <> ''),
    type       TEXT   NOT NULL CHECK (type <> ''),
    -- Order is kept per subject.
    subject    TEXT   NOT NULL,
    envelope   JSON   NOT NULL,
    created_at BIGINT NOT NULL CHECK (created_at >= 0)
-- A queue: small, and all of it is deleted again. Its head is to stay free of what is gone.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The events that were. Outlives what they tell of, hence no foreign keys. Paged by time and id.
CREATE TABLE events_log (
    event_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (event_id <> ''),
    type        TEXT COLLATE "C" NOT NULL CHECK (type <> ''),
    project_id  TEXT COLLATE "C",
    actor       TEXT,
    subject     TEXT COLLATE "C" NOT NULL,
    occurred_at BIGINT NOT NULL CHECK (occurred_at >= 0),
    envelope    JSON   NOT NULL
);

CREATE INDEX events_log_time ON events_log (occurred_at, event_id);
CREATE INDEX events_log_project ON events_log (project_id, occurred_at, event_id) WHERE project_id IS NOT NULL;
CREATE INDEX events_log_type ON events_log (type, occurred_at, event_id);
CREATE INDEX events_log_subject ON events_log (subject, occurred_at, event_id);

-- Which consumer has taken which event: written in the transaction of the effect.
CREATE TABLE events_inbox (
    consumer    TEXT COLLATE "C" NOT NULL CHECK (consumer <> ''),
    event_id    TEXT COLLATE "C" NOT NULL CHECK (event_id <> ''),
    received_at BIGINT NOT NULL CHECK (received_at >= 0),
    PRIMARY KEY (consumer, event_id)
);

CREATE INDEX events_inbox_age ON events_inbox (received_at);

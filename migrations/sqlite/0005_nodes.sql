-- What nodes on one store agree on: changes of rights and signing keys (auth_), who is alive and who
-- alone may do a job (node_), and the messages that consumers gave up (events_).
-- Times of node_ are of the database's clock; those of auth_changes too.

-- Numbered without a gap under the row below, in the transaction of the change that each tells of.
-- Outlives what it tells of, hence no foreign keys.
CREATE TABLE auth_changes (
    seq     INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    change  TEXT    NOT NULL CHECK (json_valid(change)),
    made_at INTEGER NOT NULL CHECK (made_at >= 0)
) STRICT;

CREATE INDEX auth_changes_age ON auth_changes (made_at, seq);

-- The newest change's number; stays when housekeeping has removed the changes.
CREATE TABLE auth_change_head (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL CHECK (seq >= 0)
) STRICT;

INSERT INTO auth_change_head (id, seq) VALUES (1, 0);

CREATE TABLE auth_keys (
    -- RFC 7638 thumbprint of the public key.
    kid         TEXT    NOT NULL PRIMARY KEY CHECK (kid <> ''),
    private     BLOB    NOT NULL CHECK (length(private) > 0),
    created_at  INTEGER NOT NULL CHECK (created_at >= 0),
    active_from INTEGER NOT NULL CHECK (active_from >= 0)
) STRICT;

CREATE TABLE node_nodes (
    id      TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    address TEXT    NOT NULL,
    -- The broker that it shares with others; none if it has its own inside.
    broker  TEXT    CHECK (broker <> ''),
    version TEXT    NOT NULL,
    -- Alive until then, unless it renews.
    until   INTEGER NOT NULL CHECK (until >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_leases (
    name   TEXT    NOT NULL PRIMARY KEY CHECK (name <> ''),
    owner  TEXT    NOT NULL CHECK (owner <> ''),
    -- Of the counter below: never given twice, even after the row was deleted.
    number INTEGER NOT NULL CHECK (number > 0),
    until  INTEGER NOT NULL CHECK (until >= 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX node_leases_owner ON node_leases (owner);
CREATE INDEX node_leases_until ON node_leases (until);

CREATE TABLE node_fence (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL CHECK (number >= 0)
) STRICT;

INSERT INTO node_fence (id, number) VALUES (1, 0);

-- Messages that a consumer gave up, whole, for people to look at.
CREATE TABLE events_dead (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT    NOT NULL CHECK (consumer <> ''),
    type     TEXT    NOT NULL,
    event_id TEXT    CHECK (event_id <> ''),
    reason   TEXT    NOT NULL,
    body     BLOB    NOT NULL,
    at       INTEGER NOT NULL CHECK (at >= 0)
) STRICT;

-- One consumer gives one event up once, however often it is delivered.
CREATE UNIQUE INDEX events_dead_once ON events_dead (consumer, event_id) WHERE event_id IS NOT NULL;

-- The log is paged by time and id.
DROP INDEX events_log_time;
DROP INDEX events_log_project;
DROP INDEX events_log_type;
DROP INDEX events_log_subject;
CREATE INDEX events_log_time ON events_log (occurred_at, event_id);
CREATE INDEX events_log_project ON events_log (project_id, occurred_at, event_id) WHERE project_id IS NOT NULL;
CREATE INDEX events_log_type ON events_log (type, occurred_at, event_id);
CREATE INDEX events_log_subject ON events_log (subject, occurred_at, event_id);

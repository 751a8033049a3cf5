-- What nodes on one store agree on: changes of rights and signing keys (auth_), who is alive and who
-- alone may do a job (node_), and the messages that consumers gave up (events_).
-- Times of node_ and of auth_changes are of the database's clock.

-- Numbered without a gap under the row below, in the transaction of the change that each tells of.
-- Outlives what it tells of, hence no foreign keys.
CREATE TABLE auth_changes (
    seq     BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    change  JSON   NOT NULL,
    made_at BIGINT NOT NULL CHECK (made_at >= 0)
);

CREATE INDEX auth_changes_age ON auth_changes (made_at, seq);

-- The newest change's number; stays when housekeeping has removed the changes.
CREATE TABLE auth_change_head (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT  NOT NULL CHECK (seq >= 0)
) WITH (fillfactor = 50);

INSERT INTO auth_change_head (id, seq) VALUES (1, 0);

CREATE TABLE auth_keys (
    -- RFC 7638 thumbprint of the public key.
    kid         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (kid <> ''),
    private     BYTEA  NOT NULL CHECK (octet_length(private) > 0),
    created_at  BIGINT NOT NULL CHECK (created_at >= 0),
    active_from BIGINT NOT NULL CHECK (active_from >= 0)
);

CREATE TABLE node_nodes (
    id      TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    address TEXT        NOT NULL,
    -- The broker that it shares with others; none if it has its own inside.
    broker  TEXT        CHECK (broker <> ''),
    version TEXT        NOT NULL,
    -- Alive until then, unless it renews.
    until   TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE node_leases (
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (name <> ''),
    owner  TEXT COLLATE "C" NOT NULL CHECK (owner <> ''),
    -- Of the sequence below: never given twice, even after the row was deleted.
    number BIGINT      NOT NULL CHECK (number > 0),
    until  TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX node_leases_owner ON node_leases (owner);
CREATE INDEX node_leases_until ON node_leases (until);

CREATE SEQUENCE node_fence;

-- Messages that a consumer gave up, whole, for people to look at.
CREATE TABLE events_dead (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer TEXT COLLATE "C" NOT NULL CHECK (consumer <> ''),
    type     TEXT   NOT NULL,
    event_id TEXT COLLATE "C" CHECK (event_id <> ''),
    reason   TEXT   NOT NULL,
    body     BYTEA  NOT NULL,
    at       BIGINT NOT NULL CHECK (at >= 0)
);

-- One consumer gives one event up once, however often it is delivered.
CREATE UNIQUE INDEX events_dead_once ON events_dead (consumer, event_id) WHERE event_id IS NOT NULL;

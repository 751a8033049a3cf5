-- Requests that carried an Idempotency-Key: whoever retries one is told what the first was told (rest_).
-- Times are of the database's clock.

CREATE TABLE rest_requests (
    -- No foreign key: not everybody who asks is a user of this store.
    user_id     TEXT COLLATE "C" NOT NULL CHECK (user_id <> ''),
    key         TEXT COLLATE "C" NOT NULL CHECK (key <> ''),
    -- SHA-256 of what was asked.
    fingerprint BYTEA       NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Who is at it, until when; then somebody else may take it up.
    claim       TEXT COLLATE "C" NOT NULL CHECK (claim <> ''),
    claimed_to  TIMESTAMPTZ NOT NULL,
    -- The id of what it makes, whoever makes it.
    made_id     TEXT COLLATE "C" NOT NULL CHECK (made_id <> ''),
    -- The sequence of the update that it made, written in the update's own transaction.
    seq         BIGINT      CHECK (seq > 0),
    finished    BOOLEAN     NOT NULL DEFAULT false,
    -- The answer; none if it must not be kept.
    status      BIGINT      CHECK (status BETWEEN 100 AND 599),
    headers     JSON,
    body        BYTEA,
    expires     TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, key)
) WITH (fillfactor = 50);

CREATE INDEX rest_requests_expires ON rest_requests (expires);

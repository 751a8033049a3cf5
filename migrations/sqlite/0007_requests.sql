-- Requests that carried an Idempotency-Key: whoever retries one is told what the first was told (rest_).
-- Times are of the database's clock.

CREATE TABLE rest_requests (
    -- No foreign key: not everybody who asks is a user of this store.
    user_id     TEXT    NOT NULL CHECK (user_id <> ''),
    key         TEXT    NOT NULL CHECK (key <> ''),
    -- SHA-256 of what was asked.
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    -- Who is at it, until when; then somebody else may take it up.
    claim       TEXT    NOT NULL CHECK (claim <> ''),
    claimed_to  INTEGER NOT NULL CHECK (claimed_to >= 0),
    -- The id of what it makes, whoever makes it.
    made_id     TEXT    NOT NULL CHECK (made_id <> ''),
    -- The sequence of the update that it made, written in the update's own transaction.
    seq         INTEGER CHECK (seq > 0),
    finished    INTEGER NOT NULL DEFAULT 0 CHECK (finished IN (0, 1)),
    -- The answer; none if it must not be kept.
    status      INTEGER CHECK (status BETWEEN 100 AND 599),
    headers     TEXT    CHECK (json_valid(headers)),
    body        BLOB,
    expires     INTEGER NOT NULL CHECK (expires >= 0),
    PRIMARY KEY (user_id, key)
) STRICT;

CREATE INDEX rest_requests_expires ON rest_requests (expires);

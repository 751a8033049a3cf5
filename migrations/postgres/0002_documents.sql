-- Documents: names, update logs, snapshots and versions (collab_).

CREATE TABLE collab_documents (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    path       TEXT COLLATE "C" NOT NULL CHECK (path <> ''),
    created_at BIGINT NOT NULL CHECK (created_at >= 0),
    updated_at BIGINT NOT NULL CHECK (updated_at >= 0),
    -- Sequence of the newest committed update; the row is the lock under which sequences are taken.
    head       BIGINT NOT NULL CHECK (head >= 0),
    UNIQUE (project_id, path)
-- Every group commit writes a new version of each row that it touches: it finds room beside the old one,
-- and then no index changes. So there is no index on head or updated_at either.
) WITH (fillfactor = 50);

-- One row is one frame: the updates first_seq..=last_seq, each after its length as a varint.
-- Keyed by the last sequence, so that "after n" and "up to n" are ranges of the key, straddling frames included.
CREATE TABLE collab_log (
    document_id TEXT COLLATE "C" NOT NULL REFERENCES collab_documents (id) ON DELETE CASCADE,
    last_seq    BIGINT NOT NULL,
    first_seq   BIGINT NOT NULL,
    data        BYTEA  NOT NULL CHECK (octet_length(data) > 0),
    PRIMARY KEY (document_id, last_seq),
    CHECK (1 <= first_seq AND first_seq <= last_seq)
);

CREATE TABLE collab_snapshots (
    document_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES collab_documents (id) ON DELETE CASCADE,
    seq         BIGINT NOT NULL CHECK (seq >= 0),
    state       BYTEA  NOT NULL,
    saved_at    BIGINT NOT NULL CHECK (saved_at >= 0)
);

CREATE TABLE collab_versions (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (id <> ''),
    document_id TEXT COLLATE "C" NOT NULL REFERENCES collab_documents (id) ON DELETE CASCADE,
    seq         BIGINT NOT NULL CHECK (seq >= 0),
    kind        TEXT   NOT NULL CHECK (kind IN ('auto', 'named')),
    name        TEXT   NOT NULL,
    author_id   TEXT COLLATE "C" REFERENCES auth_users (id) ON DELETE SET NULL,
    created_at  BIGINT NOT NULL CHECK (created_at >= 0),
    state       BYTEA  NOT NULL
);

CREATE INDEX collab_versions_document ON collab_versions (document_id, id);
CREATE INDEX collab_versions_auto ON collab_versions (document_id, id DESC) WHERE kind = 'auto';
CREATE INDEX collab_versions_author ON collab_versions (author_id) WHERE author_id IS NOT NULL;

-- Documents: names, update logs, snapshots and versions (collab_).

CREATE TABLE collab_documents (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    project_id TEXT    NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    path       TEXT    NOT NULL CHECK (path <> ''),
    created_at INTEGER NOT NULL CHECK (created_at >= 0),
    updated_at INTEGER NOT NULL CHECK (updated_at >= 0),
    -- Sequence of the newest committed update; the row is the lock under which sequences are taken.
    head       INTEGER NOT NULL CHECK (head >= 0),
    UNIQUE (project_id, path)
) STRICT;

-- One row is one frame: the updates first_seq..=last_seq, each after its length as a varint.
-- Clustered by document, so that a tail is read from neighbouring pages; keyed by the last sequence,
-- so that "after n" and "up to n" are ranges of the key, straddling frames included.
CREATE TABLE collab_log (
    document_id TEXT    NOT NULL REFERENCES collab_documents (id) ON DELETE CASCADE,
    last_seq    INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL,
    data        BLOB    NOT NULL CHECK (length(data) > 0),
    PRIMARY KEY (document_id, last_seq),
    CHECK (1 <= first_seq AND first_seq <= last_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE collab_snapshots (
    document_id TEXT    NOT NULL PRIMARY KEY REFERENCES collab_documents (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL CHECK (seq >= 0),
    state       BLOB    NOT NULL,
    saved_at    INTEGER NOT NULL CHECK (saved_at >= 0)
) STRICT;

CREATE TABLE collab_versions (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    document_id TEXT    NOT NULL REFERENCES collab_documents (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL CHECK (seq >= 0),
    kind        TEXT    NOT NULL CHECK (kind IN ('auto', 'named')),
    name        TEXT    NOT NULL,
    author_id   TEXT    REFERENCES auth_users (id) ON DELETE SET NULL,
    created_at  INTEGER NOT NULL CHECK (created_at >= 0),
    state       BLOB    NOT NULL
) STRICT;

CREATE INDEX collab_versions_document ON collab_versions (document_id, id);
CREATE INDEX collab_versions_auto ON collab_versions (document_id, id DESC) WHERE kind = 'auto';
CREATE INDEX collab_versions_author ON collab_versions (author_id) WHERE author_id IS NOT NULL;

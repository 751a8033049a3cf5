-- What is known of projects' code: files, their chunks, and how chunks are found (context_).

CREATE TABLE context_files (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id  TEXT    NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    -- None: a file of the project's repository.
    document_id TEXT    REFERENCES collab_documents (id) ON DELETE CASCADE,
    path        TEXT    NOT NULL CHECK (path <> ''),
    -- What it was indexed from.
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    -- How new that is: the document's sequence, or when the repository was looked at.
    seq         INTEGER NOT NULL CHECK (seq >= 0),
    -- How many chunks it has, and how many terms these have together.
    chunks      INTEGER NOT NULL CHECK (chunks >= 0),
    length      INTEGER NOT NULL CHECK (length >= 0)
) STRICT;

CREATE UNIQUE INDEX context_files_document ON context_files (document_id) WHERE document_id IS NOT NULL;
CREATE UNIQUE INDEX context_files_repository ON context_files (project_id, path) WHERE document_id IS NULL;
CREATE INDEX context_files_project ON context_files (project_id, path);

CREATE TABLE context_chunks (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    file_id    INTEGER NOT NULL REFERENCES context_files (id) ON DELETE CASCADE,
    -- The file's, for those who read all chunks of a project.
    project_id TEXT    NOT NULL,
    first_line INTEGER NOT NULL CHECK (first_line >= 1),
    last_line  INTEGER NOT NULL CHECK (last_line >= first_line),
    symbol     TEXT,
    kind       TEXT    NOT NULL CHECK (kind IN ('definition', 'text')),
    text       TEXT    NOT NULL,
    -- SHA-256 of the text.
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    terms      TEXT    NOT NULL
) STRICT;

CREATE INDEX context_chunks_file ON context_chunks (file_id, first_line);
CREATE INDEX context_chunks_project ON context_chunks (project_id, id);
CREATE INDEX context_chunks_hash ON context_chunks (hash);

-- Each chunk's terms and that of its project, by the chunk's id. The terms come split: nothing is left to the tokenizer.
CREATE VIRTUAL TABLE context_terms USING fts5 (
    terms, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0 tokenchars ''='''
);
CREATE TRIGGER context_chunks_gone AFTER DELETE ON context_chunks BEGIN
    DELETE FROM context_terms WHERE rowid = old.id;
END;

-- Vectors of texts, by model. Equal texts share theirs.
CREATE TABLE context_vectors (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    model  TEXT NOT NULL CHECK (model <> ''),
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    -- 32-bit floats, the lowest byte first.
    vector BLOB NOT NULL CHECK (length(vector) % 4 = 0),
    UNIQUE (model, hash)
) STRICT;

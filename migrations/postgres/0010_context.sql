-- What is known of projects' code: files, their chunks, and how chunks are found (context_).

CREATE TABLE context_files (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id  TEXT COLLATE "C" NOT NULL REFERENCES project_projects (id) ON DELETE CASCADE,
    -- None: a file of the project's repository.
    document_id TEXT COLLATE "C" REFERENCES collab_documents (id) ON DELETE CASCADE,
    path        TEXT COLLATE "C" NOT NULL CHECK (path <> ''),
    -- What it was indexed from.
    hash        BYTEA  NOT NULL CHECK (octet_length(hash) = 32),
    -- How new that is: the document's sequence, or when the repository was looked at.
    seq         BIGINT NOT NULL CHECK (seq >= 0),
    -- How many chunks it has, and how many terms these have together.
    chunks      BIGINT NOT NULL CHECK (chunks >= 0),
    length      BIGINT NOT NULL CHECK (length >= 0)
);

CREATE UNIQUE INDEX context_files_document ON context_files (document_id) WHERE document_id IS NOT NULL;
CREATE UNIQUE INDEX context_files_repository ON context_files (project_id, path) WHERE document_id IS NULL;
CREATE INDEX context_files_project ON context_files (project_id, path);

CREATE TABLE context_chunks (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file_id    BIGINT NOT NULL REFERENCES context_files (id) ON DELETE CASCADE,
    -- The file's, for those who read all chunks of a project.
    project_id TEXT COLLATE "C" NOT NULL,
    first_line BIGINT NOT NULL CHECK (first_line >= 1),
    last_line  BIGINT NOT NULL CHECK (last_line >= first_line),
    symbol     TEXT,
    kind       TEXT   NOT NULL CHECK (kind IN ('definition', 'text')),
    text       TEXT   NOT NULL,
    -- SHA-256 of the text.
    hash       BYTEA  NOT NULL CHECK (octet_length(hash) = 32),
    terms      TEXT   NOT NULL,
    -- The terms and that of the project. They come split: nothing is left to a parser or dictionary.
    lexemes    TSVECTOR NOT NULL
);

CREATE INDEX context_chunks_file ON context_chunks (file_id, first_line);
CREATE INDEX context_chunks_project ON context_chunks (project_id, id);
CREATE INDEX context_chunks_hash ON context_chunks (hash);
CREATE INDEX context_chunks_lexemes ON context_chunks USING gin (lexemes);

-- Vectors of texts, by model. Equal texts share theirs.
CREATE TABLE context_vectors (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model  TEXT COLLATE "C" NOT NULL CHECK (model <> ''),
    hash   BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    -- 32-bit floats, the lowest byte first.
    vector BYTEA NOT NULL CHECK (octet_length(vector) % 4 = 0),
    UNIQUE (model, hash)
);

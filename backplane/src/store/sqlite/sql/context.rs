//! The statements of the index.

/// Holds for a file of a repository where a document of the project is at the same path.
macro_rules! hidden {
    () => {
        "(f.document_id IS NULL AND EXISTS (SELECT 1 FROM collab_documents d
            WHERE d.project_id = f.project_id AND d.path = f.path))"
    };
}

statements! {
    /// The last of a page of documents, and how many it has.
    DOCUMENTS_END = "SELECT max(id), count(*) FROM
        (SELECT id FROM collab_documents WHERE id > $1 ORDER BY id LIMIT $2)";
    STALE_DOCUMENTS = "SELECT d.id, d.head, f.seq
        FROM collab_documents d LEFT JOIN context_files f ON f.document_id = d.id
        WHERE d.id > $1 AND d.id <= $2 AND (f.id IS NULL OR f.seq < d.head OR f.path <> d.path)
        ORDER BY d.id";

    HAS_PROJECT = "SELECT 1 FROM project_projects WHERE id = $1";
    HAS_DOCUMENT = "SELECT 1 FROM collab_documents WHERE id = $1 AND project_id = $2";
    FILE_OF_DOCUMENT = "SELECT id, seq, hash FROM context_files WHERE document_id = $1";
    FILE_OF_REPOSITORY = "SELECT id, seq, hash FROM context_files
        WHERE project_id = $1 AND path = $2 AND document_id IS NULL";
    ADD_FILE = "INSERT INTO context_files (project_id, document_id, path, hash, seq, chunks, length)
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
    SET_FILE = "UPDATE context_files SET path = $2, hash = $3, seq = $4, chunks = $5, length = $6
        WHERE id = $1";
    SEE_FILE = "UPDATE context_files SET path = $2, seq = $3 WHERE id = $1";
    DROP_CHUNKS = "DELETE FROM context_chunks WHERE file_id = $1";
    ADD_CHUNK = "INSERT INTO context_chunks
        (file_id, project_id, first_line, last_line, symbol, kind, text, hash, terms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id";
    ADD_TERMS = "INSERT INTO context_terms (rowid, terms) VALUES ($1, $2)";
    REPOSITORY_FILES = "SELECT path, hash FROM context_files
        WHERE project_id = $1 AND path > $2 AND document_id IS NULL ORDER BY path LIMIT $3";
    DROP_FILE = "DELETE FROM context_files
        WHERE project_id = $1 AND path = $2 AND document_id IS NULL AND seq <= $3";

    MATCHES = "SELECT rowid FROM context_terms WHERE context_terms MATCH $1 ORDER BY rank LIMIT $2";
    COUNT_MATCHES = "SELECT count(*) FROM context_terms WHERE context_terms MATCH $1";
    SIZE_OF = "SELECT coalesce(sum(chunks), 0), coalesce(sum(length), 0) FROM context_files
        WHERE project_id = $1";
    /// `$2` is a JSON array of ids.
    CHUNKS = concat!("SELECT c.id, f.document_id, f.path, c.first_line, c.last_line, c.symbol, c.text,
            c.terms
        FROM context_chunks c CROSS JOIN context_files f ON f.id = c.file_id
        WHERE c.id IN (SELECT value FROM json_each($2)) AND +c.project_id = $1 AND NOT ", hidden!());
    OUTLINE = concat!("SELECT f.path, c.symbol, c.first_line
        FROM context_files f CROSS JOIN context_chunks c ON c.file_id = f.id
        WHERE f.project_id = $1 AND c.kind = 'definition' AND c.symbol IS NOT NULL
        AND NOT ", hidden!(), " ORDER BY f.path, f.id, c.first_line LIMIT $2");
    /// `$3` is a JSON array of paths.
    OUTLINE_OF = concat!("SELECT f.path, c.symbol, c.first_line
        FROM context_files f CROSS JOIN context_chunks c ON c.file_id = f.id
        WHERE f.project_id = $1 AND +f.path IN (SELECT value FROM json_each($3))
        AND c.kind = 'definition' AND c.symbol IS NOT NULL
        AND NOT ", hidden!(), " ORDER BY f.path, f.id, c.first_line LIMIT $2");

    /// The last of a page of chunks, and how many it has.
    CHUNKS_END = "SELECT max(id), count(*) FROM
        (SELECT id FROM context_chunks WHERE id > $1 ORDER BY id LIMIT $2)";
    VECTORLESS = "SELECT c.project_id, c.hash, c.text FROM context_chunks c
        WHERE c.id > $1 AND c.id <= $2
        AND NOT EXISTS (SELECT 1 FROM context_vectors v WHERE v.model = $3 AND v.hash = c.hash)
        ORDER BY c.id";
    PUT_VECTOR = "INSERT INTO context_vectors (model, hash, vector) VALUES ($1, $2, $3)
        ON CONFLICT (model, hash) DO NOTHING";
    VECTORS_OF = "SELECT c.id, v.vector
        FROM context_chunks c CROSS JOIN context_vectors v ON v.model = $2 AND v.hash = c.hash
        WHERE c.project_id = $1 AND c.id > $3 ORDER BY c.id LIMIT $4";
    /// The last of a page of vectors, and how many it has.
    VECTORS_END = "SELECT max(id), count(*) FROM
        (SELECT id FROM context_vectors WHERE id > $1 ORDER BY id LIMIT $2)";
    DROP_VECTORS = "DELETE FROM context_vectors WHERE id > $1 AND id <= $2
        AND NOT EXISTS (SELECT 1 FROM context_chunks c WHERE c.hash = context_vectors.hash)";
}

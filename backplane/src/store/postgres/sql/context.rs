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
        (SELECT id FROM collab_documents WHERE id > $1 ORDER BY id LIMIT $2) p";
    /// The limit, of a row that is one alone, keeps the whole table from being joined to a page of documents.
    STALE_DOCUMENTS = "SELECT d.id, d.head, f.seq
        FROM collab_documents d LEFT JOIN LATERAL (
            SELECT id, seq, path FROM context_files WHERE document_id = d.id LIMIT 1) f ON true
        WHERE d.id > $1 AND d.id <= $2 AND (f.id IS NULL OR f.seq < d.head OR f.path <> d.path)
        ORDER BY d.id";

    /// Kept until the transaction ends.
    KEEP_DOCUMENT = "SELECT id FROM collab_documents WHERE id = $1 AND project_id = $2 FOR KEY SHARE";
    /// A row to be locked, if there is none.
    ADD_FILE = "INSERT INTO context_files (project_id, document_id, path, hash, seq, chunks, length)
        VALUES ($1, $2, $3, decode(repeat('00', 32), 'hex'), 0, 0, 0) ON CONFLICT DO NOTHING";
    FILE_OF_DOCUMENT = "SELECT id, seq, hash FROM context_files WHERE document_id = $1 FOR UPDATE";
    FILE_OF_REPOSITORY = "SELECT id, seq, hash FROM context_files
        WHERE project_id = $1 AND path = $2 AND document_id IS NULL FOR UPDATE";
    SET_FILE = "UPDATE context_files SET path = $2, hash = $3, seq = $4, chunks = $5, length = $6
        WHERE id = $1";
    SEE_FILE = "UPDATE context_files SET path = $2, seq = $3 WHERE id = $1";
    DROP_CHUNKS = "DELETE FROM context_chunks WHERE file_id = $1";
    /// `$3` is the term of the project, what follows a list for each column.
    ADD_CHUNKS = "INSERT INTO context_chunks
            (file_id, project_id, first_line, last_line, symbol, kind, text, hash, terms, lexemes)
        SELECT $1, $2, n.first_line, n.last_line, n.symbol, n.kind, n.text, n.hash, n.terms,
            array_to_tsvector(string_to_array(n.terms, ' ') || $3)
        FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::bytea[],
            $10::text[]) AS n (first_line, last_line, symbol, kind, text, hash, terms)";
    REPOSITORY_FILES = "SELECT path, hash FROM context_files
        WHERE project_id = $1 AND path > $2 AND document_id IS NULL ORDER BY path LIMIT $3";
    DROP_FILES = "DELETE FROM context_files
        WHERE project_id = $1 AND path = ANY($2) AND document_id IS NULL AND seq <= $3";

    /// `$1` are queries.
    COUNT_MATCHES = "SELECT (SELECT count(*) FROM context_chunks c WHERE c.lexemes @@ w.query::tsquery)
        FROM unnest($1::text[]) WITH ORDINALITY AS w (query, place) ORDER BY w.place";
    SIZE_OF = "SELECT coalesce(sum(chunks), 0)::bigint, coalesce(sum(length), 0)::bigint
        FROM context_files WHERE project_id = $1";
    /// By the weights (`$3`) of the terms (`$2`) that stand in them.
    MATCHES = "SELECT m.id FROM context_chunks m WHERE m.lexemes @@ $1::tsquery
        ORDER BY (SELECT sum(w.weight) FROM unnest($2::text[], $3::float8[]) AS w (query, weight)
            WHERE m.lexemes @@ w.query::tsquery) DESC NULLS LAST, m.id LIMIT $4";
    CHUNKS = concat!("SELECT c.id, f.document_id, f.path, c.first_line, c.last_line, c.symbol, c.text,
            c.terms
        FROM context_chunks c JOIN context_files f ON f.id = c.file_id
        WHERE c.id = ANY($2) AND c.project_id = $1 AND NOT ", hidden!());
    /// Of all files if `$3` is null.
    OUTLINE = concat!("SELECT f.path, c.symbol, c.first_line
        FROM context_files f JOIN context_chunks c ON c.file_id = f.id
        WHERE f.project_id = $1 AND ($3::text[] IS NULL OR f.path = ANY($3))
        AND c.kind = 'definition' AND c.symbol IS NOT NULL
        AND NOT ", hidden!(), " ORDER BY f.path, f.id, c.first_line LIMIT $2");

    /// The last of a page of chunks, and how many it has.
    CHUNKS_END = "SELECT max(id), count(*) FROM
        (SELECT id FROM context_chunks WHERE id > $1 ORDER BY id LIMIT $2) p";
    VECTORLESS = "SELECT c.project_id, c.hash, c.text FROM context_chunks c
        WHERE c.id > $1 AND c.id <= $2
        AND NOT EXISTS (SELECT 1 FROM context_vectors v WHERE v.model = $3 AND v.hash = c.hash)
        ORDER BY c.id";
    /// In the order of the hashes.
    PUT_VECTORS = "INSERT INTO context_vectors (model, hash, vector)
        SELECT $1, n.hash, n.vector FROM unnest($2::bytea[], $3::bytea[]) AS n (hash, vector)
        ORDER BY n.hash ON CONFLICT (model, hash) DO NOTHING";
    VECTORS_OF = "SELECT c.id, v.vector
        FROM context_chunks c JOIN context_vectors v ON v.model = $2 AND v.hash = c.hash
        WHERE c.project_id = $1 AND c.id > $3 ORDER BY c.id LIMIT $4";
    /// The last of a page of vectors, and how many it has.
    VECTORS_END = "SELECT max(id), count(*) FROM
        (SELECT id FROM context_vectors WHERE id > $1 ORDER BY id LIMIT $2) p";
    DROP_VECTORS = "DELETE FROM context_vectors WHERE id > $1 AND id <= $2
        AND NOT EXISTS (SELECT 1 FROM context_chunks c WHERE c.hash = context_vectors.hash)";
}

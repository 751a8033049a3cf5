//! What is known of projects' code (`context_` tables): files, their chunks, how chunks are found by words and by
//! vectors.
//!
//! A file is a document of a project, or lies in the project's repository; where both are at one path, the
//! document hides the other. All of a file's chunks are replaced at once, behind the sequence of what was indexed, so
//! that an older state never replaces a newer one. Never cuts a text or splits a word: who puts a chunk says what
//! its terms are, and who searches says them in the same way.

use std::fmt::Write as _;

use async_trait::async_trait;

use super::StoreError;

/// SHA-256 of a text.
pub type Hash = [u8; 32];

/// Most terms that a search goes by; further ones are left out.
pub const MOST_TERMS: usize = 32;

/// Where a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// It is the document of that id.
    Document(String),
    /// In the project's repository.
    Repository,
}

/// A file as it is indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextFile {
    /// The project that it belongs to.
    pub project_id: String,
    /// Where it lies.
    pub source: FileSource,
    /// Its path in the project.
    pub path: String,
    /// What it was indexed from. The same hash means the same chunks.
    pub hash: Hash,
    /// How new what was indexed is: the document's sequence, or when the repository was looked at.
    pub seq: u64,
}

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// A definition, or the first part of a long one.
    Definition,
    /// Anything else: further parts of a definition, and what lies between definitions.
    Text,
}

impl ChunkKind {
    /// The name used in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::Text => "text",
        }
    }
}

/// A chunk of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChunk {
    /// Its first line, from 1.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    /// What it belongs to, if that is a definition: `fn parse`, `class Session`.
    pub symbol: Option<String>,
    /// What it is.
    pub kind: ChunkKind,
    /// Its text, without NUL characters.
    pub text: String,
    /// SHA-256 of the text: chunks of equal hash share their vectors.
    pub hash: Hash,
    /// What it is found by, in order, each as often as it stands there: letters and digits alone.
    pub terms: Vec<String>,
}

/// A chunk that may fit a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Later chunks have higher ones.
    pub id: u64,
    /// The document; none for a file of the repository.
    pub document_id: Option<String>,
    /// The file's path.
    pub path: String,
    /// Its first line, from 1.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    /// What it belongs to, if that is a definition.
    pub symbol: Option<String>,
    /// Its text.
    pub text: String,
    /// Its terms, with a space between them.
    pub terms: String,
}

/// Chunks that hold some of the terms of a search, and what their weights rest on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidates {
    /// The best by the database's own measure, best first.
    pub chunks: Vec<Candidate>,
    /// For each term, in how many of the project's chunks it stands.
    pub frequencies: Vec<u64>,
    /// How many chunks the project has.
    pub total: u64,
    /// How many terms all of them have.
    pub length: u64,
}

/// A definition in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlined {
    /// The file's path.
    pub path: String,
    /// What it is: `fn parse`.
    pub symbol: String,
    /// Its first line, from 1.
    pub line: u32,
}

/// A document whose index is not that of its newest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Its id.
    pub document_id: String,
    /// Sequence of its newest update.
    pub head: u64,
    /// The sequence that is indexed; none if nothing is.
    pub indexed: Option<u64>,
}

/// A text without a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vectorless {
    /// The project that it stands in.
    pub project_id: String,
    /// Its hash.
    pub hash: Hash,
    /// The text.
    pub text: String,
}

/// A part of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked<T, K> {
    /// What was found in it.
    pub found: Vec<T>,
    /// Where it goes on; none at the end.
    pub next: Option<K>,
}

/// The index.
#[async_trait]
pub trait Contexts {
    /// Of the next `page` documents by id after `after`, those that are not indexed as they are: other updates, or
    /// another path. Walked again and again it finds every document that changes.
    async fn stale_documents(
        &self,
        after: &str,
        page: u32,
    ) -> Result<Walked<Stale, String>, StoreError>;

    /// Puts a file with its chunks in place of what was known of it, in one transaction. `false`, and nothing
    /// changes, if what is known is of a higher sequence, or the document or the project is gone. If the hash is the one
    /// that is known, the chunks stay.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a text holds a NUL character, which one of the databases can't keep.
    async fn put_file(&self, file: &ContextFile, chunks: &[NewChunk]) -> Result<bool, StoreError>;

    /// The files that are known of a project's repository: path and hash, by path after `after`, at most `limit`.
    async fn repository_files(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, Hash)>, StoreError>;

    /// Forgets files of a project's repository, but those that are known at a higher sequence; how many went.
    async fn remove_files(
        &self,
        project_id: &str,
        paths: &[String],
        seq: u64,
    ) -> Result<u64, StoreError>;

    /// Chunks of a project that hold any of the terms, the most promising ones, at most `limit`; of the terms the first
    /// [`MOST_TERMS`] count. What was put in before the call is found.
    async fn candidates(
        &self,
        project_id: &str,
        terms: &[String],
        limit: u32,
    ) -> Result<Candidates, StoreError>;

    /// The chunks of these ids that are in the project and not hidden, in no order.
    async fn chunks(&self, project_id: &str, ids: &[u64]) -> Result<Vec<Candidate>, StoreError>;

    /// The definitions in a project's files at these paths, or in all of them if there are no paths; by path and line, at
    /// most `limit`.
    async fn outline(
        &self,
        project_id: &str,
        paths: &[String],
        limit: u32,
    ) -> Result<Vec<Outlined>, StoreError>;

    /// Of the next `page` chunks by id after `after`, those whose text has no vector of that model; equal texts may come
    /// more than once. A chunk that is put in meanwhile may be missed: walk again from 0 now and then.
    async fn missing_vectors(
        &self,
        model: &str,
        after: u64,
        page: u32,
    ) -> Result<Walked<Vectorless, u64>, StoreError>;

    /// Keeps vectors of texts; one that is there stays as it is.
    async fn put_vectors(
        &self,
        model: &str,
        vectors: &[(Hash, Vec<f32>)],
    ) -> Result<(), StoreError>;

    /// The vectors of a project's chunks, each with the chunk's id, by id after `after`, at most `limit`.
    async fn vectors_of(
        &self,
        project_id: &str,
        model: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<f32>)>, StoreError>;

    /// Drops, of the next `page` vectors after `after`, those whose text no chunk has any more: how many went, and
    /// where it goes on.
    async fn drop_unused_vectors(
        &self,
        after: u64,
        page: u32,
    ) -> Result<(u64, Option<u64>), StoreError>;
}

/// The columns of a candidate.
pub(crate) type CandidateRow = (
    i64,
    Option<String>,
    String,
    i64,
    i64,
    Option<String>,
    String,
    String,
);

pub(crate) fn candidate(row: CandidateRow) -> Result<Candidate, StoreError> {
    let (id, document_id, path, first, last, symbol, text, terms) = row;
    Ok(Candidate {
        id: number(id)?,
        document_id,
        path,
        first_line: small(first)?,
        last_line: small(last)?,
        symbol,
        text,
        terms,
    })
}

/// The chunks in the order of the ids.
pub(crate) fn in_order(mut chunks: Vec<Candidate>, ids: &[i64]) -> Vec<Candidate> {
    let places: std::collections::HashMap<u64, usize> = ids
        .iter()
        .enumerate()
        .map(|(place, id)| (id.unsigned_abs(), place))
        .collect();
    chunks.sort_by_key(|chunk| places.get(&chunk.id).copied().unwrap_or(usize::MAX));
    chunks
}

pub(crate) fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored)
        .map_err(|_| StoreError::Corrupt(format!("{stored} where no negative number can be")))
}

pub(crate) fn small(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| StoreError::Corrupt(format!("{stored} is out of its bounds")))
}

pub(crate) fn hash(stored: Vec<u8>) -> Result<Hash, StoreError> {
    stored
        .try_into()
        .map_err(|_| StoreError::Corrupt("a hash of another length".into()))
}

/// A vector as it is kept: its numbers as 32-bit floats, the lowest byte first.
pub(crate) fn packed(vector: &[f32]) -> Vec<u8> {
    vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

pub(crate) fn unpacked(stored: &[u8]) -> Result<Vec<f32>, StoreError> {
    let (numbers, rest) = stored.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(StoreError::Corrupt("a vector that is cut short".into()));
    }
    Ok(numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// The term that every chunk of a project holds: no other term begins so.
pub(crate) fn project_term(project_id: &str) -> String {
    let mut term = String::from("=");
    for byte in project_id.bytes() {
        // Hexadecimal: no database's reading of other characters matters then.
        let _ = write!(term, "{byte:02x}");
    }
    term
}

/// Those of the terms that a search goes by: letters and digits alone, the first of them.
pub(crate) fn searched(terms: &[String]) -> impl Iterator<Item = Option<&str>> {
    let is_fine = |term: &&str| !term.is_empty() && term.chars().all(char::is_alphanumeric);
    terms
        .iter()
        .take(MOST_TERMS)
        .map(move |term| Some(term.as_str()).filter(is_fine))
}

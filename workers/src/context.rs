//! What is known of a project's code: chunks of its documents and of its repository, and how they are found.
//!
//! Owns the words that the index, planning and the hub share. `index` keeps the index, `search` searches it; `chunk`,
//! `terms` and `rank` are pure.

pub mod chunk;
pub mod index;
pub mod rank;
pub mod repository;
pub mod search;
pub mod terms;

pub use index::Indexer;
pub use repository::Repository;
pub use search::CodeSearch;

use async_trait::async_trait;
use backplane::store::StoreError;

/// Where a chunk comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A document of the project.
    Document {
        /// Its id.
        id: String,
    },
    /// The project's repository folder.
    Repository,
}

/// A chunk that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Where it comes from.
    pub source: Source,
    /// The document's or the file's path.
    pub path: String,
    /// Its first line, from 1.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    /// What it is, if it is a definition: `fn parse`, `class Session`.
    pub symbol: Option<String>,
    /// Its text.
    pub text: String,
    /// How well it fits; only to be compared within one answer. The best comes first.
    pub score: f64,
}

/// A definition in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    /// The document's or the file's path.
    pub path: String,
    /// What it is: `fn parse`, `class Session`.
    pub symbol: String,
    /// Its first line, from 1.
    pub line: u32,
}

/// The search.
#[async_trait]
pub trait Search: Send + Sync {
    /// The chunks of a project that fit words best, best first, at most `limit`. A project without an index has none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn search(
        &self,
        project: &str,
        words: &str,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError>;

    /// What the files at these paths define, by path and line, at most `limit`; of all files if `paths` is empty.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn outline(
        &self,
        project: &str,
        paths: &[String],
        limit: u32,
    ) -> Result<Vec<Defined>, StoreError>;
}

//! The store: what must survive a restart, behind one trait per concern.
//!
//! [`Store`] is what the hub holds; `sqlite` implements it for the embedded default. Each trait's
//! guarantees stand on its methods, and `contract` is the suite that every implementation passes.
//! Times are milliseconds since the Unix epoch and are passed in, never read here.

pub mod contract;
pub mod docs;
pub(crate) mod log;
pub mod projects;
pub mod sqlite;
pub mod users;

use async_trait::async_trait;

pub use docs::{Append, Docs, Document, Loaded, LogFrame, Snapshot, Version, VersionKind};
pub use projects::{Member, Project, Projects};
pub use users::{LoginSession, Refreshed, User, Users};

/// Everything that a node stores.
#[async_trait]
pub trait Store: Users + Projects + Docs + Send + Sync + 'static {
    /// Whether the store answers and can write: a trivial write transaction.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Deletes what is past its time: refresh tokens and login sessions that ended before
    /// `ended_before`, and automatic document versions beyond `keep_auto_versions` per document
    /// (the newest stay). Returns how many rows went. Safe to run at any time, on any node.
    ///
    /// # Errors
    /// The store failed; nothing, or a part, was deleted.
    async fn housekeep(
        &self,
        ended_before: u64,
        keep_auto_versions: u32,
    ) -> Result<u64, StoreError>;

    /// Finishes what is under way and closes; later calls fail with [`StoreError::Unavailable`].
    async fn close(&self);
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique or foreign key constraint: it exists already, or what it refers to does not.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// The store can't be reached, is busy for too long, or its disk is full: the same call may succeed later.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not what was written, or the schema is newer than this build.
    #[error("store corrupt: {0}")]
    Corrupt(String),
}

//! Documents: their names, update logs, snapshots and versions (`collab_` tables).
//!
//! The log of a document is a gapless sequence of updates from 1. It is stored as frames (one row
//! holds the updates `first..=last` that were appended together) and cut by snapshots: the state at
//! `seq` stands for all updates up to it. Whoever reads update n has all up to n.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::Event;

use super::{Fence, Receipt, StoreError};

/// A document's name and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// UUID v7.
    pub id: String,
    /// The project that it belongs to.
    pub project_id: String,
    /// Path in the project, unique there: `src/main.rs`.
    pub path: String,
    /// Created at.
    pub created_at: u64,
    /// Last update committed at.
    pub updated_at: u64,
    /// Sequence of the newest committed update.
    pub head: u64,
}

/// One document's share of a group commit.
#[derive(Debug, Clone)]
pub struct Append {
    /// Document id.
    pub document_id: String,
    /// Yjs v1 updates in the order in which they were applied; at least one.
    pub updates: Vec<Bytes>,
    /// What must hold for it to be appended; usually nothing.
    pub terms: Option<Terms>,
}

/// What must hold in the transaction of an append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// The head of the document before it.
    pub head: Option<u64>,
    /// The request whose claim must stand; it is kept there that this append has carried it out.
    pub receipt: Option<Receipt>,
}

/// Consecutive updates of a document, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFrame {
    /// Sequence of the first update.
    pub first: u64,
    /// The updates.
    pub updates: Vec<Bytes>,
}

/// The state of a document at a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All updates up to this one are in it.
    pub seq: u64,
    /// A Yjs v1 update that makes this state from nothing.
    pub state: Bytes,
}

/// A document as read in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Name and place.
    pub document: Document,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// The updates after it, in order, gapless up to `document.head`.
    pub tail: Vec<LogFrame>,
}

/// Who asked for a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionKind {
    /// Kept by the hub, by time and edits; old ones go.
    Auto,
    /// Named by a user; stays.
    Named,
}

impl VersionKind {
    /// The name used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Named => "named",
        }
    }

    /// The kind of that name, as a store has it.
    pub(crate) fn stored(name: &str) -> Result<Self, StoreError> {
        let mut kinds = [Self::Auto, Self::Named].into_iter();
        let unknown = || StoreError::Corrupt(format!("unknown kind of version `{name}`"));
        kinds.find(|kind| kind.as_str() == name).ok_or_else(unknown)
    }
}

/// A kept state of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// UUID v7.
    pub id: String,
    /// Document id.
    pub document_id: String,
    /// The sequence that it covers.
    pub seq: u64,
    /// Why it was kept.
    pub kind: VersionKind,
    /// The name given by a user; empty for automatic ones.
    pub name: String,
    /// The user who named it.
    pub author_id: Option<String>,
    /// Kept at.
    pub created_at: u64,
}

/// Documents.
#[async_trait]
pub trait Docs {
    /// Adds an empty document, and the events to the outbox, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the path is taken or the project does not exist.
    async fn add_document(&self, document: &Document, events: &[Event]) -> Result<(), StoreError>;

    /// The document of that id.
    async fn document(&self, id: &str) -> Result<Option<Document>, StoreError>;

    /// The document at that path.
    async fn document_at(
        &self,
        project_id: &str,
        path: &str,
    ) -> Result<Option<Document>, StoreError>;

    /// The documents of a project by path, after `after`, at most `limit`.
    async fn documents(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Document>, StoreError>;

    /// Moves a document to another path of its project, from `from` if that is given. The events are kept
    /// if it is another path.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the path is taken, [`StoreError::NotFound`] if it is gone,
    /// [`StoreError::Changed`] if it is not at `from`.
    async fn rename_document(
        &self,
        id: &str,
        from: Option<&str>,
        path: &str,
        events: &[Event],
    ) -> Result<(), StoreError>;

    /// Deletes a document with its log, snapshots and versions; `false` if it was not there, and then
    /// neither the events nor a change of rights are kept.
    async fn delete_document(&self, id: &str, events: &[Event]) -> Result<bool, StoreError>;

    /// The sequence of the newest committed update of each document; those that are gone are left out.
    /// In no order. Reads the primary: what a finished `append` wrote is seen.
    async fn heads(&self, ids: &[String]) -> Result<Vec<(String, u64)>, StoreError>;

    /// Appends updates of many documents durably, each document's in order and all of it or nothing.
    /// When this returns, what it reports as appended survives a crash of the process and the machine.
    /// Results stand in the order of `batch`: the sequence of the last update appended, or
    /// [`StoreError::NotFound`] for a document that is gone (the others are appended all the same).
    ///
    /// One with terms that don't hold is left out: [`StoreError::Changed`] if the head is another,
    /// [`StoreError::Conflict`] if the claim is lost. One whose receipt says that it was appended before, by the
    /// same claim, is told that sequence and is not appended again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: all of the batch was appended, which only a connection that broke during the
    /// commit can leave unknown, or nothing. Append it again: updates are idempotent.
    async fn append(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError>;

    /// Reads a document whole, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Corrupt`] if the log has a gap.
    async fn load(&self, id: &str) -> Result<Loaded, StoreError>;

    /// Reads the updates after `seq`, in order, until `max_bytes` are passed (at least one frame).
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the document is gone or `seq` lies before the newest snapshot.
    async fn log_after(
        &self,
        id: &str,
        seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogFrame>, StoreError>;

    /// Replaces the snapshot and cuts the log up to `snapshot.seq`, in one transaction. Does nothing,
    /// and returns `false`, if the stored snapshot is as new. Frames that reach beyond `seq` stay.
    /// With a fence the same transaction checks that its lease is still held.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the document is gone, [`StoreError::Conflict`] if `seq` is beyond the head
    /// or the lease was lost; nothing was changed.
    async fn save_snapshot(
        &self,
        id: &str,
        snapshot: &Snapshot,
        fence: Option<&Fence>,
        now: u64,
    ) -> Result<bool, StoreError>;

    /// Keeps a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the document is gone.
    async fn add_version(&self, version: &Version, state: &Bytes) -> Result<(), StoreError>;

    /// The versions of a document, newest first, older than `before` (an id), at most `limit`.
    async fn versions(
        &self,
        document_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError>;

    /// A version with its state.
    async fn version(
        &self,
        document_id: &str,
        id: &str,
    ) -> Result<Option<(Version, Bytes)>, StoreError>;

    /// Deletes a version; `false` if it was not there.
    async fn delete_version(&self, document_id: &str, id: &str) -> Result<bool, StoreError>;
}

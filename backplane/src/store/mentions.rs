//! Who is named in documents (`notify_scanned`, `notify_mentions`): up to which update each was searched, and who was told.
//!
//! A search is noted behind the update up to which the one before it went, so that of any number of nodes that
//! search a document one notes what it found. Never reads a document, and never knows how a user is named in one.

use async_trait::async_trait;
use protocol::Event;

use super::StoreError;

/// How far a document was searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Its id.
    pub document_id: String,
    /// The sequence of its newest committed update.
    pub head: u64,
    /// The sequence up to which it was searched; 0: never.
    pub scanned: u64,
}

/// A search that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The document.
    pub document_id: &'a str,
    /// Up to where it had been searched before, as the store said.
    pub from: u64,
    /// Up to where it is searched now.
    pub to: u64,
    /// The users that it names; who was told and is not among them will be told again when named again. `None`: it
    /// was not searched, and who was told stays told.
    pub named: Option<&'a [String]>,
    /// Those of them who are to be told if they were not; each must be among `named`.
    pub tell: &'a [String],
}

/// Makes the event that tells a user, by id.
pub type TellMention<'a> = &'a (dyn Fn(&str) -> Event + Send + Sync);

/// Names in documents.
#[async_trait]
pub trait Mentions {
    /// The documents by id, after `after`, at most `limit`; all of them, searched or not. Reads the primary.
    async fn scanned(&self, after: &str, limit: u32) -> Result<Vec<Scanned>, StoreError>;

    /// Those members of a project whose login, in lower case, is one of these: that and the user's id. In no order.
    async fn members_named(
        &self,
        project_id: &str,
        logins: &[String],
    ) -> Result<Vec<(String, String)>, StoreError>;

    /// Notes a search, and puts an event for each user who was not told before into the outbox, in one transaction.
    /// Nothing of it, and `false`, if the document was searched meanwhile by another, or is gone. Users that are gone
    /// are left out.
    async fn note_scan(&self, scan: &Scan<'_>, tell: TellMention<'_>) -> Result<bool, StoreError>;
}

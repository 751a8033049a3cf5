//! The store: what must survive a restart, behind one trait per concern.
//!
//! [`Store`] is what the hub holds; `sqlite` implements it for the embedded default. Each trait's
//! guarantees stand on its methods, and `contract` is the suite that every implementation passes.
//! Times are milliseconds since the Unix epoch and are passed in, never read here.

pub mod api_keys;
pub(crate) mod batch;
pub mod context;
pub mod contract;
pub mod docs;
pub mod events;
pub mod identities;
pub mod invitations;
pub(crate) mod log;
pub mod mentions;
pub mod nodes;
pub mod notifications;
pub mod passwords;
pub mod plans;
pub mod postgres;
pub mod projects;
pub mod requests;
pub mod rights;
pub(crate) mod rows;
pub mod sqlite;
pub mod usage;
pub mod users;

use std::sync::Arc;

use async_trait::async_trait;

pub use api_keys::{ApiKey, ApiKeys};
pub use context::Contexts;
pub use docs::{Append, Docs, Document, Loaded, LogFrame, Snapshot, Terms, Version, VersionKind};
pub use events::{Buried, EventFilter, Events, Outgoing};
pub use identities::{Entrance, Identities, Identity, OutsideLogin, Outsider, Settled};
pub use invitations::{Accepted, Invitation, Invitations, Joining};
pub use mentions::{Mentions, Scan, Scanned};
pub use nodes::{Fence, NodeRecord, Nodes, Presence};
pub use notifications::{NewNotification, Notification, Notifications, Notified};
pub use passwords::{PasswordChange, Passwords, Redeemed, Reset};
pub use plans::{Plan, PlanStatus, Plans, Step, StepStatus};
pub use projects::{Member, Project, Projects};
pub use requests::{Claimed, KeptAnswer, NewRequest, Receipt, Requests};
pub use rights::{Change, Rights, SigningKey};
pub use usage::{Amounts, Usage, UsageOf, Used};
pub use users::{LoginSession, Refreshed, User, Users};

/// Everything that a node stores.
#[async_trait]
pub trait Store:
    Users
    + Identities
    + Passwords
    + Projects
    + Invitations
    + ApiKeys
    + Docs
    + Contexts
    + Plans
    + Notifications
    + Mentions
    + Usage
    + Events
    + Nodes
    + Requests
    + Rights
    + Send
    + Sync
    + 'static
{
    /// Whether the store answers and can write: a trivial write transaction.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The same store, with its lists read on the primary as well: for what is kept for longer than the
    /// read. A replica may lack what other nodes have written.
    fn on_primary(self: Arc<Self>) -> Arc<dyn Store>;

    /// Deletes what is past its time: what [`Keep`] names, nodes whose time is over, leases that ran out,
    /// and requests that are remembered no longer. Returns how many rows went. Safe to run at any time, on any node.
    ///
    /// # Errors
    /// The store failed; nothing, or a part, was deleted.
    async fn housekeep(&self, keep: &Keep) -> Result<u64, StoreError>;

    /// Finishes what is under way and closes; later calls fail with [`StoreError::Unavailable`].
    async fn close(&self);
}

/// What housekeeping leaves in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Refresh tokens, login sessions, tokens that reset a password and invitations that ended at that time or later. A
    /// token of an outside issuer that was refused must have expired by then: it could open a new login.
    pub ended_since: u64,
    /// Automatic versions of each document, the newest.
    pub auto_versions: u32,
    /// Events that a consumer took at that time or later: an older one that is delivered again is handled
    /// again.
    pub inbox_since: u64,
    /// Changes of rights that were made at that time or later, by the database's clock. What goes is
    /// the oldest, so that the rest has no gap.
    pub changes_since: u64,
    /// Events of the log that happened at that time or later.
    pub logged_since: u64,
    /// Notifications of that time or later, read or not. No event tells that one went.
    pub notified_since: u64,
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique or foreign key constraint: it exists already, or what it refers to does not.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// It is not, or no longer, as the caller says.
    #[error("it has changed")]
    Changed,
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

//! Domain events in the store: outbox, inbox, log, and what could not be handled (`events_` tables).

use async_trait::async_trait;
use protocol::event::Event;

use super::{Fence, StoreError};

/// An event that the bus has not confirmed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Of one subject's events the earlier has the smaller one, and none with a smaller one appears
    /// after one with a larger.
    pub position: u64,
    /// The event.
    pub event: Event,
}

/// A message that a consumer gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// The consumer.
    pub consumer: String,
    /// Event type.
    pub kind: String,
    /// Event id, if it had one.
    pub event_id: Option<String>,
    /// Why.
    pub reason: String,
    /// The message's body.
    pub body: Vec<u8>,
    /// When.
    pub at: u64,
}

/// Which events of the log are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of that project.
    pub project: Option<String>,
    /// Of that subject.
    pub subject: Option<String>,
    /// Of that type.
    pub kind: Option<String>,
    /// That happened at that time or later.
    pub since: Option<u64>,
    /// Older than this time and id: an event's own, as the last one of the page before; or any time with an empty
    /// id: that happened before it.
    pub before: Option<(u64, String)>,
}

/// Domain events. Changes elsewhere take `events: &[Event]`, which land in the outbox in the
/// transaction of the change: both or neither.
#[async_trait]
pub trait Events {
    /// Puts events into the outbox, in order, in one transaction of their own. An event whose id is in
    /// the outbox already is left out.
    async fn emit(&self, events: &[Event]) -> Result<(), StoreError>;

    /// The oldest events of the outbox, by position, at most `limit`.
    async fn outbox(&self, limit: u32) -> Result<Vec<Outgoing>, StoreError>;

    /// Removes events that the bus has confirmed, if the lease that `fence` names is still held.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the lease was lost; nothing was removed.
    async fn confirm(&self, positions: &[u64], fence: &Fence) -> Result<(), StoreError>;

    /// Adds the event to the log and to the consumer's inbox in one transaction; `false` if the
    /// consumer had taken it before, and nothing was changed.
    async fn log_event(&self, consumer: &str, event: &Event, now: u64) -> Result<bool, StoreError>;

    /// Events of the log, newest first (by the time in them, then by id), at most `limit`.
    async fn logged(&self, filter: &EventFilter, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// Events of the log, oldest first (by the time in them, then by id), behind the time and id `after`, at most
    /// `limit`; as the primary has them.
    async fn logged_after(
        &self,
        filter: &EventFilter,
        after: Option<&(u64, String)>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError>;

    /// Puts events into the outbox as [`Events::emit`] does. If a consumer is named, it forgets in the same
    /// transaction that it has taken them, and so takes them once more when they are delivered; all others still know
    /// those that they have taken. How many of them it had taken.
    async fn replay(&self, events: &[Event], consumer: Option<&str>) -> Result<u64, StoreError>;

    /// Keeps a message that a consumer gave up; an event that the consumer gave up before stays
    /// as it was kept then.
    async fn bury(&self, message: &Buried) -> Result<(), StoreError>;

    /// What was buried, oldest first, at most `limit`.
    async fn buried(&self, limit: u32) -> Result<Vec<Buried>, StoreError>;
}

//! The event bus: domain events from whoever makes them to every consumer, at least once.
//!
//! Producers inside Tandem write events to the outbox in the transaction of the change (`store::events`); the
//! relay publishes them here. Foreign producers publish with nothing but an AMQP client. A consumer's
//! framework keeps order per key, retries with backoff, and buries what can't be handled with its
//! reason. A double is possible at every hand-over: handlers are idempotent by event id.

pub mod contract;
pub mod delivery;
mod lanes;
pub mod local;
pub mod pattern;
pub mod rabbit;

use std::sync::Arc;

use async_trait::async_trait;
use protocol::event::Event;
use tokio_util::sync::CancellationToken;

pub use delivery::{Delivery, Unreadable};

/// The exchange that every event is published to; the routing key is the event's type.
pub const EXCHANGE: &str = "tandem.events";
/// Where what could not be handled goes, with its reason in a header.
pub const DEAD_EXCHANGE: &str = "tandem.dead";
/// Header that says why a message was buried.
pub const REASON_HEADER: &str = "x-tandem-reason";

/// Why the bus refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The bus can't be reached, or did not confirm: the event may or may not have been taken.
    #[error("event bus unavailable: {0}")]
    Unavailable(String),
    /// The bus can't take it and never will.
    #[error("event refused: {0}")]
    Refused(String),
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Handled, or handled before.
    Done,
    /// Not now: again after a backoff, up to the consumer's most attempts, then buried with the reason.
    Retry(String),
    /// Never: buried with the reason.
    Poison(String),
}

/// Who consumes what.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// Name: the queue is `tandem.<name>`, and the inbox knows the consumer by it.
    pub name: String,
    /// Topic patterns of event types as AMQP has them: `plan.*`, `#`.
    pub patterns: Vec<String>,
    /// Of all consumers of that name on all nodes one at a time is served, in order.
    pub single_active: bool,
    /// Most deliveries under way.
    pub prefetch: u16,
    /// How often a delivery is tried before it is buried.
    pub attempts: u32,
}

/// What a consumer does. A handler that must wait for something (the broker is down) waits inside
/// `handle`; what it holds is not given back meanwhile.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Deliveries of one key are handled one after the other, in order; those of different keys
    /// at the same time.
    fn order_key(&self, delivery: &Delivery) -> String;

    /// Handles a delivery; may see one twice.
    async fn handle(&self, delivery: &Delivery) -> Outcome;
}

/// A message that could not be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The consumer that gave it up.
    pub consumer: String,
    /// Event type (routing key).
    pub kind: String,
    /// Event id, if it had one.
    pub id: Option<String>,
    /// Why.
    pub reason: String,
    /// The message's body.
    pub body: bytes::Bytes,
}

/// Domain events between services.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes an event. When this returns it survives the bus's restart, and reaches every consumer
    /// whose patterns match. An event that nobody's patterns match is taken all the same.
    ///
    /// Events that are published at once are sent in the order in which their futures are first polled. Over a
    /// fault that order holds only for one that is published after the one before it was confirmed. Safe to
    /// drop: the event may be taken then.
    ///
    /// # Errors
    /// [`BusError`]; after `Unavailable` publish it again: consumers take it once, by its id.
    async fn publish(&self, event: &Event) -> Result<(), BusError>;

    /// Serves a consumer until `stop`; survives outages of the bus of any length. Deliveries that were
    /// not handled when it ends are delivered again, to whoever consumes next. Declares the queue
    /// before its first delivery; the future ends when nothing is under way any more.
    async fn consume(&self, spec: ConsumerSpec, handler: Arc<dyn Handler>, stop: CancellationToken);

    /// Resolves once the consumer of that name exists on the bus, so that what is published from then
    /// on reaches it.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if that did not come about within ten seconds.
    async fn declared(&self, consumer: &str) -> Result<(), BusError>;

    /// Buried messages, oldest first, at most `limit`; they stay where they are.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError>;

    /// Whether the bus answers now.
    ///
    /// # Errors
    /// What is wrong with it.
    async fn ping(&self) -> Result<(), BusError>;
}

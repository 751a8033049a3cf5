//! The broker: channels between sessions, with history, offsets and presence.
//!
//! Guarantees stand on the trait's methods; `contract` is the suite that every implementation passes.
//! What arrives is handed to a [`Deliver`] in order per channel. Never knows who may do what.

pub mod contract;
pub mod local;
pub mod redis;
pub mod retention;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::frame::{Member, ResetReason};
use protocol::{Blob, ChannelName, DeliveryClass, Position};
use serde_json::Value;

/// A message that a channel has taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Delivery class.
    pub class: DeliveryClass,
    /// Class `reliable`: its place, from 1; else 0.
    pub offset: u64,
    /// Class `latest`: which value it replaces.
    pub key: Option<Arc<str>>,
    /// Class `latest`: rises with every value of the key; else 0.
    pub version: u64,
    /// The message, if it is a value.
    pub data: Option<Value>,
    /// The message, if it is bytes.
    pub bytes: Option<Blob>,
    /// Id of the domain event that it came from.
    pub event: Option<Arc<str>>,
    /// The user who sent it.
    pub from: Option<Arc<str>>,
    /// When the broker took it, milliseconds since the Unix epoch.
    pub time: u64,
}

/// A message on its way into a channel.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// Delivery class.
    pub class: DeliveryClass,
    /// Class `latest` needs one.
    pub key: Option<Arc<str>>,
    /// The message, as a value or as bytes.
    pub data: Option<Value>,
    /// The message as bytes.
    pub bytes: Option<Blob>,
    /// Id of the domain event that it comes from.
    pub event: Option<Arc<str>>,
    /// The user who sends it.
    pub from: Option<Arc<str>>,
    /// Within the dedup window a second message with this key is not taken again.
    pub idempotency_key: Option<Arc<str>>,
    /// The dedup window of this key, if it is another than the broker's.
    pub dedup: Option<Duration>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Class `reliable`: where it stands; else the channel's newest position.
    pub position: Position,
    /// The idempotency key had been used: this is the place of the first one.
    pub duplicate: bool,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The channel's epoch and newest offset when it was read.
    pub newest: Position,
    /// Messages of class `reliable`, oldest first, gapless.
    pub messages: Vec<Arc<Publication>>,
    /// There are more after the last one.
    pub more: bool,
    /// The position asked for can't be gone on from; `messages` is empty then.
    pub reset: Option<ResetReason>,
}

/// Why the broker refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Class `latest` without a key.
    #[error("a message of class latest needs a key")]
    NoKey,
    /// The broker can't be reached now; nothing is known of the message.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
}

/// Who joined or left a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum PresenceChange {
    /// Joined, or changed its state.
    Joined(Member),
    /// Left: the session's id.
    Left(String),
    /// The last session has left: told after its `Left`. Not told to a node that was cut off then.
    Vacated,
}

/// Where messages go when they arrive at this node.
pub trait Deliver: Send + Sync + 'static {
    /// A message of a channel that this node is subscribed to. Called in the channel's order, one at a
    /// time per channel; must not block, and must not call the broker.
    fn message(&self, channel: &ChannelName, message: &Arc<Publication>);
    /// A change of a channel's presence, under the same terms.
    fn presence(&self, channel: &ChannelName, change: PresenceChange);
    /// Messages of this channel were lost to this node, or its epoch has changed: each subscriber must
    /// go on from history, where it learns which. `last` is the last offset delivered before. Under
    /// the same terms.
    fn broken(&self, channel: &ChannelName, last: u64);
}

/// Channels between the sessions of all nodes.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Takes a message: gives it its offset, keeps it in history or as its key's newest value, and
    /// delivers it to every subscribed node. Offsets of an epoch are gapless from 1. When this returns,
    /// the message is delivered to every node that stays connected, and is in the history.
    ///
    /// # Errors
    /// [`BrokerError`]; after `Unavailable` the message may or may not have been taken: send it again
    /// with the same idempotency key.
    async fn publish(
        &self,
        channel: &ChannelName,
        message: Publish,
    ) -> Result<Published, BrokerError>;

    /// The channel's epoch and newest offset. The epoch changes whenever history is lost.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn position(&self, channel: &ChannelName) -> Result<Position, BrokerError>;

    /// Retained messages after `since` (from the oldest retained if absent), at most `limit`.
    /// Either every message after `since` stands in the pages that follow one another, or the page
    /// says `reset`. On a node that is subscribed to the channel, whatever a page or position shows
    /// has been delivered to this node before the call returns.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn history(
        &self,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<Page, BrokerError>;

    /// The newest value of each key of class `latest`.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn latest(&self, channel: &ChannelName) -> Result<Vec<Arc<Publication>>, BrokerError>;

    /// Starts delivery of a channel to this node; counted: each call needs its `unsubscribe`. When it
    /// returns, every message taken from then on is delivered.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BrokerError>;

    /// Ends one `subscribe`. Never waits, never fails.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Adds a session to a channel's presence, or changes its state.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn join(&self, channel: &ChannelName, member: Member) -> Result<(), BrokerError>;

    /// Removes a session from a channel's presence. Never waits, never fails.
    fn leave(&self, channel: &ChannelName, session: &str);

    /// Who is in a channel, at most `limit`, by session id.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`].
    async fn members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<Member>, BrokerError>;
}

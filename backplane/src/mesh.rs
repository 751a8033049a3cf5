//! The mesh: what nodes tell each other directly, at most once, by topic.
//!
//! Live copies of document updates, awareness and hints that rights changed travel here. Nothing on it is
//! kept: whoever needs certainty reads the store. A member hears everyone's messages but its own
//! node's, in each sender's order, and is told when messages may have been missed.

pub mod contract;
pub mod local;
pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// What a member of a topic is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// Another node's message.
    Message {
        /// Who sent it: the sender's [`Mesh::node`].
        from: Arc<str>,
        /// What it said.
        payload: Bytes,
    },
    /// The connection is there (again): messages before this may have been missed. Also the first
    /// thing that a member hears if its join had to do without a connection.
    Restored,
}

/// A membership of a topic; dropping it leaves, without waiting.
pub struct Membership(
    #[expect(dead_code, reason = "its drop leaves the topic")] Box<dyn Send + Sync>,
);

impl Membership {
    /// A membership that ends when `guard` is dropped.
    #[must_use]
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

/// Messages between nodes.
#[async_trait]
pub trait Mesh: Send + Sync + 'static {
    /// This node's name on the mesh: unique per process start.
    fn node(&self) -> &Arc<str>;

    /// Whether nodes other than this one can exist at all: `false` for the embedded mesh.
    fn has_peers(&self) -> bool;

    /// Sends to every other node that has joined the topic. Never waits, never fails: without a
    /// connection the message is lost. Messages of one node to one topic arrive in their order.
    fn send(&self, topic: &str, payload: Bytes);

    /// Joins a topic: from its return on messages go to `inbox` until the membership is dropped.
    /// Without a connection it returns all the same, within two seconds, and `inbox` is told
    /// [`MeshEvent::Restored`] once there is one. A process may join a topic several times.
    async fn join(&self, topic: &str, inbox: mpsc::UnboundedSender<MeshEvent>) -> Membership;

    /// For how long this node has not heard its own heartbeat come back over the mesh; small values
    /// (under a second) say that both directions work. Zero for the embedded mesh.
    fn silence(&self) -> Duration;
}

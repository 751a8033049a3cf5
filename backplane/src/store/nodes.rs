//! What nodes on one store agree on: who is alive, and who alone may do a job (`node_` tables).
//!
//! Leases and lifetimes go by the database's own clock, never by the nodes': those may differ.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// A lease as its holder proves it: whoever takes the lease over has a higher `number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The lease's name.
    pub lease: String,
    /// Rises with every change of holder, also over the end of a lease.
    pub number: u64,
}

/// A node that runs on the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Unique per process start.
    pub id: String,
    /// Where it is reached, for people.
    pub address: String,
    /// The broker that it shares with others: `redis:<identity>`; `None` if it has its own inside.
    pub broker: Option<String>,
    /// Build version.
    pub version: String,
}

/// What became of an attempt to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The node is known until its time is over.
    Admitted,
    /// A living node has another broker, or one of the two has its broker inside: they would not hear
    /// each other.
    Refused(NodeRecord),
}

/// Nodes and leases.
#[async_trait]
pub trait Nodes {
    /// Makes a node known for `ttl`, or renews it. Two concurrent calls of nodes that must not meet
    /// admit one.
    async fn enter(&self, node: &NodeRecord, ttl: Duration) -> Result<Presence, StoreError>;

    /// A node is gone; its leases are free.
    async fn depart(&self, id: &str) -> Result<(), StoreError>;

    /// The living nodes, by id.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;

    /// Takes a lease for `ttl`, or renews it if `owner` holds it (its fence stays). `None` while
    /// another holds it. A lease whose time is over is held by nobody: its former holder takes it
    /// anew, with a higher number. `owner` is a node's id, so that [`Nodes::depart`] frees it.
    async fn lease(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Fence>, StoreError>;

    /// Gives a lease up; nothing happens if `owner` does not hold it.
    async fn release(&self, name: &str, owner: &str) -> Result<(), StoreError>;
}

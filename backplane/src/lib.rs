//! What Tandem's nodes share, each part behind one trait with an embedded and a real implementation that pass one contract suite.
//!
//! Owns the channel broker (history, offsets, presence), the mesh (what nodes tell each other), the bus (domain events),
//! the store (users, projects, documents, events, rights, leases) and the cache. Never touches a socket of a client,
//! and knows nothing of sessions or HTTP.

pub mod broker;
pub mod bus;
pub mod cache;
pub mod document;
pub mod mesh;
pub mod redis;
pub mod store;

//! What Tandem's nodes share, each part behind one trait with a contract suite.
//!
//! Owns the channel broker (history, offsets, presence) and the store (users, projects, documents).
//! Never touches a socket of a client, and knows nothing of sessions or HTTP.

pub mod broker;
pub mod bus;
pub mod cache;
pub mod document;
pub mod mesh;
pub mod redis;
pub mod store;

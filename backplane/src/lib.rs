//! What Tandem's nodes share, each part behind one trait with an embedded and a real implementation that pass one contract suite.
//!
//! Owns the channel broker (history, offsets, presence), the mesh (what nodes tell each other), the bus (domain events),
//! the store (users, projects, documents, events, rights, leases), the cache and the limiter (token buckets). Never touches a socket of a client,
//! and knows nothing of sessions or HTTP.

pub mod backoff;
pub mod broker;
pub mod bus;
pub mod cache;
pub mod document;
pub mod limiter;
pub mod mesh;
pub mod redis;
pub mod store;
pub mod text;

/// The clock that times in the store and on messages are read from: milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |elapsed| elapsed.as_millis() as u64)
}

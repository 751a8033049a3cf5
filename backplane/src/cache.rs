//! The cache: bytes by key, for what is read often and may be a little old.
//!
//! Cache-aside: readers ask it first and fill it, writers remove what they changed. An entry is at most its
//! time to live out of date, also when a removal did not reach the cache. So rights are never kept here.

pub mod contract;
mod flights;
pub mod local;
pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

/// The largest value that is kept, bytes; larger ones are made anew each time.
pub const LARGEST: usize = 1024 * 1024;

/// Why a value could not be made. Shared by all who waited for it.
pub type FillError = Arc<dyn std::error::Error + Send + Sync>;

/// Makes a value; an empty one says that there is nothing. Not polled if the cache has one.
pub type Fill = BoxFuture<'static, Result<Bytes, FillError>>;

/// How long what a fill makes is kept; zero: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// A value.
    pub value: Duration,
    /// An empty value, which says that there is nothing.
    pub nothing: Duration,
}

impl Ttl {
    /// How long this value is kept, if it is kept at all.
    fn of(self, value: &Bytes) -> Option<Duration> {
        let ttl = if value.is_empty() {
            self.nothing
        } else {
            self.value
        };
        (!ttl.is_zero() && value.len() <= LARGEST).then_some(ttl)
    }
}

impl From<Duration> for Ttl {
    fn from(ttl: Duration) -> Self {
        Self {
            value: ttl,
            nothing: ttl,
        }
    }
}

/// Bytes by key. Never fails: a cache that can't be reached has nothing.
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// The value of a key, if there is one and its time is not over.
    async fn get(&self, key: &str) -> Option<Bytes>;

    /// Keeps a value for `ttl` (at least a millisecond), if it is at most [`LARGEST`].
    async fn put(&self, key: &str, value: Bytes, ttl: Duration);

    /// Forgets a key. A fill that began before, on whatever node, is not kept: it may have read what the
    /// caller has changed since. Call it after the change is committed.
    async fn remove(&self, key: &str);

    /// The value of a key; if there is none, `fill` makes it and it is kept for its `ttl`. Of concurrent calls for one
    /// key on this node one fills and the others wait for it, unless the key was removed on this node meanwhile.
    ///
    /// # Errors
    /// What `fill` failed with, for everyone who waited for it. It is not kept.
    async fn get_or_fill(&self, key: &str, ttl: Ttl, fill: Fill) -> Result<Bytes, FillError>;
}

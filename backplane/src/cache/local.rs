//! The cache inside the process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use moka::Expiry;
use moka::future::Cache as Entries;

use super::flights::Flights;
use super::{Cache, Fill, FillError, LARGEST, Ttl};

/// What an entry costs besides its key and value, about, bytes.
const EACH: usize = 200;

/// A cache of this process, bounded in bytes; what is used least gives way first.
pub struct LocalCache {
    entries: Entries<String, Entry>,
    flights: Flights,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    ttl: Duration,
}

struct OwnTime;

impl Expiry<String, Entry> for OwnTime {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl LocalCache {
    /// A cache of at most about `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let cost = |key: &String, entry: &Entry| (key.len() + entry.value.len() + EACH) as u32;
        let entries = Entries::builder()
            .max_capacity(bytes)
            .weigher(cost)
            .expire_after(OwnTime)
            .build();
        Self {
            entries,
            flights: Flights::default(),
        }
    }

    /// Does at once what is otherwise done in the course of use: entries beyond the bound give way.
    pub async fn settle(&self) {
        self.entries.run_pending_tasks().await;
    }
}

async fn keep(entries: &Entries<String, Entry>, key: &str, value: &Bytes, ttl: Duration) {
    let value = value.clone();
    entries.insert(key.to_owned(), Entry { value, ttl }).await;
}

#[async_trait]
impl Cache for LocalCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.entries.get(key).await.map(|entry| entry.value)
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        if value.len() <= LARGEST {
            keep(&self.entries, key, &value, ttl).await;
        }
    }

    async fn remove(&self, key: &str) {
        self.flights.remove(key);
        self.entries.invalidate(key).await;
    }

    async fn get_or_fill(&self, key: &str, ttl: Ttl, fill: Fill) -> Result<Bytes, FillError> {
        if let Some(value) = self.get(key).await {
            return Ok(value);
        }
        let (entries, owned) = (self.entries.clone(), key.to_owned());
        let filling = self.flights.join(key, |removed| {
            let making = async move {
                // Another flight may have ended since the look above.
                if let Some(entry) = entries.get(&owned).await {
                    return Ok(entry.value);
                }
                let value = fill.await?;
                if let Some(ttl) = ttl.of(&value).filter(|_| !removed.is_set()) {
                    keep(&entries, &owned, &value, ttl).await;
                }
                // A removal meanwhile: either it saw the entry, or it is seen here.
                if removed.is_set() {
                    entries.invalidate(&owned).await;
                }
                Ok(value)
            };
            making.boxed()
        });
        filling.await
    }
}

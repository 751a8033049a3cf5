//! Session storage: when, from where and by what a login session was last seen.
//!
//! Kept in the cache, as it is told for information and is not worth a write to SQL with each request. Owns how
//! often it is written: once a minute per login session and node, whatever the session does. It may be lost with the
//! cache, and then nothing is known. Never decides anything: whether a login stands is read from the store.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backplane::cache::Cache;
use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::now_ms;

/// How often a login session is written at most, milliseconds.
const EVERY_MS: u64 = 60_000;
/// Longest user agent that is kept, bytes.
const AGENT_BYTES: usize = 256;

/// What a login session was seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A request over REST.
    Rest,
    /// A session on `/ws`.
    Session,
}

impl Transport {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Session => "session",
        }
    }
}

/// A login session at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The client's address.
    pub address: IpAddr,
    /// Its `User-Agent`, if it sent one that is text.
    pub user_agent: Option<String>,
    /// On what it came.
    pub transport: Transport,
}

/// What is known of a login session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Last authenticated at (milliseconds since the epoch), at most a minute too early: by a request, or when a
    /// session on `/ws` was opened, however long that has lasted since.
    pub at: u64,
    /// The client's address then.
    pub address: IpAddr,
    /// Its `User-Agent`, cut to 256 bytes and without control characters.
    pub user_agent: Option<String>,
    /// On what it came then.
    pub transport: Transport,
}

/// When login sessions were last seen, on any node.
pub struct LastSeen {
    cache: Arc<dyn Cache>,
    ttl: Duration,
    /// When this node last wrote of a session.
    written: DashMap<Arc<str>, u64>,
}

fn key(sid: &str) -> String {
    format!("1:seen:{sid}")
}

impl LastSeen {
    /// Keeps what it learns for `ttl`.
    #[must_use]
    pub fn new(cache: Arc<dyn Cache>, ttl: Duration) -> Arc<Self> {
        Arc::new(Self {
            cache,
            ttl,
            written: DashMap::new(),
        })
    }

    /// A login session was authenticated. Never waits; `visit` is asked only if something is written.
    pub fn note(&self, sid: &Arc<str>, visit: impl FnOnce() -> Visit) {
        let now = now_ms();
        let is_fresh = |written: u64| now.saturating_sub(written) < EVERY_MS;
        let written = self.written.get(sid).map(|at| *at);
        if written.is_some_and(is_fresh) {
            return;
        }
        self.written.insert(Arc::clone(sid), now);
        let Visit {
            address,
            user_agent,
            transport,
        } = visit();
        let seen = Seen {
            at: now,
            address,
            user_agent: user_agent.map(|agent| tidy(&agent)),
            transport,
        };
        let Ok(value) = serde_json::to_vec(&seen) else {
            return;
        };
        let (cache, key, ttl) = (Arc::clone(&self.cache), key(sid), self.ttl);
        tokio::spawn(async move { cache.put(&key, value.into(), ttl).await });
    }

    /// When that login session was last seen, if that is known.
    pub async fn seen(&self, sid: &str) -> Option<Seen> {
        let value = self.cache.get(&key(sid)).await?;
        serde_json::from_slice(&value).ok()
    }

    /// Forgets what this node need not know to write seldom; call it about once a minute.
    pub fn sweep(&self) {
        let now = now_ms();
        self.written
            .retain(|_, written| now.saturating_sub(*written) < EVERY_MS);
    }
}

fn tidy(agent: &str) -> String {
    let mut tidy = String::new();
    for c in agent.chars().filter(|c| !c.is_control()) {
        if tidy.len() + c.len_utf8() > AGENT_BYTES {
            break;
        }
        tidy.push(c);
    }
    tidy
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use backplane::cache::local::LocalCache;

    use super::*;

    fn visit(agent: &str) -> Visit {
        Visit {
            address: Ipv4Addr::LOCALHOST.into(),
            user_agent: Some(agent.to_owned()),
            transport: Transport::Rest,
        }
    }

    async fn eventually(seen: &LastSeen, sid: &str) -> Seen {
        for _ in 0..500 {
            if let Some(found) = seen.seen(sid).await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{sid} was never seen");
    }

    #[tokio::test]
    async fn it_is_written_once_a_minute() {
        let cache = Arc::new(LocalCache::new(1 << 20));
        let seen = LastSeen::new(cache, Duration::from_secs(60));
        let sid: Arc<str> = "s1".into();
        assert_eq!(seen.seen("s1").await, None);
        let long = format!("agent\r\n{}", "ü".repeat(400));
        seen.note(&sid, || visit(&long));
        let first = eventually(&seen, "s1").await;
        let agent = first.user_agent.clone().unwrap();
        assert!(agent.starts_with("agentü") && agent.len() <= AGENT_BYTES);
        for _ in 0..10 {
            seen.note(&sid, || panic!("written again within a minute"));
        }
        seen.sweep();
        seen.note(&sid, || panic!("a sweep forgot too early"));
        assert_eq!(seen.seen("s1").await, Some(first));
        // As if a minute had passed.
        seen.written.insert(Arc::clone(&sid), now_ms() - EVERY_MS);
        seen.sweep();
        assert!(seen.written.is_empty());
        seen.note(&sid, || visit("other"));
        for _ in 0..500 {
            let found = eventually(&seen, "s1").await;
            if found.user_agent.as_deref() == Some("other") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the second minute was not written");
    }
}

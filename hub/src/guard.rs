//! The guard: who may run on one store beside whom.
//!
//! Two nodes that share a store but no broker would serve one document and one channel twice, each
//! without hearing the other. So every node on PostgreSQL makes itself known there, with the identity of
//! its Redis, and is let in only if all who live there have the same. A store in a data directory
//! has the directory's lock instead. Never decides what a node does once it is let in.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backplane::redis::{Link, LinkError, Script};
use backplane::store::{NodeRecord, Presence, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How long a node counts as alive after it was heard of.
const TTL: Duration = Duration::from_secs(10);
/// How often a node says that it is there.
const RENEW: Duration = Duration::from_secs(3);
/// How long a start waits for a node that was killed to run out.
const WAIT: Duration = TTL.saturating_add(Duration::from_secs(2));
/// How often it tries meanwhile.
const RETRY: Duration = Duration::from_millis(500);
/// A store that nobody else can open: the record stays until the next start takes it away.
const FOREVER: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Removes an identity that is still the one given.
static WITHDRAW: Script = Script {
    source: "if redis.call('GET', KEYS[1]) == ARGV[2] then return redis.call('DEL', KEYS[1]) end return 0",
};

/// Why a node was not let in.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Another node is there that this one must not run beside; in words.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error("the other nodes can't be asked after: {0}")]
    Store(#[from] StoreError),
    /// Redis failed.
    #[error("the identity of Redis can't be read: {0}")]
    Redis(#[from] LinkError),
}

/// A node's place among those on its store.
pub struct Guard {
    store: Arc<dyn Store>,
    link: Option<Arc<Link>>,
    record: NodeRecord,
    /// Nobody else can open the store.
    alone: bool,
    expelled: watch::Sender<Option<String>>,
}

impl Guard {
    /// A node that is about to enter. `link` leads to the Redis that it shares, if it does; `alone` says
    /// that nobody else can open the store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        link: Option<Arc<Link>>,
        node: &str,
        address: String,
        alone: bool,
    ) -> Self {
        let record = NodeRecord {
            id: node.to_owned(),
            address,
            broker: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self {
            store,
            link,
            record,
            alone,
            expelled: watch::Sender::new(None),
        }
    }

    /// Makes the node known. A node in its way that was killed runs out; until then this waits.
    ///
    /// # Errors
    /// [`GuardError::Refused`] if the other is there to stay.
    pub async fn enter(&mut self) -> Result<(), GuardError> {
        if self.alone {
            return self.enter_alone().await;
        }
        let until = Instant::now() + WAIT;
        let mut told = false;
        loop {
            let proposed = self.identify().await?;
            let other = match self.store.enter(&self.record, TTL).await? {
                Presence::Admitted => return Ok(()),
                Presence::Refused(other) => other,
            };
            if let (true, Some(link), Some(broker)) = (proposed, &self.link, &self.record.broker) {
                // Redis may have lost the identity that the others know; one of them brings it back.
                let identity = broker.strip_prefix("redis:").unwrap_or(broker);
                let key = [identity_key(link)];
                link.script(&WITHDRAW, &key, &[identity.as_bytes()]).await?;
            }
            if Instant::now() >= until {
                return Err(GuardError::Refused(refusal(&self.record, &other)));
            }
            if !told {
                told = true;
                tracing::info!(
                    "waiting up to {WAIT:?} for {} to leave or run out: {}",
                    who(&other),
                    conflict(&self.record, &other)
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whoever is known here has died: the data directory's lock is ours. Its leases are free then.
    async fn enter_alone(&self) -> Result<(), GuardError> {
        for dead in self.store.nodes().await? {
            self.store.depart(&dead.id).await?;
        }
        match self.store.enter(&self.record, FOREVER).await? {
            Presence::Admitted => Ok(()),
            Presence::Refused(other) => Err(GuardError::Refused(refusal(&self.record, &other))),
        }
    }

    /// Learns which Redis this is; `true` if it had no identity and was given one now.
    async fn identify(&mut self) -> Result<bool, LinkError> {
        let Some(link) = &self.link else {
            return Ok(false);
        };
        let proposal = uuid::Uuid::new_v4().simple().to_string();
        let found = claim(link, &proposal).await?;
        let proposed = found == proposal;
        self.record.broker = Some(format!("redis:{found}"));
        Ok(proposed)
    }

    /// Resolves with the reason when another node has taken this one's place: it must stop then.
    pub fn expelled(&self) -> impl Future<Output = String> + Send + use<> {
        let mut expelled = self.expelled.subscribe();
        async move {
            let reason = expelled.wait_for(Option::is_some).await;
            let reason = reason.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                // The guard has ended with the node.
                None => std::future::pending().await,
            }
        }
    }

    /// Says again and again that the node is there, until `stop`.
    pub async fn keep(self: Arc<Self>, health: Arc<Health>, stop: CancellationToken) {
        if self.alone {
            return;
        }
        let mut heard = Instant::now();
        let mut out = false;
        let mut strange = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEW) => {}
            }
            let asked = Instant::now();
            match tokio::time::timeout(RENEW, self.store.enter(&self.record, TTL)).await {
                Ok(Ok(Presence::Admitted)) => {
                    heard = asked;
                    if std::mem::take(&mut out) {
                        tracing::info!("the other nodes count this one among them again");
                        health.set_admitted(true);
                    }
                }
                Ok(Ok(Presence::Refused(other))) => {
                    health.set_admitted(false);
                    let reason = refusal(&self.record, &other);
                    self.expelled.send_replace(Some(reason));
                    return;
                }
                Ok(Err(_)) | Err(_) if heard.elapsed() < TTL || out => {}
                Ok(Err(_)) | Err(_) => {
                    out = true;
                    health.set_admitted(false);
                    tracing::error!(
                        "the database could not be told for {TTL:?} that this node is there: others no \
                         longer count it among them, and it takes no new work"
                    );
                }
            }
            strange = self.remind(strange).await;
        }
    }

    /// Gives Redis its identity back if it has lost it. Another one there says that somebody emptied it
    /// and others came first; it is told once.
    async fn remind(&self, told: bool) -> bool {
        let (Some(link), Some(broker)) = (&self.link, &self.record.broker) else {
            return false;
        };
        let own = broker.strip_prefix("redis:").unwrap_or(broker);
        match claim(link, own).await {
            Ok(found) if found == own => false,
            Ok(_) => {
                if !told {
                    tracing::warn!(
                        "Redis has another identity than when this node started; nodes that start now \
                         may not be let in until this one was started anew"
                    );
                }
                true
            }
            // The outage is told elsewhere.
            Err(_) => told,
        }
    }

    /// The node is gone: others need not wait, and its leases are free.
    pub async fn depart(&self) {
        let departed = self.store.depart(&self.record.id);
        match tokio::time::timeout(RENEW, departed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the other nodes could not be told that this one is gone");
            }
            Err(_) => tracing::warn!("the other nodes could not be told that this one is gone"),
        }
    }
}

/// Where a Redis keeps its identity.
fn identity_key(link: &Link) -> String {
    link.key("identity")
}

/// The identity of a Redis; `proposal` if it had none.
async fn claim(link: &Link, proposal: &str) -> Result<String, LinkError> {
    let key = identity_key(link);
    let set = redis::cmd("SET").arg(&key).arg(proposal).arg("NX").take();
    link.command(&set).await?;
    let found = link.command(redis::cmd("GET").arg(&key)).await?;
    redis::from_redis_value::<Option<String>>(found)
        .ok()
        .flatten()
        .ok_or_else(|| LinkError::Unavailable(format!("{key} was removed at once")))
}

/// A node, for a person. Its id holds when it started.
fn who(node: &NodeRecord) -> String {
    let started = uuid::Uuid::parse_str(&node.id)
        .ok()
        .and_then(|id| id.get_timestamp())
        .map(|stamp| Duration::from_secs(stamp.to_unix().0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = match (now, started) {
        (Ok(now), Some(started)) => {
            let seconds = now.saturating_sub(started).as_secs();
            format!(", started {seconds} s ago")
        }
        _ => String::new(),
    };
    let NodeRecord {
        id,
        address,
        version,
        ..
    } = node;
    format!("node {id} at {address} (version {version}{since})")
}

/// Why the two can't run side by side.
fn conflict(own: &NodeRecord, other: &NodeRecord) -> &'static str {
    match (&own.broker, &other.broker) {
        (None, None) => "both have their channels inside their own process",
        (Some(_), None) => "it has its channels inside its own process",
        (None, Some(_)) => "it shares its channels through Redis, and this node has no redis.url",
        (Some(_), Some(_)) => "it uses another Redis, or another redis.prefix",
    }
}

/// Why a node was refused, and what to do.
fn refusal(own: &NodeRecord, other: &NodeRecord) -> String {
    let hint = match (&own.broker, &other.broker) {
        (None, None) | (Some(_), None) => {
            "stop it, or give every node on this database the same redis.url"
        }
        (None, Some(_)) => "set redis.url as on that node",
        (Some(_), Some(_)) => "give both the same redis.url and redis.prefix",
    };
    format!(
        "{} runs on the same database, and the two would not hear each other: {}; {hint}",
        who(other),
        conflict(own, other)
    )
}

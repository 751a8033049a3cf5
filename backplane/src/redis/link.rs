//! One supervised connection to Redis: commands, scripts and pushes.
//!
//! Commands and pushes share one connection in RESP3. The redis crate frames and matches replies; when to
//! connect anew, what to subscribe to again and what an outage looks like from above is decided here.
//! Never retries a command: whoever calls knows whether that is safe.

mod connection;
mod push;
mod refusal;
mod supervisor;
mod target;
mod topics;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use tokio::task::AbortHandle;

use connection::Connection;
use push::Gate;
use target::Target;
use topics::Topics;

/// How to reach Redis.
#[derive(Clone)]
pub struct LinkOptions {
    /// `redis://`, or `rediss://` for TLS, with user and password; several for the masters of a cluster.
    pub urls: Vec<String>,
    /// PEM file of the authority that signed the server's certificate, if it is no public one.
    pub ca: Option<std::path::PathBuf>,
    /// What every key and channel begins with.
    pub prefix: String,
    /// How long a command may take before the connection counts as broken.
    pub command_timeout: Duration,
    /// How often a silent connection is asked whether it is there.
    pub watchdog: Duration,
}

/// Without the addresses: they hold passwords.
impl fmt::Debug for LinkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkOptions")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Why Redis did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, or it broke under way: the command may or may not have been carried out.
    #[error("Redis can't be reached: {0}")]
    Unavailable(String),
    /// Redis refused the command: wrong password, no permission, out of memory, a script's own error.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// A Lua script, called by its hash and sent in full when the server does not know it.
pub struct Script {
    /// The source. `ARGV[1]` is always the server's `run_id` as learned by the connection that calls
    /// (empty in a cluster: the script asks `INFO server` itself then); the caller's arguments follow.
    pub source: &'static str,
}

/// Who hears what arrives on a link. Never called by two threads at once; must not block, and must not
/// wait for the link.
///
/// With one server (no cluster) everything that Redis sent before the reply to a command has been handed over
/// when that command returns.
pub trait LinkSink: Send + Sync + 'static {
    /// A message on a subscribed topic (without the prefix). May come before [`LinkSink::connected`].
    fn message(&self, topic: &str, payload: Bytes);
    /// A connection is there, and every subscription was made again on it: what was published before may have been missed.
    fn connected(&self);
    /// The connection broke or fell silent; nothing more comes from it.
    fn lost(&self);
}

/// A supervised connection; dropping it ends it.
pub struct Link {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

/// What the handle and the supervisor both touch.
struct Shared {
    options: LinkOptions,
    target: Target,
    gate: Arc<Gate>,
    topics: Topics,
    current: RwLock<Option<Arc<Connection>>>,
    sharded: AtomicBool,
}

impl Shared {
    fn set_current(&self, connection: Option<Arc<Connection>>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl Link {
    /// Connects. The first connection must come about, so that a wrong address or password is told at once;
    /// later ones are tried for ever, with a backoff of at most a second. The sink hears
    /// [`LinkSink::connected`] before this returns.
    ///
    /// # Errors
    /// [`LinkError`], in words for whoever runs the hub. They name the server's address, never a password.
    pub async fn connect(
        options: LinkOptions,
        sink: Arc<dyn LinkSink>,
    ) -> Result<Arc<Self>, LinkError> {
        let shared = Arc::new(Shared {
            target: Target::new(&options).await?,
            gate: Arc::new(Gate::new(sink, &options.prefix)),
            topics: Topics::default(),
            current: RwLock::new(None),
            sharded: AtomicBool::new(true),
            options,
        });
        let first = supervisor::first(&shared).await?;
        let supervisor = tokio::spawn(supervisor::run(Arc::clone(&shared), first)).abort_handle();
        Ok(Arc::new(Self { shared, supervisor }))
    }

    /// The full key or channel name of `name`, which holds its own hash tag if it needs one.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.shared.options.prefix)
    }

    /// Runs a script on keys (full names, all of one hash tag).
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn script(
        &self,
        script: &'static Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<redis::Value, LinkError> {
        let connection = self.connection()?;
        connection.script(script, keys, args).await
    }

    /// Runs a command. A blocking one would hold up all others: none may be sent here.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn command(&self, command: &redis::Cmd) -> Result<redis::Value, LinkError> {
        self.connection()?.run(command).await
    }

    /// Publishes to topics (without the prefix), each topic's messages in their order, and waits until Redis has
    /// taken them all.
    ///
    /// # Errors
    /// [`LinkError`]: some of them may have been published.
    pub async fn publish(&self, messages: &[(Arc<str>, Bytes)]) -> Result<(), LinkError> {
        self.connection()?.publish(messages).await
    }

    /// Subscribes to a topic (sharded where the server has that): when the answer is `Ok`, what is published from then on
    /// arrives. On an error the subscription stands all the same and is made with the next connection.
    /// Not counted: callers count. The call itself takes its place in the order, not the wait for the answer: of
    /// several calls on one topic the last wins.
    ///
    /// # Errors
    /// [`LinkError::Unavailable`]; [`LinkError::Refused`] if the user may not hear this topic.
    pub fn subscribe(
        &self,
        topic: &str,
    ) -> impl Future<Output = Result<(), LinkError>> + Send + 'static {
        let made = self.shared.topics.subscribe(topic);
        async move {
            match made {
                Some(made) => made.await.unwrap_or_else(|_| Err(topics::lost())),
                None => Err(topics::lost()),
            }
        }
    }

    /// Ends a subscription. Never waits.
    pub fn unsubscribe(&self, topic: &str) {
        self.shared.topics.unsubscribe(topic);
    }

    /// `SPUBLISH`, or `PUBLISH` where the server has no sharded pub/sub: what scripts have to call.
    #[must_use]
    pub fn publish_command(&self) -> &'static str {
        connection::publish_command(self.shared.sharded.load(Ordering::Relaxed))
    }

    /// Whether a connection stands now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection().is_ok()
    }

    /// Gives the connection up and makes another: for a caller who sees that it is there but does not work.
    pub fn reset(&self, reason: &str) {
        if let Ok(connection) = self.connection() {
            connection.fault().report(reason);
        }
    }

    fn connection(&self) -> Result<Arc<Connection>, LinkError> {
        let current = self.shared.current();
        current
            .filter(|connection| !connection.fault().happened())
            .ok_or_else(topics::lost)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.shared.set_current(None);
    }
}

/// The hash of each script that was called, by where its source lies.
#[derive(Default)]
struct Hashes(DashMap<(usize, usize), Arc<str>>);

impl Hashes {
    fn of(&self, script: &'static Script) -> Arc<str> {
        let place = (script.source.as_ptr().addr(), script.source.len());
        let known = self.0.get(&place).map(|hash| Arc::clone(&hash));
        known.unwrap_or_else(|| {
            let hash: Arc<str> = redis::Script::new(script.source).get_hash().into();
            self.0.insert(place, Arc::clone(&hash));
            hash
        })
    }
}

//! The mesh over Redis: pub/sub, one channel per topic.
//!
//! A message is the sender's name, preceded by its length in one byte, and the payload. A node hears its own
//! messages too and drops them, all but its heartbeat. Never keeps a message: what is published
//! while a node has no connection is lost to it, and its members are told [`MeshEvent::Restored`].

mod outbox;
mod seats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::{Membership, Mesh, MeshEvent};
use crate::redis::{Link, LinkError, LinkOptions, LinkSink};
use outbox::Outbox;
use seats::{Seat, Seats};

/// How often a node listens for itself.
const BEAT: Duration = Duration::from_millis(300);

/// After this long without an own heartbeat a connection that seems to stand is made anew.
const DEAF: Duration = Duration::from_secs(3);

/// How long a join waits for Redis.
const JOIN: Duration = Duration::from_millis(1500);

/// The mesh of nodes that share a Redis.
pub struct RedisMesh {
    link: Arc<Link>,
    hearing: Arc<Hearing>,
    outbox: Arc<Outbox>,
    tasks: [AbortHandle; 2],
}

impl RedisMesh {
    /// Joins the mesh as `node`, which must be new with every process start.
    ///
    /// # Errors
    /// [`LinkError`] if the first connection does not come about; `Unavailable` too if `node` is longer than
    /// 255 bytes.
    pub async fn connect(options: LinkOptions, node: Arc<str>) -> Result<Self, LinkError> {
        let Ok(length) = u8::try_from(node.len()) else {
            let reason = "the node's name is longer than 255 bytes".to_owned();
            return Err(LinkError::Unavailable(reason));
        };
        let mut stamp = vec![length];
        stamp.extend_from_slice(node.as_bytes());
        let outbox = Arc::new(Outbox::default());
        let hearing = Arc::new(Hearing {
            beat: format!("mesh:{{beat:{node}}}"),
            node,
            stamp,
            seats: Seats::default(),
            outbox: Arc::clone(&outbox),
            start: Instant::now(),
            heard: AtomicU64::new(0),
        });
        let link = Link::connect(options, Arc::clone(&hearing) as Arc<dyn LinkSink>).await?;
        // Without a connection it is made with the next one.
        let _ = link.subscribe(&hearing.beat).await;
        let beating = tokio::spawn(beat(Arc::clone(&link), Arc::clone(&hearing)));
        let sending = tokio::spawn(Arc::clone(&outbox).run(Arc::clone(&link)));
        Ok(Self {
            link,
            hearing,
            outbox,
            tasks: [beating.abort_handle(), sending.abort_handle()],
        })
    }

    /// How many messages were dropped unsent, for want of a connection or of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// The connection, for whoever reports its state.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for RedisMesh {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[async_trait]
impl Mesh for RedisMesh {
    fn node(&self) -> &Arc<str> {
        &self.hearing.node
    }

    fn has_peers(&self) -> bool {
        true
    }

    fn send(&self, topic: &str, payload: Bytes) {
        if self.link.is_connected() {
            let message = self.hearing.stamped(&payload);
            self.outbox.push(channel(topic).into(), message);
        } else {
            self.outbox.drop_one();
        }
    }

    async fn join(&self, topic: &str, inbox: mpsc::UnboundedSender<MeshEvent>) -> Membership {
        let channel = channel(topic);
        let seat = Seat::take(&self.hearing, &self.link, &channel, inbox);
        let mut subscribing = Box::pin(self.link.subscribe(&channel));
        // Without a connection the member is told `Restored` like all others when there is one.
        if tokio::time::timeout(JOIN, &mut subscribing).await.is_err() {
            let (hearing, id) = (Arc::clone(&self.hearing), seat.id());
            tokio::spawn(async move {
                if subscribing.await.is_ok() {
                    hearing.seats.restored(&channel, id);
                }
            });
        }
        Membership::new(seat)
    }

    fn silence(&self) -> Duration {
        self.hearing.silence()
    }
}

/// The channel of a topic, without the link's prefix.
fn channel(topic: &str) -> String {
    format!("mesh:{{{topic}}}")
}

/// Publishes the heartbeat, and gives up a connection on which it does not come back.
async fn beat(link: Arc<Link>, hearing: Arc<Hearing>) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut up_since: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let mut command = redis::cmd(link.publish_command());
        command.arg(link.key(&hearing.beat)).arg(&hearing.stamp);
        let sent = link.command(&command).await.is_ok();
        up_since = sent.then(|| up_since.unwrap_or_else(Instant::now));
        if up_since.is_some_and(|since| since.elapsed() > DEAF) && hearing.silence() > DEAF {
            link.reset("what this node publishes does not come back to it");
            up_since = None;
        }
    }
}

/// The receiving side.
struct Hearing {
    node: Arc<str>,
    /// The node's name as messages begin with it.
    stamp: Vec<u8>,
    /// The channel of the heartbeat.
    beat: String,
    seats: Seats,
    outbox: Arc<Outbox>,
    start: Instant,
    /// When the own heartbeat was heard last, milliseconds after `start`.
    heard: AtomicU64,
}

impl Hearing {
    fn stamped(&self, payload: &[u8]) -> Bytes {
        let mut message = BytesMut::with_capacity(self.stamp.len() + payload.len());
        message.put_slice(&self.stamp);
        message.put_slice(payload);
        message.freeze()
    }

    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }
}

impl LinkSink for Hearing {
    fn message(&self, topic: &str, message: Bytes) {
        let Some((from, payload)) = opened(&message) else {
            return;
        };
        if from != &*self.node {
            self.seats.message(topic, from, payload);
        } else if topic == self.beat {
            let now = self.start.elapsed().as_millis() as u64;
            self.heard.store(now, Ordering::Relaxed);
        }
    }

    fn connected(&self) {
        self.seats.all_restored();
    }

    fn lost(&self) {
        self.outbox.clear();
    }
}

/// Sender and payload; `None` for what no node sent.
fn opened(message: &Bytes) -> Option<(&str, Bytes)> {
    let length = usize::from(*message.first()?);
    let from = std::str::from_utf8(message.get(1..=length)?).ok()?;
    Some((from, message.slice(1 + length..)))
}

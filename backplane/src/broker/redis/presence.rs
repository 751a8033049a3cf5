//! Who is in which channel, from this node: what is wanted, and the task that brings Redis to it.
//!
//! Every join and leave changes what this node wants; one task carries it out, many sessions at a time but
//! each session's changes in order, and again after every outage. What waits is bounded by the members.
//! The node's lease and the sweep of others are in `lease`.

mod lease;
mod own;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use protocol::frame::Member;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::lease::Lease;
use self::own::{Change, Own};
use super::Shared;
use super::scripts::Answer;
use super::wire;
use crate::broker::BrokerError;
use crate::redis::Script;

static JOIN: Script = Script {
    source: include_str!("lua/join.lua"),
};
static LEAVE: Script = Script {
    source: include_str!("lua/leave.lua"),
};

/// How often the lease is renewed, others' leases are looked at, and what failed is tried again.
const TICK: Duration = Duration::from_secs(2);
/// How many sessions are brought up to date at a time.
const BATCH: usize = 64;
/// How long a node that goes takes to say so.
const GOODBYE: Duration = Duration::from_secs(2);

/// What this node wants of presence.
pub(super) struct Presence {
    node: Arc<str>,
    own: Mutex<Own>,
    wake: Notify,
    /// A connection was made anew since the task last looked.
    anew: AtomicBool,
}

/// Starts the task; it ends with the broker.
pub(super) fn start(shared: &Arc<Shared>) {
    let (weak, stop) = (Arc::downgrade(shared), shared.stop.clone());
    let mut lease = Lease::new(&shared.presence.node);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Some(shared) = weak.upgrade() else {
                return;
            };
            let ticked = tokio::select! {
                biased;
                _ = tick.tick() => true,
                () = shared.presence.wake.notified() => false,
            };
            if let Err(error) = shared.attend(&mut lease, ticked).await {
                tracing::debug!(%error, "presence waits for Redis");
                shared.presence.lock().fail_waiting(&error);
            }
        }
    }));
}

impl Shared {
    /// Brings Redis to what is wanted, and on a tick looks after leases.
    async fn attend(&self, lease: &mut Lease, ticked: bool) -> Result<(), BrokerError> {
        let anew = self.presence.anew.swap(false, Ordering::AcqRel);
        if anew {
            lease.hold_off();
        }
        if anew || ticked || !lease.is_held() {
            let renewed = self.renew(lease).await;
            if renewed.is_err() && anew {
                self.presence.anew.store(true, Ordering::Release);
            }
            let over = renewed?;
            let is_new = lease.take_renewed();
            if anew || is_new {
                lease.registered.clear();
                self.presence.lock().mark_all();
            }
            self.settle(lease).await?;
            if let Err(error) = self.sweep_all(lease, over).await {
                tracing::debug!(%error, "a sweep waits for Redis");
            }
            return Ok(());
        }
        self.settle(lease).await
    }

    /// Carries out every change that waits; if they come faster than that, goes on when the lease was looked after.
    async fn settle(&self, lease: &mut Lease) -> Result<(), BrokerError> {
        let until = Instant::now() + TICK;
        while Instant::now() < until {
            let batch = self.presence.lock().take_batch(BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            let registered = self.register(lease, &batch).await;
            let carried = batch.iter().map(|change| async {
                registered.clone()?;
                self.carry_out(&lease.incarnation, change).await
            });
            let outcomes = join_all(carried).await;
            let mut failed = None;
            for (change, outcome) in batch.iter().zip(outcomes) {
                failed = failed.or_else(|| outcome.clone().err());
                self.presence.lock().carried_out(change, &outcome);
            }
            if let Some(error) = failed {
                return Err(error);
            }
            self.unregister(lease, &batch).await?;
        }
        self.presence.wake.notify_one();
        Ok(())
    }

    async fn carry_out(&self, incarnation: &str, change: &Change) -> Result<(), BrokerError> {
        let link = &self.scripts.link;
        let key = link.key(&format!("{}:members", change.topic));
        let topic = link.key(&change.topic);
        let publish = link.publish_command();
        let session = change.session.as_bytes();
        if let Some(member) = &change.wanted {
            let json = serde_json::to_vec(&**member)
                .map_err(|error| BrokerError::Unavailable(format!("a member: {error}")))?;
            let args: [&[u8]; 5] = [
                publish.as_bytes(),
                topic.as_bytes(),
                session,
                incarnation.as_bytes(),
                &json,
            ];
            link.script(&JOIN, &[key], &args).await?;
        } else {
            let args: [&[u8]; 5] = [
                publish.as_bytes(),
                topic.as_bytes(),
                self.presence.node.as_bytes(),
                session,
                b"",
            ];
            link.script(&LEAVE, &[key], &args).await?;
        }
        Ok(())
    }

    /// Everybody in a channel, in no order.
    pub(super) async fn read_members(&self, topic: &str) -> Result<Vec<Member>, BrokerError> {
        let key = self.scripts.link.key(&format!("{topic}:members"));
        let mut command = redis::cmd("HVALS");
        command.arg(key);
        let values = Answer::new(self.scripts.link.command(&command).await?)?.rest()?;
        let mut members = Vec::with_capacity(values.len());
        for value in values {
            match wire::stored_member(&value) {
                Ok(member) => members.push(member),
                Err(error) => tracing::error!(topic, %error, "a member can't be read"),
            }
        }
        Ok(members)
    }

    /// See [`super::RedisBroker::goodbye`].
    pub(super) async fn goodbye(&self) {
        let left = self.presence.lock().leave_all();
        self.presence.wake.notify_one();
        if timeout(GOODBYE, join_all(left)).await.is_err() {
            tracing::warn!(
                "members of this node stay until its lease runs out: Redis does not answer"
            );
        }
    }
}

impl Presence {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self {
            node,
            own: Mutex::default(),
            wake: Notify::new(),
            anew: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was made anew: what Redis knows of this node may be out of date.
    pub(super) fn connected(&self) {
        self.anew.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Adds or changes a member; returns when Redis agrees, or could not be asked.
    pub(super) async fn join(&self, topic: Arc<str>, member: Member) -> Result<(), BrokerError> {
        let closing = || BrokerError::Unavailable("the broker is closing".into());
        let (done, hears) = oneshot::channel();
        {
            let mut own = self.lock();
            if own.closed {
                return Err(closing());
            }
            let session = member.session.clone();
            own.want(&topic, &session, Some(member), Some(done));
        }
        self.wake.notify_one();
        hears.await.map_err(|_| closing())?
    }

    /// Removes a member that this node has added.
    pub(super) fn leave(&self, topic: &str, session: &str) {
        let mut own = self.lock();
        if let Some(topic) = own.known(topic, session) {
            own.want(&topic, session, None, None);
            drop(own);
            self.wake.notify_one();
        }
    }
}

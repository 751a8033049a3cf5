//! Who is in which channel, from this node: what is wanted, and the task that brings Redis to it.
//!
//! Every join and leave changes what this node wants; one task carries it out, many sessions at a time but
//! each session's changes in order, and again after every outage. What waits is bounded by the members.
//! The node's lease and the sweep of others are in `lease`.

mod lease;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use protocol::frame::Member;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::lease::Lease;
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

#[derive(Default)]
struct Own {
    /// By topic and session.
    channels: HashMap<Arc<str>, HashMap<String, Entry>>,
    /// What Redis does not agree with yet; each entry at most once.
    dirty: VecDeque<(Arc<str>, String)>,
    /// The node has said goodbye.
    closed: bool,
}

#[derive(Default)]
struct Entry {
    /// Who should be there; `None` for nobody.
    wanted: Option<Member>,
    /// Who was there when Redis last agreed.
    agreed: Option<Member>,
    /// Rises with each change of `wanted`.
    turn: u64,
    dirty: bool,
    waiting: Vec<Waiting>,
}

/// A caller that waits for a turn to be carried out.
struct Waiting {
    turn: u64,
    done: oneshot::Sender<Result<(), BrokerError>>,
}

/// One change to carry out.
struct Change {
    topic: Arc<str>,
    session: String,
    turn: u64,
    wanted: Option<Member>,
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
                shared.presence.fail_waiting(&error);
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
                self.presence.mark_all();
            }
            self.settle(lease).await?;
            return self.sweep_all(lease, over).await;
        }
        self.settle(lease).await
    }

    /// Carries out every change that waits.
    async fn settle(&self, lease: &mut Lease) -> Result<(), BrokerError> {
        loop {
            let batch = self.presence.take_batch();
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
                self.presence.carried_out(change, &outcome);
            }
            if let Some(error) = failed {
                return Err(error);
            }
            self.unregister(lease, &batch).await?;
        }
    }

    async fn carry_out(&self, incarnation: &str, change: &Change) -> Result<(), BrokerError> {
        let link = &self.scripts.link;
        let key = link.key(&format!("{}:members", change.topic));
        let topic = link.key(&change.topic);
        let publish = link.publish_command();
        let session = change.session.as_bytes();
        if let Some(member) = &change.wanted {
            let json = serde_json::to_vec(member)
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
        let left = self.presence.leave_all();
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
        let known = own.channels.get_key_value(topic);
        let topic = known.and_then(|(topic, sessions)| {
            sessions.contains_key(session).then(|| Arc::clone(topic))
        });
        if let Some(topic) = topic {
            own.want(&topic, session, None, None);
            drop(own);
            self.wake.notify_one();
        }
    }

    /// Removes every member; each receiver hears when one is gone.
    fn leave_all(&self) -> Vec<oneshot::Receiver<Result<(), BrokerError>>> {
        let mut own = self.lock();
        own.closed = true;
        let all = own.all();
        let leave = |(topic, session): (Arc<str>, String)| {
            let (done, hears) = oneshot::channel();
            own.want(&topic, &session, None, Some(done));
            hears
        };
        all.into_iter().map(leave).collect()
    }

    /// Has everything carried out anew.
    fn mark_all(&self) {
        let mut own = self.lock();
        for (topic, session) in own.all() {
            own.mark(&topic, &session);
        }
    }

    fn take_batch(&self) -> Vec<Change> {
        let mut own = self.lock();
        let count = own.dirty.len().min(BATCH);
        let keys: Vec<_> = own.dirty.drain(..count).collect();
        let mut changes = Vec::with_capacity(count);
        for (topic, session) in keys {
            if let Some(entry) = own.entry(&topic, &session) {
                entry.dirty = false;
                changes.push(Change {
                    turn: entry.turn,
                    wanted: entry.wanted.clone(),
                    topic,
                    session,
                });
            }
        }
        changes
    }

    /// Notes what became of a change.
    fn carried_out(&self, change: &Change, outcome: &Result<(), BrokerError>) {
        let mut own = self.lock();
        let Some(entry) = own.entry(&change.topic, &change.session) else {
            return;
        };
        match outcome {
            Ok(()) => {
                entry.agreed.clone_from(&change.wanted);
                entry.answer(change.turn, &Ok(()));
                if entry.wanted.is_none() && entry.turn == change.turn {
                    own.forget(&change.topic, &change.session);
                }
            }
            Err(error) => {
                entry.give_up(error);
                own.mark(&change.topic, &change.session);
            }
        }
    }

    /// Tells all who wait that it failed. What they wanted is taken back.
    fn fail_waiting(&self, error: &BrokerError) {
        let mut own = self.lock();
        let waiting: Vec<_> = own.dirty.iter().cloned().collect();
        for (topic, session) in waiting {
            if let Some(entry) = own.entry(&topic, &session) {
                entry.give_up(error);
            }
        }
    }

    /// The topics among `topics` where this node has nobody any more.
    fn empty_among<'a>(&self, topics: impl Iterator<Item = &'a Arc<str>>) -> HashSet<Arc<str>> {
        let own = self.lock();
        let empty = topics.filter(|topic| !own.channels.contains_key(*topic));
        empty.cloned().collect()
    }
}

impl Own {
    fn entry(&mut self, topic: &str, session: &str) -> Option<&mut Entry> {
        self.channels.get_mut(topic)?.get_mut(session)
    }

    fn all(&self) -> Vec<(Arc<str>, String)> {
        let of = |(topic, sessions): (&Arc<str>, &HashMap<String, Entry>)| {
            let topic = Arc::clone(topic);
            let sessions: Vec<_> = sessions.keys().cloned().collect();
            sessions
                .into_iter()
                .map(move |session| (Arc::clone(&topic), session))
        };
        self.channels.iter().flat_map(of).collect()
    }

    fn want(
        &mut self,
        topic: &Arc<str>,
        session: &str,
        member: Option<Member>,
        done: Option<oneshot::Sender<Result<(), BrokerError>>>,
    ) {
        let sessions = self.channels.entry(Arc::clone(topic)).or_default();
        let entry = sessions.entry(session.to_owned()).or_default();
        entry.wanted = member;
        entry.turn += 1;
        let turn = entry.turn;
        entry
            .waiting
            .extend(done.map(|done| Waiting { turn, done }));
        self.mark(topic, session);
    }

    fn mark(&mut self, topic: &Arc<str>, session: &str) {
        let Some(entry) = self.entry(topic, session) else {
            return;
        };
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty
                .push_back((Arc::clone(topic), session.to_owned()));
        }
    }

    fn forget(&mut self, topic: &str, session: &str) {
        if let Some(sessions) = self.channels.get_mut(topic) {
            sessions.remove(session);
            if sessions.is_empty() {
                self.channels.remove(topic);
            }
        }
    }
}

impl Entry {
    /// Answers those who wait for `turn` or an earlier one.
    fn answer(&mut self, turn: u64, outcome: &Result<(), BrokerError>) {
        let (answered, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.turn <= turn);
        self.waiting = later;
        for waiting in Vec::<Waiting>::into_iter(answered) {
            // Whoever has gone no longer wants to know.
            let _ = waiting.done.send(outcome.clone());
        }
    }

    /// What a caller wanted failed and is taken back: what was agreed before is wanted again. A leave that
    /// nobody waits for stays wanted.
    fn give_up(&mut self, error: &BrokerError) {
        let last = self.waiting.last().map(|waiting| waiting.turn);
        if last == Some(self.turn) && self.wanted.is_some() {
            self.wanted.clone_from(&self.agreed);
            self.turn += 1;
        }
        self.answer(self.turn, &Err(error.clone()));
    }
}

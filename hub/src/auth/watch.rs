//! Rights across nodes: reading their changes from the store, and knowing whether any can be unread.
//!
//! The store numbers the changes; every node reads them in order, at least every [`POLL`], and at once
//! when another node hints over the mesh that there is one. Each is announced on this node as one that
//! was made here. [`Freshness`] says whether a change older than [`PATIENCE`] can be unknown here: then
//! nothing may be written. Alone on its store a node has nothing to read. Never decides what a change
//! means for a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backplane::mesh::{Membership, Mesh, MeshEvent};
use backplane::store::{Rights, StoreError};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::rights::{News, RightsChange};
use super::{Auth, AuthError};

/// The topic of the hints. A hint says nothing but that there is a change.
pub(super) const TOPIC: &str = "rights";
/// How often the store is asked whether there are changes.
pub const POLL: Duration = Duration::from_millis(500);
/// How long a change may be unknown on a node before the node refuses writes.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How long one question to the store may take: a store that hangs must be noticed within [`PATIENCE`].
const POLL_TIMEOUT: Duration = Duration::from_millis(400);
/// How far apart questions lie at least, however many hints come.
const GAP: Duration = Duration::from_millis(20);
/// Changes that are read at once.
const PAGE: u32 = 512;

/// Whether this node would have heard of a change that is older than [`PATIENCE`].
pub(super) struct Freshness {
    mesh: Arc<dyn Mesh>,
    born: Instant,
    /// When the last reading began that left nothing unread, in milliseconds since `born`, plus one;
    /// 0: never.
    read: AtomicU64,
    /// Whether a reading has followed every hint, and every time that hints may have been lost. Only then
    /// does a mesh that works say that there is nothing to read.
    settled: AtomicBool,
}

impl Freshness {
    pub(super) fn new(mesh: Arc<dyn Mesh>) -> Self {
        Self {
            mesh,
            born: Instant::now(),
            read: AtomicU64::new(0),
            settled: AtomicBool::new(false),
        }
    }

    fn since_birth(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.born).as_millis() as u64 + 1
    }

    /// Whether what was allowed may still be gone by. Costs a load and a look at the clock, as long as
    /// the store answers.
    pub(super) fn holds(&self) -> bool {
        if !self.mesh.has_peers() {
            return true;
        }
        let read = self.read.load(Ordering::Acquire);
        let now = self.since_birth(Instant::now());
        let is_read = read > 0 && now.saturating_sub(read) < PATIENCE.as_millis() as u64;
        is_read || (self.settled.load(Ordering::Acquire) && self.mesh.silence() < PATIENCE)
    }

    fn unsettle(&self) {
        self.settled.store(false, Ordering::Release);
    }

    fn all_read(&self, began: Instant, settled: bool) {
        self.read.store(self.since_birth(began), Ordering::Release);
        if settled {
            self.settled.store(true, Ordering::Release);
        }
    }

    /// Tells the other nodes that there is a change.
    pub(super) fn hint(&self) {
        if self.mesh.has_peers() {
            self.mesh.send(TOPIC, bytes::Bytes::new());
        }
    }

    pub(super) fn mesh(&self) -> &Arc<dyn Mesh> {
        &self.mesh
    }
}

/// What a question to the store found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// No change that is not known.
    Nothing,
    /// These, up to and including the number; whether there are more.
    Changes(Vec<RightsChange>, u64, bool),
    /// Changes are gone unread; the newest number.
    Gap(u64),
}

/// The reader of changes; one per node.
pub struct Watch {
    auth: Arc<Auth>,
    source: Arc<dyn Rights + Send + Sync>,
    /// The newest change that was announced here.
    seq: u64,
    /// The last reading that left nothing unread began then.
    known: Instant,
    inbox: UnboundedReceiver<MeshEvent>,
    is_out: bool,
    /// Hints that this node sent may have been lost: it was cut off.
    owes_hint: bool,
    _membership: Membership,
}

impl Watch {
    /// Takes up the changes from here on: call it before anyone can authenticate.
    ///
    /// # Errors
    /// The store failed.
    pub async fn start(auth: Arc<Auth>) -> Result<Self, AuthError> {
        let source: Arc<dyn Rights + Send + Sync> = auth.store.clone();
        Self::start_on(auth, source).await
    }

    pub(super) async fn start_on(
        auth: Arc<Auth>,
        source: Arc<dyn Rights + Send + Sync>,
    ) -> Result<Self, AuthError> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let membership = auth.freshness.mesh().join(TOPIC, outbox).await;
        let known = Instant::now();
        let seq = source.rights_head().await?;
        auth.freshness.all_read(known, true);
        Ok(Self {
            auth,
            source,
            seq,
            known,
            inbox,
            is_out: false,
            owes_hint: false,
            _membership: membership,
        })
    }

    /// Reads until `stop`. Returns at once on a node that is alone on its store.
    pub async fn run(mut self, stop: CancellationToken) {
        if !self.auth.freshness.mesh().has_peers() {
            return;
        }
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let before = self.seq;
            let by_clock = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(event) = self.inbox.recv() => {
                    self.heard(&event);
                    false
                }
                _ = ticks.tick() => self.auth.freshness.settled.load(Ordering::Acquire),
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.catch_up() => {}
            }
            // A change that came without a hint: whoever made it could not send one, or died before. A node that
            // reaches the mesh alone has to hear of it too.
            if std::mem::take(&mut self.owes_hint) || (by_clock && self.seq != before) {
                self.auth.freshness.hint();
            }
            tokio::time::sleep(GAP).await;
        }
    }

    fn heard(&mut self, event: &MeshEvent) {
        self.auth.freshness.unsettle();
        self.owes_hint |= *event == MeshEvent::Restored;
    }

    /// Asks the store until nothing is unread, or it does not answer.
    pub(super) async fn catch_up(&mut self) {
        loop {
            let began = Instant::now();
            while let Ok(event) = self.inbox.try_recv() {
                self.heard(&event);
            }
            let (found, hinted) = self.ask().await;
            let found = match found {
                Ok(found) => found,
                Err(error) => return self.is_silent(&error),
            };
            let (more, since) = (matches!(found, Found::Changes(_, _, true)), self.known);
            match found {
                Found::Nothing => {}
                Found::Gap(head) => {
                    tracing::warn!("changes of rights were missed: everyone checks again");
                    self.auth.tell(News {
                        change: None,
                        since,
                    });
                    self.seq = head;
                }
                Found::Changes(changes, last, _) => {
                    for change in changes {
                        self.auth.take_in(change, since);
                    }
                    self.seq = last;
                }
            }
            if more {
                continue;
            }
            if std::mem::take(&mut self.is_out) {
                tracing::info!("changes of rights are read again");
            }
            self.known = began;
            self.auth.freshness.all_read(began, !hinted);
            if !hinted {
                return;
            }
            tokio::time::sleep(GAP).await;
        }
    }

    /// One question; and whether a hint came while the store answered, which may have been too late for
    /// the answer.
    async fn ask(&mut self) -> (Result<Found, StoreError>, bool) {
        let question = read(self.source.as_ref(), self.seq);
        let question = tokio::time::timeout(POLL_TIMEOUT, question);
        tokio::pin!(question);
        let mut hinted = false;
        loop {
            tokio::select! {
                biased;
                Some(event) = self.inbox.recv() => {
                    self.auth.freshness.unsettle();
                    self.owes_hint |= event == MeshEvent::Restored;
                    hinted = true;
                }
                answer = &mut question => {
                    let slow = |_| StoreError::Unavailable("no answer in time".to_owned());
                    return (answer.map_err(slow).flatten(), hinted);
                }
            }
        }
    }

    fn is_silent(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.is_out, true) {
            tracing::warn!(%error, "changes of rights can't be read");
        }
    }
}

/// The changes after `seq`.
async fn read(source: &(dyn Rights + Send + Sync), seq: u64) -> Result<Found, StoreError> {
    let head = source.rights_head().await?;
    if head == seq {
        return Ok(Found::Nothing);
    }
    if head < seq {
        // An older state of the database was restored.
        return Ok(Found::Gap(head));
    }
    let rows = source.rights_after(seq, PAGE).await?;
    let mut last = seq;
    let mut changes = Vec::with_capacity(rows.len());
    for (number, change) in rows {
        if number != last + 1 {
            return Ok(Found::Gap(head.max(number)));
        }
        last = number;
        changes.push(change);
    }
    if last == seq {
        return Ok(Found::Gap(head));
    }
    Ok(Found::Changes(changes, last, last < head))
}

#[cfg(test)]
mod tests;

//! A document that is open on several nodes: live copies of each other's updates, and how a gap is found.
//!
//! Each node sends what it applies with a count of its own, and says when the log has it. What came from
//! another node and is not known to be in the log is *foreign*: it is shown at once, but before anything is
//! acknowledged here it goes to the log from here too (the causal cut), as its maker may die before
//! its own commit. Doubles in the log do no harm. What is missed is read from the log (`catchup`) or asked of
//! the node that made it. Without other nodes all of this stands still.

mod cover;
mod hearing;
mod presence;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backplane::mesh::{Membership, Mesh};
use bytes::Bytes;
use tokio::time::Instant;

use super::PeerId;
use super::words::{Origin, Word};

/// How often a node says where it stands.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// A node that said nothing for this long is gone, and its clients' awareness with it.
const SILENT: Duration = Duration::from_secs(7);
/// A foreign update that its maker has not logged for this long is logged from here.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one node is asked for what is missing.
const ASK: Duration = Duration::from_millis(200);
/// Updates of other nodes that may wait for what they rest on; beyond it they are dropped and asked for.
const EARLY: usize = 1024;
/// Bytes of them.
const EARLY_BYTES: usize = 4 << 20;
/// Ids of other nodes among those who own awareness begin here; clients count from 1.
pub(super) const NODE_PEERS: PeerId = 1 << 63;

/// Another node that has the document open.
struct Other {
    run: u64,
    /// All its updates up to this one have been taken in.
    upto: u64,
    heard: Instant,
    asked: Option<Instant>,
    /// Its name among the owners of awareness.
    peer: PeerId,
    /// Digests that differed once and did not after a pull: mine and its.
    disputed: Option<(u64, u64)>,
}

/// An update of another node that is not known to be in the log.
struct Foreign {
    origin: Option<Origin>,
    update: Bytes,
    since: Instant,
    logged: Arc<AtomicBool>,
    /// It is on its way to the log from here, under this ticket.
    ticket: Option<u64>,
}

/// What was handed to the log under a ticket.
enum Handed {
    Own(u64),
    Cover(Option<Origin>),
}

/// What a document's task knows of the other nodes.
pub(super) struct Nodes {
    mesh: Arc<dyn Mesh>,
    topic: String,
    run: u64,
    /// How many updates this node has sent.
    sent: u64,
    others: HashMap<Arc<str>, Other>,
    next_other: PeerId,
    foreign: VecDeque<Foreign>,
    handed: VecDeque<(u64, Handed)>,
    early: VecDeque<Bytes>,
    early_bytes: usize,
    beaten: Instant,
    digest: Option<u64>,
    /// Awareness that changed owner without changing: only other nodes are told.
    pub(super) adopted: Vec<u64>,
    membership: Option<Membership>,
}

/// What became of an update of another node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It changed the document by this.
    New(Bytes),
    /// It was there.
    Known,
    /// It rests on what is not here.
    Early,
    /// It is no update.
    Refused,
}

impl Nodes {
    pub(super) fn new(mesh: Arc<dyn Mesh>, topic: String, membership: Option<Membership>) -> Self {
        Self {
            mesh,
            topic,
            // 53 bits: what a varint of lib0 holds.
            run: rand::random::<u64>() >> 11,
            sent: 0,
            others: HashMap::new(),
            next_other: NODE_PEERS,
            foreign: VecDeque::new(),
            handed: VecDeque::new(),
            early: VecDeque::new(),
            early_bytes: 0,
            beaten: Instant::now(),
            digest: None,
            adopted: Vec::new(),
            membership,
        }
    }

    /// Whether there can be other nodes.
    pub(super) fn any(&self) -> bool {
        self.membership.is_some()
    }

    fn say(&self, word: &Word<'_>) {
        if self.any() {
            self.mesh.send(&self.topic, word.encode(self.run).into());
        }
    }

    /// Whether all that other nodes made is known to be in the log.
    pub(super) fn settled(&self) -> bool {
        self.foreign.is_empty()
    }

    /// Updates of other nodes that may not be in the log and are not on their way there from here, in the
    /// order in which they were applied. All that this node made since waits for the log behind what came before.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = &Bytes> {
        self.open().map(|foreign| &foreign.update)
    }

    /// Those without a ticket: they all stand behind those that have one.
    fn open(&self) -> impl Iterator<Item = &Foreign> {
        let covered = self.foreign.partition_point(|it| it.ticket.is_some());
        self.foreign.range(covered..)
    }

    fn oldest_open(&self) -> Option<&Foreign> {
        self.open().next()
    }

    /// The content has changed.
    pub(super) fn changed(&mut self) {
        self.digest = None;
    }

    /// When something is due, if anything is.
    pub(super) fn alarm(&self) -> Option<Instant> {
        if !self.any() {
            return None;
        }
        let beat = self.beaten + BEAT;
        let patience = self.oldest_open();
        Some(patience.map_or(beat, |foreign| beat.min(foreign.since + PATIENCE)))
    }

    /// Whether updates of a node's run up to `n` have all been taken in.
    fn has(&self, origin: &Origin) -> bool {
        if **self.mesh.node() == *origin.node {
            // An earlier run's are in the log, or lost with it.
            return origin.run == self.run && origin.n <= self.sent;
        }
        let other = self.others.get(origin.node.as_str());
        other.is_some_and(|other| other.run == origin.run && other.upto >= origin.n)
    }

    /// The log has these updates.
    fn logged(&mut self, which: impl Fn(&Origin) -> bool) {
        self.foreign.retain(|foreign| {
            let is_logged = foreign.origin.as_ref().is_some_and(&which);
            if is_logged {
                // The log's writer looks at it before it writes the same again.
                foreign.logged.store(true, Ordering::Release);
            }
            !is_logged
        });
    }

    /// Makes a node's run known: its name among the owners of awareness, and that of the run that this one replaces.
    /// What a run has sent before its first word here is missing until it was asked for: it may be in
    /// no log.
    fn meet(&mut self, from: &Arc<str>, run: u64) -> (PeerId, Option<PeerId>) {
        let now = Instant::now();
        if let Some(other) = self.others.get_mut(from).filter(|other| other.run == run) {
            other.heard = now;
            return (other.peer, None);
        }
        self.next_other += 1;
        let other = Other {
            run,
            upto: 0,
            heard: now,
            asked: None,
            peer: self.next_other,
            disputed: None,
        };
        let before = self.others.insert(Arc::clone(from), other);
        (self.next_other, before.map(|other| other.peer))
    }
}

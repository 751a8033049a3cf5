//! What is durable: acknowledgements after the commit.
//!
//! Every change has a ticket, and tickets are committed in order. An acknowledgement waits for the
//! newest ticket that there was when it fell due, whatever it is for: an update that changed nothing
//! may repeat one that is only in memory yet.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use backplane::document::{Refused, Replica};
use backplane::store::{Loaded, StoreError};
use bytes::Bytes;
use protocol::{CloseCode, ErrorCode};
use tokio::sync::oneshot;

use super::PeerId;
use super::doc::Actor;
use super::edits::Held;
use super::mailbox::Captured;
use super::orders::{Edited, Reply};
use super::peers::Dialect;
use crate::error::ApiError;
use crate::metrics;

/// What is told once the log has caught up.
pub(super) enum Ack {
    Update {
        peer: PeerId,
        number: u64,
        saved: bool,
    },
    /// What lies beyond a state vector.
    Capture(Bytes, oneshot::Sender<Result<Captured, ApiError>>),
    Edited {
        reply: Reply,
        tag: u64,
        updates: u32,
    },
}

impl Ack {
    pub(super) fn update(peer: PeerId, held: &Held, saved: bool) -> Self {
        Self::Update {
            peer,
            number: held.number,
            saved,
        }
    }
}

/// Changes that are not durable yet, and what waits for them.
pub(super) struct Waiting {
    issued: u64,
    committed: u64,
    /// The log has all that is committed by this sequence.
    reached: u64,
    updates: VecDeque<(u64, Bytes)>,
    bytes: usize,
    acks: VecDeque<(u64, Ack)>,
}

/// What an update that waits for the log costs beside its bytes: its places here, in the log's queue and
/// among what other nodes made.
const PLACE: usize = 256;

fn cost(update: &Bytes) -> usize {
    update.len() + PLACE
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            issued: 0,
            committed: 0,
            reached: 0,
            updates: VecDeque::new(),
            bytes: 0,
            acks: VecDeque::new(),
        }
    }

    /// A change on its way to the log; its ticket.
    pub(super) fn push(&mut self, update: Bytes) -> u64 {
        self.issued += 1;
        self.bytes += cost(&update);
        metrics::undurable_changed(cost(&update) as i64);
        self.updates.push_back((self.issued, update));
        self.issued
    }

    /// The newest ticket.
    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    /// Acknowledgements that wait.
    pub(super) fn due(&self) -> usize {
        self.acks.len()
    }

    /// Bytes that are not durable.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.acks.is_empty()
    }

    /// The changes that are not durable, in order.
    pub(super) fn updates(&self) -> impl Iterator<Item = &Bytes> {
        self.updates.iter().map(|(_, update)| update)
    }

    /// The same without the one under that ticket.
    pub(super) fn updates_but(&self, ticket: Option<u64>) -> impl Iterator<Item = &Bytes> {
        let others = self
            .updates
            .iter()
            .filter(move |(issued, _)| Some(*issued) != ticket);
        others.map(|(_, update)| update)
    }

    /// Everything up to `ticket` is durable; how many bytes of updates that was.
    fn commit(&mut self, ticket: u64) -> usize {
        self.committed = ticket;
        let mut committed = 0;
        while let Some((_, update)) = self.updates.pop_front_if(|(issued, _)| *issued <= ticket) {
            self.bytes -= cost(&update);
            metrics::undurable_changed(-(cost(&update) as i64));
            committed += update.len();
        }
        committed
    }

    fn next_due(&mut self) -> Option<Ack> {
        let (ticket, _) = self.acks.front()?;
        if *ticket > self.committed {
            return None;
        }
        self.acks.pop_front().map(|(_, ack)| ack)
    }
}

/// What a document that failed still had is not on its way any more.
impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::undurable_changed(-(self.bytes as i64));
    }
}

impl Actor {
    /// Tells it as soon as everything up to now is durable, what other nodes made included.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        self.cover_foreign();
        let ticket = self.waiting.issued;
        self.waiting.acks.push_back((ticket, ack));
        self.settle();
    }

    /// The log has everything up to `ticket`, its last `count` updates up to `seq`.
    pub(super) fn on_committed(&mut self, ticket: u64, seq: u64, count: u64) {
        let landed = self.land(ticket, seq);
        self.upkeep.tail_bytes += self.waiting.commit(ticket);
        self.waiting.reached = self.waiting.reached.max(seq);
        let first = (seq + 1).saturating_sub(count);
        self.know_log(first, seq);
        self.tell_nodes_committed(ticket, first, seq);
        self.settle();
        if let Some((reply, edited)) = landed {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(Some(edited)));
        }
        self.tend_if_due();
    }

    fn settle(&mut self) {
        let mut sessions: Vec<PeerId> = Vec::new();
        while let Some(ack) = self.waiting.next_due() {
            match ack {
                Ack::Update {
                    peer,
                    number,
                    saved,
                } => {
                    if self.settle_update(peer, number, saved) && !sessions.contains(&peer) {
                        sessions.push(peer);
                    }
                }
                Ack::Capture(beyond, reply) => {
                    let captured = self.capture(&beyond);
                    // The caller may have stopped waiting.
                    let _ = reply.send(captured);
                }
                Ack::Edited {
                    reply,
                    tag,
                    updates,
                } => {
                    let seq = self.waiting.reached.max(self.known_log());
                    let _ = reply.send(Ok(Some(Edited { seq, tag, updates })));
                }
            }
        }
        // A session's count is cumulative: one frame tells all of it.
        for peer in sessions {
            if let Some(member) = self.members.get(&peer) {
                let frame = member.spec.dialect.acknowledge(member.settled, true);
                if let Some(frame) = frame {
                    member.spec.queue.reply(frame);
                }
            }
        }
    }

    /// Whether the client is to be told by its count.
    fn settle_update(&mut self, peer: PeerId, number: u64, saved: bool) -> bool {
        let Some(member) = self.members.get_mut(&peer) else {
            return false;
        };
        if member.standing.gone.load(Ordering::Acquire) {
            return false;
        }
        if let Dialect::Hocuspocus { .. } = member.spec.dialect {
            if let Some(frame) = member.spec.dialect.acknowledge(number, saved) {
                member.spec.queue.reply(frame);
            }
            return false;
        }
        let before = member.settled;
        member.settled_ahead.insert(number);
        while member.settled_ahead.remove(&(member.settled + 1)) {
            member.settled += 1;
        }
        member.settled > before
    }

    fn capture(&mut self, beyond: &Bytes) -> Result<Captured, ApiError> {
        let state = self.lacks(beyond).map_err(|error| {
            self.renew_if_broken(&error);
            match error {
                Refused::Hostile(_) => ApiError::invalid("vector", "is no state vector"),
                other => ApiError::new(ErrorCode::Internal, other.to_string()),
            }
        })?;
        Ok(Captured {
            state,
            seq: self.known_log(),
            tag: self.tag(),
        })
    }

    pub(super) fn on_log_failed(&mut self, error: &StoreError) {
        let (code, reason) = match error {
            StoreError::NotFound => (CloseCode::NotFound, "the document was deleted"),
            _ => (CloseCode::Failed, "the document can't be written"),
        };
        tracing::warn!(document = %self.key, %error, "closing a document");
        self.end_all(code, reason);
    }
}

/// A replica from what the store has, made off the runtime's threads.
pub(super) async fn load_replica(loaded: Loaded) -> Result<(Loaded, Replica), StoreError> {
    let made = tokio::task::spawn_blocking(move || {
        Replica::from_loaded(&loaded).map(|replica| (loaded, replica))
    });
    made.await
        .map_err(|error| StoreError::Corrupt(error.to_string()))?
}

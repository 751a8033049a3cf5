//! What is durable: acknowledgements after the commit, snapshots, versions.
//!
//! Every change has a ticket, and tickets are committed in order. An acknowledgement waits for the
//! newest ticket that there was when it fell due, whatever it is for: an update that changed nothing
//! may repeat one that is only in memory yet.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use backplane::document::Replica;
use backplane::store::{Loaded, Snapshot, StoreError, Version, VersionKind};
use bytes::Bytes;
use protocol::{CloseCode, ErrorCode};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::PeerId;
use super::doc::Actor;
use super::edits::Held;
use super::mailbox::{Captured, Control};
use super::peers::Dialect;
use crate::error::ApiError;
use crate::now_ms;

/// What is told once the log has caught up.
pub(super) enum Ack {
    Update {
        peer: PeerId,
        number: u64,
        saved: bool,
    },
    Capture(oneshot::Sender<Result<Captured, ApiError>>),
    Edited(oneshot::Sender<Result<(), ApiError>>),
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
    /// The document's sequence in the store.
    seq: u64,
    updates: VecDeque<(u64, Bytes)>,
    bytes: usize,
    acks: VecDeque<(u64, Ack)>,
}

impl Waiting {
    pub(super) fn new(seq: u64) -> Self {
        Self {
            issued: 0,
            committed: 0,
            seq,
            updates: VecDeque::new(),
            bytes: 0,
            acks: VecDeque::new(),
        }
    }

    /// A change on its way to the log; its ticket.
    pub(super) fn push(&mut self, update: Bytes) -> u64 {
        self.issued += 1;
        self.bytes += update.len();
        self.updates.push_back((self.issued, update));
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

    fn commit(&mut self, ticket: u64, seq: u64) {
        self.committed = ticket;
        self.seq = seq;
        while self
            .updates
            .front()
            .is_some_and(|(issued, _)| *issued <= ticket)
        {
            if let Some((_, update)) = self.updates.pop_front() {
                self.bytes -= update.len();
            }
        }
    }

    fn next_due(&mut self) -> Option<Ack> {
        let (ticket, _) = self.acks.front()?;
        if *ticket > self.committed {
            return None;
        }
        self.acks.pop_front().map(|(_, ack)| ack)
    }
}

/// When to compact and to keep a version.
pub(super) struct Upkeep {
    /// Bytes of the document, by estimate: its snapshot and what came after.
    pub(super) size: usize,
    snapshot_seq: u64,
    tail_bytes: usize,
    compacting: bool,
    version_seq: u64,
    version_at: Instant,
}

impl Upkeep {
    pub(super) fn new(loaded: &Loaded) -> Self {
        let snapshot = loaded.snapshot.as_ref();
        let updates = loaded.tail.iter().flat_map(|frame| &frame.updates);
        let tail_bytes: usize = updates.map(Bytes::len).sum();
        Self {
            size: snapshot.map_or(0, |snapshot| snapshot.state.len()) + tail_bytes,
            snapshot_seq: snapshot.map_or(0, |snapshot| snapshot.seq),
            tail_bytes,
            compacting: false,
            version_seq: loaded.document.head,
            version_at: Instant::now(),
        }
    }
}

impl Actor {
    /// Tells it as soon as everything up to now is durable.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        let ticket = self.waiting.issued;
        self.waiting.acks.push_back((ticket, ack));
        self.settle();
    }

    pub(super) fn on_committed(&mut self, ticket: u64, seq: u64) {
        let before = self.waiting.bytes;
        self.waiting.commit(ticket, seq);
        self.upkeep.tail_bytes += before - self.waiting.bytes;
        self.settle();
        self.compact_if_due();
        self.keep_version_if_due();
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
                Ack::Capture(reply) => {
                    let captured = self.capture();
                    // The caller may have stopped waiting.
                    let _ = reply.send(captured);
                }
                Ack::Edited(done) => {
                    let _ = done.send(Ok(()));
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

    fn capture(&mut self) -> Result<Captured, ApiError> {
        let state = self.lacks(&Bytes::from_static(&[0]));
        let state = state.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
        Ok(Captured {
            state,
            seq: self.waiting.seq,
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

    fn snapshot_due(&self) -> bool {
        let settings = &self.context.settings.collab;
        let updates = self.waiting.seq.saturating_sub(self.upkeep.snapshot_seq);
        updates >= settings.compact_updates || self.upkeep.tail_bytes >= settings.compact_bytes
    }

    fn snapshot(&self) -> Option<Snapshot> {
        match self.replica.state() {
            Ok(state) => Some(Snapshot {
                seq: self.waiting.seq,
                state: state.into(),
            }),
            Err(error) => {
                tracing::error!(document = %self.key, %error, "no snapshot could be made");
                None
            }
        }
    }

    /// Saves a snapshot beside the edits: it may hold updates that the log does not have yet, which is
    /// harmless, as they are the same ones.
    fn compact_if_due(&mut self) {
        if self.upkeep.compacting || !self.snapshot_due() {
            return;
        }
        let Some(snapshot) = self.snapshot() else {
            return;
        };
        self.upkeep.compacting = true;
        self.upkeep.snapshot_seq = snapshot.seq;
        self.upkeep.tail_bytes = 0;
        self.upkeep.size = snapshot.state.len();
        let (store, control) = (self.context.store.clone(), self.control.clone());
        let key = self.key.clone();
        tokio::spawn(async move {
            let saved = store.save_snapshot(&key, &snapshot, now_ms()).await;
            // The document may be gone by now.
            let _ = control.send(Control::Compacted(saved));
        });
    }

    pub(super) fn on_compacted(&mut self, result: Result<bool, StoreError>) {
        self.upkeep.compacting = false;
        if let Err(error) = result {
            tracing::warn!(document = %self.key, %error, "a snapshot was not saved; the log has it all");
        }
    }

    /// Keeps a version when there were many edits, or some and much time.
    pub(super) fn keep_version_if_due(&mut self) {
        let settings = &self.context.settings.collab;
        let edits = self.waiting.seq.saturating_sub(self.upkeep.version_seq);
        let due = edits >= settings.version_edits
            || (edits > 0 && self.upkeep.version_at.elapsed() >= settings.version_interval);
        if !due {
            return;
        }
        let Some(snapshot) = self.snapshot() else {
            return;
        };
        self.upkeep.version_seq = snapshot.seq;
        self.upkeep.version_at = Instant::now();
        let version = Version {
            id: uuid::Uuid::now_v7().to_string(),
            document_id: self.key.to_string(),
            seq: snapshot.seq,
            kind: VersionKind::Auto,
            name: String::new(),
            author_id: None,
            created_at: now_ms(),
        };
        let store = self.context.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.add_version(&version, &snapshot.state).await {
                tracing::warn!(document = %version.document_id, %error, "a version was not kept");
            }
        });
    }

    /// Before the document is closed: a snapshot if the tail has grown, so that it opens fast again.
    pub(super) async fn tidy_up(&mut self) {
        const WORTH_IT: u64 = 64;
        let updates = self.waiting.seq.saturating_sub(self.upkeep.snapshot_seq);
        if self.upkeep.compacting || updates < WORTH_IT {
            return;
        }
        if let Some(snapshot) = self.snapshot() {
            let saved = self
                .context
                .store
                .save_snapshot(&self.key, &snapshot, now_ms());
            if let Err(error) = saved.await {
                tracing::warn!(document = %self.key, %error, "a snapshot was not saved; the log has it all");
            }
        }
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

//! The task of one open document: it alone touches the replica.
//!
//! The walk of an edit: mailbox → `edits` (rights, checks, apply) → the live copy to every other client,
//! at once → beside it the log, and once that is durable, `commit` acknowledges. Control messages
//! (joins, commits, reads) come on a lane of their own, so that a document that takes no more edits
//! still commits those it has. Ends when it has been idle for a while and everything is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use backplane::document::{Refused, Replica};
use backplane::mesh::MeshEvent;
use bytes::Bytes;
use protocol::CloseCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::awareness::{Awareness, Bounds};
use super::carets::Agents;
use super::catchup::Mark;
use super::commit::Waiting;
use super::deferred::Deferred;
use super::edits::Held;
use super::mailbox::{Control, Edit};
use super::nodes::Nodes;
use super::peers::{PeerSpec, Standing, Tell, Told};
use super::upkeep::Upkeep;
use super::{Context, Joined, PeerId};
use crate::error::ApiError;
use crate::metrics;

/// Most edits that are taken in one go before joins and commits get their turn.
const BATCH: usize = 64;
/// How often awareness is swept.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// A client in the document.
pub(super) struct Member {
    pub(super) spec: PeerSpec,
    pub(super) standing: Arc<Standing>,
    /// It has announced itself: what it says of others from now on is an echo.
    pub(super) spoke: bool,
    /// How many updates it has handed in.
    pub(super) handed_in: u64,
    /// Updates up to this one are settled.
    pub(super) settled: u64,
    /// Settled ones beyond `settled`, while an earlier one waits.
    pub(super) settled_ahead: std::collections::BTreeSet<u64>,
    pub(super) held: VecDeque<Held>,
    pub(super) held_bytes: usize,
    /// It was asked for what its held updates rest on.
    pub(super) asked: bool,
    /// The hub's state vector at a moment at which the client was sure to have no less.
    pub(super) base: Bytes,
}

/// The document's task.
pub(super) struct Actor {
    pub(super) context: Arc<Context>,
    pub(super) key: Arc<str>,
    pub(super) replica: Replica,
    pub(super) members: HashMap<PeerId, Member>,
    pub(super) waiting: Waiting,
    /// Edits in which the store has a say.
    pub(super) deferred: Deferred,
    pub(super) control: mpsc::UnboundedSender<Control>,
    pub(super) upkeep: Upkeep,
    /// The other nodes that have it open.
    pub(super) nodes: Nodes,
    /// Up to where the log is in the replica.
    pub(super) mark: Mark,
    pub(super) awareness: Awareness,
    /// Those who edit on a user's behalf, and are shown.
    pub(super) agents: Agents,
    /// Ids to tell of at the next flush.
    pub(super) stirred: Vec<u64>,
    pub(super) flushed: Instant,
    swept: Instant,
    idle_since: Instant,
    pub(super) next_peer: PeerId,
    /// Answers to state vectors, until the next change.
    answers: HashMap<Bytes, Bytes>,
    stopping: Option<oneshot::Sender<()>>,
    ended: bool,
}

/// Most acknowledgements that may wait for the log.
const MOST_DUE: usize = 65_536;

/// Most answers kept between changes.
const ANSWERS: usize = 8;

impl Actor {
    pub(super) fn new(
        context: Arc<Context>,
        loaded: &backplane::store::Loaded,
        replica: Replica,
        control: mpsc::UnboundedSender<Control>,
        nodes: Nodes,
    ) -> Self {
        let settings = &context.settings.collab;
        let bounds = Bounds {
            entry_bytes: settings.awareness_bytes,
            entries: settings.awareness_entries,
            timeout: settings.awareness_timeout,
        };
        let now = Instant::now();
        Self {
            key: loaded.document.id.as_str().into(),
            replica,
            members: HashMap::new(),
            waiting: Waiting::new(),
            deferred: Deferred::new(),
            control,
            upkeep: Upkeep::new(loaded),
            nodes,
            mark: Mark::new(loaded.document.head),
            awareness: Awareness::new(bounds),
            agents: Agents::default(),
            stirred: Vec::new(),
            flushed: now,
            swept: now,
            idle_since: now,
            next_peer: 0,
            answers: HashMap::new(),
            stopping: None,
            ended: false,
            context,
        }
    }

    /// Serves the document until it ends; what is left in the lanes then is refused by dropping it.
    pub(super) async fn run(
        mut self,
        mut control: mpsc::UnboundedReceiver<Control>,
        mut edits: mpsc::Receiver<Edit>,
        mut mesh: mpsc::UnboundedReceiver<MeshEvent>,
    ) {
        self.greet_nodes();
        while !self.ended {
            let open = self.takes_edits();
            let alarm = self.alarm();
            tokio::select! {
                biased;
                Some(message) = control.recv() => self.on_control(message).await,
                Some(event) = mesh.recv(), if self.listens() => self.on_mesh(event).await,
                Some(edit) = edits.recv(), if open => self.on_edit(edit).await,
                () = tokio::time::sleep_until(alarm) => {}
            }
            // After each control message edits get their turn: reads must not hold up writes.
            for _ in 0..BATCH {
                if self.ended || !self.takes_edits() {
                    break;
                }
                let Ok(edit) = edits.try_recv() else { break };
                self.on_edit(edit).await;
            }
            if !self.ended {
                self.on_time(edits.is_empty() && control.is_empty()).await;
                self.go_on_deferred();
            }
        }
        // What others say from here on is not for this task, which may wait a while for its last commits.
        drop(mesh);
        self.see_off(&mut control).await;
        self.leave_nodes();
    }

    /// Whether the document has ended; its replica may not be usable any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Whether there is room for more that is not durable.
    pub(super) fn takes_edits(&self) -> bool {
        self.waiting.bytes() < self.context.settings.collab.undurable_bytes
            && self.waiting.due() < MOST_DUE
    }

    /// Whether nobody is in it: no client, and no agent whose caret is shown.
    fn is_deserted(&self) -> bool {
        self.members.is_empty() && self.agents.is_empty()
    }

    /// Whether it still takes in what other nodes make: not while it wants to end, which it could not
    /// as long as others are busy. What it leaves out stands in the log, or soon will.
    fn listens(&self) -> bool {
        let unload = self.context.settings.collab.idle_unload;
        let unloads =
            self.is_deserted() && self.waiting.is_empty() && self.idle_since.elapsed() >= unload;
        self.stopping.is_none() && !unloads
    }

    /// Whoever opens the document next must find in the log what was handed to it.
    async fn see_off(&mut self, control: &mut mpsc::UnboundedReceiver<Control>) {
        while self.waiting.updates().next().is_some() {
            match control.recv().await {
                Some(Control::Committed { ticket, seq, count }) => {
                    self.on_committed(ticket, seq, count);
                }
                Some(Control::Refused { ticket, error }) => self.on_refused(ticket, &error),
                Some(Control::LogFailed(_)) | None => return,
                // Joins and reads are dropped, and ask again.
                Some(_) => {}
            }
        }
    }

    async fn on_edit(&mut self, edit: Edit) {
        match edit {
            Edit::Update {
                peer,
                update,
                kind,
                permit,
            } => {
                self.on_update(peer, update, kind).await;
                drop(permit);
            }
            Edit::Sync {
                peer,
                state_vector,
                answered,
            } => {
                let answer = self.sync(peer, &state_vector).await;
                // The client may have left meanwhile.
                let _ = answered.send(answer);
            }
            Edit::Awareness { peer, update } => self.on_awareness(peer, &update),
            Edit::QueryAwareness { peer } => self.tell_awareness(peer),
            Edit::Resync { peer } => self.resync(peer).await,
            Edit::Leave { peer } => self.leave(peer),
        }
    }

    async fn on_control(&mut self, message: Control) {
        match message {
            Control::Join {
                spec,
                standing,
                joined,
            } => {
                let answer = self.join(spec, standing);
                if let Err(Ok((peer, _))) = joined.send(Ok(answer)) {
                    self.leave(peer);
                }
            }
            Control::Committed { ticket, seq, count } => self.on_committed(ticket, seq, count),
            Control::Refused { ticket, error } => self.on_refused(ticket, &error),
            Control::LogFailed(error) => {
                // Nothing more of this task is written, and nobody is told of it a second time.
                self.waiting = Waiting::new();
                self.on_log_failed(&error);
            }
            Control::Ask(request) if self.nodes.any() => self.ask_first(request),
            Control::Ask(request) | Control::Serve(request) => self.serve(request).await,
            Control::Fresh(head, request) => self.on_fresh(head, request),
            Control::LogRead(read) => self.on_log_read(read).await,
            Control::Head(seq) => self.heard_of(seq),
            Control::Renew => self.renew().await,
            Control::Tended(result) => self.on_tended(result),
            Control::Close(code, reason) => self.end_all(code, reason),
            Control::Stop(done) => self.stopping = Some(done),
        }
    }

    fn join(&mut self, spec: PeerSpec, standing: Arc<Standing>) -> (PeerId, Joined) {
        self.next_peer += 1;
        let peer = self.next_peer;
        let state_vector = Bytes::from(self.replica.state_vector());
        let mut greeting = Told::new(Tell::Step1(&state_vector));
        if let Some(frame) = greeting.to(&spec.dialect) {
            spec.queue.reply(frame);
        }
        let member = Member {
            spec,
            standing,
            spoke: false,
            handed_in: 0,
            settled: 0,
            settled_ahead: std::collections::BTreeSet::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            asked: false,
            base: Bytes::from_static(&[0]),
        };
        self.members.insert(peer, member);
        self.tell_awareness(peer);
        (peer, Joined { state_vector })
    }

    fn leave(&mut self, peer: PeerId) {
        if let Some(member) = self.members.remove(&peer) {
            member.spec.queue.forget(member.spec.stream);
        }
        let gone = self.awareness.leave(peer, Instant::now());
        self.stirred.extend(gone);
        if self.members.is_empty() {
            self.idle_since = Instant::now();
        }
    }

    /// Answers a state vector with what its owner lacks.
    async fn sync(&mut self, peer: PeerId, state_vector: &Bytes) -> Result<(), ApiError> {
        let answer = match self.lacks(state_vector) {
            Ok(answer) => answer,
            Err(error) => return Err(self.refused(error).await),
        };
        let Some(member) = self.members.get_mut(&peer) else {
            return Ok(());
        };
        member.base = state_vector.clone();
        if let Some(frame) = member.spec.dialect.say(Tell::Step2(&answer)) {
            member.spec.queue.reply(frame);
        }
        Ok(())
    }

    /// What the owner of a state vector lacks; encoded once between changes, for any number who ask.
    pub(super) fn lacks(&mut self, state_vector: &Bytes) -> Result<Bytes, Refused> {
        if let Some(answer) = self.answers.get(state_vector) {
            return Ok(answer.clone());
        }
        let answer = Bytes::from(self.replica.diff(state_vector)?);
        if self.answers.len() < ANSWERS {
            self.answers.insert(state_vector.clone(), answer.clone());
        }
        Ok(answer)
    }

    /// Sends a client that was left out everything since it was last sure to be up to date.
    async fn resync(&mut self, peer: PeerId) {
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        let base = member.base.clone();
        let lacks = match self.lacks(&base) {
            Ok(lacks) => lacks,
            Err(error) => {
                self.refused(error).await;
                return;
            }
        };
        let now = Bytes::from(self.replica.state_vector());
        if let Some(member) = self.members.get_mut(&peer) {
            let spec = &member.spec;
            // Nothing can be pushed in between: this task alone pushes to the stream.
            let _ = spec.queue.caught_up(spec.stream, 0);
            if let Some(frame) = spec.dialect.say(Tell::Update(&lacks)) {
                spec.queue.reply(frame);
            }
            member.base = now;
        }
        self.tell_awareness(peer);
    }

    /// Tells every client but one.
    pub(super) fn broadcast(&mut self, except: Option<PeerId>, tell: Tell<'_>) {
        let mut told = Told::new(tell);
        let (mut sent, mut bytes) = (0, 0);
        for (peer, member) in &self.members {
            if Some(*peer) == except || member.standing.gone.load(Ordering::Acquire) {
                continue;
            }
            if let Some(frame) = told.to(&member.spec.dialect) {
                sent += 1;
                bytes += frame.len() as u64;
                member.spec.queue.document(member.spec.stream, &frame);
            }
        }
        metrics::SENT.document().add(sent, bytes);
    }

    /// The document has changed.
    pub(super) fn changed(&mut self) {
        self.answers.clear();
        self.nodes.changed();
    }

    /// Ends the document for one client, saying why.
    pub(super) fn end(&mut self, peer: PeerId, code: CloseCode, reason: &str) {
        if let Some(member) = self.members.get(&peer) {
            let spec = &member.spec;
            if member.standing.gone.swap(true, Ordering::AcqRel) {
                return self.leave(peer);
            }
            tracing::debug!(document = %self.key, user = %spec.user, code = code.code(), reason, "a client is sent off");
            spec.dialect.end(&spec.queue, code, reason);
        }
        self.leave(peer);
    }

    pub(super) fn end_all(&mut self, code: CloseCode, reason: &str) {
        let peers: Vec<PeerId> = self.members.keys().copied().collect();
        for peer in peers {
            self.end(peer, code, reason);
        }
        self.ended = true;
    }

    /// When something is due next.
    fn alarm(&self) -> Instant {
        let settings = &self.context.settings.collab;
        let mut alarm = self.swept + SWEEP;
        if self.is_stirred() {
            alarm = alarm.min(self.flushed + settings.awareness_interval);
        }
        if self.is_deserted() && self.waiting.is_empty() && self.nodes.settled() {
            alarm = alarm.min(self.idle_since + settings.idle_unload);
        }
        let dues = [self.nodes.alarm(), self.mark.alarm(), self.agents.alarm()];
        for due in dues.into_iter().flatten() {
            alarm = alarm.min(due);
        }
        alarm.max(Instant::now() + std::time::Duration::from_millis(1))
    }

    async fn on_time(&mut self, quiet: bool) {
        let now = Instant::now();
        let settings = &self.context.settings.collab;
        let (interval, unload) = (settings.awareness_interval, settings.idle_unload);
        self.retire_agents(now);
        if self.is_stirred() && now >= self.flushed + interval {
            self.flush_awareness(now);
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            let gone = self.awareness.sweep(now);
            self.stirred.extend(gone);
            self.tend_if_due();
        }
        self.on_nodes_time(now);
        self.on_log_time(now);
        if self.stopping.is_some() {
            self.cover_foreign();
        }
        let settled = self.waiting.is_empty()
            && self.deferred.is_empty()
            && self.nodes.settled()
            && self.mark.is_quiet()
            && quiet;
        if settled && let Some(done) = self.stopping.take() {
            self.ended = true;
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
        if settled && self.is_deserted() && now >= self.idle_since + unload {
            self.tidy_up().await;
            self.ended = true;
        }
    }
}

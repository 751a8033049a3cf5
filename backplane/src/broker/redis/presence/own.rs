//! What this node wants of presence, session by session, and what Redis does not agree with yet.
//!
//! Called under one lock; never does I/O.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use protocol::frame::Member;
use tokio::sync::oneshot;

use crate::broker::BrokerError;

/// Tells a caller what became of its change.
pub(super) type Done = oneshot::Sender<Result<(), BrokerError>>;

/// The sessions of this node that are, or should not be, in channels.
#[derive(Default)]
pub(super) struct Own {
    /// By topic and session.
    channels: HashMap<Arc<str>, HashMap<String, Entry>>,
    /// What Redis does not agree with yet; each entry at most once.
    dirty: VecDeque<(Arc<str>, String)>,
    /// The node has said goodbye.
    pub(super) closed: bool,
}

#[derive(Default)]
struct Entry {
    /// Who should be there; `None` for nobody.
    wanted: Option<Arc<Member>>,
    /// Who was there when Redis last agreed.
    agreed: Option<Arc<Member>>,
    /// Rises with each change of `wanted`.
    turn: u64,
    dirty: bool,
    waiting: Vec<Waiting>,
}

/// A caller that waits for a turn to be carried out.
struct Waiting {
    turn: u64,
    done: Done,
}

/// One change to carry out.
pub(super) struct Change {
    pub(super) topic: Arc<str>,
    pub(super) session: String,
    turn: u64,
    pub(super) wanted: Option<Arc<Member>>,
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

    /// Changes what is wanted of a session; `done` hears when Redis agrees, or could not be asked.
    pub(super) fn want(
        &mut self,
        topic: &Arc<str>,
        session: &str,
        member: Option<Member>,
        done: Option<Done>,
    ) {
        let sessions = self.channels.entry(Arc::clone(topic)).or_default();
        let entry = sessions.entry(session.to_owned()).or_default();
        entry.wanted = member.map(Arc::new);
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

    /// The name of the channel, if the session is known in it.
    pub(super) fn known(&self, topic: &str, session: &str) -> Option<Arc<str>> {
        let (topic, sessions) = self.channels.get_key_value(topic)?;
        sessions.contains_key(session).then(|| Arc::clone(topic))
    }

    /// Every session is to leave; each receiver hears when one has.
    pub(super) fn leave_all(&mut self) -> Vec<oneshot::Receiver<Result<(), BrokerError>>> {
        self.closed = true;
        let mut left = Vec::new();
        for (topic, session) in self.all() {
            let (done, hears) = oneshot::channel();
            self.want(&topic, &session, None, Some(done));
            left.push(hears);
        }
        left
    }

    /// Has everything carried out anew.
    pub(super) fn mark_all(&mut self) {
        for (topic, session) in self.all() {
            self.mark(&topic, &session);
        }
    }

    /// Takes at most `most` changes to carry out, of as many sessions.
    pub(super) fn take_batch(&mut self, most: usize) -> Vec<Change> {
        let count = self.dirty.len().min(most);
        let keys: Vec<_> = self.dirty.drain(..count).collect();
        let mut changes = Vec::with_capacity(count);
        for (topic, session) in keys {
            if let Some(entry) = self.entry(&topic, &session) {
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
    pub(super) fn carried_out(&mut self, change: &Change, outcome: &Result<(), BrokerError>) {
        let Some(entry) = self.entry(&change.topic, &change.session) else {
            return;
        };
        match outcome {
            Ok(()) => {
                entry.agreed.clone_from(&change.wanted);
                entry.answer(change.turn, &Ok(()));
                if entry.wanted.is_none() && entry.turn == change.turn {
                    self.forget(&change.topic, &change.session);
                }
            }
            Err(error) => {
                entry.give_up(error);
                self.mark(&change.topic, &change.session);
            }
        }
    }

    /// Tells all who wait that it failed. What they wanted is taken back.
    pub(super) fn fail_waiting(&mut self, error: &BrokerError) {
        let waiting: Vec<_> = self.dirty.iter().cloned().collect();
        for (topic, session) in waiting {
            if let Some(entry) = self.entry(&topic, &session) {
                entry.give_up(error);
            }
        }
    }

    /// The topics among `topics` where this node has nobody any more.
    pub(super) fn empty_among<'a>(
        &self,
        topics: impl Iterator<Item = &'a Arc<str>>,
    ) -> HashSet<Arc<str>> {
        let empty = topics.filter(|topic| !self.channels.contains_key(*topic));
        empty.cloned().collect()
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

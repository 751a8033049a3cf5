//! What the relay has taken out of the outbox and not confirmed yet.
//!
//! Owns the order within a subject: one event of it is on its way at a time. Bounded by what the
//! relay reads at a time. Never touches the store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backplane::bus::{Bus, BusError};
use backplane::store::Outgoing;
use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Events on their way to the bus at a time.
const UNDER_WAY: usize = 128;

/// What the bus said of an event.
pub(super) enum Settled {
    /// It has it; the event of that position.
    Published(u64),
    /// It will never take it, for that reason.
    Refused(Outgoing, String),
    /// It can't be reached, or did not say.
    Held(Outgoing, BusError),
}

/// Events by subject, in order.
pub(super) struct Window {
    bus: Arc<dyn Bus>,
    /// Positions of all that is here, until they are confirmed.
    held: HashSet<u64>,
    /// What waits of each subject that has an event on its way or among the ready ones.
    subjects: HashMap<String, VecDeque<Outgoing>>,
    /// Subjects whose next event may go.
    ready: VecDeque<String>,
    under_way: JoinSet<(Outgoing, Result<(), BusError>)>,
    /// The bus is left alone until then.
    paused: Option<Instant>,
}

impl Window {
    pub(super) fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            held: HashSet::new(),
            subjects: HashMap::new(),
            ready: VecDeque::new(),
            under_way: JoinSet::new(),
            paused: None,
        }
    }

    /// Takes what the outbox holds, oldest first; what is here already is left out.
    pub(super) fn add(&mut self, waiting: Vec<Outgoing>) {
        for outgoing in waiting {
            if !self.held.insert(outgoing.position) {
                continue;
            }
            let subject = &outgoing.event.subject;
            if let Some(queue) = self.subjects.get_mut(subject) {
                queue.push_back(outgoing);
            } else {
                self.ready.push_back(subject.clone());
                let queue = VecDeque::from([outgoing]);
                self.subjects
                    .insert(self.ready[self.ready.len() - 1].clone(), queue);
            }
        }
    }

    /// How many events are here.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Sends what may go.
    pub(super) fn start(&mut self) {
        if self.paused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused = None;
        while self.under_way.len() < UNDER_WAY {
            let Some(subject) = self.ready.pop_front() else {
                return;
            };
            let queue = self.subjects.get_mut(&subject);
            let Some(outgoing) = queue.and_then(VecDeque::pop_front) else {
                self.subjects.remove(&subject);
                continue;
            };
            let bus = Arc::clone(&self.bus);
            self.under_way.spawn(async move {
                let publish = AssertUnwindSafe(bus.publish(&outgoing.event));
                let result = publish.catch_unwind().await.unwrap_or_else(|_| {
                    Err(BusError::Unavailable("publishing panicked".to_owned()))
                });
                (outgoing, result)
            });
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What the bus has said by now; waits for the first word, and ends when a pause is over. Safe to drop.
    pub(super) async fn settled(&mut self) -> Vec<Settled> {
        let paused = self.paused;
        let pause = async {
            match paused {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        let first = tokio::select! {
            Some(first) = self.under_way.join_next() => first,
            () = pause => return Vec::new(),
        };
        let mut joined = vec![first];
        while let Some(next) = self.under_way.try_join_next() {
            joined.push(next);
        }
        // A task ends without a result only when it is cut off, with the window.
        let told = joined.into_iter().filter_map(Result::ok);
        told.map(|(outgoing, result)| self.told(outgoing, result))
            .collect()
    }

    fn told(&mut self, outgoing: Outgoing, result: Result<(), BusError>) -> Settled {
        match result {
            Ok(()) => {
                self.next_of(&outgoing.event.subject);
                Settled::Published(outgoing.position)
            }
            Err(BusError::Refused(reason)) => Settled::Refused(outgoing, reason),
            Err(error @ BusError::Unavailable(_)) => Settled::Held(outgoing, error),
        }
    }

    /// The event on its way of a subject has gone: the next one may.
    pub(super) fn next_of(&mut self, subject: &str) {
        match self.subjects.get(subject) {
            Some(queue) if !queue.is_empty() => self.ready.push_back(subject.to_owned()),
            Some(_) => {
                self.subjects.remove(subject);
            }
            None => {}
        }
    }

    /// An event that did not go is the first of its subject again; nothing new is sent for `pause`.
    pub(super) fn put_back(&mut self, outgoing: Outgoing, pause: Duration) {
        let subject = outgoing.event.subject.clone();
        let queue = self.subjects.entry(subject.clone()).or_default();
        queue.push_front(outgoing);
        self.ready.push_back(subject);
        let until = Instant::now() + pause;
        self.paused = Some(self.paused.map_or(until, |paused| paused.max(until)));
    }

    /// Waits for no pause any more.
    pub(super) fn resume(&mut self) {
        self.paused = None;
    }

    /// These were removed from the outbox.
    pub(super) fn forget(&mut self, positions: &[u64]) {
        for position in positions {
            self.held.remove(position);
        }
    }
}

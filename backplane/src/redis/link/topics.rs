//! What a link wants to be subscribed to, and the changes on their way to Redis.
//!
//! One lock orders everything: a change is noted in the wanted set and queued for the connection in one step,
//! so that the last call on a topic wins whatever connection carries it. Never talks to Redis.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::LinkError;

/// The answer to a subscription.
pub(super) type Made = Result<(), LinkError>;

/// A change for the connection to carry out. Queued ones are bounded by the calls that wait for them and by
/// the unsubscriptions since the last round trip.
pub(super) enum Change {
    Subscribe(Arc<str>, oneshot::Sender<Made>),
    Unsubscribe(Arc<str>),
}

/// The wanted topics.
#[derive(Default)]
pub(super) struct Topics(Mutex<State>);

#[derive(Default)]
struct State {
    wanted: HashSet<Arc<str>>,
    /// Where changes go while a connection stands.
    live: Option<mpsc::UnboundedSender<Change>>,
}

/// The error of a call that has no connection.
pub(super) fn lost() -> LinkError {
    LinkError::Unavailable("the connection is down; it is being made anew".to_owned())
}

impl Topics {
    /// Wants a topic; what to wait for, or `None` without a connection.
    pub(super) fn subscribe(&self, topic: &str) -> Option<oneshot::Receiver<Made>> {
        let mut state = self.lock();
        let topic = match state.wanted.get(topic) {
            Some(topic) => Arc::clone(topic),
            None => {
                let topic: Arc<str> = topic.into();
                state.wanted.insert(Arc::clone(&topic));
                topic
            }
        };
        let (answer, made) = oneshot::channel();
        let live = state.live.as_ref()?;
        live.send(Change::Subscribe(topic, answer)).ok()?;
        Some(made)
    }

    /// Wants a topic no longer.
    pub(super) fn unsubscribe(&self, topic: &str) {
        let mut state = self.lock();
        if let Some(topic) = state.wanted.take(topic)
            && let Some(live) = &state.live
        {
            // A connection that is just ending takes its subscriptions with it.
            let _ = live.send(Change::Unsubscribe(topic));
        }
    }

    /// A new connection: what it has to subscribe to first, and where later changes arrive.
    pub(super) fn open(&self) -> (Vec<Arc<str>>, mpsc::UnboundedReceiver<Change>) {
        let mut state = self.lock();
        let (live, changes) = mpsc::unbounded_channel();
        state.live = Some(live);
        (state.wanted.iter().cloned().collect(), changes)
    }

    /// The connection is gone: calls fail from now on.
    pub(super) fn close(&self) {
        self.lock().live = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where each topic of a batch of changes ends, and who waits for it.
#[derive(Default)]
pub(super) struct Batch {
    /// Topics, and whether they end subscribed.
    pub(super) topics: Vec<(Arc<str>, bool)>,
    /// By place in `topics`.
    waiting: Vec<Vec<oneshot::Sender<Made>>>,
}

impl Batch {
    pub(super) fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut batch = Self::default();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for change in changes {
            let (topic, answer) = match change {
                Change::Subscribe(topic, answer) => (topic, Some(answer)),
                Change::Unsubscribe(topic) => (topic, None),
            };
            let place = *places.entry(Arc::clone(&topic)).or_insert_with(|| {
                batch.topics.push((topic, false));
                batch.waiting.push(Vec::new());
                batch.topics.len() - 1
            });
            batch.topics[place].1 = answer.is_some();
            batch.waiting[place].extend(answer);
        }
        batch
    }

    /// Tells everyone what became of their topic.
    pub(super) fn answer(self, made: Vec<Made>) {
        for (waiting, made) in self.waiting.into_iter().zip(made) {
            for answer in waiting {
                // Who gave up waiting needs no answer.
                let _ = answer.send(made.clone());
            }
        }
    }
}

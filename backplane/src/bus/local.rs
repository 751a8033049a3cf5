//! The embedded bus: consumers in this process.
//!
//! Keeps nothing itself. [`publish`](Bus::publish) returns only after every consumer whose patterns
//! match has handled the event or buried it, so that the outbox, from which the event is removed after
//! that, keeps it over a crash. What is buried goes to the store.
//!
//! A consumer exists from its first [`consume`](Bus::consume) on, for the life of the bus. While none of
//! its name runs, events for it wait, and their publishers with them: whoever drops the wait takes the
//! event back, unless it is being handled already. So what waits is bounded by its publishers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use protocol::event::Event;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::lanes::{End, Graveyard, Lanes};
use super::{Bus, BusError, ConsumerSpec, DeadLetter, Delivery, Handler, pattern};
use crate::store::{Buried, Store};

/// How long [`Bus::declared`] waits.
const DECLARED_WITHIN: Duration = Duration::from_secs(10);

/// The embedded bus.
pub struct LocalBus {
    store: Arc<dyn Store>,
    groups: watch::Sender<BTreeMap<String, Arc<Group>>>,
    next: AtomicU64,
}

/// All consumers of one name.
struct Group {
    patterns: Mutex<Vec<String>>,
    waiting: Mutex<VecDeque<Item>>,
    arrived: Notify,
    /// Held by the one that is served, if only one may be; those who wait get it in their order.
    turn: Arc<Semaphore>,
}

/// An event on its way to one consumer.
struct Item {
    number: u64,
    delivery: Arc<Delivery>,
    settled: oneshot::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Group {
    fn default() -> Self {
        Self {
            patterns: Mutex::default(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Group {
    fn push(&self, item: Item) {
        lock(&self.waiting).push_back(item);
        self.arrived.notify_one();
    }

    /// The oldest event that still has a publisher; waits for one. Safe to drop.
    async fn next(&self) -> Item {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                while let Some(item) = waiting.pop_front() {
                    if !item.settled.is_closed() {
                        return item;
                    }
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Puts back what was not handled, before all that came later.
    fn give_back(&self, items: Vec<Item>) {
        let mut waiting = lock(&self.waiting);
        for mut item in items {
            Arc::make_mut(&mut item.delivery).redelivered = true;
            waiting.push_back(item);
        }
        waiting.make_contiguous().sort_by_key(|item| item.number);
        drop(waiting);
        // Whoever waits already looks, and whoever is about to.
        self.arrived.notify_waiters();
        self.arrived.notify_one();
    }
}

impl LocalBus {
    /// A bus whose dead letters are kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            groups: watch::Sender::new(BTreeMap::new()),
            next: AtomicU64::new(0),
        }
    }

    /// The group of that name; a consumer that comes with other patterns changes them for what is
    /// published from then on.
    fn join(&self, spec: &ConsumerSpec) -> Arc<Group> {
        self.groups.send_modify(|groups| {
            // Who sees the group sees its patterns: what is published from then on must find it.
            let group = groups.entry(spec.name.clone()).or_default();
            lock(&group.patterns).clone_from(&spec.patterns);
        });
        Arc::clone(&self.groups.borrow()[&spec.name])
    }
}

async fn turn(group: &Group, spec: &ConsumerSpec) -> Option<OwnedSemaphorePermit> {
    if !spec.single_active {
        return None;
    }
    Arc::clone(&group.turn).acquire_owned().await.ok()
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        let delivery = Delivery::of(event).map_err(|error| BusError::Refused(error.to_string()))?;
        let delivery = Arc::new(delivery);
        let mut handled = Vec::new();
        {
            // Under one lock, so that all consumers get events of one publisher in the same order.
            let groups = self.groups.borrow();
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            for group in groups.values() {
                if !pattern::any_matches(&lock(&group.patterns), &event.kind) {
                    continue;
                }
                let (settled, wait) = oneshot::channel();
                handled.push(wait);
                group.push(Item {
                    number,
                    delivery: Arc::clone(&delivery),
                    settled,
                });
            }
        }
        for wait in handled {
            let gone = |_| BusError::Unavailable("the embedded bus is gone".to_owned());
            wait.await.map_err(gone)?;
        }
        Ok(())
    }

    async fn consume(
        &self,
        spec: ConsumerSpec,
        handler: Arc<dyn Handler>,
        stop: CancellationToken,
    ) {
        let group = self.join(&spec);
        let _turn = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            turn = turn(&group, &spec) => turn,
        };
        let graveyard = Arc::new(StoreGraveyard(Arc::clone(&self.store)));
        let mut lanes = Lanes::new(&spec, handler, graveyard);
        let release = CancellationToken::new();
        let mut unhandled = Vec::new();
        let mut over = |(item, end): (Item, End)| match end {
            // A publisher that no longer waits publishes it again: it is handled twice.
            End::Settled => drop(item.settled.send(())),
            End::GivenBack => unhandled.push(item),
        };
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ended = lanes.finished() => over(ended),
                item = group.next(), if lanes.len() < usize::from(spec.prefetch.max(1)) => {
                    lanes.take(Arc::clone(&item.delivery), item, &release);
                }
            }
        }
        release.cancel();
        lanes.finish().await.into_iter().for_each(over);
        group.give_back(unhandled);
    }

    async fn declared(&self, consumer: &str) -> Result<(), BusError> {
        let mut groups = self.groups.subscribe();
        let there = groups.wait_for(|groups| groups.contains_key(consumer));
        match tokio::time::timeout(DECLARED_WITHIN, there).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(BusError::Unavailable(format!(
                "there is no consumer {consumer}"
            ))),
        }
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let buried = self.store.buried(limit).await;
        let buried = buried.map_err(|error| BusError::Unavailable(error.to_string()))?;
        Ok(buried.into_iter().map(DeadLetter::from).collect())
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }
}

impl From<Buried> for DeadLetter {
    fn from(buried: Buried) -> Self {
        Self {
            consumer: buried.consumer,
            kind: buried.kind,
            id: buried.event_id,
            reason: buried.reason,
            body: buried.body.into(),
        }
    }
}

struct StoreGraveyard(Arc<dyn Store>);

#[async_trait]
impl Graveyard for StoreGraveyard {
    async fn bury(&self, consumer: &str, dead: &Delivery, reason: &str) -> Result<(), BusError> {
        let buried = Buried {
            consumer: consumer.to_owned(),
            kind: dead.kind.clone(),
            event_id: dead.message_id.clone(),
            reason: reason.to_owned(),
            body: dead.body.to_vec(),
            at: crate::now_ms(),
        };
        let kept = self.0.bury(&buried).await;
        kept.map_err(|error| BusError::Unavailable(error.to_string()))
    }
}

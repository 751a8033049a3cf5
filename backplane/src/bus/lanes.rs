//! What is under way for one consumer: one lane per order key, lanes side by side.
//!
//! Owns the order within a key, the attempts with their backoff, the containment of panics, and burying.
//! Never knows where deliveries come from: whoever takes them gives each a ticket, and gets the ticket
//! back with the news whether the delivery is settled.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BusError, ConsumerSpec, Delivery, Handler, Outcome};
use crate::backoff::Backoff;

/// How long what is being handled may take to end once a consumer is told to stop.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The wait after a first failed attempt, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Most characters of a reason that are kept.
const MAX_REASON: usize = 1000;
/// Most deliveries given back whose failures are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// Where a delivery goes that can't be handled.
#[async_trait]
pub(super) trait Graveyard: Send + Sync + 'static {
    /// Keeps it; once this returns it survives a crash.
    async fn bury(&self, consumer: &str, dead: &Delivery, reason: &str) -> Result<(), BusError>;
}

/// How a delivery's time in the lanes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Handled or buried: it need not come again.
    Settled,
    /// Not handled: whoever serves this consumer next must get it.
    GivenBack,
}

struct Work {
    consumer: String,
    attempts: u32,
    handler: Arc<dyn Handler>,
    graveyard: Arc<dyn Graveyard>,
}

struct Waiting {
    number: u64,
    delivery: Arc<Delivery>,
    release: CancellationToken,
}

struct Entry<T> {
    key: String,
    message_id: Option<String>,
    ticket: T,
}

struct Finished {
    number: u64,
    end: End,
    failed: u32,
}

/// The lanes of one consumer.
pub(super) struct Lanes<T> {
    work: Arc<Work>,
    next: u64,
    entries: HashMap<u64, Entry<T>>,
    /// A key is here while a delivery of it is being handled; what waits behind that one stands in it.
    lanes: HashMap<String, VecDeque<Waiting>>,
    running: JoinSet<Finished>,
    /// Failed attempts of deliveries that were given back, by message id.
    failed: HashMap<String, u32>,
}

impl<T> Lanes<T> {
    pub(super) fn new(
        spec: &ConsumerSpec,
        handler: Arc<dyn Handler>,
        graveyard: Arc<dyn Graveyard>,
    ) -> Self {
        Self {
            work: Arc::new(Work {
                consumer: spec.name.clone(),
                attempts: spec.attempts.max(1),
                handler,
                graveyard,
            }),
            next: 0,
            entries: HashMap::new(),
            lanes: HashMap::new(),
            running: JoinSet::new(),
            failed: HashMap::new(),
        }
    }

    /// How many deliveries are in the lanes.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a delivery. Once `release` is cancelled it gets no further attempt and is given back.
    pub(super) fn take(&mut self, delivery: Arc<Delivery>, ticket: T, release: &CancellationToken) {
        let handler = &self.work.handler;
        // A handler that panics here gets the delivery all the same, and an attempt counts.
        let key = catch_unwind(AssertUnwindSafe(|| handler.order_key(&delivery)));
        let key = key.unwrap_or_default();
        let number = self.next;
        self.next += 1;
        self.entries.insert(
            number,
            Entry {
                key: key.clone(),
                message_id: delivery.message_id.clone(),
                ticket,
            },
        );
        let waiting = Waiting {
            number,
            delivery,
            release: release.clone(),
        };
        match self.lanes.get_mut(&key) {
            Some(lane) => lane.push_back(waiting),
            None => {
                self.lanes.insert(key, VecDeque::new());
                self.start(waiting);
            }
        }
    }

    fn start(&mut self, next: Waiting) {
        let remembered = next.delivery.message_id.as_deref();
        let failed = remembered.and_then(|id| self.failed.get(id)).copied();
        let work = Arc::clone(&self.work);
        self.running.spawn(async move {
            let (end, failed) = work
                .run(&next.delivery, failed.unwrap_or(0), &next.release)
                .await;
            Finished {
                number: next.number,
                end,
                failed,
            }
        });
    }

    /// The next delivery whose time here is over; waits for ever while there is none. Safe to drop.
    pub(super) async fn finished(&mut self) -> (T, End) {
        loop {
            let Some(joined) = self.running.join_next().await else {
                return pending().await;
            };
            if let Some(over) = joined.ok().and_then(|finished| self.settle(finished)) {
                return over;
            }
        }
    }

    /// One more that is over by now, without waiting.
    pub(super) fn try_finished(&mut self) -> Option<(T, End)> {
        let joined = self.running.try_join_next()?;
        self.settle(joined.ok()?)
    }

    fn settle(&mut self, finished: Finished) -> Option<(T, End)> {
        let entry = self.entries.remove(&finished.number)?;
        if let Some(id) = entry.message_id {
            match finished.end {
                End::Settled => {
                    self.failed.remove(&id);
                }
                End::GivenBack if finished.failed > 0 => {
                    if self.failed.len() >= MAX_REMEMBERED {
                        self.failed.clear();
                    }
                    self.failed.insert(id, finished.failed);
                }
                End::GivenBack => {}
            }
        }
        match self.lanes.get_mut(&entry.key).and_then(VecDeque::pop_front) {
            Some(next) => self.start(next),
            None => {
                self.lanes.remove(&entry.key);
            }
        }
        Some((entry.ticket, finished.end))
    }

    /// Takes out what waits behind another delivery of its key.
    pub(super) fn drop_waiting(&mut self) -> Vec<T> {
        let waiting = self.lanes.values_mut().flat_map(|lane| lane.drain(..));
        let numbers: Vec<u64> = waiting.map(|waiting| waiting.number).collect();
        let entries = numbers
            .iter()
            .filter_map(|number| self.entries.remove(number));
        entries.map(|entry| entry.ticket).collect()
    }

    /// Waits until what is being handled has come to its end, for at most [`STOP_WITHIN`]; then cuts it off. What
    /// waits is given back. Leaves the lanes empty.
    pub(super) async fn finish(&mut self) -> Vec<(T, End)> {
        let given_back = |ticket| (ticket, End::GivenBack);
        let mut over: Vec<(T, End)> = self.drop_waiting().into_iter().map(given_back).collect();
        let ending = async {
            while !self.running.is_empty() {
                over.push(self.finished().await);
            }
        };
        if tokio::time::timeout(STOP_WITHIN, ending).await.is_err() {
            let consumer = &self.work.consumer;
            let left = self.entries.len();
            tracing::warn!(
                consumer,
                left,
                "deliveries did not end in time: they come again"
            );
            self.running.shutdown().await;
        }
        let cut_off = self
            .entries
            .drain()
            .map(|(_, entry)| given_back(entry.ticket));
        over.extend(cut_off);
        self.lanes.clear();
        over
    }
}

impl Work {
    /// Tries a delivery until it is settled or released; with it, how often it has failed in all.
    async fn run(
        &self,
        delivery: &Delivery,
        mut failed: u32,
        release: &CancellationToken,
    ) -> (End, u32) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        for _ in 0..failed {
            backoff.delay();
        }
        loop {
            if release.is_cancelled() {
                return (End::GivenBack, failed);
            }
            let outcome = AssertUnwindSafe(self.handler.handle(delivery))
                .catch_unwind()
                .await;
            let reason = match outcome {
                Ok(Outcome::Done) => return (End::Settled, failed),
                Ok(Outcome::Poison(reason)) => {
                    return (self.bury(delivery, &reason, release).await, failed);
                }
                Ok(Outcome::Retry(reason)) => reason,
                Err(panic) => format!("the handler panicked: {}", said(panic.as_ref())),
            };
            failed += 1;
            if failed >= self.attempts {
                let reason = format!("after {failed} attempts: {reason}");
                return (self.bury(delivery, &reason, release).await, failed);
            }
            let (consumer, kind) = (&self.consumer, &delivery.kind);
            tracing::debug!(consumer, kind, failed, reason, "a delivery is tried again");
            if !wait(backoff.delay(), release).await {
                return (End::GivenBack, failed);
            }
        }
    }

    /// Buries a delivery; tries again for as long as that fails.
    async fn bury(&self, dead: &Delivery, reason: &str, release: &CancellationToken) -> End {
        let reason: String = reason.chars().take(MAX_REASON).collect();
        let (consumer, kind) = (&self.consumer, &dead.kind);
        let id = dead.message_id.as_deref().unwrap_or_default();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            match self.graveyard.bury(consumer, dead, &reason).await {
                Ok(()) => {
                    tracing::warn!(consumer, kind, id, reason, "an event was buried");
                    return End::Settled;
                }
                Err(error) => {
                    tracing::debug!(consumer, kind, id, %error, "an event can't be buried yet");
                }
            }
            if !wait(backoff.delay(), release).await {
                return End::GivenBack;
            }
        }
    }
}

/// Waits; `false` if it was released before the time was over.
async fn wait(time: Duration, release: &CancellationToken) -> bool {
    tokio::select! {
        () = release.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

//! What waits to be published: bounded in bytes, in order.
//!
//! One batch is under way at a time; what is sent meanwhile makes up the next. Without room or
//! connection messages are dropped and counted: the mesh promises nothing, and whoever needs certainty reads the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::warn;

use crate::redis::Link;

/// How many bytes may wait, payloads and a share for each message's own cost.
const BOUND: usize = 32 * 1024 * 1024;

/// What a waiting message costs besides its payload.
const EACH: usize = 128;

/// A batch holds at most so many messages, and ends after so many bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

type Message = (Arc<str>, Bytes);

#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    dropped: AtomicU64,
    /// There was no room, and nothing has been sent since: it is logged once.
    full: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&self, channel: Arc<str>, message: Bytes) {
        let mut waiting = self.lock();
        let cost = message.len() + EACH;
        if waiting.bytes + cost > BOUND {
            drop(waiting);
            self.drop_one();
            if !self.full.swap(true, Ordering::Relaxed) {
                warn!(
                    bytes = BOUND,
                    "the mesh can't keep up; messages to other nodes are dropped"
                );
            }
            return;
        }
        waiting.bytes += cost;
        waiting.messages.push_back((channel, message));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Counts a message that was not even taken.
    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops what waits: the connection is lost, and everyone will be told.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.lock());
        let count = dropped.messages.len() as u64;
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Publishes for ever.
    pub(super) async fn run(self: Arc<Self>, link: Arc<Link>) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.full.store(false, Ordering::Relaxed);
                self.arrived.notified().await;
            } else if link.publish(&batch).await.is_err() {
                let count = batch.len() as u64;
                self.dropped.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Vec<Message> {
        let mut waiting = self.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(message) = waiting.messages.pop_front() else {
                break;
            };
            let cost = message.1.len() + EACH;
            waiting.bytes -= cost;
            bytes += cost;
            batch.push(message);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

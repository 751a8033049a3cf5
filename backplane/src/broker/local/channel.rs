//! A channel of the embedded broker: its history, newest values, idempotency keys and members, each bounded.
//!
//! Called under the channel's lock; never delivers anything itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::DeliveryClass;
use protocol::frame::Member;

use super::Retention;
use crate::broker::{Publication, Publish};
use crate::now_ms;

/// How long a channel that nobody follows keeps its epoch, if its history is kept as long.
const LINGER: Duration = Duration::from_secs(60);
/// Most keys of class `latest` that a channel keeps; the one longest unchanged goes first.
const MAX_KEYS: usize = 1024;
/// Most idempotency keys that a channel remembers; the one that ends first goes first.
const MAX_DEDUP_KEYS: usize = 16_384;
/// Longest time that a key is remembered: a year.
const LONGEST_DEDUP: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct Channel {
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) history: VecDeque<Kept>,
    bytes: usize,
    total: Arc<AtomicUsize>,
    pub(super) more: Option<Box<More>>,
    pub(super) subscriptions: u32,
    /// When the last subscriber left.
    pub(super) left: Option<Instant>,
    /// Taken out of the map: whoever still holds it must look again.
    pub(super) retired: bool,
}

/// What most channels never have.
#[derive(Default)]
pub(super) struct More {
    pub(super) latest: HashMap<Arc<str>, (u64, Arc<Publication>)>,
    values: u64,
    latest_bytes: usize,
    /// Idempotency keys: the place of the first message, and when the key is forgotten.
    keys: HashMap<Arc<str>, (u64, Instant)>,
    keys_by_end: BTreeSet<(Instant, Arc<str>)>,
    pub(super) members: BTreeMap<String, Member>,
}

pub(super) struct Kept {
    at: Instant,
    bytes: usize,
    pub(super) publication: Arc<Publication>,
}

impl Channel {
    pub(super) fn new(epoch: u64, total: Arc<AtomicUsize>) -> Self {
        Self {
            epoch,
            offset: 0,
            history: VecDeque::new(),
            bytes: 0,
            total,
            more: None,
            subscriptions: 0,
            left: None,
            retired: false,
        }
    }

    /// Whether nothing needs the state. Whoever left a moment ago may come back for its position: a client that
    /// polls does so all the time.
    pub(super) fn is_unused(&self, retention: Retention) -> bool {
        let linger = retention.age.min(LINGER);
        if self.left.is_some_and(|left| left.elapsed() < linger) {
            return false;
        }
        let quiet = self.more.as_ref().is_none_or(|more| {
            more.members.is_empty() && more.latest.is_empty() && more.keys.is_empty()
        });
        self.subscriptions == 0 && self.history.is_empty() && quiet
    }

    pub(super) fn expire(&mut self, retention: Retention) {
        let too_old = |at: Instant, age: Duration| at.elapsed() > age;
        while let Some(oldest) = self.history.front() {
            let over = self.history.len() > retention.messages
                || self.bytes > retention.bytes
                || self.total.load(Ordering::Relaxed) > retention.total_bytes;
            if !over && !too_old(oldest.at, retention.age) {
                break;
            }
            self.bytes -= oldest.bytes;
            self.total.fetch_sub(oldest.bytes, Ordering::Relaxed);
            self.history.pop_front();
        }
        if let Some(more) = self.more.as_mut() {
            more.forget_keys();
            // Kept values live as long as history does: a late joiner finds older ones elsewhere.
            let oldest = now_ms().saturating_sub(retention.age.as_millis() as u64);
            if more.latest.values().any(|(_, kept)| kept.time < oldest) {
                more.forget_latest(&self.total, |kept| kept.time < oldest);
            }
            let total = &self.total;
            while more.latest_bytes > retention.bytes
                || (total.load(Ordering::Relaxed) > retention.total_bytes
                    && !more.latest.is_empty())
            {
                more.forget_oldest(total);
            }
        }
    }

    pub(super) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(super) fn keep(&mut self, publication: Arc<Publication>) {
        let bytes = size_of_message(&publication);
        self.bytes += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.history.push_back(Kept {
            at: Instant::now(),
            bytes,
            publication,
        });
    }

    /// The offset before the oldest retained message.
    pub(super) fn floor(&self) -> u64 {
        self.offset - self.history.len() as u64
    }
}

fn size_of_message(publication: &Publication) -> usize {
    let data = publication.data.as_ref().map_or(0, size_of_value);
    128 + data + publication.bytes.as_ref().map_or(0, |blob| blob.0.len())
}

fn size_of_value(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::String(text) => 24 + text.len(),
        Value::Array(items) => 24 + items.iter().map(size_of_value).sum::<usize>(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| 48 + name.len() + size_of_value(value))
            .sum(),
        _ => 16,
    }
}

impl Channel {
    /// The place of the first message with an idempotency key that is still remembered.
    pub(super) fn used(&self, key: &str) -> Option<u64> {
        let (offset, _) = self.more.as_ref()?.keys.get(key)?;
        Some(*offset)
    }

    /// Gives a message its place; its idempotency key is remembered for `dedup` if it names no other time.
    pub(super) fn take(&mut self, message: Publish, dedup: Duration) -> Arc<Publication> {
        let mut offset = 0;
        let mut version = 0;
        match message.class {
            DeliveryClass::Reliable => {
                self.offset += 1;
                offset = self.offset;
            }
            DeliveryClass::Latest => {
                let more = self.more();
                more.values += 1;
                version = more.values;
            }
            DeliveryClass::Lossy => {}
        }
        let newest = self.offset;
        let publication = Arc::new(Publication {
            class: message.class,
            offset,
            key: message.key,
            version,
            data: message.data,
            bytes: message.bytes,
            event: message.event,
            from: message.from,
            time: now_ms(),
        });
        if let Some(key) = message.idempotency_key {
            let window = message.dedup.unwrap_or(dedup).min(LONGEST_DEDUP);
            let ends = Instant::now() + window;
            let more = self.more();
            more.keys.insert(Arc::clone(&key), (newest, ends));
            more.keys_by_end.insert((ends, key));
        }
        if let (DeliveryClass::Latest, Some(key)) = (publication.class, &publication.key) {
            let total = Arc::clone(&self.total);
            self.more().replace(key, &publication, &total);
        }
        publication
    }
}

impl More {
    fn forget_keys(&mut self) {
        let now = Instant::now();
        while let Some((ends, _)) = self.keys_by_end.first() {
            if *ends > now && self.keys.len() <= MAX_DEDUP_KEYS {
                break;
            }
            if let Some((_, key)) = self.keys_by_end.pop_first() {
                self.keys.remove(&key);
            }
        }
    }

    fn replace(&mut self, key: &Arc<str>, publication: &Arc<Publication>, total: &AtomicUsize) {
        if self.latest.len() >= MAX_KEYS && !self.latest.contains_key(key) {
            self.forget_oldest(total);
        }
        let bytes = size_of_message(publication);
        self.latest_bytes += bytes;
        total.fetch_add(bytes, Ordering::Relaxed);
        let value = (publication.version, Arc::clone(publication));
        if let Some((_, before)) = self.latest.insert(Arc::clone(key), value) {
            self.release(&before, total);
        }
    }

    fn release(&mut self, gone: &Publication, total: &AtomicUsize) {
        let bytes = size_of_message(gone);
        self.latest_bytes -= bytes;
        total.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn forget_oldest(&mut self, total: &AtomicUsize) {
        let oldest = self.latest.values().map(|(version, _)| *version).min();
        self.forget_latest(total, |kept| Some(kept.version) == oldest);
    }

    fn forget_latest(&mut self, total: &AtomicUsize, which: impl Fn(&Publication) -> bool) {
        let mut gone = Vec::new();
        self.latest.retain(|_, (_, kept)| {
            let goes = which(kept);
            if goes {
                gone.push(Arc::clone(kept));
            }
            !goes
        });
        for value in gone {
            self.release(&value, total);
        }
    }
}

/// A channel that ends gives back what it retained.
impl Drop for Channel {
    fn drop(&mut self) {
        let latest = self.more.as_ref().map_or(0, |more| more.latest_bytes);
        self.total.fetch_sub(self.bytes + latest, Ordering::Relaxed);
    }
}

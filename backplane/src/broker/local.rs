//! The embedded broker: everything in this process.
//!
//! A channel's state exists while anyone is subscribed, present, or history is retained; when the last
//! of these is gone it is dropped, and a later one starts with another epoch. History is bounded by
//! count, bytes and age. All of it is lost with the process: the epoch says so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use protocol::frame::{Member, ResetReason};
use protocol::{ChannelName, DeliveryClass, Position};

use super::{Broker, BrokerError, Deliver, Page, PresenceChange, Publication, Publish, Published};

/// Most keys of class `latest` that a channel keeps; the one longest unchanged goes first.
const MAX_KEYS: usize = 1024;
/// Most idempotency keys that a channel remembers; the oldest goes first.
const MAX_DEDUP_KEYS: usize = 16_384;

/// How much history a channel keeps, and for how long keys are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Most messages.
    pub messages: usize,
    /// Most bytes, by estimate.
    pub bytes: usize,
    /// Most bytes of all channels together. Beyond it a channel that takes a message gives up its own
    /// oldest ones.
    pub total_bytes: usize,
    /// Oldest message.
    pub age: Duration,
    /// How long an idempotency key is remembered.
    pub dedup: Duration,
}

/// The embedded broker.
pub struct LocalBroker {
    channels: DashMap<ChannelName, Arc<Mutex<Channel>>>,
    deliver: Arc<dyn Deliver>,
    retention: Retention,
    /// Distinguishes the epochs of this process from those of others.
    boot: String,
    epochs: AtomicU64,
    /// Bytes that all channels retain.
    total: Arc<AtomicUsize>,
}

struct Channel {
    epoch: u64,
    offset: u64,
    history: VecDeque<Kept>,
    bytes: usize,
    total: Arc<AtomicUsize>,
    more: Option<Box<More>>,
    subscriptions: u32,
    /// Taken out of the map: whoever still holds it must look again.
    retired: bool,
}

/// What most channels never have.
#[derive(Default)]
struct More {
    latest: HashMap<Arc<str>, (u64, Arc<Publication>)>,
    values: u64,
    latest_bytes: usize,
    keys: HashMap<Arc<str>, u64>,
    keys_by_age: VecDeque<(Instant, Arc<str>)>,
    members: BTreeMap<String, Member>,
}

struct Kept {
    at: Instant,
    bytes: usize,
    publication: Arc<Publication>,
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}

impl LocalBroker {
    /// A broker that hands what arrives to `deliver`.
    #[must_use]
    pub fn new(deliver: Arc<dyn Deliver>, retention: Retention) -> Self {
        Self {
            channels: DashMap::new(),
            deliver,
            retention,
            boot: uuid::Uuid::now_v7().simple().to_string()[..16].to_owned(),
            epochs: AtomicU64::new(0),
            total: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn position_of(&self, channel: &Channel, offset: u64) -> Position {
        Position {
            epoch: format!("{}.{:x}", self.boot, channel.epoch),
            offset,
        }
    }

    /// Acts on a channel's state under its lock, making it if need be.
    fn with<R>(&self, name: &ChannelName, act: impl FnOnce(&mut Channel) -> R) -> R {
        loop {
            let found = self.channels.get(name).map(|entry| Arc::clone(&entry));
            let state = found.unwrap_or_else(|| {
                let entry = self.channels.entry(name.clone()).or_insert_with(|| {
                    let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
                    Arc::new(Mutex::new(Channel::new(epoch, Arc::clone(&self.total))))
                });
                Arc::clone(&entry)
            });
            let mut channel = state.lock().unwrap_or_else(PoisonError::into_inner);
            if channel.retired {
                continue;
            }
            channel.expire(self.retention);
            return act(&mut channel);
        }
    }

    /// Drops the channel's state if nothing needs it.
    fn drop_if_unused(&self, name: &ChannelName) {
        if let Entry::Occupied(entry) = self.channels.entry(name.clone()) {
            let state = Arc::clone(entry.get());
            let mut channel = state.lock().unwrap_or_else(PoisonError::into_inner);
            channel.expire(self.retention);
            if channel.is_unused() {
                channel.retired = true;
                entry.remove();
            }
        }
    }

    /// Drops every channel that nothing needs any more; run it now and then.
    pub fn sweep(&self) {
        let names: Vec<ChannelName> = self
            .channels
            .iter()
            .map(|entry| entry.key().clone())
            .collect();
        for name in names {
            self.drop_if_unused(&name);
        }
    }

    /// How many channels have state.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }
}

impl Channel {
    fn new(epoch: u64, total: Arc<AtomicUsize>) -> Self {
        Self {
            epoch,
            offset: 0,
            history: VecDeque::new(),
            bytes: 0,
            total,
            more: None,
            subscriptions: 0,
            retired: false,
        }
    }

    fn is_unused(&self) -> bool {
        let quiet = self.more.as_ref().is_none_or(|more| {
            more.members.is_empty() && more.latest.is_empty() && more.keys.is_empty()
        });
        self.subscriptions == 0 && self.history.is_empty() && quiet
    }

    fn expire(&mut self, retention: Retention) {
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
            while let Some((at, key)) = more.keys_by_age.front() {
                if !too_old(*at, retention.dedup) && more.keys.len() <= MAX_DEDUP_KEYS {
                    break;
                }
                more.keys.remove(key);
                more.keys_by_age.pop_front();
            }
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

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    fn keep(&mut self, publication: Arc<Publication>) {
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
    fn floor(&self) -> u64 {
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

#[async_trait]
impl Broker for LocalBroker {
    async fn publish(
        &self,
        name: &ChannelName,
        message: Publish,
    ) -> Result<Published, BrokerError> {
        if message.class == DeliveryClass::Latest && message.key.is_none() {
            return Err(BrokerError::NoKey);
        }
        Ok(self.with(name, |channel| {
            if let Some(key) = &message.idempotency_key {
                let used = channel.more().keys.get(key).copied();
                if let Some(offset) = used {
                    return Published {
                        position: self.position_of(channel, offset),
                        duplicate: true,
                    };
                }
            }
            let publication = channel.take(message);
            if publication.class == DeliveryClass::Reliable {
                channel.keep(Arc::clone(&publication));
            }
            channel.expire(self.retention);
            self.deliver.message(name, &publication);
            Published {
                position: self.position_of(channel, channel.offset),
                duplicate: false,
            }
        }))
    }

    async fn position(&self, name: &ChannelName) -> Result<Position, BrokerError> {
        Ok(self.with(name, |channel| self.position_of(channel, channel.offset)))
    }

    async fn history(
        &self,
        name: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        Ok(self.with(name, |channel| {
            let newest = self.position_of(channel, channel.offset);
            let reset = since.and_then(|since| {
                if since.epoch != newest.epoch {
                    Some(ResetReason::Epoch)
                } else if since.offset > newest.offset {
                    Some(ResetReason::Ahead)
                } else if since.offset < channel.floor() {
                    Some(ResetReason::Expired)
                } else {
                    None
                }
            });
            if reset.is_some() {
                return Page {
                    newest,
                    messages: Vec::new(),
                    more: false,
                    reset,
                };
            }
            let from = since.map_or(channel.floor(), |since| since.offset);
            let skip = (from - channel.floor()) as usize;
            let messages: Vec<_> = channel
                .history
                .iter()
                .skip(skip)
                .take(limit)
                .map(|kept| Arc::clone(&kept.publication))
                .collect();
            Page {
                more: skip + messages.len() < channel.history.len(),
                newest,
                messages,
                reset: None,
            }
        }))
    }

    async fn latest(&self, name: &ChannelName) -> Result<Vec<Arc<Publication>>, BrokerError> {
        Ok(self.with(name, |channel| {
            let Some(more) = channel.more.as_ref() else {
                return Vec::new();
            };
            let mut values: Vec<_> = more.latest.values().cloned().collect();
            values.sort_by_key(|(version, _)| *version);
            values.into_iter().map(|(_, value)| value).collect()
        }))
    }

    async fn subscribe(&self, name: &ChannelName) -> Result<(), BrokerError> {
        self.with(name, |channel| channel.subscriptions += 1);
        Ok(())
    }

    fn unsubscribe(&self, name: &ChannelName) {
        let unused = self.with(name, |channel| {
            channel.subscriptions = channel.subscriptions.saturating_sub(1);
            channel.is_unused()
        });
        if unused {
            self.drop_if_unused(name);
        }
    }

    async fn join(&self, name: &ChannelName, member: Member) -> Result<(), BrokerError> {
        self.with(name, |channel| {
            let before = channel
                .more()
                .members
                .insert(member.session.clone(), member.clone());
            if before.as_ref() != Some(&member) {
                self.deliver.presence(name, PresenceChange::Joined(member));
            }
        });
        Ok(())
    }

    fn leave(&self, name: &ChannelName, session: &str) {
        let unused = self.with(name, |channel| {
            if channel.more().members.remove(session).is_some() {
                let change = PresenceChange::Left(session.to_owned());
                self.deliver.presence(name, change);
            }
            channel.is_unused()
        });
        if unused {
            self.drop_if_unused(name);
        }
    }

    async fn members(&self, name: &ChannelName, limit: usize) -> Result<Vec<Member>, BrokerError> {
        Ok(self.with(name, |channel| {
            let members = channel.more.as_ref().map(|more| more.members.values());
            members.into_iter().flatten().take(limit).cloned().collect()
        }))
    }
}

impl Channel {
    /// Gives a message its place.
    fn take(&mut self, message: Publish) -> Arc<Publication> {
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
            let more = self.more();
            more.keys.insert(Arc::clone(&key), newest);
            more.keys_by_age.push_back((Instant::now(), key));
        }
        if let (DeliveryClass::Latest, Some(key)) = (publication.class, &publication.key) {
            let total = Arc::clone(&self.total);
            self.more().replace(key, &publication, &total);
        }
        publication
    }
}

impl More {
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

//! The embedded broker: everything in this process.
//!
//! A channel's state exists while anyone is subscribed, present, or history is retained; some time after the last
//! of these is gone it is dropped, and a later one starts with another epoch. History is bounded by
//! count, bytes and age. All of it is lost with the process: the epoch says so.

mod channel;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use protocol::frame::{Member, ResetReason};
use protocol::{ChannelName, DeliveryClass, Position};

use self::channel::Channel;
pub use super::retention::Retention;
use super::retention::Retentions;
use super::{Broker, BrokerError, Deliver, Page, PresenceChange, Publication, Publish, Published};

/// The embedded broker.
pub struct LocalBroker {
    channels: DashMap<ChannelName, Arc<Mutex<Channel>>>,
    deliver: Arc<dyn Deliver>,
    retention: Retentions,
    /// Distinguishes the epochs of this process from those of others.
    boot: String,
    epochs: AtomicU64,
    /// Bytes that all channels retain.
    total: Arc<AtomicUsize>,
}

impl LocalBroker {
    /// A broker that hands what arrives to `deliver`.
    #[must_use]
    pub fn new(deliver: Arc<dyn Deliver>, retention: impl Into<Retentions>) -> Self {
        Self {
            channels: DashMap::new(),
            deliver,
            retention: retention.into(),
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
            channel.expire(self.retention.of(name));
            return act(&mut channel);
        }
    }

    /// Drops the channel's state if nothing needs it.
    fn drop_if_unused(&self, name: &ChannelName) {
        if let Entry::Occupied(entry) = self.channels.entry(name.clone()) {
            let state = Arc::clone(entry.get());
            let mut channel = state.lock().unwrap_or_else(PoisonError::into_inner);
            channel.expire(self.retention.of(name));
            if channel.is_unused(self.retention.of(name)) {
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
            let used = message.idempotency_key.as_deref();
            if let Some(offset) = used.and_then(|key| channel.used(key)) {
                return Published {
                    position: self.position_of(channel, offset),
                    duplicate: true,
                };
            }
            let retention = self.retention.of(name);
            let publication = channel.take(message, retention.dedup);
            if publication.class == DeliveryClass::Reliable {
                channel.keep(Arc::clone(&publication));
            }
            channel.expire(self.retention.of(name));
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
            channel.left = Some(Instant::now());
            channel.is_unused(self.retention.of(name))
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
                if channel.more().members.is_empty() {
                    self.deliver.presence(name, PresenceChange::Vacated);
                }
            }
            channel.is_unused(self.retention.of(name))
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

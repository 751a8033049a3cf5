//! The broker of many nodes, on Redis.
//!
//! A channel is a few keys under one hash tag and a topic of that name. One script gives a message its
//! place, appends it and publishes it (`redis/lua`), so that offset, log and publication can't disagree, and
//! whoever subscribes reads a place behind which every push follows. Flow: `redis/scripts` runs the scripts →
//! pushes come back through [`LinkSink`] → `redis/channel` delivers them in order or finds a gap →
//! `redis/fill` reads what is missing. `redis/presence` keeps the members, by leases of their nodes.
//!
//! [`Retentions`] hold per channel; `total_bytes` does not apply, as no script sees all channels: Redis'
//! own `maxmemory`, with the policy `noeviction`, bounds them together. Never knows who may do what.

mod channel;
mod fill;
mod patrol;
mod presence;
mod scripts;
mod wire;

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use protocol::frame::Member;
use protocol::{ChannelName, DeliveryClass, Position};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::channel::Local;
use self::presence::Presence;
use self::scripts::{LogPage, Scripts, topic};
use super::retention::Retentions;
use super::{Broker, BrokerError, Deliver, Page, Publication, Publish, Published};
use crate::redis::{Link, LinkError, LinkOptions, LinkSink};

/// How many channels are filled at a time, after an outage above all.
const FILLS: usize = 64;
/// How often a page is read again because this node went over to another epoch meanwhile.
const READS: usize = 3;

/// The broker on Redis. Dropping it ends its connection and tasks at once, as a crash would; see
/// [`RedisBroker::goodbye`].
pub struct RedisBroker {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What the broker's tasks share.
struct Shared {
    scripts: Scripts,
    deliver: Arc<dyn Deliver>,
    /// The channels that this node is subscribed to, by topic.
    locals: DashMap<Arc<str>, Arc<Local>>,
    presence: Presence,
    fills: Semaphore,
    stop: CancellationToken,
    /// Subscriptions end in destructors, which run on any thread.
    runtime: tokio::runtime::Handle,
}

/// Hands what the link hears to the broker, which exists only once the link does.
#[derive(Default)]
struct Sink(OnceLock<Weak<Shared>>);

impl Sink {
    fn shared(&self) -> Option<Arc<Shared>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

impl LinkSink for Sink {
    fn message(&self, topic: &str, payload: Bytes) {
        let Some(shared) = self.shared() else {
            return;
        };
        let Some(local) = shared.local(topic) else {
            return;
        };
        match wire::parse(&payload) {
            Ok(push) => {
                if local.push(push, &*shared.deliver) {
                    shared.spawn_fill(local);
                }
            }
            Err(error) => tracing::warn!(topic, %error, "a push on a channel's topic is ignored"),
        }
    }

    fn connected(&self) {
        let Some(shared) = self.shared() else {
            return;
        };
        let locals = shared.locals.iter().map(|entry| Arc::clone(entry.value()));
        let locals: Vec<_> = locals.collect();
        for local in locals {
            shared.refill(&local, true);
        }
        shared.presence.connected();
    }

    fn lost(&self) {}
}

/// Ends a subscription that did not come to stand, also when its caller goes away.
struct Pending<'a> {
    shared: &'a Shared,
    topic: &'a str,
    stands: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.stands {
            self.shared.unsubscribe(self.topic);
        }
    }
}

impl RedisBroker {
    /// Connects. `node` is this node's name, unique among those that live; `deliver` gets what arrives.
    ///
    /// # Errors
    /// [`LinkError`], in words for whoever runs the hub.
    pub async fn connect(
        options: LinkOptions,
        node: Arc<str>,
        deliver: Arc<dyn Deliver>,
        retention: impl Into<Retentions>,
    ) -> Result<Arc<Self>, LinkError> {
        let sink = Arc::new(Sink::default());
        let link = Link::connect(options, Arc::clone(&sink) as Arc<dyn LinkSink>).await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            scripts: Scripts {
                link,
                retentions: retention.into(),
            },
            deliver,
            locals: DashMap::new(),
            presence: Presence::new(node),
            fills: Semaphore::new(FILLS),
            stop: stop.clone(),
            runtime: tokio::runtime::Handle::current(),
        });
        sink.0.get_or_init(|| Arc::downgrade(&shared));
        presence::start(&shared);
        patrol::start(&shared);
        Ok(Arc::new(Self {
            shared,
            _stop: stop.drop_guard(),
        }))
    }

    /// Whether Redis can be reached now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.scripts.link.is_connected()
    }

    /// Takes this node's members out of their channels before it goes, within two seconds; without it the other
    /// nodes do so when its lease has run out. Sessions can't join any more.
    pub async fn goodbye(&self) {
        self.shared.goodbye().await;
    }
}

impl Shared {
    fn local(&self, topic: &str) -> Option<Arc<Local>> {
        self.locals.get(topic).map(|local| Arc::clone(&local))
    }

    async fn subscribe(self: &Arc<Self>, channel: &ChannelName) -> Result<(), BrokerError> {
        let topic: Arc<str> = topic(channel).into();
        let (local, opened, begins) = {
            let entry = self.locals.entry(Arc::clone(&topic));
            let fresh = || Arc::new(Local::new(channel.clone(), Arc::clone(&topic)));
            let local = entry.or_insert_with(fresh);
            let (opened, begins) = local.add();
            (Arc::clone(&local), opened, begins)
        };
        let mut pending = Pending {
            shared: self,
            topic: &topic,
            stands: false,
        };
        if begins {
            self.spawn_fill(local);
        }
        if let Some(opened) = opened {
            let gone = |_| BrokerError::Unavailable("the broker is closing".into());
            opened.await.map_err(gone)??;
        }
        pending.stands = true;
        Ok(())
    }

    fn unsubscribe(&self, topic: &str) {
        // Under the map's lock, so that a new subscription comes after the end of this one.
        self.locals.remove_if(topic, |_, local| {
            let last = local.remove();
            if last {
                self.scripts.link.unsubscribe(topic);
            }
            last
        });
    }

    /// Reads a page, and returns it once all that it shows was delivered here.
    async fn read(
        self: &Arc<Self>,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<LogPage, BrokerError> {
        let topic = topic(channel);
        for _ in 0..READS {
            let page = self.scripts.history(channel, since, limit).await?;
            match self.local(&topic) {
                Some(local) if !self.arrived(&local, &page.newest).await? => {}
                _ => return Ok(page),
            }
        }
        Err(BrokerError::Unavailable(
            "the channel's epoch keeps changing".into(),
        ))
    }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn publish(
        &self,
        channel: &ChannelName,
        message: Publish,
    ) -> Result<Published, BrokerError> {
        if message.class == DeliveryClass::Latest && message.key.is_none() {
            return Err(BrokerError::NoKey);
        }
        self.shared.scripts.publish(channel, &message).await
    }

    async fn position(&self, channel: &ChannelName) -> Result<Position, BrokerError> {
        Ok(self.shared.read(channel, None, 0).await?.newest)
    }

    async fn history(
        &self,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let page = self.shared.read(channel, since, limit.max(1)).await?;
        Ok(Page {
            more: page.more(),
            newest: page.newest,
            messages: page.messages,
            reset: page.reset,
        })
    }

    async fn latest(&self, channel: &ChannelName) -> Result<Vec<Arc<Publication>>, BrokerError> {
        Ok(self.shared.scripts.latest(channel).await?.messages)
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BrokerError> {
        self.shared.subscribe(channel).await
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.shared.unsubscribe(&topic(channel));
    }

    async fn join(&self, channel: &ChannelName, member: Member) -> Result<(), BrokerError> {
        let topic: Arc<str> = topic(channel).into();
        if let Some(local) = self.shared.local(&topic) {
            local.watch_presence();
        }
        self.shared.presence.join(topic, member).await
    }

    fn leave(&self, channel: &ChannelName, session: &str) {
        self.shared.presence.leave(&topic(channel), session);
    }

    async fn members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<Member>, BrokerError> {
        let topic = topic(channel);
        let local = self.shared.local(&topic);
        if let Some(local) = &local {
            local.watch_presence();
        }
        let mut members = self.shared.read_members(&topic).await?;
        if let Some(local) = &local {
            local.note_members(&members);
        }
        members.sort_by(|a, b| a.session.cmp(&b.session));
        members.truncate(limit);
        Ok(members)
    }
}

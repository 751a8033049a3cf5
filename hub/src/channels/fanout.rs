//! Fan-out: one message to all subscribers of this node, encoded once per encoding, its bytes shared.
//!
//! The broker calls in with each message in its channel's order; every subscriber's send queue takes
//! the shared frame or notes that it was left out. Presence changes are gathered for an interval and
//! sent as one frame. Never waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backplane::broker::{Deliver, PresenceChange, Publication};
use dashmap::DashMap;
use protocol::frame::{HistoryMessage, Member};
use protocol::{ChannelName, DeliveryClass, Encoding, ServerFrame};
use slab::Slab;

use crate::metrics;
use crate::sendq::{Frame, SendQueue, StreamId};
use crate::transport::frame::encode;

/// A message as its subscribers get it.
#[must_use]
pub fn message_frame(channel: &ChannelName, message: &Publication, encoding: Encoding) -> Frame {
    let reliable = message.class == DeliveryClass::Reliable;
    let latest = message.class == DeliveryClass::Latest;
    let frame = ServerFrame::Message {
        channel: channel.public(),
        offset: reliable.then_some(message.offset),
        data: message.data.clone(),
        bytes: message.bytes.clone(),
        key: message.key.as_deref().map(str::to_owned),
        version: latest.then_some(message.version),
        event: message.event.as_deref().map(str::to_owned),
        from: message.from.as_deref().map(str::to_owned),
        time: message.time,
    };
    encode(&frame, encoding)
}

/// A message as history tells it.
#[must_use]
pub fn history_message(message: &Publication) -> HistoryMessage {
    HistoryMessage {
        offset: message.offset,
        data: message.data.clone(),
        bytes: message.bytes.clone(),
        event: message.event.as_deref().map(str::to_owned),
        from: message.from.as_deref().map(str::to_owned),
        time: message.time,
    }
}

struct Subscriber {
    queue: Arc<SendQueue>,
    stream: StreamId,
    encoding: Encoding,
    presence: bool,
}

#[derive(Default)]
struct Local {
    subscribers: Mutex<Slab<Subscriber>>,
    /// Presence changes since the last frame, by session; `None` has left.
    changes: Mutex<HashMap<String, Option<Member>>>,
}

/// The subscribers of this node.
pub struct Fanout {
    channels: DashMap<ChannelName, Arc<Local>>,
    presence_interval: Duration,
}

/// A subscriber's registration; dropping it ends it.
pub struct Ticket {
    fanout: Arc<Fanout>,
    channel: ChannelName,
    key: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Under the map's lock, so that nobody adds to a channel that is being dropped.
        self.fanout.channels.remove_if(&self.channel, |_, local| {
            let mut subscribers = lock(&local.subscribers);
            subscribers.try_remove(self.key);
            subscribers.is_empty()
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each encoding of one frame, made when first needed.
struct Once<'a, F: Fn(Encoding) -> Frame> {
    make: &'a F,
    json: Option<Frame>,
    msgpack: Option<Frame>,
}

impl<'a, F: Fn(Encoding) -> Frame> Once<'a, F> {
    fn new(make: &'a F) -> Self {
        Self {
            make,
            json: None,
            msgpack: None,
        }
    }

    fn get(&mut self, encoding: Encoding) -> &Frame {
        let slot = match encoding {
            Encoding::Json => &mut self.json,
            Encoding::MsgPack => &mut self.msgpack,
        };
        slot.get_or_insert_with(|| (self.make)(encoding))
    }
}

impl Fanout {
    /// No subscribers yet; presence frames at most every `presence_interval`.
    #[must_use]
    pub fn new(presence_interval: Duration) -> Arc<Self> {
        Arc::new(Self {
            channels: DashMap::new(),
            presence_interval,
        })
    }

    /// Registers a subscriber.
    #[must_use]
    pub fn add(
        self: &Arc<Self>,
        channel: &ChannelName,
        queue: &Arc<SendQueue>,
        stream: StreamId,
        encoding: Encoding,
        presence: bool,
    ) -> Ticket {
        let entry = self.channels.entry(channel.clone()).or_default();
        let mut subscribers = lock(&entry.subscribers);
        if subscribers.capacity() == 0 {
            // Many channels have one subscriber for good: a feed, a plan.
            *subscribers = Slab::with_capacity(1);
        }
        let key = subscribers.insert(Subscriber {
            queue: Arc::clone(queue),
            stream,
            encoding,
            presence,
        });
        drop(subscribers);
        drop(entry);
        Ticket {
            fanout: Arc::clone(self),
            channel: channel.clone(),
            key,
        }
    }

    fn local(&self, channel: &ChannelName) -> Option<Arc<Local>> {
        self.channels.get(channel).map(|local| Arc::clone(&local))
    }

    /// Sends what changed since the last time.
    fn flush_presence(&self, channel: &ChannelName) {
        let Some(local) = self.local(channel) else {
            return;
        };
        let changes = std::mem::take(&mut *lock(&local.changes));
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (session, member) in changes {
            match member {
                Some(member) => joined.push(member),
                None => left.push(session),
            }
        }
        joined.sort_by(|a: &Member, b| a.session.cmp(&b.session));
        left.sort();
        let make = |encoding| {
            let frame = ServerFrame::Presence {
                id: None,
                channel: channel.public(),
                joined: joined.clone(),
                left: left.clone(),
            };
            encode(&frame, encoding)
        };
        let mut frames = Once::new(&make);
        for (_, subscriber) in lock(&local.subscribers).iter() {
            if subscriber.presence {
                let frame = Arc::clone(frames.get(subscriber.encoding));
                subscriber.queue.reply(frame);
            }
        }
    }

    /// The fan-out as the broker sees it: it can be told to flush later.
    #[must_use]
    pub fn deliverer(self: &Arc<Self>) -> Arc<dyn Deliver> {
        Arc::new(Deliverer(Arc::clone(self)))
    }
}

struct Deliverer(Arc<Fanout>);

impl Deliver for Deliverer {
    fn message(&self, channel: &ChannelName, message: &Arc<Publication>) {
        let Some(local) = self.0.local(channel) else {
            return;
        };
        let make = |encoding| message_frame(channel, message, encoding);
        let mut frames = Once::new(&make);
        let (mut sent, mut bytes) = (0, 0);
        for (_, to) in lock(&local.subscribers).iter() {
            let frame = frames.get(to.encoding);
            sent += 1;
            bytes += frame.len() as u64;
            match (message.class, &message.key) {
                (DeliveryClass::Latest, Some(key)) => {
                    to.queue.latest(to.stream, key, message.version, frame);
                }
                (DeliveryClass::Reliable, _) => {
                    to.queue.reliable(to.stream, message.offset, frame);
                }
                _ => {
                    to.queue.lossy(frame);
                }
            }
        }
        // Once per message, not once per subscriber.
        metrics::SENT.of(message.class).add(sent, bytes);
    }

    fn broken(&self, channel: &ChannelName, last: u64) {
        if let Some(local) = self.0.local(channel) {
            for (_, to) in lock(&local.subscribers).iter() {
                to.queue.interrupt(to.stream, last);
            }
        }
    }

    fn presence(&self, channel: &ChannelName, change: PresenceChange) {
        let Some(local) = self.0.local(channel) else {
            return;
        };
        let (session, member) = match change {
            PresenceChange::Joined(member) => (member.session.clone(), Some(member)),
            PresenceChange::Left(session) => (session, None),
            PresenceChange::Vacated => return,
        };
        let mut changes = lock(&local.changes);
        let first = changes.is_empty();
        changes.insert(session, member);
        drop(changes);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if first {
            let (fanout, channel) = (Arc::clone(&self.0), channel.clone());
            runtime.spawn(async move {
                tokio::time::sleep(fanout.presence_interval).await;
                fanout.flush_presence(&channel);
            });
        }
    }
}

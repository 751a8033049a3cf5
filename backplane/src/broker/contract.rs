//! The contract of a broker: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`broker_contract!`](crate::broker_contract) with a factory that
//! makes a fresh broker around a [`Recorder`]; the same names then pass, or fail, for each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::frame::{Member, ResetReason};
use protocol::{ChannelName, DeliveryClass, Position};
use serde_json::json;

use super::local::Retention;
use super::{Broker, Deliver, PresenceChange, Publication, Publish};

/// Keeps what a broker delivers.
#[derive(Default)]
pub struct Recorder {
    messages: Mutex<Vec<(ChannelName, Arc<Publication>)>>,
    presence: Mutex<Vec<(ChannelName, PresenceChange)>>,
}

impl Deliver for Recorder {
    fn message(&self, channel: &ChannelName, message: &Arc<Publication>) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push((channel.clone(), Arc::clone(message)));
    }

    fn presence(&self, channel: &ChannelName, change: PresenceChange) {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.push((channel.clone(), change));
    }
}

impl Recorder {
    /// What was delivered on a channel.
    #[must_use]
    pub fn messages(&self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let on_it = messages.iter().filter(|(name, _)| name == channel);
        on_it.map(|(_, message)| Arc::clone(message)).collect()
    }

    /// The presence changes delivered on a channel.
    #[must_use]
    pub fn presence(&self, channel: &ChannelName) -> Vec<PresenceChange> {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let on_it = presence.iter().filter(|(name, _)| name == channel);
        on_it.map(|(_, change)| change.clone()).collect()
    }
}

/// A broker under test, and what it delivers to.
pub struct Subject {
    /// The broker.
    pub broker: Box<dyn Broker>,
    /// Where its deliveries go.
    pub recorder: Arc<Recorder>,
}

/// The retention that the contract is checked with.
pub const RETENTION: Retention = Retention {
    messages: 100,
    bytes: 64 * 1024,
    total_bytes: 1024 * 1024,
    age: Duration::from_secs(60),
    dedup: Duration::from_secs(60),
};

fn room(name: &str) -> ChannelName {
    ChannelName::Room {
        project: "contract".into(),
        name: name.into(),
    }
}

fn text(n: u64) -> Publish {
    Publish {
        data: Some(json!({ "n": n })),
        ..Publish::default()
    }
}

fn numbers(messages: &[Arc<Publication>]) -> Vec<u64> {
    let data = messages.iter().filter_map(|message| message.data.as_ref());
    data.filter_map(|data| data["n"].as_u64()).collect()
}

fn member(session: &str) -> Member {
    Member {
        session: session.into(),
        user: format!("user-{session}"),
        name: session.into(),
        state: None,
    }
}

/// Waits until a delivery that may take its time has come.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 5 s");
}

async fn publish(subject: &Subject, channel: &ChannelName, message: Publish) -> super::Published {
    subject.broker.publish(channel, message).await.unwrap()
}

/// Offsets are gapless from 1, and deliveries come in their order.
pub async fn offsets_are_gapless_and_ordered(subject: Subject) {
    let channel = room("order");
    subject.broker.subscribe(&channel).await.unwrap();
    for n in 1..=50 {
        let published = publish(&subject, &channel, text(n)).await;
        assert_eq!(published.position.offset, n);
        assert!(!published.duplicate);
    }
    until("50 deliveries", || {
        subject.recorder.messages(&channel).len() == 50
    })
    .await;
    let delivered = subject.recorder.messages(&channel);
    assert_eq!(numbers(&delivered), (1..=50).collect::<Vec<_>>());
    assert!(
        delivered
            .iter()
            .zip(1..)
            .all(|(message, offset)| message.offset == offset)
    );
}

/// Concurrent publishers get distinct, gapless offsets; delivery agrees with them.
pub async fn concurrent_publishers_share_one_order(subject: Subject) {
    let channel = room("concurrent");
    subject.broker.subscribe(&channel).await.unwrap();
    let publishers = (0..8).map(|publisher| {
        let (broker, channel) = (&subject.broker, &channel);
        async move {
            for n in 0..10 {
                broker
                    .publish(channel, text(publisher * 100 + n))
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let mut publishers: Vec<_> = publishers.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        publishers.retain_mut(|publisher| publisher.as_mut().poll(cx).is_pending());
        if publishers.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    until("80 deliveries", || {
        subject.recorder.messages(&channel).len() == 80
    })
    .await;
    let offsets: Vec<u64> = subject
        .recorder
        .messages(&channel)
        .iter()
        .map(|m| m.offset)
        .collect();
    assert_eq!(offsets, (1..=80).collect::<Vec<_>>());
}

/// History after a position is everything since, page by page, once.
pub async fn history_pages_are_complete(subject: Subject) {
    let channel = room("history");
    for n in 1..=25 {
        publish(&subject, &channel, text(n)).await;
    }
    let newest = subject.broker.position(&channel).await.unwrap();
    assert_eq!(newest.offset, 25);
    let mut since = Position {
        epoch: newest.epoch.clone(),
        offset: 5,
    };
    let mut seen = Vec::new();
    loop {
        let page = subject
            .broker
            .history(&channel, Some(&since), 7)
            .await
            .unwrap();
        assert_eq!(page.reset, None);
        assert_eq!(page.newest, newest);
        seen.extend(numbers(&page.messages));
        since.offset = page.messages.last().unwrap().offset;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (6..=25).collect::<Vec<_>>());
    let all = subject.broker.history(&channel, None, 1000).await.unwrap();
    assert_eq!(all.messages.len(), 25);
    let none = subject
        .broker
        .history(&channel, Some(&newest), 10)
        .await
        .unwrap();
    assert!(none.messages.is_empty() && !none.more && none.reset.is_none());
}

/// A position that can't be gone on from is told, with the reason.
pub async fn a_lost_position_is_reset(subject: Subject) {
    let channel = room("reset");
    for n in 1..=150 {
        publish(&subject, &channel, text(n)).await;
    }
    let newest = subject.broker.position(&channel).await.unwrap();
    let ask = |epoch: &str, offset| Position {
        epoch: epoch.to_owned(),
        offset,
    };
    for (position, reason) in [
        (ask(&newest.epoch, 10), ResetReason::Expired),
        (ask(&newest.epoch, 151), ResetReason::Ahead),
        (ask("another", 150), ResetReason::Epoch),
    ] {
        let page = subject
            .broker
            .history(&channel, Some(&position), 10)
            .await
            .unwrap();
        assert_eq!(page.reset, Some(reason));
        assert!(page.messages.is_empty());
    }
    let oldest = ask(&newest.epoch, 50);
    let page = subject
        .broker
        .history(&channel, Some(&oldest), 1000)
        .await
        .unwrap();
    assert_eq!(page.reset, None);
    assert_eq!(numbers(&page.messages), (51..=150).collect::<Vec<_>>());
}

/// A second message with a used key is not taken; its answer names the first one's place.
pub async fn an_idempotency_key_takes_effect_once(subject: Subject) {
    let channel = room("idempotent");
    subject.broker.subscribe(&channel).await.unwrap();
    let keyed = |n| Publish {
        idempotency_key: Some("key".into()),
        ..text(n)
    };
    let first = publish(&subject, &channel, keyed(1)).await;
    publish(&subject, &channel, text(2)).await;
    let again = publish(&subject, &channel, keyed(1)).await;
    assert!(again.duplicate);
    assert_eq!(again.position, first.position);
    assert_eq!(subject.broker.position(&channel).await.unwrap().offset, 2);
    until("2 deliveries", || {
        subject.recorder.messages(&channel).len() == 2
    })
    .await;
}

/// Class `latest` takes no offset; its newest value per key is kept, and versions rise.
pub async fn latest_values_are_kept_per_key(subject: Subject) {
    let channel = room("latest");
    for n in 1..=5 {
        let key = if n % 2 == 0 { "even" } else { "odd" };
        let message = Publish {
            class: DeliveryClass::Latest,
            key: Some(key.into()),
            ..text(n)
        };
        let published = publish(&subject, &channel, message).await;
        assert_eq!(published.position.offset, 0);
    }
    let values = subject.broker.latest(&channel).await.unwrap();
    assert_eq!(numbers(&values), [4, 5]);
    assert!(values[0].version < values[1].version);
    let keyless = Publish {
        class: DeliveryClass::Latest,
        ..text(6)
    };
    assert_eq!(
        subject.broker.publish(&channel, keyless).await,
        Err(super::BrokerError::NoKey)
    );
}

/// Class `lossy` is delivered, and kept nowhere.
pub async fn lossy_messages_leave_no_trace(subject: Subject) {
    let channel = room("lossy");
    subject.broker.subscribe(&channel).await.unwrap();
    let message = Publish {
        class: DeliveryClass::Lossy,
        ..text(1)
    };
    publish(&subject, &channel, message).await;
    until("a delivery", || {
        subject.recorder.messages(&channel).len() == 1
    })
    .await;
    let page = subject.broker.history(&channel, None, 10).await.unwrap();
    assert!(page.messages.is_empty());
    assert_eq!(page.newest.offset, 0);
}

/// Presence tells who joined, changed and left, each once; members are listed by session.
pub async fn presence_follows_sessions(subject: Subject) {
    let channel = room("presence");
    let broker = &subject.broker;
    broker.subscribe(&channel).await.unwrap();
    broker.join(&channel, member("b")).await.unwrap();
    broker.join(&channel, member("a")).await.unwrap();
    broker.join(&channel, member("a")).await.unwrap();
    let typing = Member {
        state: Some(json!({ "typing": true })),
        ..member("a")
    };
    broker.join(&channel, typing.clone()).await.unwrap();
    assert_eq!(
        broker.members(&channel, 10).await.unwrap(),
        [typing.clone(), member("b")]
    );
    assert_eq!(broker.members(&channel, 1).await.unwrap().len(), 1);
    broker.leave(&channel, "b");
    broker.leave(&channel, "b");
    until("4 changes", || {
        subject.recorder.presence(&channel).len() == 4
    })
    .await;
    assert_eq!(
        subject.recorder.presence(&channel),
        [
            PresenceChange::Joined(member("b")),
            PresenceChange::Joined(member("a")),
            PresenceChange::Joined(typing),
            PresenceChange::Left("b".into()),
        ]
    );
}

/// Channels don't see each other.
pub async fn channels_are_apart(subject: Subject) {
    let (one, other) = (room("one"), room("other"));
    publish(&subject, &one, text(1)).await;
    assert_eq!(subject.broker.position(&other).await.unwrap().offset, 0);
    assert!(
        subject
            .broker
            .history(&other, None, 10)
            .await
            .unwrap()
            .messages
            .is_empty()
    );
    assert!(subject.broker.members(&other, 10).await.unwrap().is_empty());
}

/// Makes a test of each guarantee; `$factory` is an async closure or function that makes a [`Subject`].
#[macro_export]
macro_rules! broker_contract {
    ($factory:expr) => {
        $crate::broker_contract!($factory;
            offsets_are_gapless_and_ordered,
            concurrent_publishers_share_one_order,
            history_pages_are_complete,
            a_lost_position_is_reset,
            an_idempotency_key_takes_effect_once,
            latest_values_are_kept_per_key,
            lossy_messages_leave_no_trace,
            presence_follows_sessions,
            channels_are_apart,
        );
    };
    ($factory:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::broker::contract::$name($factory().await).await;
            }
        )*
    };
}

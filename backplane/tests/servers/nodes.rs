//! Nodes of a broker on Redis: a broker each, and what was delivered to it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::contract::{RETENTION, Recorder};
use backplane::broker::local::Retention;
use backplane::broker::redis::RedisBroker;
use backplane::broker::{Broker, PresenceChange, Publish, Published};
use backplane::redis::LinkOptions;
use protocol::ChannelName;
use protocol::frame::Member;
use serde_json::json;

/// Times are short, so that tests are.
pub fn options(urls: Vec<String>) -> LinkOptions {
    LinkOptions {
        urls,
        ca: None,
        prefix: "t".into(),
        command_timeout: Duration::from_secs(2),
        watchdog: Duration::from_millis(500),
    }
}

/// One node of several.
pub struct Node {
    pub broker: Arc<RedisBroker>,
    pub recorder: Arc<Recorder>,
}

impl Node {
    pub async fn connect(url: &str, name: &str) -> Self {
        Self::with(url, name, RETENTION).await
    }

    pub async fn with(url: &str, name: &str, retention: Retention) -> Self {
        let recorder = Arc::new(Recorder::default());
        let options = options(vec![url.to_owned()]);
        let broker = RedisBroker::connect(options, name.into(), recorder.clone(), retention);
        Self {
            broker: broker.await.expect("a broker"),
            recorder,
        }
    }

    /// The numbers that were delivered.
    pub fn numbers(&self, channel: &ChannelName) -> Vec<u64> {
        let messages = self.recorder.messages(channel);
        let number = |data: &serde_json::Value| data["n"].as_u64();
        let data = messages.iter().filter_map(|message| message.data.as_ref());
        data.filter_map(number).collect()
    }

    /// How often a session was said to have left.
    pub fn lefts(&self, channel: &ChannelName, session: &str) -> usize {
        let left = PresenceChange::Left(session.into());
        let told = self.recorder.presence(channel);
        told.iter().filter(|change| **change == left).count()
    }

    /// Publishes with a key of its own until it is taken.
    pub async fn publish_surely(&self, channel: &ChannelName, n: u64) -> Published {
        let message = Publish {
            idempotency_key: Some(format!("message-{n}").into()),
            ..numbered(n)
        };
        for _ in 0..600 {
            if let Ok(published) = self.broker.publish(channel, message.clone()).await {
                return published;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("message {n} was not taken within half a minute");
    }

    /// Subscribes and joins until it is done.
    pub async fn join_surely(&self, channel: &ChannelName, session: &str) {
        self.broker
            .subscribe(channel)
            .await
            .expect("a subscription");
        self.broker
            .join(channel, member(session))
            .await
            .expect("a join");
    }
}

pub fn numbered(n: u64) -> Publish {
    Publish {
        data: Some(json!({ "n": n })),
        ..Publish::default()
    }
}

pub fn room(name: &str) -> ChannelName {
    ChannelName::Room {
        project: "p".into(),
        name: name.into(),
    }
}

pub fn member(session: &str) -> Member {
    Member {
        session: session.into(),
        user: format!("user-{session}"),
        name: session.into(),
        state: None,
    }
}

/// Waits until a node's connection stands.
pub async fn connected(node: &Node) {
    let within = Duration::from_secs(10);
    until("a connection", within, async || node.broker.is_connected()).await;
}

/// Waits until something holds.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let since = std::time::Instant::now();
    while !holds().await {
        assert!(since.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! A sink that remembers what a link told it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backplane::redis::{Link, LinkError, LinkOptions, LinkSink};
use bytes::Bytes;
use uuid::Uuid;

/// What was heard, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Message(String, Bytes),
    Connected,
    Lost,
}

/// The sink.
#[derive(Default)]
pub struct Ear(Mutex<Vec<Heard>>);

impl Ear {
    pub fn all(&self) -> Vec<Heard> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn count(&self, what: &Heard) -> usize {
        self.all().iter().filter(|heard| *heard == what).count()
    }

    pub fn messages(&self, topic: &str) -> Vec<Bytes> {
        let on_topic = |heard| match heard {
            Heard::Message(name, payload) if name == topic => Some(payload),
            _ => None,
        };
        self.all().into_iter().filter_map(on_topic).collect()
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within ten seconds: {what}");
    }

    fn hear(&self, heard: Heard) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(heard);
    }
}

impl LinkSink for Ear {
    fn message(&self, topic: &str, payload: Bytes) {
        self.hear(Heard::Message(topic.to_owned(), payload));
    }

    fn connected(&self) {
        self.hear(Heard::Connected);
    }

    fn lost(&self) {
        self.hear(Heard::Lost);
    }
}

/// Options for tests: short times, a prefix of one's own.
pub fn options(urls: &[&str]) -> LinkOptions {
    LinkOptions {
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        ca: None,
        prefix: format!("test-link-{}", Uuid::now_v7()),
        command_timeout: Duration::from_secs(1),
        watchdog: Duration::from_millis(300),
    }
}

/// A link and its ear.
pub async fn connect(options: LinkOptions) -> Result<(Arc<Link>, Arc<Ear>), LinkError> {
    let ear = Arc::new(Ear::default());
    let link = Link::connect(options, Arc::clone(&ear) as Arc<dyn LinkSink>).await?;
    Ok((link, ear))
}

/// Publishes one message.
pub async fn publish(link: &Link, topic: &str, payload: &str) -> Result<(), LinkError> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    link.publish(&[(topic.into(), payload)]).await
}

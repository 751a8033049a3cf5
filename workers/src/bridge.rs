//! The bridge: from domain events to the channels of those who may see them.
//!
//! Owns which channel an event's subject is, and what a session gets of an event. The event's id is the
//! idempotency key: one that is delivered twice stands in its channel once. Never asks whether a plan or a
//! user exists: nobody can subscribe to the channel of one that does not. Never decides who may see what:
//! that is asked when somebody subscribes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backplane::backoff::Backoff;
use backplane::broker::{Broker, BrokerError, Publish};
use backplane::bus::{ConsumerSpec, Delivery, Handler, Outcome};
use protocol::event::Event;
use protocol::{Blob, ChannelName, DeliveryClass};
use serde_json::{Map, Value};

/// The consumer's name.
pub const CONSUMER: &str = "bridge";
/// Most bytes of an event that is bridged: what a session takes in one message by default.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The wait after a first failure of the broker, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// The consumer.
pub struct Bridge {
    /// Where the channels are.
    pub broker: Arc<dyn Broker>,
    /// How long a channel remembers an event's id.
    pub dedup: Duration,
}

impl Bridge {
    /// Events of these types; on one node at a time, so that the order of a subject holds over all nodes.
    #[must_use]
    pub fn spec(types: Vec<String>, prefetch: u16, attempts: u32) -> ConsumerSpec {
        ConsumerSpec {
            name: CONSUMER.to_owned(),
            patterns: types,
            single_active: true,
            prefetch,
            attempts,
        }
    }
}

/// The channel of those who may see what an event is about.
fn audience(subject: &str) -> Option<ChannelName> {
    let (namespace, id) = subject.split_once(':')?;
    match namespace {
        // A feed is named by its user: `parse` checks the id as it does those of the others.
        "user" => match ChannelName::parse(&format!("project:{id}"), "").ok()? {
            ChannelName::Project(id) => Some(ChannelName::Feed(id)),
            _ => None,
        },
        "plan" | "doc" | "project" => ChannelName::parse(subject, "").ok(),
        _ => None,
    }
}

/// What a session gets of an event: its envelope without what belongs to the services.
fn message(event: Event, payload: Option<Blob>, dedup: Duration) -> Publish {
    let id: Arc<str> = event.id.to_string().into();
    let mut told = Map::new();
    told.insert("type".to_owned(), Value::String(event.kind));
    told.insert("subject".to_owned(), Value::String(event.subject));
    told.insert("time".to_owned(), Value::from(event.time));
    let optional = [("project", event.project), ("actor", event.actor)];
    for (name, value) in optional {
        if let Some(value) = value {
            told.insert(name.to_owned(), Value::String(value));
        }
    }
    if payload.is_none() {
        told.insert("data".to_owned(), event.data);
    }
    Publish {
        class: DeliveryClass::Reliable,
        data: Some(Value::Object(told)),
        bytes: payload,
        event: Some(Arc::clone(&id)),
        idempotency_key: Some(id),
        dedup: Some(dedup),
        ..Publish::default()
    }
}

#[async_trait]
impl Handler for Bridge {
    fn order_key(&self, delivery: &Delivery) -> String {
        match delivery.event() {
            Ok((event, _)) => event.subject,
            Err(_) => String::new(),
        }
    }

    /// Waits for a broker that is away for as long as it takes: nothing is given back meanwhile, so
    /// that the bus does not give up good events.
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let size = delivery.body.len();
        if size > MAX_BYTES {
            let reason = format!("it has {size} bytes; at most {MAX_BYTES} are bridged");
            return Outcome::Poison(reason);
        }
        let (event, payload) = match delivery.event() {
            Ok(event) => event,
            Err(unreadable) => return Outcome::Poison(unreadable.to_string()),
        };
        let Some(channel) = audience(&event.subject) else {
            let reason = format!("the subject {:?} has no channel", event.subject);
            return Outcome::Poison(reason);
        };
        let message = message(event, payload.map(Blob), self.dedup);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        let mut held = false;
        loop {
            match self.broker.publish(&channel, message.clone()).await {
                Ok(_) => return Outcome::Done,
                Err(BrokerError::Unavailable(reason)) => {
                    if !held {
                        held = true;
                        tracing::debug!(%channel, reason, "an event is held until the broker is back");
                    }
                }
                Err(error @ BrokerError::NoKey) => return Outcome::Poison(error.to_string()),
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_a_channel_or_none() {
        for (subject, channel) in [
            ("plan:7", "plan:7"),
            ("doc:d-1", "doc:d-1"),
            ("project:p.x", "project:p.x"),
            ("user:u_1", "feed:u_1"),
        ] {
            let found = audience(subject).map(|channel| channel.to_string());
            assert_eq!(found.as_deref(), Some(channel));
        }
        let long = format!("user:{}", "x".repeat(300));
        for subject in [
            "",
            "plan",
            "plan:",
            "user:",
            "user:a b",
            "doc:{x}",
            "feed:me",
            "room:p/r",
            "user:me:too",
            &long,
        ] {
            assert_eq!(audience(subject), None, "{subject}");
        }
    }
}

//! Exchanges and queues: what they are called and what they are like.
//!
//! Everything is durable, every queue a quorum queue. Declaring what is there already, as it is, changes
//! nothing; so it is done on every new connection. A binding of a pattern that a consumer no longer has stays:
//! AMQP can't list bindings. What comes by one is dropped when it is read.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::connection::failure;
use crate::bus::{BusError, ConsumerSpec};

/// How often a queue of a consumer gives a message out again before it goes to the dead letters. Every lost
/// connection counts, for whatever was under way: a consumer that holds good events through an outage must not come
/// near it. It is there for the message that kills whoever reads it.
const DELIVERY_LIMIT: i32 = 100;
/// The same for the dead letters: as good as none. It has to be said, as newer servers have a low one by default.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;
/// Most bytes of a prefix.
const MAX_PREFIX: usize = 128;

/// The names of one bus.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    /// The exchange that events are published to.
    pub(super) events: ShortString,
    /// The exchange that dead letters are published to.
    pub(super) dead: ShortString,
    /// The queue of the dead letters.
    pub(super) dead_letters: ShortString,
}

impl Names {
    /// # Errors
    /// The prefix is empty or too long.
    pub(super) fn new(prefix: &str) -> Result<Self, BusError> {
        if prefix.is_empty() || prefix.len() > MAX_PREFIX {
            let reason = format!("a prefix has 1 to {MAX_PREFIX} bytes");
            return Err(BusError::Refused(reason));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            events: short(&format!("{prefix}.events"))?,
            dead: short(&format!("{prefix}.dead"))?,
            dead_letters: short(&format!("{prefix}.dead-letters"))?,
        })
    }

    /// The queue of a consumer.
    pub(super) fn queue(&self, consumer: &str) -> Result<ShortString, BusError> {
        short(&format!("{}.{consumer}", self.prefix))
    }

    /// The consumer of a queue.
    pub(super) fn consumer<'a>(&self, queue: &'a str) -> &'a str {
        let rest = queue.strip_prefix(self.prefix.as_str());
        rest.and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(queue)
    }
}

/// A name as AMQP has them.
///
/// # Errors
/// [`BusError::Refused`]: it has more than 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text).map_err(|error| BusError::Refused(error.to_string()))
}

async fn exchange(channel: &Channel, name: &ShortString) -> Result<(), BusError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let arguments = FieldTable::default();
    let declared = channel
        .exchange_declare(name.clone(), ExchangeKind::Topic, options, arguments)
        .await;
    declared.map_err(|error| failure(&error))
}

/// Declares the exchange of events. Does nothing more, so it also serves as a question that only a
/// working server answers.
pub(super) async fn declare_events(channel: &Channel, names: &Names) -> Result<(), BusError> {
    exchange(channel, &names.events).await
}

/// Declares what all share: both exchanges, and the queue of the dead letters.
pub(super) async fn declare(channel: &Channel, names: &Names) -> Result<(), BusError> {
    exchange(channel, &names.events).await?;
    exchange(channel, &names.dead).await?;
    let mut arguments = quorum();
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(NO_DELIVERY_LIMIT),
    );
    queue(channel, &names.dead_letters, arguments).await?;
    bind(channel, &names.dead_letters, &names.dead, "#").await
}

/// Declares a consumer's queue and binds it.
pub(super) async fn declare_consumer(
    channel: &Channel,
    names: &Names,
    spec: &ConsumerSpec,
) -> Result<(), BusError> {
    let name = names.queue(&spec.name)?;
    let mut arguments = quorum();
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongInt(DELIVERY_LIMIT),
    );
    arguments.insert(
        "x-single-active-consumer".into(),
        AMQPValue::Boolean(spec.single_active),
    );
    arguments.insert("x-dead-letter-exchange".into(), text(names.dead.as_str()));
    // What the server itself dead-letters is held until the dead letters have confirmed it.
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    queue(channel, &name, arguments).await?;
    for pattern in &spec.patterns {
        bind(channel, &name, &names.events, pattern).await?;
    }
    Ok(())
}

/// Whether a consumer's queue is there. The channel ends if it is not.
pub(super) async fn exists(channel: &Channel, name: ShortString) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name, options, FieldTable::default());
    declared.await.map(drop)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

async fn queue(
    channel: &Channel,
    name: &ShortString,
    arguments: FieldTable,
) -> Result<(), BusError> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(name.clone(), options, arguments)
        .await;
    declared.map(drop).map_err(|error| failure(&error))
}

async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    pattern: &str,
) -> Result<(), BusError> {
    let key = short(pattern)?;
    let bound = channel.queue_bind(
        queue.clone(),
        exchange.clone(),
        key,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.map_err(|error| failure(&error))
}

//! A delivery as an AMQP message, and back.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::topology::{Names, short};
use crate::bus::{BusError, DeadLetter, Delivery, REASON_HEADER};

/// Header that names the consumer that buried a message.
const CONSUMER_HEADER: &str = "x-tandem-consumer";
/// What the server itself says of a message that it dead-lettered.
const SERVER_REASON: &str = "x-first-death-reason";
const SERVER_QUEUE: &str = "x-first-death-queue";
/// Most bytes of a producer's headers that a dead letter carries on: properties have to fit into one frame.
const MAX_HEADERS: usize = 32 * 1024;
/// The delivery mode of a message that survives a restart.
const PERSISTENT: u8 = 2;

/// The properties of a delivery that is published.
///
/// # Errors
/// [`BusError::Refused`]: one of them is too long for AMQP.
pub(super) fn properties(delivery: &Delivery) -> Result<BasicProperties, BusError> {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_type(short(&delivery.kind)?)
        .with_headers(table(&delivery.headers)?);
    if let Some(id) = &delivery.message_id {
        properties = properties.with_message_id(short(id)?);
    }
    if let Some(content_type) = &delivery.content_type {
        properties = properties.with_content_type(short(content_type)?);
    }
    if let Some(timestamp) = delivery.timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    Ok(properties)
}

/// The properties of a delivery that is buried.
///
/// # Errors
/// As [`properties`].
pub(super) fn dead_properties(
    dead: &Delivery,
    consumer: &str,
    reason: &str,
) -> Result<BasicProperties, BusError> {
    let mut size = 0;
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &dead.headers {
        size += name.len() + value.len();
        if size <= MAX_HEADERS {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(REASON_HEADER.to_owned(), reason.to_owned());
    headers.insert(CONSUMER_HEADER.to_owned(), consumer.to_owned());
    properties(&Delivery {
        headers,
        ..dead.clone()
    })
}

fn table(headers: &BTreeMap<String, String>) -> Result<FieldTable, BusError> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name)?, AMQPValue::LongString(value.as_bytes().into()));
    }
    Ok(table)
}

/// A message as a consumer sees it.
pub(super) fn delivery(message: lapin::message::Delivery) -> Delivery {
    let properties = &message.properties;
    let string = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(|value| value.as_str().to_owned())
    };
    // What was put straight into a queue, a dead letter moved back for example, has the queue's name as its key.
    let straight = message.exchange.as_str().is_empty();
    let kind = properties.kind().as_ref().filter(|_| straight);
    Delivery {
        kind: kind.unwrap_or(&message.routing_key).as_str().to_owned(),
        message_id: string(properties.message_id()),
        content_type: string(properties.content_type()),
        timestamp: *properties.timestamp(),
        headers: headers(properties.headers().as_ref()),
        redelivered: message.redelivered,
        body: message.data.into(),
    }
}

fn headers(table: Option<&FieldTable>) -> BTreeMap<String, String> {
    let values = table.into_iter().flatten();
    let strings = values.filter_map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?,
            AMQPValue::ShortString(text) => text.as_str(),
            _ => return None,
        };
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    strings.collect()
}

/// A message of the dead letters' queue.
pub(super) fn dead_letter(message: lapin::message::Delivery, names: &Names) -> DeadLetter {
    let mut dead = delivery(message);
    let consumer = dead.headers.remove(CONSUMER_HEADER).unwrap_or_else(|| {
        let queue = dead.headers.get(SERVER_QUEUE).map_or("", String::as_str);
        names.consumer(queue).to_owned()
    });
    let reason = dead.headers.remove(REASON_HEADER).unwrap_or_else(|| {
        let reason = dead
            .headers
            .get(SERVER_REASON)
            .map_or("unknown", String::as_str);
        format!("RabbitMQ dead-lettered it: {reason}")
    });
    DeadLetter {
        consumer,
        kind: dead.kind,
        id: dead.message_id,
        reason,
        body: dead.body,
    }
}

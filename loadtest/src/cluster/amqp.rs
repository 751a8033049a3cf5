//! RabbitMQ as a foreign producer or consumer sees it: an AMQP client and the exchange's name.

use std::time::{SystemTime, UNIX_EPOCH};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::json;

use crate::error::{Error, Result};

/// The exchange that every event is published to, by its type.
pub(crate) const EXCHANGE: &str = "tandem.events";
/// Says that a message is to survive the broker's restart.
const PERSISTENT: u8 = 2;

/// A connection with a channel that confirms.
pub(crate) async fn connect(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .map_err(amqp)?;
    let channel = connection.create_channel().await.map_err(amqp)?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(amqp)?;
    Ok((connection, channel))
}

/// Publishes an event to an exchange, or to the queue `key` where that is empty; what it gives is done
/// when a queue has taken the event.
pub(crate) async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    id: &str,
    body: &[u8],
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT);
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await
        .map_err(amqp)?;
    Ok(async move {
        match confirm.await.map_err(amqp)? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(Error::Server(format!(
                "RabbitMQ did not take it: {other:?}"
            ))),
        }
    })
}

/// An event's envelope, as any producer writes it.
pub(crate) fn envelope(id: &str, kind: &str, subject: &str) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let event = json!({
        "id": id,
        "type": kind,
        "subject": subject,
        "time": now,
        "schema_version": 1,
        "data": { "id": id },
    });
    event.to_string().into_bytes()
}

/// For `map_err`: what the AMQP client says.
pub(crate) fn amqp(error: lapin::Error) -> Error {
    Error::Server(format!("RabbitMQ: {error}"))
}

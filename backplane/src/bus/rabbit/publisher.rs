//! Publishing with confirms: many messages under way on one channel, each waits for its own confirm.
//!
//! Never sends a message a second time: whoever published it knows whether to.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::Semaphore;

use super::connection::failure;
use super::line::Link;
use super::topology::{self, Names};
use crate::bus::BusError;

/// Most messages that wait for their confirm on one channel.
const WINDOW: usize = 1024;
/// How long a confirm may take before the connection counts as broken.
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);

/// What the publishing line has open.
pub(super) struct Publishing {
    /// For events.
    pub(super) events: Confirmed,
    /// For dead letters, one at a time: of messages that come back as unroutable lapin can't say for
    /// certain whose confirm they belong to.
    pub(super) dead: Confirmed,
}

impl Publishing {
    /// Opens both channels and declares what all share.
    pub(super) async fn set_up(connection: &Connection, names: &Names) -> Result<Self, BusError> {
        let events = Confirmed::open(connection, WINDOW).await?;
        topology::declare(&events.channel, names).await?;
        let dead = Confirmed::open(connection, 1).await?;
        Ok(Self { events, dead })
    }
}

/// A channel whose messages are confirmed.
pub(super) struct Confirmed {
    pub(super) channel: Channel,
    window: Semaphore,
    /// Held while a message goes to lapin: it numbers it and queues it in two steps, and two messages that cross
    /// between these would get each other's confirms.
    order: Mutex<()>,
}

/// A message to publish.
pub(super) struct Message<'a> {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: &'a [u8],
}

impl Confirmed {
    async fn open(connection: &Connection, window: usize) -> Result<Self, BusError> {
        let opened = async {
            let channel = connection.create_channel().await?;
            let confirm = channel.confirm_select(ConfirmSelectOptions::default());
            confirm.await?;
            Ok(channel)
        };
        let channel = opened.await.map_err(|error| failure(&error))?;
        Ok(Self {
            channel,
            window: Semaphore::new(window),
            order: Mutex::new(()),
        })
    }

    /// Publishes a message; `true` if it came to a queue. Messages are sent in the order in which the
    /// futures are polled first.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it may have been taken. A channel that fails takes its connection with it, so that
    /// what was published behind a message that failed fails too.
    pub(super) async fn publish<T>(
        &self,
        link: &Link<T>,
        message: Message<'_>,
    ) -> Result<bool, BusError> {
        let unavailable = |reason: &str| BusError::Unavailable(reason.to_owned());
        // Never closed, so this only waits.
        let _place = self.window.acquire().await;
        if link.gone.is_cancelled() {
            return Err(unavailable("the connection was lost"));
        }
        if link.connection.status().blocked() {
            return Err(unavailable("RabbitMQ is short of memory or disk"));
        }
        let confirmed = async {
            let confirm = self.send(message).await?;
            confirm.await
        };
        let confirmed = tokio::select! {
            confirmed = tokio::time::timeout(CONFIRM_WITHIN, confirmed) => confirmed,
            () = link.gone.cancelled() => return Err(unavailable("the connection was lost")),
        };
        match confirmed {
            Ok(Ok(Confirmation::Ack(returned))) => Ok(returned.is_none()),
            Ok(Ok(_)) => Err(unavailable("RabbitMQ did not take the message")),
            Ok(Err(error)) => {
                link.gone.cancel();
                Err(BusError::Unavailable(error.to_string()))
            }
            Err(_) if link.connection.status().blocked() => {
                Err(unavailable("RabbitMQ is short of memory or disk"))
            }
            Err(_) => {
                link.gone.cancel();
                Err(unavailable("RabbitMQ did not confirm in time"))
            }
        }
    }

    async fn send(&self, message: Message<'_>) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = (message.exchange, message.routing_key);
        let sending =
            self.channel
                .basic_publish(exchange, key, options, message.body, message.properties);
        let mut sending = pin!(sending);
        let mut sent = false;
        poll_fn(|context| {
            // lapin does both steps in the first poll.
            let _order = (!sent).then(|| self.order.lock().unwrap_or_else(PoisonError::into_inner));
            sent = true;
            sending.as_mut().poll(context)
        })
        .await
    }
}

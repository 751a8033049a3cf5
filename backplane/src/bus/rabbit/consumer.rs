//! Serving one consumer: a channel per connection, acknowledgements, what is left behind at the end.
//!
//! The lanes outlive the connection: what is being handled goes on, and what is delivered again waits
//! behind it, so that the order of a key holds over a break.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;

use super::connection::failure;
use super::line::Link;
use super::{Inner, message, topology};
use crate::backoff::Backoff;
use crate::bus::lanes::{End, Graveyard, Lanes};
use crate::bus::{BusError, ConsumerSpec, Handler, pattern};

/// How long a step on the channel may take.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// The wait before a consumer that ended is set up again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MOST: Duration = Duration::from_secs(10);

/// Where a delivery came from.
struct Ticket {
    /// Number of the consumer's channel.
    channel: u64,
    tag: u64,
}

type Underway = Lanes<Ticket>;

/// Serves a consumer until `stop`.
pub(super) async fn run(
    inner: Arc<Inner>,
    spec: ConsumerSpec,
    handler: Arc<dyn Handler>,
    stop: CancellationToken,
) {
    let graveyard = Arc::clone(&inner) as Arc<dyn Graveyard>;
    let mut lanes = Underway::new(&spec, handler, graveyard);
    let mut backoff = Backoff::new(AGAIN_FIRST, AGAIN_MOST);
    let mut number = 0;
    let mut told = false;
    loop {
        let link = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // What ends between connections can't be acknowledged; it comes again.
            _ = lanes.finished() => continue,
            link = inner.consuming.wait() => link,
        };
        number += 1;
        let since = Instant::now();
        let served = match Service::open(&inner, &link, &spec, number).await {
            Ok(mut service) => service.serve(&spec, &mut lanes, &link, &stop).await,
            Err(error) => Err(error),
        };
        lanes.drop_waiting();
        let name = &spec.name;
        match served {
            Ok(()) => break,
            Err(BusError::Refused(reason)) if !told => {
                told = true;
                tracing::error!(
                    consumer = name,
                    reason,
                    "RabbitMQ refuses the consumer; it is tried for ever"
                );
            }
            Err(error) => tracing::debug!(consumer = name, %error, "the consumer is set up again"),
        }
        if since.elapsed() > AGAIN_MOST {
            backoff.reset();
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(backoff.delay()) => {}
        }
    }
    lanes.finish().await;
}

/// A consumer on one channel.
struct Service {
    channel: Channel,
    consumer: Consumer,
    number: u64,
    acks: Acks,
    /// Cancelled when nothing of this channel can be settled any more.
    release: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.release.cancel();
    }
}

async fn within<T>(
    what: impl Future<Output = Result<T, BusError>>,
    link: &Link<()>,
) -> Result<T, BusError> {
    tokio::select! {
        done = tokio::time::timeout(STEP_WITHIN, what) => match done {
            Ok(done) => done,
            Err(_) => {
                link.gone.cancel();
                Err(BusError::Unavailable("RabbitMQ did not answer in time".to_owned()))
            }
        },
        () = link.gone.cancelled() => {
            Err(BusError::Unavailable("the connection was lost".to_owned()))
        }
    }
}

impl Service {
    async fn open(
        inner: &Inner,
        link: &Link<()>,
        spec: &ConsumerSpec,
        number: u64,
    ) -> Result<Self, BusError> {
        let opening = async {
            let channel = link.connection.create_channel().await;
            let channel = channel.map_err(|error| failure(&error))?;
            topology::declare_consumer(&channel, &inner.names, spec).await?;
            inner.declares(&spec.name, true);
            let queue = inner.names.queue(&spec.name)?;
            let consuming = async {
                let prefetch = spec.prefetch.max(1);
                channel
                    .basic_qos(prefetch, BasicQosOptions::default())
                    .await?;
                let options = BasicConsumeOptions::default();
                let arguments = FieldTable::default();
                channel
                    .basic_consume(queue, "".into(), options, arguments)
                    .await
            };
            let consumer = consuming.await.map_err(|error| failure(&error))?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = within(opening, link).await?;
        Ok(Self {
            channel,
            consumer,
            number,
            acks: Acks::default(),
            release: CancellationToken::new(),
        })
    }

    /// Returns when the consumer was told to stop, and everything of it is settled or given back.
    async fn serve(
        &mut self,
        spec: &ConsumerSpec,
        lanes: &mut Underway,
        link: &Link<()>,
        stop: &CancellationToken,
    ) -> Result<(), BusError> {
        // What an earlier channel left running stands in the lanes beside what this one brings.
        let room = 2 * usize::from(spec.prefetch.max(1));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.stop(lanes, link).await,
                () = link.gone.cancelled() => {
                    return Err(BusError::Unavailable("the connection was lost".to_owned()));
                }
                first = lanes.finished() => {
                    let more = std::iter::from_fn(|| lanes.try_finished());
                    let over: Vec<(Ticket, End)> = std::iter::once(first).chain(more).collect();
                    self.acknowledge(over, link).await?;
                }
                next = self.consumer.next(), if lanes.len() < room => match next {
                    Some(Ok(message)) => self.take(message, spec, lanes, link).await?,
                    Some(Err(error)) => return Err(failure(&error)),
                    None => {
                        let reason = "RabbitMQ ended the consumer".to_owned();
                        return Err(BusError::Unavailable(reason));
                    }
                },
            }
        }
    }

    async fn take(
        &mut self,
        message: lapin::message::Delivery,
        spec: &ConsumerSpec,
        lanes: &mut Underway,
        link: &Link<()>,
    ) -> Result<(), BusError> {
        let ticket = Ticket {
            channel: self.number,
            tag: message.delivery_tag,
        };
        let delivery = message::delivery(message);
        if pattern::any_matches(&spec.patterns, &delivery.kind) {
            lanes.take(Arc::new(delivery), ticket, &self.release);
            return Ok(());
        }
        // It came by a binding of a pattern that this consumer once had.
        tracing::debug!(
            consumer = spec.name,
            kind = delivery.kind,
            "not wanted any more"
        );
        self.acknowledge(vec![(ticket, End::Settled)], link).await
    }

    async fn acknowledge(
        &mut self,
        over: Vec<(Ticket, End)>,
        link: &Link<()>,
    ) -> Result<(), BusError> {
        let number = self.number;
        let ours = over.into_iter().filter_map(|(ticket, end)| {
            (ticket.channel == number && end == End::Settled).then_some(ticket.tag)
        });
        for (tag, multiple) in self.acks.settle(ours.collect()) {
            let options = BasicAckOptions { multiple };
            let ack = async {
                let sent = self.channel.basic_ack(tag, options).await;
                sent.map_err(|error| failure(&error))
            };
            within(ack, link).await?;
        }
        Ok(())
    }

    /// Lets what is being handled end, then closes the channel, with which everything else goes back, in its
    /// order, before another consumer is served. Cancelling the consumer first would let another one in
    /// too early.
    async fn stop(&mut self, lanes: &mut Underway, link: &Link<()>) -> Result<(), BusError> {
        self.release.cancel();
        let over = lanes.finish().await;
        // If this fails, it comes again: the consumer is done with all the same.
        let acknowledged = self.acknowledge(over, link).await;
        let closing = async {
            let closed = self.channel.close(200, "stopped".into()).await;
            closed.map_err(|error| failure(&error))
        };
        if let Err(error) = acknowledged.and(within(closing, link).await) {
            tracing::debug!(%error, "a consumer did not end cleanly");
        }
        Ok(())
    }
}

/// Which deliveries of a channel are acknowledged. Tags rise by one from 1.
#[derive(Default)]
struct Acks {
    /// Every tag up to this one is settled.
    below: u64,
    /// Tags beyond it that are.
    settled: BTreeSet<u64>,
}

impl Acks {
    /// What to send for tags that are settled now: each with whether it stands for all before it too.
    fn settle(&mut self, tags: Vec<u64>) -> Vec<(u64, bool)> {
        let start = self.below;
        self.settled.extend(&tags);
        while self.settled.remove(&(self.below + 1)) {
            self.below += 1;
        }
        let below = self.below;
        // Only one that was not acknowledged yet may stand for the others.
        let last = tags.iter().filter(|&&tag| tag <= below).max();
        let all = last.filter(|_| below > start).map(|&tag| (tag, true));
        let alone = tags.iter().filter(|&&tag| tag > below);
        all.into_iter()
            .chain(alone.map(|&tag| (tag, false)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Acks;

    #[test]
    fn acknowledgements_are_gathered_as_far_as_they_have_no_gap() {
        let mut acks = Acks::default();
        assert_eq!(acks.settle(vec![2, 1]), [(2, true)]);
        assert_eq!(acks.settle(vec![5, 3]), [(3, true), (5, false)]);
        assert_eq!(acks.settle(vec![7]), [(7, false)]);
        assert_eq!(acks.settle(vec![]), []);
        // 5 was acknowledged alone: 4 stands for what is left up to it.
        assert_eq!(acks.settle(vec![4]), [(4, true)]);
        assert_eq!(acks.settle(vec![6, 8]), [(8, true)]);
        assert!(acks.settled.is_empty());
    }
}

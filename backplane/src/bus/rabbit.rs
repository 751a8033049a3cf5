//! The bus on RabbitMQ: a topic exchange, a quorum queue per consumer, and dead letters.
//!
//! Two connections, each made anew for ever: one publishes, one consumes. An event is published when its
//! confirm has come, which with quorum queues means that a majority has it on disk. What can't be handled is
//! published to the dead exchange, confirmed, and acknowledged after that: it is in two places for a
//! moment, never in none.

mod connection;
mod consumer;
mod line;
mod message;
mod publisher;
mod topology;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::BasicGetOptions;
use protocol::event::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lanes::Graveyard;
use super::{Bus, BusError, ConsumerSpec, DeadLetter, Delivery, Handler, pattern};
use connection::{Target, failure};
use line::Line;
use publisher::{Message, Publishing};
use topology::{Names, short};

/// How long [`Bus::declared`] waits.
const DECLARED_WITHIN: Duration = Duration::from_secs(10);
/// How often it asks the server meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long the server may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes of an event.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// How to reach RabbitMQ.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS. The virtual host `/` is
    /// written `%2f`, or left out with its slash.
    pub url: String,
    /// The certificate of the authority that signed the server's, as PEM, if it is no public one.
    pub ca: Option<String>,
    /// What the names of exchanges and queues begin with, 1 to 128 bytes. Foreign producers know
    /// [`EXCHANGE`](super::EXCHANGE), which is that of the prefix `tandem`.
    pub prefix: String,
    /// What the connections are called on the server.
    pub name: String,
}

impl RabbitOptions {
    /// That server, with the prefix `tandem`.
    #[must_use]
    pub fn new(url: &str, name: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca: None,
            prefix: "tandem".to_owned(),
            name: name.to_owned(),
        }
    }
}

/// The bus on RabbitMQ. Dropping it ends its connections; consumers are to be stopped before.
pub struct RabbitBus {
    inner: Arc<Inner>,
}

struct Inner {
    names: Names,
    publishing: Line<Publishing>,
    consuming: Line<()>,
    /// Consumers of this process, and whether their queues are declared and bound.
    declared: watch::Sender<BTreeMap<String, bool>>,
    /// What consumers of this process want: what matches can't be without a queue for long.
    wanted: Mutex<BTreeMap<String, Vec<String>>>,
    unroutable: AtomicU64,
}

impl RabbitBus {
    /// Connects. If the server can't be reached the bus is there all the same: it goes on trying, and until then
    /// [`ping`](Bus::ping) and [`publish`](Bus::publish) fail.
    ///
    /// # Errors
    /// [`BusError::Refused`], in the server's words, for what waiting can't mend: a wrong address, user,
    /// password, virtual host or certificate; exchanges of these names that are others.
    pub async fn connect(options: RabbitOptions) -> Result<Self, BusError> {
        let names = Names::new(&options.prefix)?;
        let target = Arc::new(Target::new(&options.url, options.ca, options.name)?);
        let of_publishing = names.clone();
        let publishing = Line::start(
            Arc::clone(&target),
            "publishing",
            Box::new(move |connection| {
                let names = of_publishing.clone();
                Box::pin(async move { Publishing::set_up(connection, &names).await })
            }),
        );
        let publishing = publishing.await?;
        let consuming = Line::start(
            target,
            "consuming",
            Box::new(|_| Box::pin(async { Ok(()) })),
        );
        let consuming = consuming.await?;
        Ok(Self {
            inner: Arc::new(Inner {
                names,
                publishing,
                consuming,
                declared: watch::Sender::default(),
                wanted: Mutex::default(),
                unroutable: AtomicU64::new(0),
            }),
        })
    }

    /// How many events were published that no queue was bound for.
    #[must_use]
    pub fn unroutable(&self) -> u64 {
        self.inner.unroutable.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn declares(&self, consumer: &str, done: bool) {
        self.declared.send_if_modified(|declared| {
            let known = declared.entry(consumer.to_owned()).or_default();
            let news = done && !*known;
            *known |= done;
            news
        });
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, kind: &str) -> bool {
        let wanted = self.wanted();
        wanted
            .values()
            .any(|patterns| pattern::any_matches(patterns, kind))
    }

    /// A channel of its own for a question, which may end it.
    async fn question(&self) -> Result<Channel, BusError> {
        let link = self.consuming.link()?;
        let channel = link.connection.create_channel().await;
        channel.map_err(|error| failure(&error))
    }

    async fn queue_exists(&self, consumer: &str) -> Result<bool, BusError> {
        let queue = self.names.queue(consumer)?;
        let channel = self.question().await?;
        Ok(topology::exists(&channel, queue).await.is_ok())
    }

    async fn read_dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        let channel = self.question().await?;
        let mut dead = Vec::new();
        while dead.len() < limit {
            let queue = self.names.dead_letters.clone();
            let got = channel.basic_get(queue, BasicGetOptions::default()).await;
            match got.map_err(|error| failure(&error))? {
                Some(message) => dead.push(message::dead_letter(message.delivery, &self.names)),
                None => break,
            }
        }
        // None was acknowledged: with the channel they go back to where they were.
        let closed = channel.close(200, "read".into()).await;
        closed.map_err(|error| failure(&error))?;
        Ok(dead)
    }
}

async fn answer<T>(question: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, question).await;
    let silent = || BusError::Unavailable("RabbitMQ does not answer".to_owned());
    answered.unwrap_or_else(|_| Err(silent()))
}

#[async_trait]
impl Bus for RabbitBus {
    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        // Taken before anything is waited for: events published at once share one connection, or fail together.
        let link = self.inner.publishing.link()?;
        let delivery = Delivery::of(event).map_err(|error| BusError::Refused(error.to_string()))?;
        if delivery.body.len() > MAX_BODY {
            let reason = format!("it has more than {MAX_BODY} bytes");
            return Err(BusError::Refused(reason));
        }
        let message = Message {
            exchange: self.inner.names.events.clone(),
            routing_key: short(&delivery.kind)?,
            properties: message::properties(&delivery)?,
            body: &delivery.body,
        };
        // Out of tokio's budget, the first poll would not send, and what is published later would overtake.
        let publishing = link.open.events.publish(&link, message);
        let routed = tokio::task::coop::unconstrained(publishing).await?;
        if !routed && self.inner.wants(&event.kind) {
            // The server has lost its queues, and this process is about to declare them again.
            let reason = "the queue of a consumer is not there yet";
            return Err(BusError::Unavailable(reason.to_owned()));
        }
        if !routed {
            self.inner.unroutable.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(kind = event.kind, id = %event.id, "no queue is bound for this event");
        }
        Ok(())
    }

    async fn consume(
        &self,
        spec: ConsumerSpec,
        handler: Arc<dyn Handler>,
        stop: CancellationToken,
    ) {
        self.inner.declares(&spec.name, false);
        let name = spec.name.clone();
        let patterns = spec.patterns.clone();
        self.inner.wanted().insert(name.clone(), patterns);
        consumer::run(Arc::clone(&self.inner), spec, handler, stop).await;
        self.inner.wanted().remove(&name);
    }

    async fn declared(&self, consumer: &str) -> Result<(), BusError> {
        let inner = &self.inner;
        let mut declared = inner.declared.subscribe();
        let asking = async {
            loop {
                let here = declared.wait_for(|declared| declared.get(consumer) == Some(&true));
                if tokio::time::timeout(ASK_EVERY, here).await.is_ok() {
                    return;
                }
                // One of this process may have a queue by now that is not bound yet. That of another is bound
                // as soon as it is there, but for a moment.
                let of_others = !inner.declared.borrow().contains_key(consumer);
                if of_others && answer(inner.queue_exists(consumer)).await == Ok(true) {
                    return;
                }
            }
        };
        let asked = tokio::time::timeout(DECLARED_WITHIN, asking).await;
        let reason = || BusError::Unavailable(format!("there is no consumer {consumer}"));
        asked.map_err(|_| reason())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        answer(self.inner.read_dead_letters(limit)).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.inner.consuming.link()?;
        let link = self.inner.publishing.link()?;
        if link.connection.status().blocked() {
            let reason = "RabbitMQ is short of memory or disk and takes nothing";
            return Err(BusError::Unavailable(reason.to_owned()));
        }
        let channel = &link.open.events.channel;
        answer(topology::declare_events(channel, &self.inner.names)).await
    }
}

#[async_trait]
impl Graveyard for Inner {
    async fn bury(&self, consumer: &str, dead: &Delivery, reason: &str) -> Result<(), BusError> {
        let link = self.publishing.link()?;
        let message = Message {
            exchange: self.names.dead.clone(),
            routing_key: short(&dead.kind)?,
            properties: message::dead_properties(dead, consumer, reason)?,
            body: &dead.body,
        };
        if link.open.dead.publish(&link, message).await? {
            return Ok(());
        }
        // Somebody has deleted the dead letters' queue: the next connection declares it again.
        link.gone.cancel();
        Err(BusError::Unavailable(
            "nothing takes the dead letters".to_owned(),
        ))
    }
}

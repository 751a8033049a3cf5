//! Domain events from RabbitMQ to a connected client, with hubs killed on the way: all arrive, none is
//! visible twice. Beside it the rate of the bridge, as a ratio to a consumer that only acknowledges.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use loadtest::services::Appendonly;
use protocol::{ClientFrame, Position, ServerFrame};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::World;
use crate::cluster::amqp::{EXCHANGE, amqp, connect, envelope, publish};
use crate::cluster::fault::{Fault, Target};
use crate::cluster::wire::{Login, Wire};
use crate::error::{Error, Result};
use crate::report::{Report, thousands};
use crate::rest::Rest;

/// The project that the subjects are in.
const PROJECT: &str = "events";
/// The type of the events.
const KIND: &str = "document.touched";
/// The user that the client is.
const USER: (&str, &str) = ("events", "a passphrase for a run");
/// The queue of the consumer that only acknowledges.
const BARE: &str = "loadtest.bare";
/// Deliveries that it has under way: as many as the bridge.
const PREFETCH: u16 = 256;
/// Events published and not yet confirmed.
const WINDOW: usize = 500;
/// How long nothing may arrive before the run has failed.
const SILENCE: Duration = Duration::from_secs(120);
/// How long nothing comes when nothing more is under way.
const QUIET: Duration = Duration::from_secs(1);
/// How long a killed hub stays away.
const DOWN: Duration = Duration::from_secs(1);

/// Domain events to a client, hubs killed on the way
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many events
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
    count: u64,
    /// How many documents the events are about, in turn: events of one are bridged one after the other
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=100))]
    subjects: u16,
    /// How often a hub is killed on the way
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..100))]
    kills: u64,
    /// The hub's binary; without it, one is built
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = match &args.hub {
        Some(binary) => binary.clone(),
        None => crate::server::build_hub()?,
    };
    let folder = crate::cluster::folder("events")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(async {
            let keeps = Appendonly::EverySecond;
            let world = Arc::new(World::start(&binary, folder.path(), 2, keeps).await?);
            measure(args, &world).await
        })
}

async fn measure(args: &Args, world: &Arc<World>) -> Result<()> {
    let base = format!("http://{}", world.addresses()[0]);
    let rest = Rest::register(&base, USER.0, USER.1).await?;
    rest.create_project(PROJECT).await?;
    let mut subjects = Vec::new();
    for number in 0..args.subjects {
        let path = format!("{number}.txt");
        let document = rest.create_document(PROJECT, &path).await?;
        subjects.push(format!("doc:{document}"));
    }
    let producer = Arc::new(Producer {
        url: world.amqp().await,
        subjects: subjects.clone(),
    });
    let bare = producer.bare(args.count).await?;

    // A document's channel is named as the document is as a subject.
    let mut client = Client::new(Login::new(USER.0, USER.1, rest.token()), subjects);
    client.let_in(world).await?;
    client.quiet(world).await?;
    let bridged = backlog(world, &producer, &mut client, args.count).await?;

    let before = client.ids.len() as u64;
    let (killer, seconds) = killed(world, &producer, &mut client, args).await?;
    let arrived = client.ids.len() as u64 - before;

    let mut report = Report::new("events");
    let ratio = bridged / bare;
    for (name, value) in [
        ("bare_per_second", bare),
        ("bridge_per_second", bridged),
        ("ratio", ratio),
        ("seconds_with_kills", seconds),
    ] {
        report.set(name, value);
    }
    report.set("events", args.count);
    report.set("kills", killer);
    report.set("twice", client.twice);
    report.line(format!(
        "a backlog of {}: bare consumer {}/s, bridge {}/s: ratio {ratio:.2}",
        thousands(args.count as f64),
        thousands(bare),
        thousands(bridged),
    ));
    report.line(format!(
        "{} events with {killer} hubs killed on the way: {} arrived in {seconds:.1} s, {} of them twice, {} resets",
        thousands(args.count as f64),
        thousands(arrived as f64),
        client.twice,
        client.resets,
    ));
    report.finish(args.json.as_deref())?;
    if arrived == args.count && client.twice == 0 && client.resets == 0 && killer == args.kills {
        return Ok(());
    }
    Err(Error::Verdict(
        "not every event arrived exactly once".into(),
    ))
}

/// A foreign producer of events about each subject in turn.
struct Producer {
    url: String,
    subjects: Vec<String>,
}

impl Producer {
    /// Events per second of a consumer that only acknowledges, from a backlog in a quorum queue.
    async fn bare(&self, count: u64) -> Result<f64> {
        let (_connection, channel) = connect(&self.url).await?;
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(BARE.into(), options, arguments)
            .await
            .map_err(amqp)?;
        self.fill("", BARE, count).await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await
            .map_err(amqp)?;
        let mut consumer = channel
            .basic_consume(
                BARE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(amqp)?;
        let start = Instant::now();
        for _ in 0..count {
            let next = tokio::time::timeout(SILENCE, consumer.next()).await;
            let delivery = next
                .ok()
                .flatten()
                .ok_or_else(|| Error::Server("the bare consumer gets nothing more".into()))?
                .map_err(amqp)?;
            delivery
                .ack(BasicAckOptions::default())
                .await
                .map_err(amqp)?;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }

    /// Publishes that many events to an exchange, or to the queue `key`; returns when all are confirmed.
    async fn fill(&self, exchange: &str, key: &str, count: u64) -> Result<()> {
        let (_connection, channel) = connect(&self.url).await?;
        let mut confirms = FuturesOrdered::new();
        for number in 0..count as usize {
            let id = Uuid::now_v7().to_string();
            let subject = &self.subjects[number % self.subjects.len()];
            let body = envelope(&id, KIND, subject);
            confirms.push_back(publish(&channel, exchange, key, &id, &body).await?);
            if confirms.len() >= WINDOW {
                confirms.next().await.transpose()?;
            }
        }
        while let Some(confirmed) = confirms.next().await {
            confirmed?;
        }
        Ok(())
    }
}

/// Events per second of the bridge, from a backlog that has gathered while no hub ran: by the times at
/// which the broker took the first and the last one.
async fn backlog(
    world: &World,
    producer: &Producer,
    client: &mut Client,
    count: u64,
) -> Result<f64> {
    world.kill_hubs().await;
    producer.fill(EXCHANGE, KIND, count).await?;
    world.start_hubs().await?;
    client.first = u64::MAX;
    let before = client.ids.len() as u64;
    while (client.ids.len() as u64) < before + count {
        client.hear(world).await?;
    }
    let millis = client.last.saturating_sub(client.first).max(1);
    Ok((count - 1) as f64 * 1000.0 / millis as f64)
}

/// Events from a producer while hubs are killed; how many were, and the seconds until all had arrived.
async fn killed(
    world: &Arc<World>,
    producer: &Arc<Producer>,
    client: &mut Client,
    args: &Args,
) -> Result<(u64, f64)> {
    let before = client.ids.len() as u64;
    let start = Instant::now();
    let (producer_url, count) = (url.to_owned(), args.count);
    let producing = tokio::spawn(async move { fill(&producer_url, EXCHANGE, KIND, count).await });
    let mut kills = 0;
    let mut faults = JoinSet::new();
    loop {
        let arrived = client.ids.len() as u64 - before;
        if arrived >= count {
            break;
        }
        if kills < args.kills && arrived >= count * (kills + 1) / (args.kills + 1) {
            let hub = Target::Hub(kills as usize % world.addresses().len());
            let world = Arc::clone(world);
            faults.spawn(async move { world.suffer(Fault::Kill(hub), DOWN).await });
            kills += 1;
        }
        client.hear(world).await?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let joined = |e: tokio::task::JoinError| Error::Server(format!("a task failed: {e}"));
    producing.await.map_err(joined)??;
    while let Some(over) = faults.join_next().await {
        over.map_err(joined)??;
    }
    Ok((kills, seconds))
}

/// A subscriber of all the subjects' channels that comes back whenever its hub goes.
struct Client {
    login: Login,
    wire: Option<Wire>,
    hub: usize,
    /// What it follows, and where it is in each.
    channels: BTreeMap<String, Option<Position>>,
    /// Events seen.
    ids: HashSet<String>,
    /// Events seen again.
    twice: u64,
    /// How often it was told that something was lost to it.
    resets: u64,
    /// When the broker took the first and the last one, milliseconds since the Unix epoch.
    first: u64,
    last: u64,
}

impl Client {
    fn new(login: Login, channels: Vec<String>) -> Self {
        Self {
            login,
            wire: None,
            hub: 0,
            channels: channels.into_iter().map(|name| (name, None)).collect(),
            ids: HashSet::new(),
            twice: 0,
            resets: 0,
            first: u64::MAX,
            last: 0,
        }
    }

    /// Takes in the next frame; comes back at the next hub if this one has gone.
    async fn hear(&mut self, world: &World) -> Result<()> {
        let Some(wire) = &mut self.wire else {
            return self.come_back(world).await;
        };
        match tokio::time::timeout(SILENCE, wire.frame()).await {
            Ok(Ok(frame)) => self.take(frame),
            Ok(Err(_)) => self.wire = None,
            Err(_) => {
                return Err(Error::Verdict(format!(
                    "nothing arrived for {SILENCE:?}; {} had",
                    self.ids.len()
                )));
            }
        }
        Ok(())
    }

    /// Hears what was on its way before the run: the documents' own beginnings.
    async fn quiet(&mut self, world: &World) -> Result<()> {
        while let Ok(heard) = tokio::time::timeout(QUIET, self.hear(world)).await {
            heard?;
        }
        Ok(())
    }

    async fn come_back(&mut self, world: &World) -> Result<()> {
        let since = Instant::now();
        while self.wire.is_none() {
            self.hub += 1;
            if let Err(error) = self.follow(world, self.hub).await {
                if since.elapsed() > SILENCE {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Asks a hub for every channel, from where it was; the replies come among the messages.
    async fn follow(&mut self, world: &World, hub: usize) -> Result<()> {
        let addresses = world.addresses();
        let address = addresses[hub % addresses.len()];
        let token = self.login.token(address).await?;
        let mut wire = Wire::session(address, &token).await?;
        for (number, (channel, position)) in self.channels.iter().enumerate() {
            let subscribe = ClientFrame::Subscribe {
                id: number as u32 + 1,
                channel: channel.clone(),
                position: position.clone(),
                presence: false,
            };
            wire.request(&subscribe).await?;
        }
        self.hub = hub;
        self.wire = Some(wire);
        Ok(())
    }

    /// Waits until it has been let in everywhere once.
    async fn let_in(&mut self, world: &World) -> Result<()> {
        while self.channels.values().any(Option::is_none) {
            self.hear(world).await?;
        }
        Ok(())
    }

    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message {
                channel,
                offset: Some(offset),
                event: Some(event),
                time,
                ..
            } => {
                if let Some(Some(position)) = self.channels.get_mut(&channel) {
                    position.offset = offset;
                }
                self.first = self.first.min(time);
                self.last = self.last.max(time);
                self.twice += u64::from(!self.ids.insert(event));
            }
            ServerFrame::Subscribed {
                channel,
                epoch,
                offset,
                reset,
                ..
            } => {
                self.resets += u64::from(reset.is_some());
                self.channels
                    .insert(channel, Some(Position { epoch, offset }));
            }
            ServerFrame::Reset {
                channel, position, ..
            } => {
                self.resets += 1;
                self.channels.insert(channel, Some(position));
            }
            // It can't be served here now.
            ServerFrame::Error { .. } => self.wire = None,
            _ => {}
        }
    }
}

//! Domain events from RabbitMQ to a connected client, with hubs killed on the way: all arrive, none is
//! visible twice. Beside it the rate of the bridge, as a ratio to a consumer that only acknowledges.

mod client;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use loadtest::services::Appendonly;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use self::client::Client;
use crate::cluster::World;
use crate::cluster::amqp::{EXCHANGE, amqp, connect, envelope, publish};
use crate::cluster::fault::{Fault, Target};
use crate::cluster::wire::Login;
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
    let binary = crate::server::hub(args.hub.as_deref())?;
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
    let bridged = backlog(world, &producer, &mut client, args.count).await?;

    let before = client.ids.len() as u64;
    let (kills, seconds) = killed(world, &producer, &mut client, args).await?;
    let arrived = client.ids.len() as u64 - before;
    let found = Found {
        bare,
        bridged,
        kills,
        seconds,
        arrived,
        twice: client.twice,
        resets: client.resets,
    };
    found.tell(args)
}

/// What a run found; rates are per second.
struct Found {
    bare: f64,
    bridged: f64,
    kills: u64,
    seconds: f64,
    arrived: u64,
    twice: u64,
    resets: u64,
}

impl Found {
    /// Prints it; an error if an event was lost, or seen twice.
    fn tell(&self, args: &Args) -> Result<()> {
        let ratio = self.bridged / self.bare;
        let mut report = Report::new("events");
        report.set("events", args.count);
        report.set("bare_per_second", self.bare);
        report.set("bridge_per_second", self.bridged);
        report.set("ratio", ratio);
        report.set("kills", self.kills);
        report.set("seconds_with_kills", self.seconds);
        report.set("twice", self.twice);
        report.line(format!(
            "a backlog of {}: bare consumer {}/s, bridge {}/s: ratio {ratio:.2}",
            thousands(args.count as f64),
            thousands(self.bare),
            thousands(self.bridged),
        ));
        report.line(format!(
            "{} events with {} hubs killed on the way: {} arrived in {:.1} s, {} of them twice, {} resets",
            thousands(args.count as f64),
            self.kills,
            thousands(self.arrived as f64),
            self.seconds,
            self.twice,
            self.resets,
        ));
        report.finish(args.json.as_deref())?;
        let once = self.arrived == args.count && self.twice == 0 && self.resets == 0;
        if once && self.kills == args.kills {
            return Ok(());
        }
        Err(Error::Verdict(
            "not every event arrived exactly once".into(),
        ))
    }
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
    let (producer, count) = (Arc::clone(producer), args.count);
    let producing = tokio::spawn(async move { producer.fill(EXCHANGE, KIND, count).await });
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

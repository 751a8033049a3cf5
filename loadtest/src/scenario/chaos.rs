//! A shadow model against a cluster that things go wrong in: three hubs on services of the run's own,
//! faults by a seeded plan, and clients that know what they were promised.
//!
//! Owns the order of a run: start, work under faults, settle, check. What must be true is `model`'s.

mod channels;
mod crowd;
mod editors;
mod events;
mod model;
mod plan;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loadtest::services::Appendonly;
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::crowd::{Crowd, Phase};
use self::editors::{Editor, Profile};
use self::events::Subject;
use self::plan::{Planned, plan};
use self::verdict::Verdict;
use crate::cluster::World;
use crate::cluster::wire::Login;
use crate::error::{Error, Result};
use crate::rest::Rest;
use crate::trace::link::Via;

/// The project that everything happens in.
const PROJECT: &str = "chaos";
/// Documents; what their editors are like, `profiles` says.
const DOCUMENTS: usize = 4;
/// Rooms that are published to.
const ROOMS: usize = 3;
/// Publishers of a room.
const PUBLISHERS: usize = 2;
/// Subscribers of a channel.
const SUBSCRIBERS: usize = 3;
/// The user that all clients are.
const USER: (&str, &str) = ("chaos", "a passphrase for a run");
/// How long everything may take to be whole again once nothing goes wrong any more.
const SETTLE: Duration = Duration::from_secs(120);

/// Faults at random, clients at work, and a model of what must hold
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long faults happen, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The seed of the plan of faults; the same one gives the same plan
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hubs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// The hub's binary; without it, one is built
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        return Err(Error::Argument("--minutes must be from 0 to 1440".into()));
    }
    let binary = crate::server::hub(args.hub.as_deref())?;
    let folder = crate::cluster::folder("chaos")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?;
    let outcome = runtime.block_on(chaos(args, &binary, folder.path()));
    if outcome.is_err() {
        println!("logs and data are kept in {}", folder.keep().display());
    }
    outcome
}

async fn chaos(args: &Args, binary: &Path, folder: &Path) -> Result<()> {
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let nodes = usize::from(args.nodes);
    let world = Arc::new(World::start(binary, folder, nodes, Appendonly::Always).await?);
    let base = format!("http://{}", world.addresses()[0]);
    let rest = Rest::register(&base, USER.0, USER.1).await?;
    rest.create_project(PROJECT).await?;
    let mut documents = Vec::new();
    for number in 0..DOCUMENTS {
        documents.push(
            rest.create_document(PROJECT, &format!("{number}.txt"))
                .await?,
        );
    }
    make_plan_row(&world.database().await).await?;
    let subjects = subjects(rest.user_id());
    let rooms: Vec<String> = (0..ROOMS)
        .map(|room| format!("room:{PROJECT}/{room}"))
        .collect();
    let followed = subjects.iter().map(|subject| &subject.channel);
    let channels: Vec<String> = rooms.iter().chain(followed).cloned().collect();
    let (phase, watched) = watch::channel(Phase::Work);
    let crowd = Arc::new(Crowd::new(
        world.addresses().to_vec(),
        Login::new(USER.0, USER.1, rest.token()),
        watched,
        DOCUMENTS,
        &channels,
    ));
    let amqp = world.amqp().await;
    let mut clients = JoinSet::new();
    for profile in profiles(&documents, nodes) {
        clients.spawn(Editor::new(profile, Arc::clone(&crowd), args.seed).run());
    }
    gather(&mut clients, &crowd, &channels, args.seed);
    clients.spawn(events::produce(
        Arc::clone(&crowd),
        amqp,
        subjects,
        args.seed,
    ));
    let planned = plan(args.seed, length, nodes);
    let happened = suffer(&world, &crowd, planned, length).await;
    phase.send_replace(Phase::Settle);
    let mut verdict = Verdict::new(args.seed, length, happened);
    verdict.settle(&world, &crowd, SETTLE).await;
    phase.send_replace(Phase::Over);
    while clients.join_next().await.is_some() {}
    verdict.check(&world, &crowd, &documents, USER).await?;
    verdict.report(args.json.as_deref())
}

/// Sends out the subscribers of every channel and the publishers of the rooms, which come first.
fn gather(clients: &mut JoinSet<()>, crowd: &Arc<Crowd>, channels: &[String], seed: u64) {
    for (number, channel) in channels.iter().enumerate() {
        for place in 0..SUBSCRIBERS {
            let number = number * SUBSCRIBERS + place;
            let following = channels::follow(Arc::clone(crowd), channel.clone(), number, seed);
            clients.spawn(following);
        }
        let publishers = if number < ROOMS { PUBLISHERS } else { 0 };
        for place in 0..publishers {
            let number = number * PUBLISHERS + place;
            let publishing = channels::publish(Arc::clone(crowd), channel.clone(), number, seed);
            clients.spawn(publishing);
        }
    }
}

/// Lets the faults happen as planned; what happened, in words with times.
async fn suffer(
    world: &Arc<World>,
    crowd: &Arc<Crowd>,
    planned: Vec<Planned>,
    length: Duration,
) -> Vec<String> {
    let start = Instant::now();
    let happened = Arc::new(Mutex::new(Vec::new()));
    let mut faults = JoinSet::new();
    for Planned { at, lasts, fault } in planned {
        let (world, crowd, happened) =
            (Arc::clone(world), Arc::clone(crowd), Arc::clone(&happened));
        faults.spawn(async move {
            tokio::time::sleep_until(start + at).await;
            let begun = start.elapsed();
            if let Err(error) = world.suffer(fault, lasts).await {
                crowd.report(format!("after {fault}: {error}"));
            }
            let line = format!(
                "{:7.1} s  {fault}, over after {:.1} s",
                begun.as_secs_f64(),
                (start.elapsed() - begun).as_secs_f64()
            );
            println!("{line}");
            let mut happened = happened.lock().unwrap_or_else(PoisonError::into_inner);
            happened.push(line);
        });
    }
    while start.elapsed() < length || !faults.is_empty() {
        for fallen in world.fallen().await {
            crowd.report(fallen);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        while faults.try_join_next().is_some() {}
    }
    let mut happened = happened.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *happened)
}

/// The editors of each document: gathered at one hub or spread over all, faithful or forgetful, over
/// each of the three protocols.
fn profiles(documents: &[String], hubs: usize) -> Vec<Profile> {
    let mut profiles = Vec::new();
    for (document, id) in documents.iter().enumerate() {
        // Gathered and forgetful ones lose all replicas at once when their hub is killed: what was
        // acknowledged is in the log then, or nowhere.
        let gathered = document % 2 == 0;
        let forgets = document % 4 != 3;
        for (place, via) in [Via::Ws, Via::Ws, Via::Hocuspocus].into_iter().enumerate() {
            profiles.push(Profile {
                number: profiles.len(),
                document,
                id: id.clone(),
                via,
                hub: if gathered { document } else { place } % hubs,
                forgets,
            });
        }
        if !forgets {
            profiles.push(Profile {
                number: profiles.len(),
                document,
                id: id.clone(),
                via: Via::YWebsocket,
                hub: document % hubs,
                forgets: false,
            });
        }
    }
    profiles
}

/// What events are about: a project, a user's feed, a plan.
fn subjects(user: &str) -> Vec<Subject> {
    let subject = |subject: String, kind, channel: &str| Subject {
        subject,
        kind,
        channel: channel.to_owned(),
    };
    vec![
        subject(
            format!("project:{PROJECT}"),
            "project.touched",
            &format!("project:{PROJECT}"),
        ),
        subject(format!("user:{user}"), "notification.created", "feed:me"),
        subject(
            format!("plan:{PROJECT}"),
            "plan.progress",
            &format!("plan:{PROJECT}"),
        ),
    ]
}

/// A plan that belongs to the project: its channel has readers then.
async fn make_plan_row(database: &str) -> Result<()> {
    let sql = |error: sqlx::Error| Error::Server(format!("PostgreSQL: {error}"));
    let mut connection = sqlx::PgConnection::connect(database).await.map_err(sql)?;
    sqlx::query(
        "INSERT INTO planning_plans (id, project_id, request, status, created_at, updated_at, finished_at) \
         VALUES ($1, $1, 'a plan', 'cancelled', 1, 1, 1)",
    )
    .bind(PROJECT)
    .execute(&mut connection)
    .await
    .map_err(sql)?;
    Ok(())
}

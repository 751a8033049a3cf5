//! `loadtest progress`: from the moment a language model's provider writes a token to the moment a watcher of the
//! plan has it, and whether every watcher is told of every step's end exactly once and in order.
//!
//! The provider is this process, so that both moments are of one clock. What lies between is the hub's: reading
//! the stream, its planning worker, the channel, and the gathering of what a watcher has not read yet.

mod ledger;
mod watcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::try_join_all;
use loadtest::llm::{Behaviour, Llm};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::ledger::Ledger;
use self::watcher::{Watch, Watcher};
use crate::cluster::wire::Wire;
use crate::error::{Error, Result};
use crate::report::{Percentiles, Report, histogram, progress, thousands};
use crate::rest::Rest;
use crate::server::Server;

/// The project that the plans are for.
const PROJECT: &str = "progress";
/// The user that asks and watches; exists in the demo.
const USER: (&str, &str) = ("alice", "alice-demo-password");
/// How long a plan may take until all watchers know of its end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after the last plan's end something may still come a second time.
const AFTER: Duration = Duration::from_secs(1);
/// Faults that are told.
const TOLD: usize = 10;

/// Progress of plans to those who watch
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many plans
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    plans: u32,
    /// How many watchers of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    watchers: u16,
    /// How many plans are made at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Words of each step, a token each
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=500))]
    words: u32,
    /// Milliseconds that the model takes for a token
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pace: u64,
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
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(measure(args, &binary))
}

/// What the hub is started with, beside what every measured hub is.
fn settings(args: &Args, llm: &Llm) -> Vec<(String, String)> {
    let many = args.concurrency.to_string();
    let channels = (args.plans + 10).to_string();
    [
        ("TANDEM_AI_URL", llm.url().as_str()),
        ("TANDEM_AI_MODEL", "loadtest"),
        ("TANDEM_AI_CONCURRENCY", &many),
        ("TANDEM_PLANS_WORKERS", &many),
        ("TANDEM_PLANS_OPEN_PER_PROJECT", "100000"),
        // All plans are watched to the end of the run: what comes twice may come late.
        ("TANDEM_SESSION_CHANNELS", &channels),
        // The provider is on this machine, wherever other requests go out.
        ("NO_PROXY", "127.0.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

async fn measure(args: &Args, binary: &Path) -> Result<()> {
    let llm = Arc::new(Llm::start().await.map_err(Error::io("listening"))?);
    llm.always(Behaviour {
        marked: args.words,
        pace: Duration::from_millis(args.pace),
        ..Behaviour::default()
    });
    let server = Server::own_hub(binary, settings(args, &llm))?;
    let rest = Rest::login(&server.base(), USER.0, USER.1).await?;
    rest.create_project(PROJECT).await?;
    let mut crowd = Crowd::start(args, &server, rest.token(), &llm).await?;

    let began = Instant::now();
    let asked = ask_all(args, &rest, &crowd.commands).await;
    let took = began.elapsed();
    tokio::time::sleep(AFTER).await;
    // Who has failed says better why than who waited for it.
    let watchers = crowd.end().await?;
    asked?;
    let found = Found {
        written: llm.marks(),
        took,
        watchers,
    };
    found.tell(args)
}

/// Everybody who watches.
struct Crowd {
    commands: Vec<mpsc::Sender<Watch>>,
    tasks: JoinSet<Result<Watcher>>,
}

impl Crowd {
    async fn start(args: &Args, server: &Server, token: &str, llm: &Arc<Llm>) -> Result<Self> {
        let mut crowd = Self {
            commands: Vec::new(),
            tasks: JoinSet::new(),
        };
        for _ in 0..args.watchers {
            let wire = Wire::session(server.address, token).await?;
            let (tell, told) = mpsc::channel(usize::from(args.concurrency));
            let watcher = Watcher::new(Arc::clone(llm));
            crowd.tasks.spawn(watcher.run(wire, told));
            crowd.commands.push(tell);
        }
        Ok(crowd)
    }

    /// Ends all; what each has seen.
    async fn end(&mut self) -> Result<Vec<Watcher>> {
        self.commands.clear();
        let mut watchers = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            watchers.push(
                ended.map_err(|error| Error::Server(format!("a watcher failed: {error}")))??,
            );
        }
        Ok(watchers)
    }
}

/// Asks for all plans, so many at a time, each until every watcher knows of its end.
async fn ask_all(args: &Args, rest: &Rest, commands: &[mpsc::Sender<Watch>]) -> Result<()> {
    let bar = progress(u64::from(args.plans), "plans");
    let plans = (0..args.plans).map(|number| ask_one(number, rest, commands));
    let mut plans = futures::stream::iter(plans).buffer_unordered(args.concurrency.into());
    while let Some(over) = plans.next().await {
        over?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

async fn ask_one(number: u32, rest: &Rest, commands: &[mpsc::Sender<Watch>]) -> Result<()> {
    let request = format!("Change number {number} of this run");
    let plan = rest.ask_for_plan(PROJECT, &request).await?;
    let gone = || Error::Server("a watcher has ended".to_owned());
    let mut ends = Vec::new();
    for watcher in commands {
        let (tell, told) = oneshot::channel();
        let watch = Watch {
            channel: format!("plan:{plan}"),
            over: tell,
        };
        watcher.send(watch).await.map_err(|_| gone())?;
        ends.push(told);
    }
    match tokio::time::timeout(PATIENCE, try_join_all(ends)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Error::Verdict(format!(
            "not all watchers know of the end of the plan {plan} after {PATIENCE:?}"
        ))),
    }
}

/// What a run found.
struct Found {
    written: usize,
    took: Duration,
    watchers: Vec<Watcher>,
}

impl Found {
    /// Prints it; an error if a watcher was not told of each step's end exactly once, in order.
    fn tell(&self, args: &Args) -> Result<()> {
        let mut times = histogram();
        let (mut steps, mut messages, mut faults) = (0, 0, Vec::new());
        for watcher in &self.watchers {
            let added = times.add(&watcher.times);
            added.map_err(|error| Error::Argument(error.to_string()))?;
            messages += watcher.messages;
            for (channel, ledger) in &watcher.ledgers {
                match ledger.verdict() {
                    Ok(count) => steps += count,
                    Err(why) => faults.push(format!("{channel}: {why}")),
                }
            }
        }
        let latency = Percentiles::of(&times);
        let could = self.written as u64 * self.watchers.len() as u64;
        let seconds = self.took.as_secs_f64();
        let mut report = Report::new("progress");
        report.set("plans", args.plans);
        report.set("watchers", args.watchers);
        report.set("concurrency", args.concurrency);
        report.set("pace_ms", args.pace);
        report.set("seconds", seconds);
        report.set("tokens_written", self.written);
        report.set("latest_messages", messages);
        report.set("token_to_watcher_ms", latency);
        report.set("step_ends", steps);
        report.set("faults", faults.len());
        report.line(format!(
            "{} plans, {} at a time, {} watchers each, in {seconds:.1} s: {} marked tokens written",
            args.plans,
            args.concurrency,
            args.watchers,
            thousands(self.written as f64),
        ));
        report.line(format!(
            "token to watcher: {latency}; {} of {} seen in {} messages, the others only by their step's end",
            thousands(latency.count as f64),
            thousands(could as f64),
            thousands(messages as f64),
        ));
        report.line(format!(
            "{} step ends seen, {} faults",
            thousands(steps as f64),
            faults.len()
        ));
        for fault in faults.iter().take(TOLD) {
            report.line(fault);
        }
        report.finish(args.json.as_deref())?;
        if !faults.is_empty() {
            return Err(Error::Verdict(
                "not every watcher was told of each step's end exactly once, in order".into(),
            ));
        }
        if latency.count == 0 {
            return Err(Error::Verdict(
                "no watcher saw a step while it was written".into(),
            ));
        }
        Ok(())
    }
}

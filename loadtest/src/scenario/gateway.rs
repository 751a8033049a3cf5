//! `loadtest gateway`: what a request through the gateway takes beside the same request sent directly, in
//! alternating rounds of one run; then one of three instances killed and one slow, and no request failed.
//!
//! The instances are bare processes of the run's own, so the difference is the whole of the gateway: one
//! connection more, the token's check, the role's check, the token that is signed for the service.

mod exchange;
pub(crate) mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use self::exchange::{Round, Way, round};
use self::upstream::Upstream;
use crate::error::{Error, Result};
use crate::report::{Percentiles, Report, histogram, median, progress, thousands};
use crate::rest::Rest;
use crate::server::Server;

/// Pairs of rounds that are measured.
const ROUNDS: usize = 5;
/// The user that asks; exists in the demo.
const USER: (&str, &str) = ("alice", "alice-demo-password");
/// A path of the service for which the gateway asks for a role in the demo project.
const PATH: &str = "/svc/bare/projects/demo/x";
/// How long the slow instance takes: longer than the gateway waits.
const SLOW: Duration = Duration::from_secs(2);

/// The gateway beside direct calls
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many requests each way, all rounds together
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    requests: u32,
    /// How many at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// How many instances of the service
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    upstreams: u16,
    /// The hub's binary; without it, one is built
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    crate::process::need_descriptors(4 * usize::from(args.concurrency))?;
    let binary = crate::server::hub(args.hub.as_deref())?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(measure(args, &binary))
}

async fn measure(args: &Args, binary: &Path) -> Result<()> {
    let mut report = Report::new("gateway");
    report.set("requests", args.requests);
    report.set("concurrency", args.concurrency);
    report.set("upstreams", args.upstreams);
    compare(args, binary, &mut report).await?;
    let failed = with_faults(args, binary, &mut report).await?;
    report.finish(args.json.as_deref())?;
    match failed {
        None => Ok(()),
        Some(why) => Err(Error::Verdict(why)),
    }
}

/// A hub before these instances.
struct World {
    upstreams: Vec<Upstream>,
    _folder: tempfile::TempDir,
    hub: Server,
    token: String,
}

impl World {
    async fn start(binary: &Path, upstreams: Vec<Upstream>) -> Result<Self> {
        let folder = crate::cluster::folder("gateway")?;
        let file = folder.path().join("services.toml");
        let list: Vec<String> = upstreams
            .iter()
            .map(|one| format!("\"http://{}\"", one.address))
            .collect();
        let text = format!(
            "[services.bare]\nupstreams = [{}]\nconcurrency = 10000\n\
             [services.bare.timeouts]\nanswer = \"300ms\"\ndeadline = \"10s\"\n\
             [services.bare.breaker]\nfailures = 5\ncool_down = \"1s\"\n\
             [[services.bare.rules]]\nmethods = [\"GET\"]\npath = \"/projects/{{project}}/**\"\n\
             takes = \"viewer\"\n",
            list.join(", ")
        );
        std::fs::write(&file, text).map_err(Error::io(file.display().to_string()))?;
        let settings = vec![("TANDEM_GATEWAY_FILE".to_owned(), file.display().to_string())];
        let hub = Server::own_hub(binary, settings)?;
        let rest = Rest::login(&hub.base(), USER.0, USER.1).await?;
        Ok(Self {
            upstreams,
            _folder: folder,
            token: rest.token().to_owned(),
            hub,
        })
    }

    fn direct(&self) -> Way {
        Way {
            addresses: self.upstreams.iter().map(|one| one.address).collect(),
            path: PATH,
            token: None,
        }
    }

    fn through(&self) -> Way {
        Way {
            addresses: vec![self.hub.address],
            path: PATH,
            token: Some(self.token.clone()),
        }
    }
}

/// One way over all rounds.
struct Sum {
    rounds: Vec<Round>,
}

impl Sum {
    fn percentiles(&self) -> Result<Percentiles> {
        let mut all = histogram();
        for round in &self.rounds {
            let added = all.add(&round.times);
            added.map_err(|error| Error::Argument(error.to_string()))?;
        }
        Ok(Percentiles::of(&all))
    }

    fn per_second(&self) -> f64 {
        let rates: Vec<f64> = self.rounds.iter().map(Round::per_second).collect();
        median(&rates)
    }
}

async fn compare(args: &Args, binary: &Path, report: &mut Report) -> Result<()> {
    let upstreams = (0..args.upstreams).map(|_| Upstream::start(Duration::ZERO));
    let world = World::start(binary, upstreams.collect::<Result<_>>()?).await?;
    let (direct, through) = (world.direct(), world.through());
    let each = (args.requests as usize).div_ceil(ROUNDS);
    let concurrency = usize::from(args.concurrency);
    let done = Arc::new(AtomicUsize::new(0));
    let bar = progress(2 * (ROUNDS as u64 + 1), "rounds");
    let (mut sum_direct, mut sum_through) = (Sum { rounds: vec![] }, Sum { rounds: vec![] });
    for number in 0..=ROUNDS {
        for (way, sum) in [(&direct, &mut sum_direct), (&through, &mut sum_through)] {
            let round = round(way, each, concurrency, &done).await?;
            bar.inc(1);
            if round.failed > 0 {
                let first = round.first.unwrap_or_default();
                let failed = round.failed;
                return Err(Error::Verdict(format!("{failed} requests failed: {first}")));
            }
            // The first round of each warms connections and allocators up.
            if number > 0 {
                sum.rounds.push(round);
            }
        }
    }
    bar.finish_and_clear();
    let (own, other) = (sum_through.percentiles()?, sum_direct.percentiles()?);
    let (rate, bare) = (sum_through.per_second(), sum_direct.per_second());
    report.line(format!("direct:  {other}; {}/s", thousands(bare)));
    report.line(format!("gateway: {own}; {}/s", thousands(rate)));
    report.line(format!(
        "the gateway's p50 is {:.2} and its p99 {:.2} times that of a direct call, its throughput {:.2} times; \
         {ROUNDS} rounds of {each} requests each way, {concurrency} at a time, {} instances, all on this machine",
        own.p50 / other.p50,
        own.p99 / other.p99,
        rate / bare,
        args.upstreams,
    ));
    report.set("direct", json!({ "latency_ms": other, "per_second": bare }));
    report.set("gateway", json!({ "latency_ms": own, "per_second": rate }));
    report.set("ratio_p50", own.p50 / other.p50);
    report.set("ratio_p99", own.p99 / other.p99);
    report.set("ratio_throughput", rate / bare);
    Ok(())
}

/// One of three killed in the middle, one slow all the time; why it failed, if it did.
async fn with_faults(args: &Args, binary: &Path, report: &mut Report) -> Result<Option<String>> {
    let good = Upstream::start(Duration::ZERO)?;
    let slow = Upstream::start(SLOW)?;
    let doomed = Upstream::start(Duration::ZERO)?;
    let mut world = World::start(binary, vec![good, slow, doomed]).await?;
    let way = world.through();
    let requests = args.requests as usize;
    let done = Arc::new(AtomicUsize::new(0));
    let bar = progress(requests as u64, "requests");
    let running = round(&way, requests, usize::from(args.concurrency), &done);
    let kill = async {
        while done.load(Ordering::Relaxed) < requests / 4 {
            bar.set_position(done.load(Ordering::Relaxed) as u64);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Some(doomed) = world.upstreams.last_mut() {
            doomed.kill();
        }
    };
    let (found, ()) = tokio::join!(running, kill);
    bar.finish_and_clear();
    let found = found?;
    let times = Percentiles::of(&found.times);
    report.line(format!(
        "one of three instances killed, one slower than allowed: {} of {} requests failed; {times}; {}/s",
        found.failed,
        thousands(requests as f64),
        thousands(found.per_second()),
    ));
    report.set(
        "faults",
        json!({ "failed": found.failed, "latency_ms": times, "per_second": found.per_second() }),
    );
    let first = found.first.unwrap_or_default();
    let failed = found.failed;
    Ok((failed > 0).then(|| format!("{failed} idempotent requests failed; the first: {first}")))
}

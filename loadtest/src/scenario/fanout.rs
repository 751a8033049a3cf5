//! How fast one publisher reaches many subscribers: deliveries per second through the hub beside
//! the bare loop, in alternating runs, server on one core and load generator on the other.

mod arena;
mod ledger;
mod probe;

use std::time::Duration;

use protocol::DeliveryClass;
use serde_json::json;

use self::arena::{Arena, Outcome, Pace};
use super::{Compare, login};
use crate::error::Result;
use crate::process;
use crate::report::{Percentiles, Report, median, progress, thousands};
use crate::server::{Kind, Server, Target};

/// The core of the server under measurement, and that of the load generator.
const SERVER_CORE: usize = 0;
const GENERATOR_CORE: usize = 1;
/// Ahead of the measured runs.
const WARM_UP: Duration = Duration::from_secs(1);

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// As fast as the slowest subscriber takes them
    Flood,
    /// A fixed number per second
    Rate,
    /// One message under way at a time
    Ping,
}

/// Delivery class, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Class {
    Reliable,
    Latest,
    Lossy,
}

/// One publisher, many subscribers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// How many subscribers
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    subscribers: u32,
    /// Bytes of a message's payload
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(probe::HEAD as i64..=8_192))]
    bytes: u32,
    /// How messages are paced
    #[arg(long, value_enum, default_value_t = Mode::Flood)]
    mode: Mode,
    /// Messages per second of `--mode rate`
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Most messages between the publisher and the slowest subscriber in a flood
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    window: u64,
    /// Seconds of one run; short enough that the sockets that wait meanwhile need no ping
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,
    /// How many runs of each server, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Delivery class of the messages
    #[arg(long, value_enum, default_value_t = Class::Reliable)]
    class: Class,
    /// Also measure the bare loop in the same run
    #[arg(long)]
    compare: Option<Compare>,
    /// With --compare: also the bare loop that writes each frame by itself
    #[arg(long, requires = "compare")]
    plain: bool,
    /// With --compare: also the loop that writes all that one read of the publisher brought at once
    #[arg(long, requires = "compare")]
    floor: bool,
}

/// One server's runs.
struct Lane {
    arena: Arena,
    per_second: Vec<f64>,
    /// Deliveries per second of the server's processor time, where that is known.
    per_cpu_second: Vec<f64>,
    runs: Vec<serde_json::Value>,
}

impl Lane {
    fn new(arena: Arena) -> Self {
        Self {
            arena,
            per_second: Vec::new(),
            per_cpu_second: Vec::new(),
            runs: Vec::new(),
        }
    }

    fn kind(&self) -> Kind {
        self.arena.kind
    }
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut report = Report::new("fanout");
    let pinned = process::cores() >= 2;
    report.set("pinned", pinned);
    let compare = args.compare == Some(Compare::Limit);
    let lanes = 1 + usize::from(compare) + usize::from(args.plain) + usize::from(args.floor);
    process::need_descriptors(lanes * (args.subscribers as usize + 1))?;
    // The hub is built before this process confines itself to one core.
    let core = pinned.then_some(SERVER_CORE);
    let hub = Server::hub(&args.target, core)?;
    let mut bare = Vec::new();
    if compare {
        bare.push(Server::bare(Kind::Batched, core)?);
    }
    if args.plain {
        bare.push(Server::bare(Kind::Plain, core)?);
    }
    if args.floor {
        bare.push(Server::bare(Kind::Floor, core)?);
    }
    let token = login(&hub, &args.target)?;
    if pinned {
        process::pin_thread(GENERATOR_CORE)?;
    } else {
        report.line("one core only: server and load generator share it, figures say little");
    }
    let mut lanes = connect(args, &hub, &token, &bare)?;
    alternate(args, &mut lanes)?;
    conclude(args, &lanes, &mut report);
    report.finish(args.target.json.as_deref())
}

fn pace(args: &Args) -> Pace {
    match args.mode {
        Mode::Flood => Pace::Window(args.window),
        Mode::Ping => Pace::Window(1),
        Mode::Rate => Pace::Rate(args.rate),
    }
}

/// Connects every lane. The hub warms up first, as its messages give those of the bare loop their size.
fn connect(args: &Args, hub: &Server, token: &str, bare: &[Server]) -> Result<Vec<Lane>> {
    let (subscribers, bytes) = (args.subscribers as usize, args.bytes as usize);
    let class = match args.class {
        Class::Reliable => DeliveryClass::Reliable,
        Class::Latest => DeliveryClass::Latest,
        Class::Lossy => DeliveryClass::Lossy,
    };
    let mut arena = Arena::hub(hub, token, subscribers, bytes, class)?;
    arena.run(pace(args), WARM_UP)?;
    let message = arena.sample();
    let mut lanes = vec![Lane::new(arena)];
    for server in bare {
        let place = (server.address, server.pid);
        let mut arena = Arena::bare(server.kind, place, subscribers, bytes, message.clone())?;
        arena.run(pace(args), WARM_UP)?;
        lanes.push(Lane::new(arena));
    }
    Ok(lanes)
}

/// The measured runs, server by server in turns, so that what the machine does besides hits all alike.
fn alternate(args: &Args, lanes: &mut [Lane]) -> Result<()> {
    let bar = progress(u64::from(args.runs) * lanes.len() as u64, "runs");
    for number in 1..=args.runs {
        let mut texts = Vec::new();
        for lane in lanes.iter_mut() {
            let outcome = lane
                .arena
                .run(pace(args), Duration::from_secs(args.seconds))?;
            texts.push(describe(args.mode, lane.kind(), &outcome));
            let per_second = outcome.deliveries as f64 / outcome.seconds;
            lane.per_second.push(per_second);
            let per_cpu_second = outcome.server_cpu.map(|share| per_second / share);
            lane.per_cpu_second.extend(per_cpu_second);
            lane.runs.push(json!({
                "deliveries": outcome.deliveries,
                "published": outcome.published,
                "dropped": outcome.dropped,
                "seconds": outcome.seconds,
                "deliveries_per_second": per_second,
                "server_cpu": outcome.server_cpu,
                "deliveries_per_cpu_second": per_cpu_second,
                "generator_cpu": outcome.generator_cpu,
                "latency_ms": Percentiles::of(&outcome.latency),
            }));
            bar.inc(1);
        }
        let line = format!("run {number}: {}", texts.join(" | "));
        bar.suspend(|| println!("{line}"));
    }
    bar.finish_and_clear();
    Ok(())
}

fn describe(mode: Mode, kind: Kind, outcome: &Outcome) -> String {
    let rate = thousands(outcome.deliveries as f64 / outcome.seconds);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let server = outcome.server_cpu.map_or("?".to_owned(), percent);
    let mut text = format!(
        "{} {rate} deliveries/s (server {server}, generator {} of a core)",
        kind.label(),
        percent(outcome.generator_cpu),
    );
    if mode != Mode::Flood {
        text.push_str(&format!(", {}", Percentiles::of(&outcome.latency)));
    }
    if outcome.dropped > 0 {
        text.push_str(&format!(", {} dropped", thousands(outcome.dropped as f64)));
    }
    text
}

/// Medians, and the ratio as the last line.
fn conclude(args: &Args, lanes: &[Lane], report: &mut Report) {
    report.set("mode", format!("{:?}", args.mode).to_lowercase());
    report.set("class", format!("{:?}", args.class).to_lowercase());
    report.set("subscribers", args.subscribers);
    report.set("bytes", args.bytes);
    report.set("message_bytes", lanes[0].arena.sample().len());
    report.set("window", args.window);
    let of = |kind: Kind| {
        let lane = lanes.iter().find(|lane| lane.kind() == kind)?;
        Some((median(&lane.per_second), median(&lane.per_cpu_second)))
    };
    for lane in lanes {
        let middle = median(&lane.per_second);
        report.line(format!(
            "{}: median of {} runs {} deliveries/s to {} subscribers, {} bytes each",
            lane.kind().label(),
            args.runs,
            thousands(middle),
            args.subscribers,
            args.bytes,
        ));
        let key = format!("{:?}", lane.kind()).to_lowercase();
        report.set(&key, json!({ "median": middle, "runs": lane.runs }));
    }
    let Some(hub) = of(Kind::Hub) else { return };
    for kind in [Kind::Plain, Kind::Floor, Kind::Batched] {
        if let Some(limit) = of(kind) {
            let ratio = hub.1 / limit.1;
            if ratio.is_finite() {
                let key = format!("cpu_ratio_{kind:?}").to_lowercase();
                report.set(&key, ratio);
                report.line(format!(
                    "hub / {}, deliveries per second of server CPU: {ratio:.2}",
                    kind.label()
                ));
            }
            let ratio = hub.0 / limit.0;
            let key = format!("ratio_{kind:?}").to_lowercase();
            report.set(&key, ratio);
            report.line(format!("hub / {}: {ratio:.2}", kind.label()));
        }
    }
}

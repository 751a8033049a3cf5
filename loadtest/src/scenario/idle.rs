//! What an idle session costs: resident memory of the server before and after N sessions, each
//! authenticated and subscribed to one channel, divided by N.

use indicatif::ProgressBar;
use serde::Serialize;

use protocol::{ClientFrame, ServerFrame};

use super::{Compare, login};
use crate::client::Socket;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::process::{self, Memory};
use crate::report::{Report, progress};
use crate::server::{Kind, Server, Target};
use crate::session;

use std::time::{Duration, Instant};

/// Connections opened at a time.
const RAMP_WIDTH: usize = 4;
/// Sessions opened first and kept, so that what the server allocates once is not counted.
const WARM_UP: usize = 200;
/// Round trips of every session before the second reading.
const STORM_ROUNDS: u32 = 3;

/// Memory per idle session.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// How many sessions
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    sessions: u32,
    /// Share this many rooms between the sessions; without it each has a room of its own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: Option<u32>,
    /// Also measure the bare loop in the same run
    #[arg(long)]
    compare: Option<Compare>,
}

/// Two readings and what lies between them.
#[derive(Debug, Serialize)]
struct Cost {
    before_rss_kib: u64,
    after_rss_kib: u64,
    kib_per_session: f64,
    anonymous_kib_per_session: f64,
    /// Of the second half alone: no memory left over from before can hide in it.
    second_half_kib_per_session: f64,
    connect_seconds: f64,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    let sessions = args.sessions as usize;
    process::need_descriptors(sessions + WARM_UP)?;
    let mut report = Report::new("idle");
    report.set("sessions", sessions);
    report.set("rooms", args.rooms.unwrap_or(args.sessions));
    let hub = Server::hub(&args.target, None)?;
    let token = login(&hub, &args.target)?;
    // Hashing a password takes as much memory as thousands of sessions, and leaves it to be reused.
    let hub = hub.restart()?;
    let open = |index: usize| {
        let room = args.rooms.map_or(index, |rooms| index % rooms as usize);
        session::subscribe(hub.address, &token, &format!("room:demo/idle-{room}"))
    };
    let cost = measure(&hub, sessions, &open)?;
    let own = cost.kib_per_session;
    describe(&mut report, hub.kind, "hub", sessions, &cost);
    drop(hub);
    if args.compare == Some(Compare::Limit) {
        let bare = Server::bare(Kind::Batched, None)?;
        let open = |_| Socket::connect(bare.address, "/sub", &[]);
        let cost = measure(&bare, sessions, &open)?;
        describe(&mut report, bare.kind, "bare", sessions, &cost);
        report.set("ratio", own / cost.kib_per_session);
    }
    let rooms = match args.rooms {
        Some(rooms) => format!("all in {rooms} rooms"),
        None => "each in a room of its own".to_owned(),
    };
    report.line(format!(
        "{own:.2} KiB of hub memory per authenticated session with one subscription ({sessions} sessions, {rooms})"
    ));
    report.finish(args.target.json.as_deref())
}

fn describe(report: &mut Report, kind: Kind, key: &str, sessions: usize, cost: &Cost) {
    report.line(format!(
        "{}: {} KiB before, {} KiB with {sessions} sessions: {:.2} KiB each ({:.2} anonymous, second half {:.2}); connected in {:.1} s",
        kind.label(),
        cost.before_rss_kib,
        cost.after_rss_kib,
        cost.kib_per_session,
        cost.anonymous_kib_per_session,
        cost.second_half_kib_per_session,
        cost.connect_seconds,
    ));
    report.set(key, cost);
}

fn measure(
    server: &Server,
    sessions: usize,
    open: &(impl Fn(usize) -> Result<Socket> + Sync),
) -> Result<Cost> {
    let pid = server.need_pid()?;
    let bar = progress((sessions + WARM_UP) as u64, server.kind.label());
    // Rooms of the warm-up are none of the measured ones.
    let warm = session::ramp(WARM_UP, RAMP_WIDTH, &bar, |index| open(sessions + index))?;
    let mut warm = Fleet::new(warm)?;
    storm(server.kind, &mut warm)?;
    let before = settle(pid, &mut warm)?;
    let half = sessions / 2;
    let started = Instant::now();
    let mut first = add(server.kind, half, &bar, open)?;
    let mut connect = started.elapsed();
    let middle = settle(pid, &mut first)?;
    let started = Instant::now();
    let mut second = add(server.kind, sessions - half, &bar, |index| {
        open(half + index)
    })?;
    connect += started.elapsed();
    let after = settle(pid, &mut second)?;
    // Whoever was cut off meanwhile would have been counted as cheap.
    for fleet in [&mut warm, &mut first, &mut second] {
        storm(server.kind, fleet)?;
    }
    bar.finish_and_clear();
    Ok(Cost {
        before_rss_kib: before.rss,
        after_rss_kib: after.rss,
        kib_per_session: each(before.rss, after.rss, sessions),
        anonymous_kib_per_session: each(before.anonymous, after.anonymous, sessions),
        second_half_kib_per_session: each(middle.rss, after.rss, sessions - half),
        connect_seconds: connect.as_secs_f64(),
    })
}

/// Connects sessions and has each read and write before it idles.
fn add(
    kind: Kind,
    count: usize,
    bar: &ProgressBar,
    open: impl Fn(usize) -> Result<Socket> + Sync,
) -> Result<Fleet> {
    let mut fleet = Fleet::new(session::ramp(count, RAMP_WIDTH, bar, open)?)?;
    storm(kind, &mut fleet)?;
    Ok(fleet)
}

fn each(before: u64, after: u64, sessions: usize) -> f64 {
    (after as f64 - before as f64) / sessions as f64
}

/// A few round trips of every session. The bare loop answers nothing, so there is nothing to wait for.
fn storm(kind: Kind, fleet: &mut Fleet) -> Result<()> {
    if kind != Kind::Hub {
        return Ok(());
    }
    for id in 1..=STORM_ROUNDS {
        let mut frame = Vec::new();
        let ping = session::encode(&ClientFrame::Ping { id });
        crate::client::encode_masked(crate::client::BINARY, &ping, &mut frame);
        for index in 0..fleet.len() {
            fleet.send(index, &frame)?;
        }
        let mut missing = fleet.len();
        let deadline = Instant::now() + Duration::from_secs(30);
        while missing > 0 {
            if Instant::now() > deadline {
                return Err(Error::Verdict(format!(
                    "{missing} sessions did not answer a ping"
                )));
            }
            fleet.poll(Duration::from_millis(100), |_, message| {
                if matches!(session::decode(message)?, ServerFrame::Pong { .. }) {
                    missing -= 1;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Waits until the memory has settled, answering pings meanwhile; a session that is closed is an error.
fn settle(pid: u32, fleet: &mut Fleet) -> Result<Memory> {
    let reading = std::thread::spawn(move || process::settled_memory(pid));
    while !reading.is_finished() {
        fleet.poll(Duration::from_millis(50), |_, _| Ok(()))?;
    }
    reading
        .join()
        .unwrap_or_else(|_| Err(Error::Server("the measuring thread failed".into())))
}

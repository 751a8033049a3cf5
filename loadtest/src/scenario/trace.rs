//! Replays a recorded editing session through real connections, takes the times from edit to remote
//! apply and to durable acknowledgement, and checks that everybody ends with the expected text.

mod player;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use self::player::{Pacing, Player};
use crate::error::{Error, Result};
use crate::report::{Percentiles, Report, histogram, progress, thousands};
use crate::rest::Rest;
use crate::server::{Server, Target};
use crate::trace::link::{Link, Via};
use crate::trace::{Book, Participant, Rotation, Speed, Trace};

/// The project that the document is made in.
const PROJECT: &str = "demo";
/// How long the server's text may take to catch up where no acknowledgement tells.
const CATCH_UP: Duration = Duration::from_secs(15);

/// A recorded session through N connections.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The recorded session
    file: PathBuf,
    /// How many connections; the authors are dealt out to them
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// full, recorded, or a factor of the recorded speed like x10
    #[arg(long, default_value = "full")]
    speed: Speed,
    /// The longest recorded pause that is kept, milliseconds
    #[arg(long, default_value_t = 2_000)]
    longest_pause: u64,
    /// Transactions that one client makes before it is the next one's turn, where one author wrote all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    block: u32,
    /// The way to the document
    #[arg(long, value_enum, default_value_t = Via::Ws)]
    via: Via,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rotation = Rotation {
        authors: usize::from(args.clients),
        block: args.block as usize,
    };
    let trace = Arc::new(Trace::load(&args.file, rotation)?);
    let hub = Server::hub(&args.target, None)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(replay(args, &trace, &hub.base()))
}

async fn replay(args: &Args, trace: &Arc<Trace>, base: &str) -> Result<()> {
    let rest = Rest::login(base, &args.target.user, &args.target.password).await?;
    let document = rest.create_document(PROJECT, &path_of(&args.file)).await?;
    let players = join(args, trace, base, &rest, &document).await?;
    let bar = progress(trace.transactions.len() as u64, "replay");
    let pacing = Arc::new(Pacing {
        due: match args.speed {
            Speed::Full => None,
            Speed::Times(factor) => {
                let schedule = trace.schedule(args.longest_pause);
                Some(schedule.into_iter().map(|ms| ms as f64 / factor).collect())
            }
        },
        start: Instant::now(),
    });
    // A task each, so that they spread over the cores; the first failure ends them all.
    let mut tasks = JoinSet::new();
    for player in players {
        let (pacing, bar) = (pacing.clone(), bar.clone());
        tasks.spawn(async move { Box::pin(player.play(&pacing, &bar)).await });
    }
    let mut players = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let player = ended.map_err(|e| Error::Verdict(format!("a client failed: {e}")))?;
        players.push(player?);
    }
    let seconds = pacing.start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    players.sort_by_key(|player| player.number);
    let wrong = compare(trace, &players, &rest, &document).await?;
    let mut report = summary(args, trace, &players, seconds);
    report.set("equal", wrong.is_empty());
    if wrong.is_empty() {
        rest.delete_document(&document).await?;
        report.line("all replicas equal the expected text");
        return report.finish(args.target.json.as_deref());
    }
    report.finish(args.target.json.as_deref())?;
    Err(Error::Verdict(wrong.join("\n")))
}

/// A path that no document has yet.
fn path_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    format!("loadtest/{name}-{now}.txt")
}

async fn join(
    args: &Args,
    trace: &Arc<Trace>,
    base: &str,
    rest: &Rest,
    document: &str,
) -> Result<Vec<Player>> {
    let count = usize::from(args.clients);
    let book = Arc::new(Book::new(trace.transactions.len()));
    let mut players = Vec::with_capacity(count);
    for number in 0..count {
        let participant = Participant::new(trace.clone(), book.clone(), number, count);
        let link = Link::new(args.via, document);
        players.push(Player::join(number, base, link, rest.clone(), participant).await?);
    }
    Ok(players)
}

/// What differs from the expected text, in words.
async fn compare(
    trace: &Trace,
    players: &[Player],
    rest: &Rest,
    document: &str,
) -> Result<Vec<String>> {
    let mut wrong: Vec<_> = players
        .iter()
        .filter_map(|player| {
            difference(
                &format!("client {}", player.number),
                &player.text(),
                &trace.end,
            )
        })
        .collect();
    let deadline = Instant::now() + CATCH_UP;
    let served = loop {
        let text = rest.text(document).await?;
        if text == trace.end || Instant::now() > deadline {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    wrong.extend(difference("the server", &served, &trace.end));
    Ok(wrong)
}

/// Where a text first differs from the expected one; none if it does not.
fn difference(who: &str, text: &str, expected: &str) -> Option<String> {
    if text == expected {
        return None;
    }
    let at = text
        .chars()
        .zip(expected.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let around = |text: &str| text.chars().skip(at).take(40).collect::<String>();
    Some(format!(
        "{who} has {} characters, expected {}; from character {at} on it reads {:?}, expected {:?}",
        text.chars().count(),
        expected.chars().count(),
        around(text),
        around(expected),
    ))
}

fn summary(args: &Args, trace: &Trace, players: &[Player], seconds: f64) -> Report {
    let (mut applied, mut durable) = (histogram(), histogram());
    for player in players {
        // The histograms grow on demand, so adding can't fail.
        let _ = applied.add(&player.applied);
        let _ = durable.add(&player.durable);
    }
    let edits = trace.edits();
    let per_second = edits as f64 / seconds;
    let mut report = Report::new("trace");
    report.set("clients", args.clients);
    report.set("via", format!("{:?}", args.via).to_lowercase());
    report.set("speed", args.speed.to_string());
    report.set("transactions", trace.transactions.len());
    report.set("edits", edits);
    report.set("seconds", seconds);
    report.set("edits_per_second", per_second);
    report.line(format!(
        "{} edits in {} transactions by {} authors through {} clients in {seconds:.2} s: {} edits/s",
        thousands(edits as f64),
        thousands(trace.transactions.len() as f64),
        trace.authors,
        args.clients,
        thousands(per_second),
    ));
    if !applied.is_empty() {
        let percentiles = Percentiles::of(&applied);
        report.line(format!("edit to remote apply: {percentiles}"));
        report.set("remote_apply_ms", percentiles);
    }
    if durable.is_empty() {
        report.line("edit to durable: not told by this protocol");
    } else {
        let percentiles = Percentiles::of(&durable);
        report.line(format!("edit to durable: {percentiles}"));
        report.set("durable_ms", percentiles);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        assert_eq!(difference("x", "same", "same"), None);
        let text = difference("client 1", "abXd", "abcd!").unwrap();
        assert!(
            text.starts_with("client 1 has 4 characters, expected 5"),
            "{text}"
        );
        assert!(
            text.contains("from character 2 on it reads \"Xd\""),
            "{text}"
        );
    }

    #[test]
    fn paths_name_the_session() {
        assert!(path_of(Path::new("a/rustcode.json.gz")).starts_with("loadtest/rustcode-"));
    }
}

//! How well the search finds what people mean: a labelled set of files and questions, written into a hub over REST,
//! asked over REST.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::report::Report;
use crate::rest::Rest;
use crate::server::{Server, Target};

/// How long the hub may take to index all of it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(500);
/// Answers among which the right one must be.
const AMONG: u32 = 10;
/// The questions, beside the files: each with the path and symbol that it means.
const LABELS: &str = "labels.json";

/// How well the search finds what people mean
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Folder with the files and their labels.json
    #[arg(long, default_value = "tests/data/search")]
    data: PathBuf,
}

/// A question, and the path and symbol that it means.
type Label = (String, String, String);

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    let file = args.data.join(LABELS);
    let labels = std::fs::read(&file).map_err(Error::io(file.display().to_string()))?;
    let labels: Vec<Label> = serde_json::from_slice(&labels)
        .map_err(|error| Error::Argument(format!("{}: {error}", file.display())))?;
    let mut files = Vec::new();
    gather(&args.data, &args.data, &mut files)?;
    let server = Server::hub(&args.target, None)?;
    super::block_on(measure(args, &server.base(), &labels, &files))
}

/// The files below a folder, by their paths in it, with their texts.
fn gather(root: &Path, folder: &Path, into: &mut Vec<(String, String)>) -> Result<()> {
    let name = folder.display().to_string();
    for entry in std::fs::read_dir(folder).map_err(Error::io(&name))? {
        let path = entry.map_err(Error::io(&name))?.path();
        if path.is_dir() {
            gather(root, &path, into)?;
        } else if path.file_name().is_some_and(|name| name != LABELS) {
            let text = std::fs::read_to_string(&path);
            let text = text.map_err(Error::io(path.display().to_string()))?;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            into.push((inside.display().to_string(), text));
        }
    }
    Ok(())
}

async fn measure(
    args: &Args,
    base: &str,
    labels: &[Label],
    files: &[(String, String)],
) -> Result<()> {
    let rest = Rest::login(base, &args.target.user, &args.target.password).await?;
    let project = format!("recall-{}", std::process::id());
    rest.create_project(&project).await?;
    for (path, text) in files {
        let document = rest.create_document(&project, path).await?;
        rest.put_text(&document, text).await?;
    }
    let began = Instant::now();
    while !is_indexed(&rest, &project, labels).await? {
        if began.elapsed() > PATIENCE {
            return Err(Error::Server("not everything was indexed in time".into()));
        }
        tokio::time::sleep(LOOK).await;
    }
    let (mut hits, mut ranks, mut missed) = (0_u32, 0.0, Vec::new());
    let asked = Instant::now();
    for (words, path, symbol) in labels {
        let found = rest.search(&project, words, AMONG).await?;
        let is_meant =
            |found: &(String, Option<String>)| found.0 == *path && found.1.as_ref() == Some(symbol);
        match found.iter().position(is_meant) {
            Some(place) => {
                hits += 1;
                ranks += 1.0 / (place + 1) as f64;
            }
            None => missed.push(words.as_str()),
        }
    }
    let count = labels.len().max(1) as f64;
    let (recall, rank) = (f64::from(hits) / count, ranks / count);
    let mut report = Report::new("recall");
    report.set("files", files.len());
    report.set("questions", labels.len());
    report.set("recall_at_10", recall);
    report.set("mean_reciprocal_rank", rank);
    report.set("search_ms", asked.elapsed().as_secs_f64() * 1000.0 / count);
    report.line(format!(
        "{} files, {} questions: recall@{AMONG} {recall:.3}, mean reciprocal rank {rank:.3}",
        files.len(),
        labels.len()
    ));
    for words in missed {
        report.line(format!("not among the first {AMONG}: {words}"));
    }
    report.finish(args.target.json.as_deref())
}

/// Whether everything that is meant by a question is known.
async fn is_indexed(rest: &Rest, project: &str, labels: &[Label]) -> Result<bool> {
    let known: HashSet<(String, String)> = rest.outline(project).await?.into_iter().collect();
    let mut meant = labels.iter();
    Ok(meant.all(|(_, path, symbol)| known.contains(&(path.clone(), symbol.clone()))))
}

//! What a run comes to: waits until everything is whole again, compares it with the model, and tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::crowd::Crowd;
use crate::cluster::World;
use crate::error::{Error, Result};
use crate::report::{Report, thousands};
use crate::rest::Rest;

/// How often it is looked whether all is whole.
const LOOK: Duration = Duration::from_millis(250);
/// How many violations of a kind are told in full.
const TOLD: usize = 20;

/// What was promised and is not so, by promise.
#[derive(Debug, Default)]
struct Violations {
    /// Acknowledged edits that are not in the document, or unknown ones that are.
    edits: Vec<String>,
    /// Replicas that differ.
    replicas: Vec<String>,
    /// Messages lost, doubled or out of order.
    messages: Vec<String>,
    /// Anything else that must not happen.
    others: Vec<String>,
}

/// The outcome of a run.
pub(super) struct Verdict {
    report: Report,
    seed: u64,
    happened: Vec<String>,
    violations: Violations,
    settled: Option<Duration>,
}

impl Verdict {
    /// Of a run with those faults.
    pub(super) fn new(seed: u64, length: Duration, happened: Vec<String>) -> Self {
        let mut report = Report::new("chaos");
        report.set("seed", seed);
        report.set("minutes", length.as_secs_f64() / 60.0);
        report.set("faults", happened.len());
        Self {
            report,
            seed,
            happened,
            violations: Violations::default(),
            settled: None,
        }
    }

    /// Waits until all replicas are equal and acknowledged, and all readers have seen everything.
    pub(super) async fn settle(&mut self, world: &World, crowd: &Crowd, most: Duration) {
        let start = Instant::now();
        while start.elapsed() < most {
            let pieces = unsettled(crowd);
            if pieces.is_empty() && start.elapsed() > Duration::from_secs(2) {
                self.settled = Some(start.elapsed());
                return;
            }
            for fallen in world.fallen().await {
                crowd.report(fallen);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.violations.replicas = replicas(crowd);
        for name in crowd.channels() {
            let missing = crowd.channel(name).missing();
            let told = missing.into_iter().map(|what| format!("{name}: {what}"));
            self.violations.messages.extend(told);
        }
    }

    /// Compares what a hub that has seen nothing finds in the log with what was acknowledged.
    pub(super) async fn check(
        &mut self,
        world: &World,
        crowd: &Crowd,
        documents: &[String],
        user: (&str, &str),
    ) -> Result<()> {
        world.kill_hubs().await;
        let fresh = world.fresh_hub().await?;
        let rest = Rest::login(&fresh.url(), user.0, user.1).await?;
        let shown = crowd.shown();
        let (mut sent, mut acknowledged) = (0, 0);
        for (number, id) in documents.iter().enumerate() {
            let text = match rest.text(id).await {
                Ok(text) => text,
                Err(error) => {
                    let what = format!("document {number} can't be read: {error}");
                    self.violations.edits.push(what);
                    continue;
                }
            };
            let ledger = crowd.document(number);
            sent += ledger.sent;
            acknowledged += ledger.acknowledged;
            let wrong = ledger.check(&text);
            let named = wrong.into_iter().map(|w| format!("document {number}: {w}"));
            self.violations.edits.extend(named);
            let differing = shown
                .iter()
                .filter(|(_, shown)| shown.document == number && shown.text != text);
            for (editor, _) in differing {
                let what = format!("document {number}: editor {editor} ends with another text");
                self.violations.replicas.push(what);
            }
        }
        let (mut accepted, mut delivered, mut resets, mut repeated) = (0, 0, 0, 0);
        for name in crowd.channels() {
            let ledger = crowd.channel(name);
            let counts = ledger.counts();
            accepted += counts.0;
            delivered += counts.1;
            resets += counts.2;
            repeated += ledger.repeated();
            let wrong = ledger.wrong(world.redis_lives());
            let named = wrong.into_iter().map(|what| format!("{name}: {what}"));
            self.violations.messages.extend(named);
        }
        self.violations.others = crowd.reported();
        let report = &mut self.report;
        for (name, value) in [
            ("edits", sent),
            ("acknowledged", acknowledged),
            ("accepted", accepted),
            ("delivered", delivered),
            ("resets", resets),
            ("sent_again_after_loss", repeated as u64),
        ] {
            report.set(name, value);
        }
        report.line(format!(
            "edits: {} handed in, {} acknowledged",
            thousands(sent as f64),
            thousands(acknowledged as f64)
        ));
        report.line(format!(
            "messages and events: {} accepted, {} delivered, {} resets told, {repeated} taken again \
             after Redis had lost what it knew of them",
            thousands(accepted as f64),
            thousands(delivered as f64),
            thousands(resets as f64),
        ));
        Ok(())
    }

    /// Tells all of it; an error if anything is not as promised.
    pub(super) fn report(mut self, json: Option<&Path>) -> Result<()> {
        self.happened.sort();
        println!("\n{} faults of seed {}:", self.happened.len(), self.seed);
        for line in &self.happened {
            println!("  {line}");
        }
        if let Some(after) = self.settled {
            let seconds = after.as_secs_f64();
            let line = format!("whole again {seconds:.1} s after the last fault");
            self.report.line(line);
        }
        let violations = self.violations;
        let kinds = [
            ("lost acknowledged edits", &violations.edits),
            ("replicas that differ", &violations.replicas),
            (
                "messages lost, doubled or out of order",
                &violations.messages,
            ),
            ("other surprises", &violations.others),
        ];
        let told: Vec<String> = kinds
            .iter()
            .map(|(kind, found)| format!("{} {kind}", found.len()))
            .collect();
        let sum: usize = kinds.iter().map(|(_, found)| found.len()).sum();
        self.report.line(told.join(", "));
        self.report.set("violations", sum);
        self.report.finish(json)?;
        if sum == 0 {
            return Ok(());
        }
        for (kind, found) in kinds {
            for what in found.iter().take(TOLD) {
                println!("{kind}: {what}");
            }
        }
        Err(Error::Verdict(format!("{sum} promises were not kept")))
    }
}

/// What is not whole yet.
fn unsettled(crowd: &Crowd) -> Vec<String> {
    let mut pieces = replicas(crowd);
    for name in crowd.channels() {
        pieces.extend(crowd.channel(name).missing());
    }
    pieces
}

/// Editors that wait for an acknowledgement, or differ from another of their document.
fn replicas(crowd: &Crowd) -> Vec<String> {
    let mut texts: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    let mut pieces = Vec::new();
    for (editor, shown) in crowd.shown() {
        let document = shown.document;
        if shown.open > 0 {
            pieces.push(format!(
                "document {document}: editor {editor} waits for {} acknowledgements",
                shown.open
            ));
        }
        match texts.get(&document) {
            None => {
                texts.insert(document, (editor, shown.text));
            }
            Some((other, text)) if *text != shown.text => pieces.push(format!(
                "document {document}: editors {other} and {editor} differ, {} and {} bytes",
                text.len(),
                shown.text.len()
            )),
            Some(_) => {}
        }
    }
    pieces
}

//! The shadow model: a short run of `loadtest chaos`, and of `loadtest events`, with the hub of this
//! build. What they check stands with them; here they must find nothing.

use std::process::Command;
use std::time::Duration;

use crate::world::{binary, within};

/// Runs a measurement to its end; what it printed.
async fn measured(scenario: &'static str, arguments: &'static [&'static str]) -> String {
    let run = tokio::task::spawn_blocking(move || {
        Command::new(binary::loadtest())
            .arg(scenario)
            .args(arguments)
            .arg("--hub")
            .arg(binary::path())
            .output()
            .expect("the measurement runs")
    });
    let output = within(Duration::from_secs(330), scenario, run)
        .await
        .expect("it does not panic");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[tokio::test]
async fn half_a_minute_of_faults_breaks_no_promise() {
    let said = measured("chaos", &["--minutes", "0.5", "--seed", "11"]).await;
    assert!(said.contains("0 lost acknowledged edits"), "{said}");
    // It had something to lose.
    let edits = said.lines().find_map(|line| line.strip_prefix("edits: "));
    let handed_in = edits.and_then(|edits| edits.split_whitespace().next());
    let handed_in = handed_in.map(|number| number.replace(',', "").parse::<u64>());
    assert!(matches!(handed_in, Some(Ok(300..))), "{said}");
}

#[tokio::test]
async fn every_event_arrives_once_though_hubs_are_killed() {
    let said = measured("events", &["--count", "3000", "--kills", "2"]).await;
    assert!(said.contains("3,000 arrived"), "{said}");
    assert!(said.contains(" 0 of them twice"), "{said}");
}

//! The demo workspace in real Chromium: two people in one document, typing at once; two who watch a plan being made.

use std::path::Path;

use tempfile::TempDir;

use crate::npm::{install, node};
use crate::world::TestHub;

/// Runs a case against a hub with the demo; it takes pictures.
async fn run(case: &[&str]) {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    assert!(
        Path::new(&browser).exists(),
        "there is no {browser}: install chromium or set CHROMIUM"
    );
    install().await;
    let hub = TestHub::start(&[("TANDEM_DEMO", "on")]).await;
    let shots = TempDir::new().expect("a temporary folder");
    let folder = std::env::var("TANDEM_TEST_SHOTS");
    let folder = folder.unwrap_or_else(|_| shots.path().display().to_string());
    let url = hub.url("");
    let arguments: Vec<&str> = case.iter().copied().chain([&*url, &*folder]).collect();
    let said = node("browser.mjs", &arguments).await;
    println!("{}", said.trim());
    let pictures = std::fs::read_dir(&folder).expect("the pictures").count();
    assert!(pictures > 0, "no picture was taken");
}

#[tokio::test]
async fn two_people_edit_in_two_windows() {
    run(&[]).await;
}

#[tokio::test]
async fn two_people_watch_a_plan() {
    run(&["--plans"]).await;
}

//! The demo workspace in real Chromium: two people in one document, typing at once.

use std::path::Path;

use tempfile::TempDir;

use crate::npm::{install, node};
use crate::world::TestHub;

#[tokio::test]
async fn two_people_edit_in_two_windows() {
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
    let said = node("browser.mjs", &[&hub.url(""), &folder]).await;
    println!("{}", said.trim());
    let pictures = std::fs::read_dir(&folder).expect("the pictures").count();
    assert!(pictures > 0, "no picture was taken");
}

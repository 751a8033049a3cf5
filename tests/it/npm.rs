//! The real npm clients, one test per case of `tests/clients/run.mjs`, each against a hub of its own.
//!
//! Their modules are installed once (`npm ci --ignore-scripts`), by whichever test comes first.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::world::{TestHub, binary, within};

/// How long a case may take at most; each has a nearer deadline of its own.
const CASE: Duration = Duration::from_secs(150);

pub(crate) fn clients() -> PathBuf {
    binary::workspace().join("tests/clients")
}

/// Installs what the cases need, unless it is there.
pub(crate) async fn install() {
    let folder = clients();
    tokio::task::spawn_blocking(move || {
        let lock = File::create(binary::lock_path("npm")).expect("a lock file");
        lock.lock().expect("the lock");
        let changed = |file: &str| {
            let told = std::fs::metadata(folder.join(file));
            told.and_then(|told| told.modified()).ok()
        };
        // What was installed before the list of packages changed lacks some.
        if changed("node_modules/.package-lock.json") >= changed("package-lock.json") {
            return;
        }
        let output = std::process::Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .expect("npm is not there: install Node 20 or later");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "npm ci failed:\n{said}");
    })
    .await
    .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
}

/// Runs a script of the clients' folder; its output if it succeeded.
pub(crate) async fn node(script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("node");
    command.arg(script).args(arguments).current_dir(clients());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within(CASE, script, command.output()).await;
    let output = output.expect("node is not there: install Node 20 or later");
    let (said, why) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{script} {arguments:?} failed:\n{why}{said}"
    );
    said.into_owned()
}

async fn case(name: &str) {
    install().await;
    let hub = TestHub::start(&[]).await;
    let said = node("run.mjs", &[&hub.url(""), name]).await;
    println!("{}", said.trim());
}

macro_rules! cases {
    ($($test:ident = $name:literal;)*) => {
        const CASES: &[&str] = &[$($name),*];
        $(
            #[tokio::test]
            async fn $test() {
                case($name).await;
            }
        )*
    };
}

cases! {
    basic_yws15 = "basic-yws15";
    basic_yws21 = "basic-yws21";
    basic_yws31 = "basic-yws31";
    basic_hp34 = "basic-hp34";
    basic_hp48 = "basic-hp48";
    offline_yws15 = "offline-yws15";
    offline_yws21 = "offline-yws21";
    offline_yws31 = "offline-yws31";
    offline_hp34 = "offline-hp34";
    offline_hp48 = "offline-hp48";
    multiplex_hp34 = "multiplex-hp34";
    multiplex_hp48 = "multiplex-hp48";
    mixed = "mixed";
    many20 = "many20";
    readonly_yws31 = "readonly-yws31";
    readonly_hp34 = "readonly-hp34";
    readonly_hp48 = "readonly-hp48";
    token_yws31 = "token-yws31";
    token_yws15 = "token-yws15";
    token_hp34 = "token-hp34";
    token_hp48 = "token-hp48";
    token_shared_hp34 = "token-shared-hp34";
    token_shared_hp48 = "token-shared-hp48";
    revoked_removed_yws31 = "revoked-removed-yws31";
    revoked_logout_yws31 = "revoked-logout-yws31";
    revoked_viewer_yws31 = "revoked-viewer-yws31";
    revoked_removed_hp34 = "revoked-removed-hp34";
    revoked_logout_hp34 = "revoked-logout-hp34";
    revoked_viewer_hp34 = "revoked-viewer-hp34";
    revoked_removed_hp48 = "revoked-removed-hp48";
    revoked_logout_hp48 = "revoked-logout-hp48";
    revoked_viewer_hp48 = "revoked-viewer-hp48";
    awareness = "awareness";
    keepalive = "keepalive";
    names = "names";
}

#[tokio::test]
async fn every_case_has_its_test() {
    install().await;
    let listed = node("run.mjs", &["--list"]).await;
    assert_eq!(listed.lines().collect::<Vec<_>>(), CASES);
}

#[tokio::test]
async fn kill_9_under_a_real_client_loses_nothing_acknowledged() {
    install().await;
    let mut hub = TestHub::start(&[]).await;
    let url = hub.url("");
    let notes = hub.data().join("acknowledged");
    let notes = notes.to_str().expect("a path");
    let writer = Command::new("node")
        .args(["run.mjs", &url, "restart-writer", notes, "8"])
        .current_dir(clients())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is not there: install Node 20 or later");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1700)).await;
        hub.kill9().await;
        hub.restart_in_place().await;
    }
    let output = within(CASE, "the writer ends", writer.wait_with_output())
        .await
        .expect("output");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the writer failed:\n{said}");
    hub.kill9().await;
    hub.restart_in_place().await;
    let said = node("run.mjs", &[&url, "restart-check", notes]).await;
    println!("{}", said.trim());
}

//! The served OpenAPI document, held against the hub by a property-based tester (schemathesis): whatever it makes
//! up, the answer is one that the document describes, and never a 5xx.
//!
//! The tester is installed once, pinned, into the target folder. It works as an editor, with a fixed seed.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command as Blocking;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::world::people::workspace;
use crate::world::{TestHub, binary, within};

const TESTER: &str = "schemathesis==4.32.5";
/// Examples of each operation; with 60 a planted 5xx went unseen, with 300 it was found.
const EXAMPLES: &str = "300";
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// What never ends, and what would take the tester's own login away.
const LEFT_OUT: &str = "^/api/(stream|auth/(logout|password|sessions))";

/// Installs the tester, unless it is there; where its command is.
fn tester() -> PathBuf {
    let lock = File::create(binary::lock_path("schemathesis")).expect("a lock file");
    lock.lock().expect("the lock");
    let folder = binary::lock_path("x").with_file_name(TESTER.replace("==", "-"));
    let command = folder.join("bin/schemathesis");
    if command.exists() {
        return command;
    }
    let run = |program: PathBuf, arguments: &[&str]| {
        let output = Blocking::new(&program).args(arguments).output();
        let output = output.expect("python3 is not there: install Python 3.10 or later, with venv");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program:?} {arguments:?}:\n{said}"
        );
    };
    run(
        "python3".into(),
        &["-m", "venv", &folder.display().to_string()],
    );
    run(
        folder.join("bin/pip"),
        &["install", "--quiet", "--disable-pip-version-check", TESTER],
    );
    command
}

#[tokio::test]
async fn every_answer_is_one_that_the_document_describes() {
    let command = tokio::task::spawn_blocking(tester)
        .await
        .expect("the tester");
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let editor = hub.person("editor").await;
    owner.give(&hub, "p1", &editor, "editor").await;
    // Something of its own, so that it can also be found, changed and deleted.
    editor.project(&hub, "own").await;
    let document = editor.document(&hub, "own", "a.rs").await;
    let path = format!("/api/documents/{document}/versions");
    editor
        .post(&hub, &path, json!({ "name": "v1" }))
        .await
        .expect(201);
    let mut tester = Command::new(command);
    tester
        .arg("run")
        .arg(hub.url("/api/openapi.json"))
        .args(["--header", &format!("Authorization: Bearer {}", editor.token)])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"])
        .args(["--max-examples", EXAMPLES, "--seed", "20261126", "--generation-database", "none"])
        .args(["--exclude-path-regex", LEFT_OUT])
        .args(["--continue-on-failure", "--no-color", "--request-timeout", "30", "--warnings", "off"])
        .args(["--suppress-health-check", "all", "--workers", "1"])
        .current_dir(hub.data())
        .kill_on_drop(true);
    let output = within(PATIENCE, "the tester", tester.output())
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Its token must have been good to the end, or it has tested refusals alone.
    editor.get(&hub, "/api/projects/own").await;
    editor.get(&hub, "/api/auth/me").await.expect(200);
}

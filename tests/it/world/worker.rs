//! `tandem worker` as a child process, beside the hubs of a cluster.
//!
//! Owns the child and nothing else: on drop it kills that child alone.

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use tempfile::TempDir;

use super::hub::{command, settings};
use super::within;

/// How long a start may take.
const START: std::time::Duration = std::time::Duration::from_secs(30);

/// A worker of the test's own.
pub(crate) struct Worker {
    child: Child,
    _data: TempDir,
}

impl Worker {
    /// Starts one with these settings over the tests' own; returns once it works.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let data = TempDir::new().expect("a temporary folder");
        let mut command = command(&settings(env), data.path());
        // What it says of itself is of no use to a test that passes, and nobody would read it.
        command.stderr(std::process::Stdio::null());
        let mut child = command.arg("worker").spawn().expect("the worker starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let works = tokio::task::spawn_blocking(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            lines.any(|line| line == "working")
        });
        let works = within(START, "a worker that works", works).await;
        assert!(works.expect("a thread"), "the worker ended instead");
        Self { child, _data: data }
    }

    /// Kills it as a crash would.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().expect("the worker is killed");
        self.child.wait().expect("its end");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

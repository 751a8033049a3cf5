//! A Redis server of a test's own, on a free port, gone with the test.
//!
//! Never touches the machine's own server.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server, killed when dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server with further arguments; `PORT` in them stands for its port.
    pub fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        // Another process may take the port that was free a moment ago.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = launch(dir.path(), port, &arguments) {
                return Self {
                    child,
                    port,
                    arguments,
                    dir,
                };
            }
        }
        panic!("redis-server does not start:\n{}", log(dir.path()));
    }

    /// Its address, for a user without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, for signals.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory, where a test may put files for it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }

    /// Starts it again after a kill, on the same port.
    pub fn restart(&mut self) {
        for _ in 0..50 {
            if let Some(child) = launch(self.dir.path(), self.port, &self.arguments) {
                self.child = child;
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "redis-server does not start again:\n{}",
            log(self.dir.path())
        );
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have been killed by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago; low enough that a cluster's bus, 10,000 higher, has one too.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if port < 55_000 {
            return port;
        }
    }
}

/// `None` if the server ended instead of getting ready.
fn launch(dir: &Path, port: u16, arguments: &[String]) -> Option<Child> {
    let file = dir.join("log");
    std::fs::write(&file, "").expect("an empty log");
    let mut command = Command::new("redis-server");
    command
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ])
        .args([
            "--dir",
            &dir.display().to_string(),
            "--logfile",
            &file.display().to_string(),
        ]);
    if !arguments.iter().any(|text| text == "--port") {
        command.args(["--port", &port.to_string()]);
    }
    command.args(
        arguments
            .iter()
            .map(|text| text.replace("PORT", &port.to_string())),
    );
    let null = || Stdio::null();
    let mut child = command
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .spawn()
        .expect("redis-server");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(20) {
        if log(dir).contains("Ready to accept connections") {
            return Some(child);
        }
        if child.try_wait().expect("a state").is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

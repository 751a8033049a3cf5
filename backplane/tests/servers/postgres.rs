//! PostgreSQL servers of a test's own, on free ports, gone with the test: a primary and its replicas.
//!
//! Never touches the machine's own server. The server refuses to run as root: started by root, it runs as the
//! user `postgres`.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=30",
    "wal_level=replica",
    "hot_standby_feedback=on",
];

/// A running server, ended when dropped.
pub(crate) struct PostgresServer {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl PostgresServer {
    /// An empty one.
    pub(crate) fn start() -> Self {
        let dir = folder();
        let data = data(dir.path());
        let made = tool("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{made:?}");
        Self::launch(dir)
    }

    /// A streaming replica of this one.
    pub(crate) fn replica(&self) -> Self {
        let dir = folder();
        let copied = tool("pg_basebackup")
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &self.port.to_string(),
            ])
            .args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(data(dir.path()))
            .output()
            .expect("pg_basebackup");
        assert!(copied.status.success(), "{copied:?}");
        Self::launch(dir)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a crash would.
    pub(crate) fn stop(&mut self) {
        let data = data(self.dir.path());
        let stopped = tool("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data)
            .output();
        if stopped.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    /// Starts it again, on the port that it had.
    pub(crate) fn restart(&mut self) {
        self.child = run(self.dir.path(), self.port).expect("a server that starts again");
    }

    fn launch(dir: TempDir) -> Self {
        // Another process may take the port that was free a moment ago.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = run(dir.path(), port) {
                return Self { child, port, dir };
            }
        }
        panic!("postgres does not start:\n{}", log(dir.path()));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// `None` if the server ended instead of getting ready.
fn run(dir: &Path, port: u16) -> Option<Child> {
    let file = std::fs::File::create(dir.join("log")).expect("a log");
    let mut command = tool("postgres");
    command
        .arg("-D")
        .arg(data(dir))
        .args(["-p", &port.to_string()]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("postgres");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(30) {
        if child.try_wait().expect("a state").is_some() {
            return None;
        }
        let ready = log(dir).contains("ready to accept");
        if ready && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// One of the server's programs, run by the user who may.
fn tool(name: &str) -> Command {
    let folder = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned())
        .unwrap_or_default();
    let program = Path::new(&folder).join(name);
    let program = if program.exists() {
        program
    } else {
        PathBuf::from(name)
    };
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

/// A folder that the server's user may write.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    if is_root() {
        let id = |flag| {
            let told = Command::new("id").args([flag, "postgres"]).output();
            let told = told.expect("id").stdout;
            String::from_utf8_lossy(&told).trim().parse::<u32>().ok()
        };
        chown(dir.path(), id("-u"), id("-g")).expect("a user `postgres`");
    }
    dir
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

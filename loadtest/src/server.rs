//! The server under measurement: builds and starts a hub or a bare loop on a core of its own, or
//! attaches to a running hub, and stops what it started, also when the run fails.
//!
//! Never talks to it beyond reading the address that it prints.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::process;

/// What a hub that is measured is started with: limits that a measurement runs against on purpose are
/// off, and its allocator gives memory back at once. Else what hashing a password has taken and left
/// would be lent to the sessions that come next, and hide what they cost.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("MIMALLOC_PURGE_DELAY", "0"),
    ("TANDEM_SESSION_PUBLISH_RATE", "0"),
    ("TANDEM_SESSION_FRAME_RATE", "0"),
    ("TANDEM_LIMITS_SESSIONS_PER_USER", "0"),
    ("TANDEM_RATE_ENABLED", "false"),
];
/// How long a server may take to print its address.
const START: Duration = Duration::from_secs(30);
/// How long a server may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(15);
/// Lines of a server's own output kept for an error message.
const LOG_LINES: usize = 30;
/// Both the hub and the bare loop announce themselves so.
const ANNOUNCEMENT: &str = "listening on http://";

/// Which hub to measure, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Measure the hub at this address, e.g. http://127.0.0.1:8080; without it, one is built and started
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// Process id of the hub at --target, to read its memory and processor time
    #[arg(long, requires = "target")]
    pid: Option<u32>,
    /// Login of the user to measure as
    #[arg(long, default_value = "alice")]
    pub(crate) user: String,
    /// Password of that user
    #[arg(long, default_value = "alice-demo-password")]
    pub(crate) password: String,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tandem.
    Hub,
    /// The bare loop, one write per frame.
    Plain,
    /// The bare loop, one write for all that waits for a socket.
    Batched,
    /// The bare loop, one write per socket for all that one read brought.
    Floor,
}

impl Kind {
    /// As it is called in summaries.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Plain => "plain bare loop",
            Self::Batched => "batched bare loop",
            Self::Floor => "floor",
        }
    }
}

/// A running server; dropping it stops it, if it was started here.
#[derive(Debug)]
pub(crate) struct Server {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process, if known.
    pub(crate) pid: Option<u32>,
    child: Option<Child>,
    own: Option<Own>,
}

/// What a hub of one's own is started from.
#[derive(Debug)]
struct Own {
    binary: PathBuf,
    data: TempDir,
    core: Option<usize>,
    /// Settings beside the usual ones.
    settings: Vec<(String, String)>,
}

impl Server {
    /// The hub: that of `--target`, or one of its own, on the given core.
    pub(crate) fn hub(target: &Target, core: Option<usize>) -> Result<Self> {
        if let Some(url) = &target.target {
            return Ok(Self {
                kind: Kind::Hub,
                address: resolve(url)?,
                pid: target.pid,
                child: None,
                own: None,
            });
        }
        Self::launch(Own {
            binary: build_hub()?,
            data: data_folder()?,
            core,
            settings: Vec::new(),
        })
    }

    /// A hub of one's own with further settings, on any core.
    pub(crate) fn own_hub(binary: &Path, settings: Vec<(String, String)>) -> Result<Self> {
        Self::launch(Own {
            binary: binary.to_owned(),
            data: data_folder()?,
            core: None,
            settings,
        })
    }

    fn launch(own: Own) -> Result<Self> {
        let mut command = Command::new(&own.binary);
        command
            .env("TANDEM_BIND", "127.0.0.1:0")
            .env("TANDEM_DATA_DIR", own.data.path())
            .envs(ENVIRONMENT.iter().copied())
            .envs(own.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(own.data.path())
            .stdin(Stdio::null());
        let mut server = Self::start(Kind::Hub, command, own.core)?;
        server.own = Some(own);
        Ok(server)
    }

    /// Stops a hub of one's own and starts it again on the same data: tokens stay good, and its
    /// memory knows nothing of the passwords that were hashed for them. Leaves a `--target` alone.
    pub(crate) fn restart(mut self) -> Result<Self> {
        let Some(own) = self.own.take() else {
            return Ok(self);
        };
        self.stop();
        Self::launch(own)
    }

    /// A bare loop: this binary again, under its hidden subcommand. It ends when its stdin closes.
    pub(crate) fn bare(kind: Kind, core: Option<usize>) -> Result<Self> {
        let binary = std::env::current_exe().map_err(Error::io("finding the own binary"))?;
        let mut command = Command::new(binary);
        let mode = match kind {
            Kind::Plain => "plain",
            Kind::Floor => "floor",
            Kind::Hub | Kind::Batched => "batched",
        };
        command
            .args(["bare-loop", "--mode", mode])
            .stdin(Stdio::piped());
        Self::start(kind, command, core)
    }

    /// `http://address`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process, or why a figure needs it.
    pub(crate) fn need_pid(&self) -> Result<u32> {
        self.pid.ok_or_else(|| {
            Error::Argument("with --target, memory needs --pid, the hub's process id".into())
        })
    }

    fn start(kind: Kind, mut command: Command, core: Option<usize>) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn_on(core, command).map_err(Error::io(kind.label()))?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (tell, told) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            drain(stderr, log.clone(), None);
        }
        if let Some(stdout) = child.stdout.take() {
            drain(stdout, log.clone(), Some(tell));
        }
        // From here on the guard stops the child, whatever happens.
        let mut server = Self {
            kind,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid: Some(child.id()),
            child: Some(child),
            own: None,
        };
        match told.recv_timeout(START) {
            Ok(address) => server.address = resolve(&address)?,
            Err(_) => {
                let log = log.lock().unwrap_or_else(PoisonError::into_inner);
                let said: Vec<_> = log.iter().cloned().collect();
                return Err(Error::Server(format!(
                    "the {} did not say where it listens; it said:\n{}",
                    kind.label(),
                    said.join("\n")
                )));
            }
        }
        Ok(server)
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself: nothing to stop then.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!(
            "the {} did not stop on SIGTERM in {STOP:?}: killing it",
            self.kind.label()
        );
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn data_folder() -> Result<TempDir> {
    TempDir::with_prefix("tandem-loadtest-").map_err(Error::io("making a data directory"))
}

/// Starts a child bound to a core from its first instruction: it inherits the affinity of the thread
/// that starts it.
fn spawn_on(core: Option<usize>, mut command: Command) -> std::io::Result<Child> {
    let Some(core) = core else {
        return command.spawn();
    };
    let spawner = std::thread::spawn(move || {
        process::pin_thread(core).map_err(std::io::Error::other)?;
        command.spawn()
    });
    spawner
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the spawning thread failed")))
}

/// Reads an output to its end, keeps its last lines, and tells the first address announced.
fn drain(
    output: impl Read + Send + 'static,
    log: Arc<Mutex<VecDeque<String>>>,
    mut tell: Option<mpsc::Sender<String>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if let Some((_, address)) = line.split_once(ANNOUNCEMENT)
                && let Some(tell) = tell.take()
            {
                let address = address.split_whitespace().next().unwrap_or_default();
                // Nobody listens any more if the start has timed out.
                let _ = tell.send(format!("http://{address}"));
            }
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

/// The hub's binary: the one that was named, from whatever folder it is started, or one that is built now.
///
/// # Errors
/// It is not there, or can't be built.
pub(crate) fn hub(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => path.canonicalize().map_err(|error| {
            let path = path.display();
            Error::Argument(format!("the hub {path} can't be used: {error}"))
        }),
        None => build_hub(),
    }
}

/// Builds the hub in release mode, with cargo's own progress on stderr; returns its binary.
pub(crate) fn build_hub() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args(["build", "--release", "-p", "hub", "--bin", "tandem"])
        .args([
            "--message-format=json-render-diagnostics",
            "--manifest-path",
            manifest,
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(Error::io("running cargo"))?;
    if !output.status.success() {
        return Err(Error::Server("the hub does not build".into()));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "tandem")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .ok_or_else(|| Error::Server("cargo built no binary named tandem".into()))
}

/// The socket address of an `http://host:port` address.
fn resolve(url: &str) -> Result<SocketAddr> {
    let wrong = || {
        Error::Argument(format!(
            "{url} is not an address like http://127.0.0.1:8080"
        ))
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let authority = rest.split('/').next().unwrap_or_default();
    let with_port = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut found = with_port.to_socket_addrs().map_err(|_| wrong())?;
    found.next().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(resolve("http://127.0.0.1:81/").unwrap().port(), 81);
        assert_eq!(resolve("http://127.0.0.1").unwrap().port(), 80);
        assert!(resolve("https://127.0.0.1").is_err());
        assert!(resolve("http://127.0.0.1:notaport").is_err());
    }
}

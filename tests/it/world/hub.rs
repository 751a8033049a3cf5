//! The real binary as a child process: started on a free port and a data folder of its own, killed,
//! terminated, started again.
//!
//! Owns the child and nothing else of the machine: on drop it kills that child alone, and tells the
//! hub's log if the test has failed.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Person, binary, eventually};

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// Settings of every test's hub, which its own override: no limits on what tests do a lot.
const QUIET: &[(&str, &str)] = &[
    ("TANDEM_BIND", "127.0.0.1:0"),
    ("TANDEM_DEMO", "off"),
    ("TANDEM_RATE_ENABLED", "false"),
    ("TANDEM_AUTH_LOGIN_PER_MINUTE", "0"),
    ("TANDEM_AUTH_LOGIN_PER_MINUTE_ADDRESS", "0"),
    ("TANDEM_SESSION_FRAME_RATE", "0"),
    ("TANDEM_SESSION_PUBLISH_RATE", "0"),
];

/// A hub of the test's own.
pub(crate) struct TestHub {
    child: Child,
    data: Arc<TempDir>,
    env: Vec<(String, String)>,
    address: SocketAddr,
    log: Log,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps what the child says, on a thread: a runtime that ends with a failing test reads nothing.
    fn keep(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = log.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
    }
}

pub(super) fn command(env: &[(String, String)], data: &Path) -> Command {
    let mut command = Command::new(binary::path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TANDEM_") {
            command.env_remove(name);
        }
    }
    command.env("TANDEM_DATA_DIR", data);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(super) fn settings(env: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = QUIET.iter().chain(env);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl TestHub {
    /// Starts a hub with these settings over the tests' own.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let data = TempDir::new().expect("a temporary folder");
        Self::spawn(settings(env), Arc::new(data)).await
    }

    /// Starts a second hub, with the data of this one once that has ended.
    async fn spawn(env: Vec<(String, String)>, data: Arc<TempDir>) -> Self {
        tokio::task::spawn_blocking(move || Self::spawn_blocking(env, data))
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    fn spawn_blocking(env: Vec<(String, String)>, data: Arc<TempDir>) -> Self {
        let mut child = command(&env, data.path()).spawn().expect("the hub starts");
        let log = Log::default();
        log.keep(child.stderr.take().expect("piped"));
        let (told, listening) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("listening on ") {
                    // The test may have given up.
                    let _ = told.send(url.trim().to_owned());
                }
            }
        });
        let url = match listening.recv_timeout(START) {
            Ok(url) => url,
            Err(why) => {
                let _ = child.kill();
                let status = child.wait();
                let why = match why {
                    RecvTimeoutError::Timeout => "did not listen in time",
                    RecvTimeoutError::Disconnected => "ended instead of listening",
                };
                panic!("the hub {why} ({status:?}); its log:\n{}", log.text());
            }
        };
        let (_, address) = url.split_once("://").expect("a URL");
        Self {
            address: address.parse().expect("an address and port"),
            child,
            data,
            env,
            log,
        }
    }

    /// Runs the binary with these arguments until it ends by itself, within the time of a start.
    pub(crate) fn run(env: &[(&str, &str)], data: &Path, arguments: &[&str]) -> Output {
        let mut child = command(&settings(env), data)
            .args(arguments)
            .spawn()
            .expect("the hub starts");
        let until = Instant::now() + START;
        while child.try_wait().expect("a child").is_none() {
            if Instant::now() > until {
                let _ = child.kill();
                let output = child.wait_with_output().expect("output");
                panic!("the hub did not end by itself: {output:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.wait_with_output().expect("output")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the hub runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("VmRSS of the hub")
    }

    /// A new user.
    pub(crate) async fn person(&self, login: &str) -> Person {
        Person::register(self, login).await
    }

    /// Kills it as a power cut would: no handler runs.
    pub(crate) async fn kill9(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.ended(Duration::from_secs(10)).await;
    }

    /// Asks it to leave.
    pub(crate) fn ask_to_leave(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Asks it to read its files again.
    pub(crate) fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a pid");
        #[expect(unsafe_code, reason = "std can send SIGKILL alone")]
        // SAFETY: plain system call; the child is ours and not yet waited for, so the id is its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal} could not be sent");
    }

    /// Asks it to leave, and waits until it has; how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_leave();
        self.ended(Duration::from_secs(20)).await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self, most: Duration) -> ExitStatus {
        let until = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "the hub did not end within {most:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts it again on its data, on any free port.
    pub(crate) async fn restart(&mut self) {
        self.start_again("127.0.0.1:0".to_owned()).await;
    }

    /// Starts it again on its data and on the address that it had.
    pub(crate) async fn restart_in_place(&mut self) {
        self.start_again(self.address.to_string()).await;
    }

    /// Starts it again on its data with other settings, once it has ended.
    pub(crate) async fn restarted_with(mut self, env: &[(&str, &str)]) -> Self {
        assert!(!self.is_alive(), "end the hub before starting it again");
        let mut all = self.env.clone();
        all.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Self::spawn(all, Arc::clone(&self.data)).await
    }

    async fn start_again(&mut self, bind: String) {
        assert!(!self.is_alive(), "end the hub before starting it again");
        let mut env = self.env.clone();
        env.push(("TANDEM_BIND".to_owned(), bind));
        *self = Self::spawn(env, Arc::clone(&self.data)).await;
    }

    /// Waits until it answers `/readyz`.
    pub(crate) async fn ready(&self) {
        let client = reqwest::Client::new();
        eventually("the hub is ready", || async {
            let answer = client.get(self.url("/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "---- log of the hub ----\n{}------------------------",
                self.log()
            );
        }
    }
}

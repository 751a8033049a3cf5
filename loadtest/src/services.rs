//! Redis, PostgreSQL, RabbitMQ and hubs of one's own: on a free port, in a folder of their own, and at the
//! mercy of whoever started them: stopped, killed, paused, started again on the same port and data.
//!
//! Never touches a server that it did not start. Everything ends when it is dropped, and also when
//! the process that started it dies without a word.

mod family;
mod hub;
mod port;
mod postgres;
mod rabbit;
mod redis;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rustix::process::Signal;
use tempfile::TempDir;

use family::Family;
pub use hub::Hub;
pub use postgres::Postgres;
pub use rabbit::Rabbit;
pub use redis::{Appendonly, Redis};

/// How long a server may take until it answers: the slowest needs 5 s of a quiet machine.
const START: Duration = Duration::from_secs(90);
/// How long a server may take to end when asked, before it is killed.
const STOP: Duration = Duration::from_secs(30);
/// How often it is asked whether it answers.
const PROBE: Duration = Duration::from_millis(20);
/// How many ports are tried before a server counts as broken.
const PORTS: usize = 5;
/// What of a server's log an error quotes, in lines.
const LOG_LINES: usize = 30;

/// Why a service is not there.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that is needed is not installed, or a user is missing.
    #[error("{0} was not found on this machine")]
    Missing(String),
    /// It ended, or did not answer in time.
    #[error("{name} {why}; its log ends with:\n{log}")]
    Silent {
        /// Which.
        name: &'static str,
        /// What happened.
        why: String,
        /// The end of its log.
        log: String,
    },
}

impl ServiceError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// How a kind of server is started and asked.
pub trait Recipe: Send + Sync + 'static {
    /// What it is called in errors.
    fn name(&self) -> &'static str;
    /// The system's user that it runs as when this process is root.
    fn user(&self) -> Option<&'static str>;
    /// Makes its folder ready, once; `home` is empty and belongs to its user.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn prepare(&self, home: &Path) -> Result<(), ServiceError>;
    /// What must run beside it, and the port on which that listens.
    ///
    /// # Errors
    /// [`ServiceError::Missing`].
    fn companion(&self, home: &Path) -> Result<Option<(Command, u16)>, ServiceError>;
    /// The server itself, in the foreground, listening on `port`.
    ///
    /// # Errors
    /// [`ServiceError::Missing`].
    fn command(&self, home: &Path, port: u16) -> Result<Command, ServiceError>;
    /// Whether it serves clients at `address` now.
    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool>;
    /// The signal that asks it to end soon.
    fn farewell(&self) -> Signal;
    /// Where clients find it.
    fn url(&self, address: SocketAddr) -> String;
}

/// A server of one's own. Dropping it kills it.
pub struct Service {
    recipe: Box<dyn Recipe>,
    home: PathBuf,
    port: u16,
    running: Option<Family>,
    companion: Option<Family>,
    /// Removed after the processes have ended: fields are dropped in their order.
    _folder: Option<TempDir>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.recipe.name())
            .field("port", &self.port)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Starts a server in a temporary folder, and waits until it answers.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn start(recipe: impl Recipe) -> Result<Self, ServiceError> {
        let prefix = format!("tandem-{}-", recipe.name());
        let folder = TempDir::with_prefix(prefix).map_err(ServiceError::io("making a folder"))?;
        let home = folder.path().to_owned();
        Self::start_with(recipe, home, Some(folder)).await
    }

    /// As [`Self::start`], in a new folder that stays.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn start_in(recipe: impl Recipe, home: &Path) -> Result<Self, ServiceError> {
        std::fs::create_dir_all(home).map_err(ServiceError::io(home.display().to_string()))?;
        Self::start_with(recipe, home.to_owned(), None).await
    }

    async fn start_with(
        recipe: impl Recipe,
        home: PathBuf,
        folder: Option<TempDir>,
    ) -> Result<Self, ServiceError> {
        give_to(recipe.user(), &home)?;
        recipe.prepare(&home)?;
        let mut service = Self {
            recipe: Box::new(recipe),
            home,
            port: 0,
            running: None,
            companion: None,
            _folder: folder,
        };
        service.start_companion().await?;
        let mut tries = 0;
        loop {
            tries += 1;
            service.port = port::free().map_err(ServiceError::io("looking for a port"))?;
            match service.start_again().await {
                // Somebody else may have taken the port between the look and the start.
                Err(_) if tries < PORTS && !port::is_free(service.port) => {}
                outcome => return outcome.map(|()| service),
            }
        }
    }

    /// Where it listens, also while it does not.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The address that clients are given.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same server reached by another way, for example through a proxy.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> String {
        self.recipe.url(address)
    }

    /// Its folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// The id of its first process; none while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Family::id)
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(Family::is_alive)
    }

    /// Starts it on its port and data, and waits until it answers. Nothing happens if it runs.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn start_again(&mut self) -> Result<(), ServiceError> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.recipe.command(&self.home, self.port)?;
        become_user(&mut command, self.recipe.user())?;
        self.running = Some(self.spawn(command)?);
        let until = Instant::now() + START;
        loop {
            if self.recipe.answers(self.address()).await && self.is_running() {
                return Ok(());
            }
            if !self.is_running() {
                return Err(self.silent("ended instead of answering"));
            }
            if Instant::now() > until {
                self.kill().await;
                return Err(self.silent(&format!("did not answer within {START:?}")));
            }
            tokio::time::sleep(PROBE).await;
        }
    }

    /// Asks it to end, and waits until it has; kills it if it does not.
    pub async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        running.resume();
        running.ask(self.recipe.farewell());
        let until = Instant::now() + STOP;
        while running.is_alive() && Instant::now() < until {
            tokio::time::sleep(PROBE).await;
        }
        // What it left behind, or all of it.
        running.kill().await;
    }

    /// Kills it and every process of it as a power cut would.
    pub async fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().await;
        }
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn restart(&mut self) -> Result<(), ServiceError> {
        self.stop().await;
        self.start_again().await
    }

    /// Stops every process of it where it stands: connections stay, nothing answers.
    pub fn pause(&self) {
        if let Some(running) = &self.running {
            running.pause();
        }
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        if let Some(running) = &self.running {
            running.resume();
        }
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }

    fn silent(&self, why: &str) -> ServiceError {
        ServiceError::Silent {
            name: self.recipe.name(),
            why: why.to_owned(),
            log: self.log_tail(),
        }
    }

    fn spawn(&self, mut command: Command) -> Result<Family, ServiceError> {
        let path = self.log_path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(ServiceError::io(path.display().to_string()))?;
        command
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        Family::spawn(command).map_err(ServiceError::io(self.recipe.name()))
    }

    async fn start_companion(&mut self) -> Result<(), ServiceError> {
        let Some((mut command, port)) = self.recipe.companion(&self.home)? else {
            return Ok(());
        };
        become_user(&mut command, self.recipe.user())?;
        self.companion = Some(self.spawn(command)?);
        let until = Instant::now() + START;
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            let is_alive = self.companion.as_mut().is_some_and(Family::is_alive);
            if !is_alive || Instant::now() > until {
                return Err(self.silent("has a companion that does not answer"));
            }
            tokio::time::sleep(PROBE).await;
        }
        Ok(())
    }
}

/// Makes a command run as the server's own user where this process is root: some refuse root.
fn become_user(command: &mut Command, user: Option<&str>) -> Result<(), ServiceError> {
    if let Some((uid, gid)) = ids(user)? {
        command.uid(uid).gid(gid);
    }
    Ok(())
}

/// Gives a folder to the server's own user.
fn give_to(user: Option<&str>, folder: &Path) -> Result<(), ServiceError> {
    if let Some((uid, gid)) = ids(user)? {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid))
            .map_err(ServiceError::io(folder.display().to_string()))?;
    }
    Ok(())
}

/// User and group of a name; `None` if this process must stay what it is.
fn ids(user: Option<&str>) -> Result<Option<(u32, u32)>, ServiceError> {
    let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(None);
    };
    let users =
        std::fs::read_to_string("/etc/passwd").map_err(ServiceError::io("reading /etc/passwd"))?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(user) {
            return None;
        }
        let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    found
        .map(Some)
        .ok_or_else(|| ServiceError::Missing(format!("the user {user}")))
}

/// Where a program is: the first of `folders` that has it, else on the `PATH`.
fn program(name: &str, folders: &[PathBuf]) -> Result<PathBuf, ServiceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders
        .iter()
        .chain(&on_path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| ServiceError::Missing(name.to_owned()))
}

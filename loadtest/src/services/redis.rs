//! A Redis server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use futures::future::BoxFuture;
use rustix::process::Signal;

use super::{Recipe, ServiceError, program};

/// What survives a restart of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appendonly {
    /// Nothing.
    Off,
    /// All but the last second.
    EverySecond,
    /// Everything that was answered.
    Always,
}

/// How a Redis server is started.
#[derive(Debug, Clone)]
pub struct Redis {
    /// What survives a restart.
    pub appendonly: Appendonly,
    /// Arguments of `redis-server` beyond those.
    pub arguments: Vec<String>,
}

impl Redis {
    /// One that keeps that much.
    #[must_use]
    pub fn keeping(appendonly: Appendonly) -> Self {
        Self {
            appendonly,
            arguments: Vec::new(),
        }
    }
}

/// Removes what a stopped Redis server would read at its next start: it comes back empty.
///
/// # Errors
/// [`ServiceError::Io`].
pub(super) fn forget(home: &Path) -> Result<(), ServiceError> {
    let folder = home.join("appendonlydir");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(ServiceError::io(folder.display().to_string()))?;
    }
    Ok(())
}

impl super::Service {
    /// Kills a Redis server and starts it with nothing of what it held.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn restart_empty(&mut self) -> Result<(), ServiceError> {
        self.kill().await;
        forget(self.home())?;
        self.start_again().await
    }
}

impl Recipe for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn user(&self) -> Option<&'static str> {
        None
    }

    fn prepare(&self, _home: &Path) -> Result<(), ServiceError> {
        Ok(())
    }

    fn companion(&self, _home: &Path) -> Result<Option<(Command, u16)>, ServiceError> {
        Ok(None)
    }

    fn command(&self, home: &Path, port: u16) -> Result<Command, ServiceError> {
        let mut command = Command::new(program("redis-server", &[])?);
        let (appendonly, fsync) = match self.appendonly {
            Appendonly::Off => ("no", "no"),
            Appendonly::EverySecond => ("yes", "everysec"),
            Appendonly::Always => ("yes", "always"),
        };
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", appendonly])
            .args(["--appendfsync", fsync])
            .arg("--dir")
            .arg(home)
            .args(&self.arguments);
        Ok(command)
    }

    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool> {
        // While it loads its file it answers with an error.
        Box::pin(super::port::says(address, b"PING\r\n", b"+PONG"))
    }

    fn farewell(&self) -> Signal {
        Signal::TERM
    }

    fn url(&self, address: SocketAddr) -> String {
        format!("redis://{address}")
    }
}

//! A hub as a service: the `tandem` binary with settings from its environment alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::future::BoxFuture;
use rustix::process::Signal;

use super::{Recipe, ServiceError, port};

/// What asks whether it lives; not whether all that it needs is there.
const HELLO: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n";
const WELCOME: &[u8] = b"HTTP/1.1 200";

/// How a hub is started.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The `tandem` binary.
    pub binary: PathBuf,
    /// Settings, as environment variables; address and data directory are its own.
    pub settings: Vec<(String, String)>,
}

impl Recipe for Hub {
    fn name(&self) -> &'static str {
        "hub"
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
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TANDEM_") {
                command.env_remove(name);
            }
        }
        command
            .env("TANDEM_BIND", format!("127.0.0.1:{port}"))
            .env("TANDEM_DATA_DIR", home.join("data"))
            // What loads a hub asks more often than people do.
            .env("TANDEM_RATE_ENABLED", "false")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool> {
        Box::pin(port::says(address, HELLO, WELCOME))
    }

    fn farewell(&self) -> Signal {
        Signal::TERM
    }

    fn url(&self, address: SocketAddr) -> String {
        format!("http://{address}")
    }
}

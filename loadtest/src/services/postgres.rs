//! A PostgreSQL server: made by `initdb`, trusting whoever is on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::future::BoxFuture;
use rustix::process::Signal;

use super::{Recipe, ServiceError, become_user, program};

/// What a client says first: protocol 3.0, user and database `postgres`.
const HELLO: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
/// Authenticated, as everyone is trusted; while it starts or recovers, an error comes instead.
const WELCOME: &[u8] = b"R";

/// How a PostgreSQL server is started.
#[derive(Debug, Clone, Default)]
pub struct Postgres {
    /// Settings beyond the tests' own, as `name=value`.
    pub settings: Vec<String>,
}

impl Recipe for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn user(&self) -> Option<&'static str> {
        Some("postgres")
    }

    fn prepare(&self, home: &Path) -> Result<(), ServiceError> {
        let mut command = Command::new(program("initdb", &folders())?);
        command
            .args(["--no-sync", "--no-instructions", "-A", "trust"])
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(home.join("data"))
            .current_dir(home);
        become_user(&mut command, self.user())?;
        let output = command.output().map_err(ServiceError::io("initdb"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(ServiceError::Silent {
            name: "initdb",
            why: output.status.to_string(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn companion(&self, _home: &Path) -> Result<Option<(Command, u16)>, ServiceError> {
        Ok(None)
    }

    fn command(&self, home: &Path, port: u16) -> Result<Command, ServiceError> {
        let mut command = Command::new(program("postgres", &folders())?);
        command.arg("-D").arg(home.join("data"));
        command.args(["-p", &port.to_string()]);
        let own = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=32MB",
            "max_connections=200",
        ];
        let settings = self.settings.iter().map(String::as_str);
        for setting in own.into_iter().chain(settings) {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool> {
        Box::pin(super::port::says(address, HELLO, WELCOME))
    }

    fn farewell(&self) -> Signal {
        // The fast shutdown: clients are cut off, what they committed is written.
        Signal::INT
    }

    fn url(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/postgres")
    }
}

/// Where PostgreSQL's programs are: what `pg_config` says, else Debian's folders, newest first.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let told = String::from_utf8_lossy(&output.stdout);
        folders.push(PathBuf::from(told.trim()));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    folders.extend(found.into_iter().rev().map(|(_, folder)| folder));
    folders
}

//! A RabbitMQ server with an Erlang port mapper of its own, so that it meets no other server's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::future::BoxFuture;
use rustix::process::Signal;

use super::{Recipe, ServiceError, port, program};

/// What an AMQP 0-9-1 client says first.
const HELLO: &[u8] = b"AMQP\0\0\x09\x01";
/// A method frame on channel 0: `connection.start`.
const WELCOME: &[u8] = &[1, 0, 0];
/// Schedulers that wait for work asleep: the machine is shared with what is tested.
const QUIET: &str = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";

/// How a RabbitMQ server is started.
#[derive(Debug, Clone)]
pub struct Rabbit {
    mapper: u16,
    distribution: u16,
}

impl Rabbit {
    /// One on ports that are free now.
    ///
    /// # Errors
    /// [`ServiceError::Io`] if there are none.
    pub fn new() -> Result<Self, ServiceError> {
        let free = || port::free().map_err(ServiceError::io("looking for a port"));
        Ok(Self {
            mapper: free()?,
            distribution: free()?,
        })
    }
}

impl super::Service {
    /// Whether a RabbitMQ server has the name of a quorum queue on disk. Version 3.10 writes it some seconds
    /// late, and one that is killed before comes back with a queue that nobody leads.
    #[must_use]
    pub fn has_saved(&self, queue: &str) -> bool {
        let node = node(self.address().port());
        let home = self.home().join("mnesia").join(&node);
        let names = std::fs::read(home.join("quorum").join(&node).join("names.dets"));
        let names = names.unwrap_or_default();
        names.windows(queue.len()).any(|at| at == queue.as_bytes())
    }
}

/// The server's Erlang name.
fn node(port: u16) -> String {
    format!("tandem{port}@localhost")
}

impl Recipe for Rabbit {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn user(&self) -> Option<&'static str> {
        Some("rabbitmq")
    }

    fn prepare(&self, home: &Path) -> Result<(), ServiceError> {
        // In place of the machine's own settings, which name the port of the machine's own server.
        for (name, content) in [
            ("plugins", "[].\n"),
            ("rabbitmq.conf", ""),
            ("environment.conf", ""),
        ] {
            let path = home.join(name);
            std::fs::write(&path, content).map_err(ServiceError::io(path.display().to_string()))?;
        }
        Ok(())
    }

    fn companion(&self, home: &Path) -> Result<Option<(Command, u16)>, ServiceError> {
        let mut command = Command::new(program("epmd", &[])?);
        command
            .args(["-address", "127.0.0.1", "-port", &self.mapper.to_string()])
            .env("HOME", home);
        Ok(Some((command, self.mapper)))
    }

    fn command(&self, home: &Path, port: u16) -> Result<Command, ServiceError> {
        // Debian's wrapper on the PATH changes user and folder: the script behind it does neither.
        let scripts = [PathBuf::from("/usr/lib/rabbitmq/bin")];
        let mut command = Command::new(program("rabbitmq-server", &scripts)?);
        command
            .env("HOME", home)
            // Its script then becomes the server instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("RABBITMQ_NODENAME", node(port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("logs"))
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", home.join("environment.conf"))
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("none.config"))
            .env("ERL_FLAGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", QUIET);
        Ok(command)
    }

    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool> {
        Box::pin(port::says(address, HELLO, WELCOME))
    }

    fn farewell(&self) -> Signal {
        Signal::TERM
    }

    fn url(&self, address: SocketAddr) -> String {
        format!("amqp://guest:guest@{address}/%2f")
    }
}

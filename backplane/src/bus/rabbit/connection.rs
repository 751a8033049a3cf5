//! One connection to RabbitMQ: opened within a bound, and cut when it must end now.
//!
//! lapin's own recovery stays off: it gives up after some tries. Never decides when to connect.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, Error, ErrorKind};

use crate::bus::BusError;

/// How long the TCP connection may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the AMQP handshake may take after that.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Seconds between heartbeats, unless the address says otherwise; after two without any sign the
/// connection counts as broken.
const HEARTBEAT: u16 = 5;

/// Where RabbitMQ is, and as whom to connect.
pub(super) struct Target {
    uri: AMQPUri,
    ca: Option<String>,
    name: String,
}

impl Target {
    /// # Errors
    /// The address can't be read; the reason names no part of it, as it may hold a password.
    pub(super) fn new(url: &str, ca: Option<String>, name: String) -> Result<Self, BusError> {
        let parsed: Result<AMQPUri, String> = url.parse();
        let mut uri = parsed
            .map_err(|_| BusError::Refused("the address of RabbitMQ can't be read".to_owned()))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self { uri, ca, name })
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// A second hold on a connection's socket.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn keep(&self, socket: &impl AsFd) -> std::io::Result<()> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(TcpStream::from(copy));
        Ok(())
    }

    /// Ends the connection as if the network had: lapin's thread of it sees that and ends, which it would not do
    /// if its connection were only forgotten in the middle of a handshake.
    pub(super) fn cut(&self) {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // It may be closed already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

/// Connects, once. `purpose` stands in the connection's name.
pub(super) async fn open(target: &Target, purpose: &str) -> Result<(Connection, Socket), Error> {
    let socket = Socket::default();
    let kept = socket.clone();
    let tls = OwnedTLSConfig {
        identity: None,
        cert_chain: target.ca.clone(),
    };
    let name = format!("{} ({purpose})", target.name);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime()?;
    let connecting = Connection::connector(
        target.uri.clone(),
        runtime,
        async move |uri: AMQPUri, runtime| {
            let tcp = async {
                let address = (uri.authority.host.clone(), uri.authority.port);
                let resolved = runtime.to_socket_addrs(address);
                let stream = AsyncTcpStream::connect(&runtime, resolved).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    kept.keep(plain.get_ref())?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await,
                }
            };
            let connected = tokio::time::timeout(CONNECT_WITHIN, tcp).await;
            connected
                .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
                .map_err(Error::from)
        },
        properties,
    );
    match tokio::time::timeout(CONNECT_WITHIN + HANDSHAKE_WITHIN, connecting).await {
        Ok(connected) => connected.map(|connection| (connection, socket)),
        Err(_) => {
            socket.cut();
            Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
        }
    }
}

/// A failure as the bus tells it.
pub(super) fn failure(error: &Error) -> BusError {
    match refusal(error) {
        Some(reason) => BusError::Refused(reason),
        None => BusError::Unavailable(error.to_string()),
    }
}

/// What waiting can't mend, in words: wrong user or password, no such virtual host, no right to it, queues or
/// exchanges of these names that are others.
fn refusal(error: &Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => {
            let final_one = matches!(
                amqp.kind(),
                AMQPErrorKind::Soft(
                    AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED
                ) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
            );
            final_one.then(|| amqp.get_message().to_string())
        }
        ErrorKind::AuthProviderError(reason) => Some(reason.clone()),
        // What TLS says of a certificate.
        ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            Some(io.to_string())
        }
        _ => None,
    }
}

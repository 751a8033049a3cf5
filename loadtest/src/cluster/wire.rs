//! A client's connection to one of the hubs, and the token that all clients share.
//!
//! Every wait has a bound; what a connection was for, its owner knows.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use protocol::{ClientFrame, ServerFrame};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use crate::error::{Error, Result};
use crate::rest::Rest;
use crate::session::{decode, encode};

/// How long a handshake, a write or an answer may take before the client tries another hub.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a token is used: a third of its life.
const TOKEN_AGE: Duration = Duration::from_secs(300);

/// A WebSocket to a hub.
pub(crate) struct Wire(WebSocketStream<TcpStream>);

impl Wire {
    /// Connects to a path of a hub.
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        subprotocol: Option<&'static str>,
        token: &str,
    ) -> Result<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let headers = request.headers_mut();
        let bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|e| Error::Protocol(format!("the token is odd: {e}")))?;
        headers.insert(AUTHORIZATION, bearer);
        if let Some(name) = subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        patiently("connecting", async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(Error::io("connecting"))?;
            stream.set_nodelay(true).map_err(Error::io("connecting"))?;
            let (socket, _) = client_async(request, stream).await?;
            Ok(Self(socket))
        })
        .await
    }

    /// Opens a session, which speaks MessagePack.
    pub(crate) async fn session(address: SocketAddr, token: &str) -> Result<Self> {
        let subprotocol = Some(protocol::frame::SUBPROTOCOL_MSGPACK);
        let mut wire = Self::open(address, "/ws", subprotocol, token).await?;
        patiently("authenticating", async {
            while !matches!(wire.frame().await?, ServerFrame::Connected { .. }) {}
            Ok(())
        })
        .await?;
        Ok(wire)
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: Vec<u8>) -> Result<()> {
        patiently("sending", async {
            Ok(self.0.send(Message::binary(message)).await?)
        })
        .await
    }

    /// The next message, however long it takes; an error at the end. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
                Some(Ok(Message::Close(frame))) => {
                    return Err(Error::Protocol(format!("closed: {frame:?}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Error::Protocol("the connection ended".into())),
            }
        }
    }

    /// The next frame of a session; a session that has to go is an error.
    pub(crate) async fn frame(&mut self) -> Result<ServerFrame> {
        match decode(&self.next().await?)? {
            ServerFrame::Expiring { .. } => Err(Error::Protocol("the token expires".into())),
            ServerFrame::Reconnect { reason, .. } | ServerFrame::Revoked { reason, .. } => {
                Err(Error::Protocol(reason))
            }
            frame => Ok(frame),
        }
    }

    /// Sends a request of a session.
    pub(crate) async fn request(&mut self, frame: &ClientFrame) -> Result<()> {
        self.send(encode(frame)).await
    }
}

/// Waits, but not for ever.
pub(crate) async fn patiently<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Protocol(format!("{what} took over {PATIENCE:?}"))),
    }
}

/// The login that all clients use.
pub(crate) struct Login {
    user: String,
    password: String,
    current: Mutex<(String, Instant)>,
}

impl Login {
    /// A login that is good now.
    pub(crate) fn new(user: &str, password: &str, token: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            current: Mutex::new((token.to_owned(), Instant::now())),
        }
    }

    /// A token that is good for a while: a fresh one from that hub if the last has aged.
    pub(crate) async fn token(&self, hub: SocketAddr) -> Result<String> {
        let (token, since) = {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.clone()
        };
        if since.elapsed() < TOKEN_AGE {
            return Ok(token);
        }
        let base = format!("http://{hub}");
        let rest = patiently("logging in", Rest::login(&base, &self.user, &self.password)).await?;
        let token = rest.token().to_owned();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (token.clone(), Instant::now());
        Ok(token)
    }
}

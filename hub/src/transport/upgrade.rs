//! The opening handshake of RFC 6455 §4.2, and the hand-over of the stream from hyper.
//!
//! `accept` checks a request and makes the 101 answer; once hyper has sent it, the stream itself is
//! taken back from under hyper, so that nothing of the HTTP machinery stays behind an idle socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tungstenite::handshake::derive_accept_key;

/// A client's connection, plain or under TLS.
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP; boxed, as it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Why a request can't become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not an upgrade request at all.
    #[error("this endpoint speaks WebSocket: send a GET with Upgrade: websocket")]
    NotUpgrade,
    /// A version other than 13 (RFC 6455 §4.4: 426 with the version).
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    /// The key is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is missing or malformed")]
    Key,
    /// The connection can't be taken over (HTTP/1.0 or HTTP/2).
    #[error("a WebSocket needs HTTP/1.1")]
    Transport,
}

fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The subprotocols that a client offers, in its order.
pub fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Checks an opening handshake and makes its answer; `subprotocol` is echoed and must be one that was
/// offered.
///
/// # Errors
/// [`Refused`] says which rule the request broke.
pub fn accept<B>(
    request: &mut Request<B>,
    subprotocol: Option<&str>,
) -> Result<(Response<Body>, OnUpgrade), Refused> {
    let headers = request.headers();
    if request.method() != Method::GET
        || !has_token(headers, &CONNECTION, "upgrade")
        || !has_token(headers, &UPGRADE, "websocket")
    {
        return Err(Refused::NotUpgrade);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refused::Transport);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refused::Version);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or(Refused::Key)?
        .as_bytes();
    if !is_key(key) {
        return Err(Refused::Key);
    }
    let accept = derive_accept_key(key);
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(Refused::Transport)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(value) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, value);
    }
    if let Some(value) = subprotocol.and_then(|name| HeaderValue::from_str(name).ok()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok((response, on_upgrade))
}

/// Sixteen bytes in base64; the four bits that its last character has too many may be anything.
fn is_key(key: &[u8]) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::{GeneralPurpose, PAD};
    let engine = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        PAD.with_decode_allow_trailing_bits(true),
    );
    engine.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Waits until hyper has sent the answer, then takes the stream and the bytes that came early.
/// `None` if the client went away first.
pub async fn take_over(on_upgrade: OnUpgrade) -> Option<(Stream, Vec<u8>)> {
    let upgraded = on_upgrade.await.ok()?;
    match upgraded.downcast::<TokioIo<Stream>>() {
        Ok(parts) => Some((parts.io.into_inner(), parts.read_buf.to_vec())),
        Err(_) => {
            tracing::error!("the upgraded connection is not one that this server accepted");
            None
        }
    }
}

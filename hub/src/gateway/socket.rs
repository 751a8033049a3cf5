//! WebSockets through the gateway: the upgrade on both sides, then bytes both ways.
//!
//! Owns the two directions of a socket and how it ends: by one of its ends, by silence, or with the rights
//! of whoever opened it, which is told with a close frame between two frames. Never decodes a message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::frame::SUBPROTOCOL_BEARER;
use protocol::{CloseCode, ErrorCode};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::time::Instant;

use super::access;
use super::body::Lease;
use super::boundary::Boundary;
use super::forward::{self, Begun, Passage};
use super::headers;
use super::pool::{Entry, Pool, Ticket};
use crate::app::App;
use crate::connections::Place;
use crate::error::{ApiError, Foreign};
use crate::sendq::{SendQueue, Taken};
use crate::session::handshake;
use crate::transport::frame::append_close;
use crate::transport::upgrade::{accept, offered_subprotocols, take_over};

/// Bytes of one direction that are under way at once.
const BUFFER: usize = 8 * 1024;
/// How long the second direction may outlive the first, and how long a close frame may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether a socket may be opened at all, before anything is asked of the store.
pub(super) fn check(app: &App, pool: &Pool, request: &Request) -> Result<(), ApiError> {
    handshake::check_origin(&app.sessions, request.headers())?;
    if pool.service().websocket {
        return Ok(());
    }
    let code = ErrorCode::Forbidden;
    Err(ApiError::new(code, "the service takes no WebSockets"))
}

/// Opens the socket on both sides. An upstream that answers with something else is passed back as it is.
pub(super) async fn pass(mut passage: Passage, mut request: Request) -> Result<Response, ApiError> {
    // The headers were taken out for the upstream: what the handshake is about stays in both.
    let names = [
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_PROTOCOL,
    ];
    for name in names {
        if let Some(value) = passage.headers.get(&name).cloned() {
            request.headers_mut().insert(name, value);
        }
    }
    for headers in [request.headers_mut(), &mut passage.headers] {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let (answer, on_upgrade) = accept(&mut request, None)?;
    let offered = without_token(&mut passage.headers);
    let (place, queue) = admitted(&passage)?;
    let begun = forward::begin(&mut passage, request).await?;
    if begun.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refusal(begun, &passage));
    }
    let mut headers = begun.response.headers().clone();
    check_answer(&headers, answer.headers(), &offered)?;
    headers::to_caller(&mut headers, &passage.pool);
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        if let Some(value) = answer.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let mut response = answer;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(Foreign);
    let (app, access) = (Arc::clone(&passage.app), Arc::clone(&passage.access));
    let held = Held {
        _ticket: begun.ticket,
        _entry: begun.entry,
        _place: place,
    };
    let rights = access::ended(Arc::clone(&app), access, true);
    let lease: Lease = Box::pin(async move {
        tokio::select! {
            code = rights => code,
            code = closed(queue) => code,
        }
    });
    let idle = passage.pool.service().timeouts.idle;
    tokio::spawn(async move {
        let upgrades = tokio::join!(take_over(on_upgrade), hyper::upgrade::on(begun.response));
        let (Some((client, early)), Ok(upstream)) = upgrades else {
            return;
        };
        let tunnel = Tunnel {
            idle,
            lease,
            may_write: move || app.auth.writes_allowed(),
        };
        // A task of its own size: the upgrade's future would stay as long as the socket.
        tokio::spawn(tunnel.run(client, early, upstream, held));
    });
    Ok(response)
}

/// What a socket holds until it ends.
struct Held {
    _ticket: Ticket,
    _entry: Entry,
    _place: Place,
}

/// A place among the node's connections, as every other socket has one.
fn admitted(passage: &Passage) -> Result<(Place, Arc<SendQueue>), ApiError> {
    let queue = Arc::new(SendQueue::new(0));
    let place = passage.app.connections.admit(&queue, None)?;
    if let Some(who) = passage.access.who() {
        place.identify(who)?;
    }
    Ok((place, queue))
}

/// Waits until whoever ends connections of this node (a service's order, a drain) ends this one.
async fn closed(queue: Arc<SendQueue>) -> CloseCode {
    loop {
        let taken = std::future::poll_fn(|cx| queue.poll_take(cx, 0, true, &mut drop));
        if let Taken::Closed(number, _) = taken.await {
            let mut codes = CloseCode::ALL.iter().copied();
            return codes
                .find(|code| code.code() == number)
                .unwrap_or(CloseCode::Draining);
        }
    }
}

/// Takes the token out of the offered subprotocols; the others.
fn without_token(headers: &mut HeaderMap) -> Vec<String> {
    let offered =
        offered_subprotocols(headers).filter(|name| !name.starts_with(SUBPROTOCOL_BEARER));
    let offered: Vec<String> = offered.map(str::to_owned).collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::try_from(offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    offered
}

/// Whether the upstream has agreed to what was asked (RFC 6455 §4.1).
fn check_answer(
    headers: &HeaderMap,
    wanted: &HeaderMap,
    offered: &[String],
) -> Result<(), ApiError> {
    let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL);
    let is_offered = chosen.is_none_or(|chosen| offered.iter().any(|one| chosen == one.as_str()));
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT);
    if is_offered && accept.is_some() && accept == wanted.get(SEC_WEBSOCKET_ACCEPT) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::UpstreamFailed, "")
        .caused_by("the upstream's answer to the handshake is not right"))
}

/// An upstream that opens no socket says why.
fn refusal(begun: Begun, passage: &Passage) -> Response {
    let (mut parts, body) = begun.response.into_parts();
    headers::to_caller(&mut parts.headers, &passage.pool);
    parts.headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    parts.extensions.clear();
    parts.extensions.insert(Foreign);
    let idle = passage.pool.service().timeouts.idle;
    let body = super::body::Download::new(body, begun.ticket, begun.entry, begun.lease, idle);
    Response::from_parts(parts, axum::body::Body::new(body))
}

/// When anything last passed.
struct Activity {
    began: Instant,
    last: AtomicU64,
}

impl Activity {
    fn touch(&self) {
        let since = self.began.elapsed().as_millis() as u64;
        self.last.store(since, Ordering::Relaxed);
    }

    async fn silence(&self, most: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let due = self.began + last + most;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Why a direction ended.
enum Stopped {
    /// There is no more to come.
    Over,
    /// Rights can't be checked just now, and what was sent may be a change.
    Unsure,
}

/// One direction.
struct Lane<R, W> {
    from: ReadHalf<R>,
    to: WriteHalf<W>,
    boundary: Boundary,
}

impl<R: AsyncRead, W: AsyncWrite> Lane<R, W> {
    /// Writes a whole piece. Cancelled in the middle, the boundary still knows what was written.
    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.to.write(bytes).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.boundary.feed(&bytes[..written]);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    async fn run(&mut self, activity: &Activity, may_pass: impl Fn() -> bool) -> Stopped {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = self.from.read(&mut buffer).await {
            activity.touch();
            if !may_pass() {
                return Stopped::Unsure;
            }
            if self.write(&buffer[..read]).await.is_err() || self.to.flush().await.is_err() {
                break;
            }
            // What is slow to write is no silence.
            activity.touch();
        }
        // The other end may have gone already.
        let _ = self.to.shutdown().await;
        Stopped::Over
    }

    /// Puts a last frame behind what was passed, unless that stopped in the middle of one.
    async fn say(&mut self, frame: &[u8]) {
        if self.boundary.is_between() {
            let said = async {
                self.to.write_all(frame).await?;
                self.to.shutdown().await
            };
            // Whoever takes no more is cut off.
            let _ = tokio::time::timeout(FAREWELL, said).await;
        }
    }
}

/// A socket while it is open.
struct Tunnel<F> {
    idle: Duration,
    lease: Lease,
    may_write: F,
}

impl<F: Fn() -> bool + Send + 'static> Tunnel<F> {
    async fn run<C>(self, client: C, early: Vec<u8>, upstream: Upgraded, _held: Held)
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (client_read, client_write) = tokio::io::split(client);
        let (upstream_read, upstream_write) = tokio::io::split(TokioIo::new(upstream));
        let mut up = Lane {
            from: client_read,
            to: upstream_write,
            boundary: Boundary::default(),
        };
        let mut down = Lane {
            from: upstream_read,
            to: client_write,
            boundary: Boundary::default(),
        };
        let activity = Activity {
            began: Instant::now(),
            last: AtomicU64::new(0),
        };
        let Self {
            idle,
            lease,
            may_write,
        } = self;
        let flow = async {
            if up.write(&early).await.is_err() {
                return None;
            }
            let upward = up.run(&activity, may_write);
            let downward = down.run(&activity, || true);
            tokio::pin!(upward, downward);
            let stopped = tokio::select! {
                stopped = &mut upward => {
                    if matches!(stopped, Stopped::Over) {
                        // It may have no farewell to say.
                        let _ = tokio::time::timeout(FAREWELL, &mut downward).await;
                    }
                    stopped
                }
                stopped = &mut downward => {
                    let _ = tokio::time::timeout(FAREWELL, &mut upward).await;
                    stopped
                }
            };
            match stopped {
                Stopped::Over => None,
                Stopped::Unsure => Some(CloseCode::Failed),
            }
        };
        let ended = tokio::select! {
            biased;
            code = lease => Some(code),
            ended = flow => ended,
            () = activity.silence(idle) => Some(CloseCode::IdleTimeout),
        };
        if let Some(code) = ended {
            tracing::debug!(
                reason = code.reason(),
                "a socket through the gateway was ended"
            );
            farewell(&mut up, &mut down, code).await;
        }
    }
}

/// Tells both ends why it is over, and waits a moment for the client to hear it.
async fn farewell<C, U>(up: &mut Lane<C, U>, down: &mut Lane<U, C>, code: CloseCode)
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let mut frame = Vec::new();
    append_close(&mut frame, code.code(), code.reason());
    // 1001, going away; a client's frames are masked, with a key that nobody could know before.
    let mask: [u8; 4] = rand::random();
    let [high, low] = 1001_u16.to_be_bytes();
    let mut masked = vec![0x88, 0x82];
    masked.extend_from_slice(&mask);
    masked.extend_from_slice(&[high ^ mask[0], low ^ mask[1]]);
    tokio::join!(down.say(&frame), up.say(&masked));
    // A connection that is closed with something unread in it takes the frame with it.
    let mut rest = [0; 512];
    let read = async { while let Ok(1..) = up.from.read(&mut rest).await {} };
    let _ = tokio::time::timeout(FAREWELL, read).await;
}

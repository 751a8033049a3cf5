//! A service of the test's own, to stand behind the gateway: HTTP, streams, WebSockets, and failures.
//!
//! What it does is said by the last part of the path; how it fails, by the test. It keeps what it was
//! asked. Ends with the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;

use super::eventually;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    /// The value of a header that came once, or not at all.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        assert_eq!(values.next(), None, "{name} came twice");
        Some(first.to_str().expect("plain text").to_owned())
    }

    /// The token that the gateway gave it.
    pub(crate) fn token(&self) -> String {
        let value = self.header("authorization").expect("a token");
        value.strip_prefix("Bearer ").expect("a bearer").to_owned()
    }
}

struct State {
    name: &'static str,
    address: SocketAddr,
    asked: Mutex<Vec<Asked>>,
    delay_ms: AtomicU64,
    /// The status of every answer; 0: as the path says.
    status: AtomicU16,
    uploaded: AtomicUsize,
    events: broadcast::Sender<String>,
    /// How WebSockets ended.
    closed: Mutex<Vec<u16>>,
}

/// A running service.
pub(crate) struct Upstream {
    state: Arc<State>,
    stop: watch::Sender<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    /// Starts one of that name on a free port.
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let state = Arc::new(State {
            name,
            address: listener.local_addr().expect("an address"),
            asked: Mutex::default(),
            delay_ms: AtomicU64::new(0),
            status: AtomicU16::new(0),
            uploaded: AtomicUsize::new(0),
            events: broadcast::Sender::new(64),
            closed: Mutex::default(),
        });
        let upstream = Self {
            state,
            stop: watch::Sender::new(false),
        };
        upstream.serve(listener);
        upstream
    }

    fn serve(&self, listener: TcpListener) {
        let (state, mut stop) = (Arc::clone(&self.state), self.stop.subscribe());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (state, mut stop) = (Arc::clone(&state), stop.clone());
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => {}
                        _ = connection => {}
                    }
                });
            }
        });
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.state.address)
    }

    /// Ends it: no connection is accepted any more, those that there are are cut.
    pub(crate) async fn kill(&self) {
        self.stop.send_replace(true);
        eventually("the port is free", || async {
            tokio::net::TcpStream::connect(self.state.address)
                .await
                .is_err()
        })
        .await;
    }

    /// Starts it again where it was.
    pub(crate) async fn revive(&self) {
        self.stop.send_replace(false);
        let listener = TcpListener::bind(self.state.address).await;
        self.serve(listener.expect("the port of before"));
    }

    /// How long every answer takes from now on.
    pub(crate) fn delay(&self, by: Duration) {
        let by = by.as_millis() as u64;
        self.state.delay_ms.store(by, Ordering::Relaxed);
    }

    /// The status of every answer from now on; 0: what the path says.
    pub(crate) fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::Relaxed);
    }

    /// Sends an event to whoever listens; how many do.
    pub(crate) fn tell(&self, event: &str) -> usize {
        self.state.events.send(event.to_owned()).unwrap_or(0)
    }

    /// How many listen to events.
    pub(crate) fn listeners(&self) -> usize {
        self.state.events.receiver_count()
    }

    /// Bytes of bodies that have come so far.
    pub(crate) fn uploaded(&self) -> usize {
        self.state.uploaded.load(Ordering::Relaxed)
    }

    /// How its WebSockets ended so far.
    pub(crate) fn closed(&self) -> Vec<u16> {
        locked(&self.state.closed).clone()
    }

    /// What it was asked so far, health checks left out.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = locked(&self.state.asked);
        let real = asked.iter().filter(|one| one.path != "/healthz");
        real.cloned().collect()
    }

    /// The last thing that it was asked.
    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("it was asked something")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

async fn answer(
    state: Arc<State>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().map(str::to_owned);
    let asked = Asked {
        method: request.method().to_string(),
        path: path.clone(),
        query: query.clone(),
        headers: request.headers().clone(),
    };
    locked(&state.asked).push(asked);
    tokio::time::sleep(Duration::from_millis(
        state.delay_ms.load(Ordering::Relaxed),
    ))
    .await;
    let forced = state.status.load(Ordering::Relaxed);
    if forced != 0 {
        let mut response = Response::new(full("forced"));
        *response.status_mut() = StatusCode::from_u16(forced).expect("a status");
        return Ok(response);
    }
    let what = path.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(match what.as_str() {
        "events" => events(&state),
        "ws" => websocket(&state, &mut request),
        "bytes" => stream(query.and_then(|text| text.parse().ok()).unwrap_or(0)),
        "missing" => {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
        "moved" => moved(&state),
        "half" => half(),
        _ => {
            let mut bytes = 0;
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let more = frame.data_ref().map_or(0, Bytes::len);
                bytes += more;
                state.uploaded.fetch_add(more, Ordering::Relaxed);
            }
            let told = json!({ "upstream": state.name, "path": path, "bytes": bytes });
            Response::new(full(told.to_string()))
        }
    })
}

/// Sends what the test tells, for ever.
fn events(state: &State) -> Response<Body> {
    let heard = state.events.subscribe();
    let events = futures::stream::unfold(heard, |mut heard| async move {
        let event = heard.recv().await.ok()?;
        let bytes = Bytes::from(format!("data: {event}\n\n"));
        Some((Ok(Frame::data(bytes)), heard))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert("content-type", kind);
    response
}

/// So many bytes, in pieces.
fn stream(bytes: usize) -> Response<Body> {
    const PIECE: usize = 16 * 1024;
    let pieces = (0..bytes.div_ceil(PIECE)).map(move |at| {
        let length = PIECE.min(bytes - at * PIECE);
        Ok(Frame::data(Bytes::from(vec![b'x'; length])))
    });
    let body = StreamBody::new(futures::stream::iter(pieces));
    Response::new(body.boxed_unsync())
}

fn moved(state: &State) -> Response<Body> {
    let mut response = Response::new(full("see there"));
    *response.status_mut() = StatusCode::FOUND;
    for (name, value) in [
        (
            "location",
            format!("http://{}/public/there?a=b", state.address),
        ),
        ("set-cookie", "session=1".to_owned()),
        ("connection", "x-internal".to_owned()),
        ("x-internal", "1".to_owned()),
        ("x-frame-options", "DENY".to_owned()),
    ] {
        let value = HeaderValue::try_from(value).expect("a value");
        response.headers_mut().insert(name, value);
    }
    response
}

/// Promises more than it sends.
fn half() -> Response<Body> {
    let pieces = [Ok(Frame::data(Bytes::from_static(b"half")))];
    let rest = futures::stream::once(async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(Frame::data(Bytes::new()))
    });
    let body = futures::stream::iter(pieces).chain(rest);
    Response::new(StreamBody::new(body).boxed_unsync())
}

/// Sends every message back, and keeps how it was closed.
fn websocket(state: &Arc<State>, request: &mut Request<Incoming>) -> Response<Body> {
    let headers = request.headers();
    let Some(key) = headers.get("sec-websocket-key") else {
        return Response::new(full("no WebSocket"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let offered = headers.get("sec-websocket-protocol");
    let chosen = offered.and_then(|value| value.to_str().ok()?.split(',').next());
    let chosen = chosen.map(|name| name.trim().to_owned());
    let upgrade = hyper::upgrade::on(request);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let mut code = 1006;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                code = frame.map_or(1005, |frame| frame.code.into());
            } else if !message.is_ping() && !message.is_pong() {
                // The gateway may have gone.
                let _ = socket.send(message).await;
            }
        }
        locked(&state.closed).push(code);
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::try_from(accept).expect("base64");
    headers.insert("sec-websocket-accept", accept);
    if let Some(chosen) = chosen {
        let chosen = HeaderValue::try_from(chosen).expect("a name");
        headers.insert("sec-websocket-protocol", chosen);
    }
    response
}

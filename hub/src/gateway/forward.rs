//! A request on its way: an upstream, a try, its time limits, and the next try if that may be.
//!
//! Owns what is tried again: idempotent requests (RFC 9110 §9.2.2, or with an `Idempotency-Key`) whose body
//! is kept or absent, as long as nothing of an answer was passed on. Never decides who may send it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::{CloseCode, ErrorCode};
use tokio::time::Instant;

use super::access::{self, Access};
use super::body::{Download, Lease, Progress, Stage, Upload};
use super::headers;
use super::path::Target;
use super::pool::{Entry, Nobody, Pool, Ticket};
use crate::app::App;
use crate::config::services::TimeLimits;
use crate::error::{ApiError, Foreign};
use crate::metrics::table;

/// Largest body that is kept so that it can be sent again.
const KEPT: u64 = 64 * 1024;
/// Rights are watched of what takes longer than this; shorter than they may be stale.
const UNWATCHED: Duration = Duration::from_millis(500);

/// A request that may pass.
pub(super) struct Passage {
    pub(super) app: Arc<App>,
    pub(super) pool: Arc<Pool>,
    pub(super) access: Arc<Access>,
    pub(super) target: Target,
    /// For the upstream.
    pub(super) headers: HeaderMap,
}

/// What an upstream has begun to answer, and what is held for it.
pub(super) struct Begun {
    pub(super) response: axum::http::Response<Incoming>,
    pub(super) ticket: Ticket,
    pub(super) entry: Entry,
    pub(super) lease: Lease,
}

/// Why a try gave no answer.
#[derive(Debug)]
enum Failure {
    /// No connection, or it was cut.
    Cut(hyper_util::client::legacy::Error),
    /// It took too long.
    Late,
    /// The caller's body is too large.
    TooLarge,
    /// The caller's body did not come.
    NoBody,
    /// The caller's rights have ended, or the node leaves.
    Ended(CloseCode),
}

impl Failure {
    /// Whether the upstream is to blame.
    fn is_upstreams(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Late)
    }

    fn into_error(self) -> ApiError {
        let error = |code, detail: &'static str| ApiError::new(code, detail);
        match self {
            Self::Cut(cause) => error(ErrorCode::UpstreamFailed, "").caused_by(cause),
            Self::Late => error(ErrorCode::UpstreamTimeout, ""),
            Self::TooLarge => too_large(),
            Self::NoBody => error(ErrorCode::Timeout, "the body of the request did not come"),
            Self::Ended(CloseCode::TokenExpired) => {
                error(ErrorCode::Unauthorized, "the token has expired")
            }
            Self::Ended(CloseCode::Revoked) => error(
                ErrorCode::Unauthorized,
                "what allowed the request was revoked",
            ),
            Self::Ended(_) => error(ErrorCode::Unavailable, "").retry_after(Duration::from_secs(1)),
        }
    }
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        "the body is larger than the service takes",
    )
}

/// What is sent to the upstream.
enum Payload {
    /// Nothing.
    Nothing,
    /// This, as often as need be.
    Kept(Bytes),
    /// What comes from the caller, once.
    Once(Option<(Body, usize)>),
}

impl Payload {
    fn body(&mut self) -> (Body, Option<Arc<Progress>>) {
        match self {
            Self::Nothing => (Body::empty(), None),
            Self::Kept(bytes) => (Body::from(bytes.clone()), None),
            Self::Once(body) => {
                let (body, most) = body.take().unwrap_or((Body::empty(), 0));
                let progress = Progress::new();
                let body = Upload::new(body, most, Arc::clone(&progress));
                (Body::new(body), Some(progress))
            }
        }
    }
}

/// Passes a request on that is no WebSocket, and its answer back.
pub(super) async fn pass(mut passage: Passage, request: Request) -> Result<Response, ApiError> {
    let begun = begin(&mut passage, request).await?;
    let Begun {
        response,
        ticket,
        entry,
        mut lease,
    } = begun;
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ApiError::new(ErrorCode::UpstreamFailed, "")
            .caused_by("the upstream switched protocols unasked"));
    }
    headers::to_caller(&mut parts.headers, &passage.pool);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    parts.extensions.insert(Foreign);
    if body.is_end_stream() {
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    if is_event_stream(&parts.headers) {
        // It would outlast the node's leave.
        let (app, access) = (Arc::clone(&passage.app), Arc::clone(&passage.access));
        lease = Box::pin(access::ended(app, access, true));
    }
    let idle = passage.pool.service().timeouts.idle;
    let body = Download::new(body, ticket, entry, lease, idle);
    Ok(Response::from_parts(parts, Body::new(body)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

/// Tries until an upstream begins to answer.
pub(super) async fn begin(passage: &mut Passage, request: Request) -> Result<Begun, ApiError> {
    let pool = Arc::clone(&passage.pool);
    let entry = pool.enter().map_err(|none| nobody(none, None))?;
    let (app, access) = (Arc::clone(&passage.app), Arc::clone(&passage.access));
    let mut lease: Lease = Box::pin(async move {
        tokio::time::sleep(UNWATCHED).await;
        access::ended(app, access, false).await
    });
    let (parts, body) = request.into_parts();
    let (method, query) = (parts.method, parts.uri.query());
    let idempotent = is_idempotent(&method, &passage.headers);
    let mut payload = take_in(&pool, body, idempotent && pool.service().retries.max > 0).await?;
    set_length(&mut passage.headers, &payload, &method);
    let repeatable = idempotent && !matches!(payload, Payload::Once(_));
    let deadline = Instant::now() + pool.service().timeouts.deadline;
    let mut tried = Vec::new();
    let mut last = None;
    pool.budget().earn();
    loop {
        let picked = pool.pick(&tried, repeatable, std::time::Instant::now());
        let mut ticket = picked.map_err(|none| nobody(none, last.take()))?;
        tried.push(ticket.at());
        let endpoint = &ticket.upstream().endpoint;
        let uri = endpoint.uri(&passage.target.path, query);
        let (body, progress) = payload.body();
        let mut request = axum::http::Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.map_err(|_| {
            ApiError::new(
                ErrorCode::BadRequest,
                "the path or query can't be passed on",
            )
        })?;
        request.headers_mut().clone_from(&passage.headers);
        let limits = Limits {
            times: pool.service().timeouts,
            deadline,
            progress: progress.as_deref(),
        };
        let answer = attempt(&pool, request, &limits, &mut lease).await;
        let may_repeat = || {
            repeatable
                && tried.len() <= pool.service().retries.max as usize
                && Instant::now() < deadline
                && pool.budget().spend()
        };
        match answer {
            Ok(response) if !is_failing(response.status()) => {
                ticket.success();
                let begun = Begun {
                    response,
                    ticket,
                    entry,
                    lease,
                };
                return Ok(begun);
            }
            Ok(response) => {
                ticket.failure();
                if !may_repeat() {
                    let begun = Begun {
                        response,
                        ticket,
                        entry,
                        lease,
                    };
                    return Ok(begun);
                }
            }
            Err(failure) => {
                if failure.is_upstreams() {
                    ticket.failure();
                }
                if !failure.is_upstreams() || !may_repeat() {
                    return Err(failure.into_error());
                }
                last = Some(failure);
            }
        }
        metrics::counter!(table::GATEWAY_RETRIES, "service" => pool.name().to_string())
            .increment(1);
    }
}

/// No upstream takes the request: that is the answer, unless one has failed it before.
fn nobody(none: Nobody, last: Option<Failure>) -> ApiError {
    match (none, last) {
        (Nobody::Full, _) => ApiError::new(
            ErrorCode::Overloaded,
            "too many requests to the service are under way",
        )
        .retry_after(Duration::from_secs(1)),
        (Nobody::Down(_), Some(last)) => last.into_error(),
        (Nobody::Down(wait), None) => {
            ApiError::new(ErrorCode::UpstreamUnavailable, "").retry_after(wait)
        }
    }
}

/// An upstream that says so of itself can't serve now; another one may.
fn is_failing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether sending it twice does no more than sending it once.
fn is_idempotent(method: &Method, headers: &HeaderMap) -> bool {
    const KEY: HeaderName = HeaderName::from_static("idempotency-key");
    let safe = [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ];
    safe.contains(method) || headers.contains_key(KEY)
}

/// Takes in what is kept of the body.
async fn take_in(pool: &Pool, body: Body, may_keep: bool) -> Result<Payload, ApiError> {
    let most = pool.service().body_bytes;
    let hint = body.size_hint();
    if hint.lower() > most as u64 {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(Payload::Nothing);
    }
    if !may_keep || hint.exact().is_none_or(|length| length > KEPT) {
        return Ok(Payload::Once(Some((body, most))));
    }
    let idle = pool.service().timeouts.idle;
    match tokio::time::timeout(idle, body.collect()).await {
        Ok(Ok(whole)) => Ok(Payload::Kept(whole.to_bytes())),
        Ok(Err(_)) => Err(ApiError::new(
            ErrorCode::BadRequest,
            "the body of the request broke off",
        )),
        Err(_) => Err(Failure::NoBody.into_error()),
    }
}

/// The length of a body is told if it is known, and that of none where one is expected (RFC 9110 §8.6).
fn set_length(headers: &mut HeaderMap, payload: &Payload, method: &Method) {
    let length = match payload {
        Payload::Nothing => {
            let expected = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
            expected.then_some(0)
        }
        Payload::Kept(bytes) => Some(bytes.len() as u64),
        Payload::Once(body) => {
            let body = body.as_ref();
            body.and_then(|(body, _)| body.size_hint().exact())
        }
    };
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// The time limits of one try.
struct Limits<'p> {
    times: TimeLimits,
    deadline: Instant,
    progress: Option<&'p Progress>,
}

impl Limits<'_> {
    /// Until when it has to have moved on, as things stand.
    fn due(&self, began: Instant) -> Instant {
        match self.progress.map(|body| (body.stage(), body.moved())) {
            None => (began + self.times.answer).min(self.deadline),
            Some((Stage::Sending | Stage::Waiting, moved)) => moved + self.times.idle,
            Some((_, moved)) => moved + self.times.answer,
        }
    }

    fn failure(&self) -> Failure {
        match self.progress.map(Progress::stage) {
            Some(Stage::Waiting) => Failure::NoBody,
            _ => Failure::Late,
        }
    }
}

/// One try.
async fn attempt(
    pool: &Pool,
    request: axum::http::Request<Body>,
    limits: &Limits<'_>,
    lease: &mut Lease,
) -> Result<axum::http::Response<Incoming>, Failure> {
    let began = Instant::now();
    let mut answer = pool.caller().request(request);
    loop {
        let due = limits.due(began);
        if due <= Instant::now() {
            return Err(limits.failure());
        }
        tokio::select! {
            answered = &mut answer => return answered.map_err(|error| {
                match limits.progress.map(Progress::stage) {
                    Some(Stage::TooLarge) => Failure::TooLarge,
                    Some(Stage::Broken) => Failure::NoBody,
                    _ => Failure::Cut(error),
                }
            }),
            code = &mut *lease => return Err(Failure::Ended(code)),
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

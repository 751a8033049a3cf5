//! What every answer goes through: compression, pages of other origins, security headers, and how many requests
//! may be under way at once.
//!
//! Owns their rules. Never looks into a body.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::{Settings, origin_allowed};
use crate::error::{ApiError, REQUEST_ID};

/// Answers below this size are sent as they are.
const COMPRESS_FROM: u64 = 1024;
/// How long a browser may remember what a page of another origin may do.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);
/// How long browsers keep to HTTPS, where the hub serves it itself.
const TRANSPORT_SECURITY: &str = "max-age=31536000";

/// What a page of the hub may load: only what the hub itself serves. The editor makes its own styles.
const CONTENT_SECURITY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Compresses what is worth it. Never an event stream, which it would hold back; nor what no cache may keep: tokens
/// beside what a caller wrote can be guessed from compressed sizes (BREACH).
pub(super) fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = |_: StatusCode, _: Version, headers: &HeaderMap, _: &http::Extensions| {
        let holds = |name, what: &str| {
            let value = headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok());
            value.is_some_and(|value| value.contains(what))
        };
        let kinds = ["json", "text/", "javascript", "svg"];
        kinds.iter().any(|kind| holds(header::CONTENT_TYPE, kind))
            && !holds(header::CONTENT_TYPE, "event-stream")
            && !holds(header::CACHE_CONTROL, "no-store")
    };
    CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM).and(worth_it))
}

/// Which pages of other origins may call: the same that may open a socket. Tokens travel in a header of the
/// caller's own, so no cookies are let through.
pub(super) fn cors(settings: &Settings) -> CorsLayer {
    let allowed = settings.http.allowed_origins.clone();
    let may = move |origin: &HeaderValue, request: &http::request::Parts| {
        let host = request.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        origin
            .to_str()
            .is_ok_and(|origin| origin_allowed(&allowed, origin, host))
    };
    let own = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may))
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            own("idempotency-key"),
            own("last-event-id"),
            own("mcp-protocol-version"),
            own("mcp-session-id"),
            own(REQUEST_ID),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            own("idempotency-replayed"),
            own("mcp-session-id"),
            own("ratelimit"),
            own("ratelimit-policy"),
            own(REQUEST_ID),
        ])
        .max_age(PREFLIGHT_AGE)
}

/// Adds what browsers are to keep to; `is_secure` says that the hub serves HTTPS itself.
pub(super) async fn security_headers(
    State(is_secure): State<bool>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let secure = is_secure.then_some((header::STRICT_TRANSPORT_SECURITY, TRANSPORT_SECURITY));
    let always = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in always.into_iter().chain(secure) {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Room for so many requests at once; `None` without a limit.
pub(super) fn room(settings: &Settings) -> Option<Arc<Semaphore>> {
    let most = settings.limits.requests;
    (most > 0).then(|| Arc::new(Semaphore::new(most)))
}

/// Refuses a request beyond the room, at once: one that waits in line would be late for its client as well. Those
/// that wait for news are counted with the sessions instead.
pub(super) async fn at_once(
    State(room): State<Option<Arc<Semaphore>>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let waits = path.starts_with("/api/stream") || path == "/api/poll";
    let _place = match room.filter(|_| !waits) {
        None => None,
        Some(room) => match room.try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                let full = ApiError::new(ErrorCode::Overloaded, "");
                return full.retry_after(Duration::from_secs(1)).into_response();
            }
        },
    };
    next.run(request).await
}

//! From a request on `/ws` to a session: origin, subprotocol, token, upgrade.
//!
//! The token comes in the `Authorization` header, as the subprotocol `bearer.<jwt>` (never echoed), in
//! the URL if that is configured, or in the first frame. A bad token is answered on the socket, with a
//! close code that a browser can read: it can't read the status of a refused handshake.

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use protocol::frame::{SUBPROTOCOL_BEARER, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK};
use protocol::{CloseCode, Encoding, ErrorCode};

use super::{Services, Session};
use crate::auth::AuthError;
use crate::cached::Transport;
use crate::config::{Origin, origin_allowed};
use crate::connections::Full;
use crate::error::{ApiError, RequestId};
use crate::rest::{verified, visit};
use crate::sendq::SendQueue;
use crate::transport::upgrade::{Refused, accept, offered_subprotocols, take_over};
use crate::transport::{Handler, Limits, run};

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::new(ErrorCode::BadRequest, refused.to_string())
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        let mut error = Self::new(ErrorCode::Unavailable, full.to_string());
        error.retry_after = Some(std::time::Duration::from_secs(5));
        error
    }
}

/// The token of a request, wherever it may stand; `in_url` says whether the query may carry it.
#[must_use]
pub fn token_of<B>(request: &Request<B>, in_url: bool) -> Option<String> {
    let headers = request.headers();
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.split_once(' '));
    if let Some((scheme, token)) = bearer
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return Some(token.trim().to_owned());
    }
    let offered =
        offered_subprotocols(headers).find_map(|name| name.strip_prefix(SUBPROTOCOL_BEARER));
    if let Some(token) = offered {
        return Some(token.to_owned());
    }
    let query = request.uri().query().filter(|_| in_url)?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, token) = pairs.into_iter().find(|(name, _)| *name == "token")?;
    // A JWT is base64url and dots: nothing in it is ever escaped.
    Some(token.to_owned())
}

/// Whether a browser on that page may connect: the hub's own pages, this machine's, or a listed origin.
/// No `Origin` header means that it is not a browser.
fn is_origin_allowed(headers: &HeaderMap, allowed: &[Origin]) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| origin_allowed(allowed, origin, host))
    })
}

/// Refuses a page from elsewhere.
///
/// # Errors
/// `forbidden`.
pub fn check_origin(services: &Services, headers: &HeaderMap) -> Result<(), ApiError> {
    if is_origin_allowed(headers, &services.settings.http.allowed_origins) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Forbidden,
        "pages of this origin may not connect: see http.allowed_origins",
    ))
}

/// A queue of the configured size.
#[must_use]
pub fn send_queue(services: &Services) -> Arc<SendQueue> {
    Arc::new(SendQueue::new(services.settings.session.queue_bytes))
}

/// The limits of a connection that takes messages of that size.
#[must_use]
pub fn limits(services: &Services, message_bytes: usize) -> Arc<Limits> {
    let session = &services.settings.session;
    Arc::new(Limits {
        message_bytes,
        ping_interval: session.ping_interval,
        write_timeout: session.write_timeout,
    })
}

/// Refuses a version of the protocol, and says which is spoken (RFC 6455 §4.4). The status has no error
/// code of its own, as nothing but a handshake gets it.
fn upgrade_required<B>(request: &Request<B>) -> Response<Body> {
    let status = StatusCode::UPGRADE_REQUIRED;
    let code = ErrorCode::BadRequest;
    let id = request.extensions().get::<RequestId>();
    let problem = serde_json::json!({
        "type": format!("urn:tandem:problem:{}", code.as_str()),
        "title": code.meaning(),
        "status": status.as_u16(),
        "code": code.as_str(),
        "detail": Refused::Version.to_string(),
        "request_id": id.map(|id| &*id.0),
    });
    let mut response = Response::new(Body::from(problem.to_string()));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "application/problem+json"),
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers the handshake, and serves the connection with `handler` once it is taken over.
///
/// # Errors
/// Which rule of the handshake the request broke.
pub fn serve<H: Handler>(
    mut request: Request<Body>,
    subprotocol: Option<&str>,
    limits: Arc<Limits>,
    queue: Arc<SendQueue>,
    handler: H,
) -> Result<Response<Body>, ApiError> {
    let (response, on_upgrade) = match accept(&mut request, subprotocol) {
        Err(Refused::Version) => return Ok(upgrade_required(&request)),
        accepted => accepted?,
    };
    tokio::spawn(async move {
        if let Some((stream, early)) = take_over(on_upgrade).await {
            // A task of its own size: the upgrade's future would stay as long as the connection.
            tokio::spawn(run(stream, early, limits, queue, handler));
        }
    });
    Ok(response)
}

/// Serves a request on `/ws`.
///
/// # Errors
/// The origin, the subprotocols or the handshake are not acceptable, or the node is full.
pub async fn session(
    services: Arc<Services>,
    limits: Arc<Limits>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    check_origin(&services, request.headers())?;
    let (subprotocol, encoding) = choose_encoding(request.headers())?;
    let token = token_of(&request, services.settings.auth.token_in_url);
    let visit = visit(
        request.extensions(),
        request.headers(),
        &services.settings,
        Transport::Session,
    );
    let queue = send_queue(&services);
    let place = services.connections.admit(&queue, Some(encoding))?;
    place.accept_orders();
    let authenticated = match &token {
        Some(token) => Some(match verified(request.extensions(), token) {
            Some(principal) => Ok(principal),
            None => services.auth.authenticate(token).await,
        }),
        None => None,
    };
    let mut session = Session::new(services, Arc::clone(&queue), encoding, place, Some(visit));
    let state = &mut session.0;
    match authenticated {
        None => {}
        Some(Ok(principal)) => match state.become_known(Arc::new(principal)) {
            Ok(()) => state.connected(0),
            Err(error) => {
                state.error(None, &error);
                queue.close_with(CloseCode::OverCapacity);
            }
        },
        Some(Err(error)) => {
            let code = close_code(&error);
            state.error(None, &error.into());
            queue.close_with(code);
        }
    }
    serve(request, subprotocol, limits, queue, session)
}

/// The close code that an authentication error ends a socket with.
#[must_use]
pub fn close_code(error: &AuthError) -> CloseCode {
    match error {
        AuthError::Expired => CloseCode::TokenExpired,
        error if error.is_refusal() => CloseCode::Unauthorized,
        _ => CloseCode::Failed,
    }
}

fn choose_encoding(headers: &HeaderMap) -> Result<(Option<&'static str>, Encoding), ApiError> {
    let mut offered = offered_subprotocols(headers)
        .filter(|name| !name.starts_with(SUBPROTOCOL_BEARER))
        .peekable();
    if offered.peek().is_none() {
        return Ok((None, Encoding::Json));
    }
    let known = offered.find_map(|name| match name {
        SUBPROTOCOL_JSON => Some((Some(SUBPROTOCOL_JSON), Encoding::Json)),
        SUBPROTOCOL_MSGPACK => Some((Some(SUBPROTOCOL_MSGPACK), Encoding::MsgPack)),
        _ => None,
    });
    known.ok_or_else(|| {
        ApiError::new(
            ErrorCode::BadRequest,
            "offer the subprotocol tandem.v1.json or tandem.v1.msgpack",
        )
    })
}

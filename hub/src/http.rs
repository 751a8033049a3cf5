//! Every route and layer of the hub, in one list.

mod etag;
mod layers;
mod measure;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::collab::{hocuspocus, yws};
use crate::error::{ApiError, no_method, no_route, panicked, request_id};
use crate::rest::{idempotency, rate};
use crate::session::handshake;
use crate::transport::upgrade::offered_subprotocols;
use crate::transport::{Handler, Limits, Message, Turn};

/// All of it.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let settings = &app.settings;
    let session_limits = handshake::limits(&app.sessions, settings.session.message_bytes);
    let yjs_limits = handshake::limits(&app.sessions, settings.collab.message_bytes);
    let timeout = settings.http.request_timeout;
    let sockets = Router::new()
        .route(
            "/ws",
            get(session).with_state((Arc::clone(app), session_limits.clone())),
        )
        .route(
            "/collab/{*document}",
            get(collab).with_state((Arc::clone(app), yjs_limits.clone())),
        )
        .route(
            "/hocuspocus",
            get(hocus).with_state((Arc::clone(app), yjs_limits.clone())),
        );
    let sockets = if settings.echo {
        sockets.route("/echo", get(echo).with_state((Arc::clone(app), yjs_limits)))
    } else {
        sockets
    };
    let room = layers::room(settings);
    let mcp = crate::mcp::routes(app).layer(from_fn_with_state(room.clone(), layers::at_once));
    let api = crate::rest::routes(settings)
        .layer(from_fn_with_state(Arc::clone(app), idempotency::once))
        .with_state(Arc::clone(app))
        // Of what is said, not of how it is compressed.
        .layer(from_fn(etag::tagged))
        .layer(layers::compression())
        .layer(from_fn_with_state(room, layers::at_once));
    Router::new()
        .merge(api)
        .merge(mcp)
        .merge(sockets)
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready).with_state(Arc::clone(app)))
        .route("/metrics", get(measure::page).with_state(Arc::clone(app)))
        .route("/", get(|| asset("index.html")))
        .route(
            "/assets/{name}",
            get(|Path(name): Path<String>| async move { asset(&name).await }),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(app), rate::limit))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            timeout,
        ))
        // Below the time limit of requests that are answered here: it has its own.
        .merge(
            crate::gateway::routes()
                .with_state(Arc::clone(app))
                .layer(from_fn_with_state(Arc::clone(app), rate::limit)),
        )
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(measure::measured))
        .layer(layers::cors(settings))
        .layer(from_fn_with_state(
            settings.tls.cert.is_some(),
            layers::security_headers,
        ))
        .layer(from_fn(request_id))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let readiness = app.health.check().await;
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

macro_rules! assets {
    ($($name:literal, $kind:literal;)*) => {
        const ASSETS: &[(&str, &str, &[u8])] = &[
            $(($name, $kind, include_bytes!(concat!("../../clients/web/dist/", $name))),)*
        ];
    };
}

assets! {
    "index.html", "text/html; charset=utf-8";
    "app.js", "text/javascript; charset=utf-8";
    "app.css", "text/css; charset=utf-8";
    "favicon.svg", "image/svg+xml";
}

/// A file of the demo workspace. They change with the binary only, and are small: browsers ask again.
async fn asset(name: &str) -> Response {
    let Some((_, kind, bytes)) = ASSETS.iter().find(|(asset, ..)| *asset == name) else {
        return ApiError::not_found().into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, *bytes).into_response()
}

type Socket = (Arc<App>, Arc<Limits>);

async fn session(
    State((app, limits)): State<Socket>,
    request: Request,
) -> Result<Response, ApiError> {
    handshake::session(Arc::clone(&app.sessions), limits, request).await
}

/// The subprotocol to answer with, where the endpoint has none of its own: one that was offered, but
/// never one that carries a token.
fn any_subprotocol(request: &Request) -> Option<String> {
    let mut offered = offered_subprotocols(request.headers());
    let other = offered.find(|name| !name.starts_with(protocol::frame::SUBPROTOCOL_BEARER));
    other.map(str::to_owned)
}

async fn collab(
    State((app, limits)): State<Socket>,
    Path(document): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    handshake::check_origin(&app.sessions, request.headers())?;
    // Its provider can pass a token in the URL only.
    let token = handshake::token_of(&request, true);
    let queue = handshake::send_queue(&app.sessions);
    let place = app.connections.admit(&queue, None)?;
    let socket = yws::Socket::new(
        Arc::clone(&app.yjs),
        Arc::clone(&queue),
        place,
        document,
        token,
    );
    let subprotocol = any_subprotocol(&request);
    handshake::serve(request, subprotocol.as_deref(), limits, queue, socket)
}

async fn hocus(
    State((app, limits)): State<Socket>,
    request: Request,
) -> Result<Response, ApiError> {
    handshake::check_origin(&app.sessions, request.headers())?;
    let queue = handshake::send_queue(&app.sessions);
    let place = app.connections.admit(&queue, None)?;
    let settings = Arc::clone(&app.settings);
    let socket = hocuspocus::Socket::new(Arc::clone(&app.yjs), settings, Arc::clone(&queue), place);
    let subprotocol = any_subprotocol(&request);
    handshake::serve(request, subprotocol.as_deref(), limits, queue, socket)
}

/// Sends every message back: for conformance suites.
struct Echo(Arc<crate::sendq::SendQueue>);

impl Handler for Echo {
    fn on_message(self, message: Message<'_>) -> Turn<Self> {
        use crate::transport::frame::{Opcode, message as frame};
        self.0.reply(match message {
            Message::Text(text) => frame(Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => frame(Opcode::Binary, bytes),
        });
        Turn::Ready(self)
    }

    fn on_notice(self, _: crate::sendq::Notice) -> Turn<Self> {
        Turn::Ready(self)
    }

    fn on_deadline(self, _: tokio::time::Instant) -> Turn<Self> {
        Turn::Ready(self)
    }

    fn deadline(&self) -> Option<tokio::time::Instant> {
        None
    }
}

async fn echo(
    State((app, limits)): State<Socket>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let queue = handshake::send_queue(&app.sessions);
    let subprotocol = any_subprotocol(&request);
    handshake::serve(
        request,
        subprotocol.as_deref(),
        limits,
        Arc::clone(&queue),
        Echo(queue),
    )
}

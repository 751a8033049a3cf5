//! The gateway: other services behind this hub, under `/svc/{service}/…`.
//!
//! Owns which services there are ([`Gateway`], reloaded while it runs) and the way of a request through
//! its parts: `path` (nothing that two readers could read differently) → the service's rules and `access`
//! (who, which role; what no rule takes is refused) → `headers` (nothing forged, nothing of the hub's own)
//! → `forward` (an upstream of the `pool`, tries, time limits) → `body` or `socket`, for as long as it
//! streams and the sender's rights stand. Never reads a body, never keeps an answer, and never tells a
//! service more of a caller than the token of half a minute that it makes for it.

mod access;
mod body;
mod boundary;
mod breaker;
mod budget;
mod forward;
mod headers;
mod health;
mod path;
mod pool;
mod reload;
mod socket;
mod trace;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::any;
use http::header;
use protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{Network, Settings};
use crate::error::{ApiError, RequestId};
use crate::metrics::table;
use crate::rest::verified;
use access::Access;
use forward::Passage;
use headers::Sender;
use path::Target;
use pool::Pool;

/// The services of a moment.
type Table = BTreeMap<Arc<str>, Arc<Pool>>;

/// All services, and what they share.
pub struct Gateway {
    file: Option<PathBuf>,
    /// That of the hub's own tokens, which no service may have.
    audience: String,
    table: ArcSwap<Table>,
    leaving: CancellationToken,
}

impl Gateway {
    /// Reads the services' file, if the settings name one. Within a runtime: health checks begin.
    ///
    /// # Errors
    /// In words: the file is wrong, or a certificate in it can't be used.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let gateway = Self {
            file: settings.gateway.file.clone(),
            audience: settings.auth.audience.as_str().to_owned(),
            table: ArcSwap::default(),
            leaving: CancellationToken::new(),
        };
        gateway.load()?;
        Ok(gateway)
    }

    /// The node is being stopped: streams of events and sockets end, other requests go on for a while.
    pub fn drain(&self) {
        self.leaving.cancel();
    }

    fn service(&self, name: &str) -> Option<Arc<Pool>> {
        self.table.load().get(name).cloned()
    }
}

/// The routes. No time limit of other requests belongs around them: a stream may last for hours.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/svc", any(serve))
        .route("/svc/", any(serve))
        .route("/svc/{*path}", any(serve))
}

/// Serves one request, and counts how it ended.
async fn serve(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let target = Target::of(request.uri().path())?;
    let Some(pool) = app.gateway.service(&target.service) else {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "there is no such service",
        ));
    };
    let began = Instant::now();
    let name = Arc::clone(pool.name());
    // Boxed: hyper keeps room for the largest future of all routes in every connection.
    let answer = Box::pin(pass(app, pool, target, request)).await;
    let outcome = match &answer {
        Ok(_) => "answered",
        Err(error) => match error.code {
            ErrorCode::UpstreamFailed => "failed",
            ErrorCode::UpstreamTimeout => "timeout",
            ErrorCode::UpstreamUnavailable | ErrorCode::Overloaded => "unavailable",
            ErrorCode::Internal | ErrorCode::Unavailable => "error",
            _ => "refused",
        },
    };
    let service = name.to_string();
    metrics::counter!(table::GATEWAY_REQUESTS, "service" => service.clone(), "outcome" => outcome)
        .increment(1);
    metrics::histogram!(table::GATEWAY_HEAD_SECONDS, "service" => service, "outcome" => outcome)
        .record(began.elapsed().as_secs_f64());
    answer
}

async fn pass(
    app: Arc<App>,
    pool: Arc<Pool>,
    target: Target,
    mut request: Request,
) -> Result<Response, ApiError> {
    let is_socket = is_websocket(&request);
    if is_socket {
        socket::check(&app, &pool, &request)?;
    }
    let method = request.method().clone();
    let token = access::token_of(&request, is_socket).map(|token| {
        let known = verified(request.extensions(), &token);
        (token, known)
    });
    let decided = Access::decide(&app, pool.service(), &method, &target, token, is_socket);
    let access = Arc::new(decided.await?);
    let token = app.auth.service_token(pool.name(), access.bearer())?;
    let mut headers = std::mem::take(request.headers_mut());
    let sender = sender(&app.settings, &request, &headers);
    headers::to_upstream(&mut headers, &sender, &token)?;
    let passage = Passage {
        app,
        pool,
        access,
        target,
        headers,
    };
    if is_socket {
        socket::pass(passage, request).await
    } else {
        forward::pass(passage, request).await
    }
}

fn is_websocket(request: &Request) -> bool {
    let values = request.headers().get_all(header::UPGRADE).iter();
    let mut names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

/// Where the request comes from.
fn sender(settings: &Settings, request: &Request, headers: &http::HeaderMap) -> Sender {
    let extensions = request.extensions();
    let peer = extensions.get::<ConnectInfo<SocketAddr>>();
    // Without a peer (a test without a socket) all count as one.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| {
        peer.ip().to_canonical()
    });
    let trusted = |network: &Network| network.contains(peer);
    let host = headers.get(header::HOST).cloned();
    let authority = request.uri().authority();
    let host = host.or_else(|| authority.and_then(|host| host.as_str().try_into().ok()));
    Sender {
        peer,
        is_trusted: settings.http.trusted_proxies.iter().any(trusted),
        is_tls: settings.tls.cert.is_some(),
        host,
        request_id: extensions.get::<RequestId>().map(|id| Arc::clone(&id.0)),
    }
}

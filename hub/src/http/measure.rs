//! The layer that counts requests, and the page that tells all counts.
//!
//! Owns who may read `/metrics`. What is counted, and what it means, is `metrics`'.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::config::Settings;
use crate::error::no_route;
use crate::metrics::{self, Snapshot};
use crate::rest::client_address;

/// Counts a request by the template of its route.
pub(super) async fn measured(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = named(request.method());
    let began = Instant::now();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    metrics::answered(route, method, response.status().as_u16(), began.elapsed());
    response
}

/// A method's name, of which a client can't make new ones.
fn named(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    const NAMES: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let at = KNOWN.iter().position(|known| known == method);
    at.map_or("other", |at| NAMES[at])
}

/// `GET /metrics`; for whom the settings don't allow it there is no such page.
pub(super) async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip());
    if !peer.is_some_and(|peer| may_read(peer, request.headers(), &app.settings)) {
        return no_route().await.into_response();
    }
    let connected = app.connections.counts();
    let page = metrics::page(Snapshot {
        sessions: connected.sessions,
        sockets: connected.sockets,
        users: connected.users,
        documents: app.documents.count(),
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page).into_response()
}

fn may_read(peer: IpAddr, headers: &HeaderMap, settings: &Settings) -> bool {
    let lies_in = |networks: &[crate::config::Network], address: IpAddr| {
        networks.iter().any(|network| network.contains(address))
    };
    let trusted = &settings.http.trusted_proxies;
    let passed_on = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
    // A proxy in a private network that is not named as one would open the page to everybody behind it.
    if passed_on && !lies_in(trusted, peer) {
        return false;
    }
    lies_in(
        &settings.metrics.allow,
        client_address(peer, headers, trusted),
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_page_is_for_the_networks_that_are_allowed() {
        let mut settings = Settings::default();
        let may = |settings: &Settings, peer: &str, forwarded: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(forwarded) = forwarded {
                headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
            }
            may_read(peer.parse().unwrap(), &headers, settings)
        };
        assert!(may(&settings, "127.0.0.1", None));
        assert!(may(&settings, "::ffff:10.1.2.3", None));
        assert!(!may(&settings, "203.0.113.9", None));
        assert!(!may(&settings, "10.0.0.1", Some("203.0.113.9")));
        assert!(!may(&settings, "10.0.0.1", Some("10.0.0.2")));
        settings.http.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
        assert!(!may(&settings, "10.0.0.1", Some("203.0.113.9")));
        assert!(may(&settings, "10.0.0.1", Some("10.0.0.2")));
        assert!(may(&settings, "10.0.0.1", None));
        settings.metrics.allow = vec!["203.0.113.0/24".parse().unwrap()];
        assert!(may(&settings, "203.0.113.9", None));
        assert!(!may(&settings, "127.0.0.1", None));
    }

    #[test]
    fn clients_invent_no_methods() {
        assert_eq!(named(&Method::PATCH), "PATCH");
        let own = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(named(&own), "other");
    }
}

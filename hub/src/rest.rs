//! REST: what every resource shares (who calls, from where, pages), and the list of them.
//!
//! Owns the extractors [`Caller`], [`Service`] and [`ClientAddress`] and the form of lists. Handlers below call
//! `auth` and the store, and hold no state of their own. Never answers with anything but a
//! [`crate::error::ApiError`] when it refuses.

pub mod account;
pub mod auth;
pub mod channels;
pub mod conditions;
pub mod content;
pub mod diff;
pub mod docs;
pub mod edits;
pub mod events;
pub mod feed;
pub mod idempotency;
pub mod info;
pub mod invitations;
pub mod keys;
pub mod openapi;
pub mod plans;
pub mod projects;
mod quota;
pub mod rate;
pub mod search;
pub mod server;
pub mod stream;
pub mod updates;
pub mod usage;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts};
use axum::http::{Extensions, HeaderMap, header, request::Parts};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::auth::services::ServiceKey;
use crate::auth::{Client, Principal};
use crate::cached::{Transport, Visit};
use crate::config::{Network, Settings};
use crate::error::{ApiError, FieldError};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
/// What is kept of how a client calls itself.
const USER_AGENT_CHARS: usize = 256;

/// Every route of this module, with its bodies bounded, and the document that describes them.
pub fn routes(settings: &Settings) -> Router<Arc<App>> {
    let (router, api) = parts(settings);
    router.merge(openapi::serve(api))
}

/// The routes, and their description.
fn parts(settings: &Settings) -> (Router<Arc<App>>, OpenApi) {
    let (router, api) = OpenApiRouter::with_openapi(openapi::base())
        .merge(auth::routes())
        .merge(account::routes())
        .merge(projects::routes())
        .merge(invitations::routes())
        .merge(keys::routes())
        .merge(docs::routes())
        .merge(content::routes())
        .merge(search::routes())
        .merge(plans::routes())
        .merge(feed::routes())
        .merge(usage::routes())
        .merge(events::routes())
        .merge(channels::routes(settings))
        .merge(server::routes())
        .merge(edits::routes(settings))
        .merge(updates::routes())
        .merge(diff::routes())
        .merge(info::routes())
        .merge(stream::routes())
        .split_for_parts();
    let router = router.layer(DefaultBodyLimit::max(settings.http.body_bytes));
    (router, openapi::complete(api))
}

/// Whoever sent the request, by the token in its `Authorization` header.
#[derive(Debug, Clone)]
pub struct Caller(pub Principal);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Some(token) = bearer(&parts.headers) else {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "an access token is needed",
            ));
        };
        let principal = match verified(&parts.extensions, token) {
            Some(principal) => principal,
            None => app.auth.authenticate(token).await?,
        };
        let (extensions, headers) = (&parts.extensions, &parts.headers);
        app.seen.note(&principal.login_session, || {
            visit(extensions, headers, &app.settings, Transport::Rest)
        });
        Ok(Self(principal))
    }
}

/// A token of this request that was found good on its way here, and whom it speaks for.
#[derive(Debug, Clone)]
struct Verified(Arc<(String, Principal)>);

/// Whom this very token speaks for, if that was found out on the request's way here; a token from another place
/// of the request is another one.
#[must_use]
pub fn verified(extensions: &http::Extensions, token: &str) -> Option<Principal> {
    let Verified(known) = extensions.get::<Verified>()?;
    (known.0 == token).then(|| known.1.clone())
}

/// The service that sent the request, by the API key in its `Authorization` header. Never a user: no handler takes
/// both.
#[derive(Debug, Clone)]
pub struct Service(pub ServiceKey);

impl FromRequestParts<Arc<App>> for Service {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Some(key) = bearer(&parts.headers) else {
            return Err(ApiError::new(
                ErrorCode::Unauthorized,
                "an API key is needed",
            ));
        };
        Ok(Self(app.auth.authenticate_service(key).await?))
    }
}

/// The token of an `Authorization: Bearer` header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Where the request comes from: the peer, or what trusted proxies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let trusted = &app.settings.http.trusted_proxies;
        Ok(Self::of(&parts.extensions, &parts.headers, trusted))
    }
}

impl ClientAddress {
    /// That of a request with these extensions and headers.
    #[must_use]
    pub fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        // Without a peer (a test without a socket) all count as one.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| {
            peer.ip()
        });
        Self(client_address(peer, headers, trusted))
    }
}

/// Who logs in: where from, and how it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginClient(pub Client);

impl FromRequestParts<Arc<App>> for LoginClient {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let ClientAddress(address) = ClientAddress::from_request_parts(parts, app).await?;
        let agent = parts.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        Ok(Self(Client {
            address,
            user_agent: agent.map(|agent| agent.chars().take(USER_AGENT_CHARS).collect()),
        }))
    }
}

/// What is noted of a login session that comes with this request.
#[must_use]
pub fn visit(
    extensions: &Extensions,
    headers: &HeaderMap,
    settings: &Settings,
    transport: Transport,
) -> Visit {
    let agent = headers.get(header::USER_AGENT);
    Visit {
        address: ClientAddress::of(extensions, headers, &settings.http.trusted_proxies).0,
        user_agent: agent.and_then(|agent| Some(agent.to_str().ok()?.to_owned())),
        transport,
    }
}

/// Walks `X-Forwarded-For` from its end while proxies that are trusted wrote it; the first address
/// that is none of them is the client.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let lines = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|line| line.to_str().ok());
    let told: Vec<&str> = lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    let mut client = peer.to_canonical();
    for hop in told.into_iter().rev() {
        if !is_trusted(client) {
            break;
        }
        // A proxy of ours that writes something else is not to be believed further.
        let Ok(address) = hop.parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
    }
    client
}

/// The query of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// At most so many items; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// Where to read on: the `next` of the page before.
    after: Option<String>,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many items.
    pub limit: u32,
    /// The key of the last item seen; empty at the beginning.
    pub after: String,
}

impl PageQuery {
    /// What is asked of a list elsewhere than in a query.
    #[must_use]
    pub fn new(limit: Option<u32>, after: Option<String>) -> Self {
        Self { limit, after }
    }

    /// Checks what was asked.
    ///
    /// # Errors
    /// The limit is out of bounds, or the cursor is none of ours.
    pub fn page(self) -> Result<Page, ApiError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid(
                "limit",
                format!("must be 1 to {MAX_LIMIT}"),
            ));
        }
        let after = match self.after.as_deref() {
            None | Some("") => String::new(),
            Some(cursor) => {
                let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
                let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                key.ok_or_else(|| ApiError::invalid("after", "is not a cursor of this list"))?
            }
        };
        Ok(Page { limit, after })
    }
}

impl Page {
    /// The key of the last item seen; none at the beginning.
    #[must_use]
    pub fn seen(&self) -> Option<&str> {
        (!self.after.is_empty()).then_some(&self.after)
    }

    /// How many items to read: one more than asked for tells whether there are more.
    #[must_use]
    pub fn read(&self) -> u32 {
        self.limit + 1
    }

    /// The page of what was read; `key` is what the list is sorted by.
    pub fn of<T, U>(
        &self,
        mut read: Vec<T>,
        key: impl Fn(&T) -> &str,
        show: impl FnMut(T) -> U,
    ) -> Json<Listing<U>> {
        let limit = self.limit as usize;
        let more = read.len() > limit;
        read.truncate(limit);
        let last = read.last().filter(|_| more);
        let next = last.map(|item| URL_SAFE_NO_PAD.encode(key(item)));
        Json(Listing {
            items: read.into_iter().map(show).collect(),
            next,
        })
    }
}

/// A part of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// Pass it as `after` to read on; `null` at the end.
    pub next: Option<String>,
}

/// Turns what is wrong with a field into an error.
pub(crate) fn field(
    name: &'static str,
    check: Result<(), std::borrow::Cow<'static, str>>,
) -> Result<(), ApiError> {
    let wrong = |reason| {
        ApiError::invalid_fields(vec![FieldError {
            field: name.into(),
            reason,
        }])
    };
    check.map_err(wrong)
}

#[cfg(test)]
mod tests;

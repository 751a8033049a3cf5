//! What passes of the headers, in both directions.
//!
//! Owns the lists: hop-by-hop (RFC 9110 §7.6.1), what only a proxy or the hub may say of a caller, and
//! what is the hub's own. Never looks at a body.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, EXPECT,
    FORWARDED, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::pool::Pool;
use super::trace;
use crate::error::{ApiError, REQUEST_ID};

/// Those of one connection, by RFC 9110 and by custom.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// What is made anew, or is no upstream's business. The length of a body is the body's to say.
const OWN: [HeaderName; 18] = [
    AUTHORIZATION,
    COOKIE,
    HOST,
    CONTENT_LENGTH,
    EXPECT,
    FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("x-client-ip"),
    // What other proxies say of who somebody is.
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("x-client-cert"),
    // By these some frameworks read another method or path than that which a rule has let through.
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-method"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// What an upstream may not say for the hub's own origin, on which the workspace lives.
const ORIGIN: [HeaderName; 4] = [
    // It would send the hub's own callers elsewhere.
    ALT_SVC,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    STRICT_TRANSPORT_SECURITY,
];

/// What such names begin with, only a proxy or the hub may say.
const IDENTITY: [&str; 6] = [
    "x-tandem-",
    "x-user-",
    "x-forwarded-",
    "x-auth-request-",
    "x-authenticated-",
    "x-ssl-client-",
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const VIA_TANDEM: &str = "1.1 tandem";

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// Whoever is at the other end of the connection.
    pub(super) peer: IpAddr,
    /// It is a proxy whose word counts.
    pub(super) is_trusted: bool,
    /// The hub itself speaks TLS to it.
    pub(super) is_tls: bool,
    /// The host that was asked for.
    pub(super) host: Option<HeaderValue>,
    /// The id of the request.
    pub(super) request_id: Option<Arc<str>>,
}

/// Makes of a caller's headers those for an upstream.
///
/// # Errors
/// The token is no header value, which its making rules out.
pub(super) fn to_upstream(
    headers: &mut HeaderMap,
    sender: &Sender,
    token: &str,
) -> Result<(), ApiError> {
    let told = Told::of(headers, sender);
    drop_hop_by_hop(headers);
    for name in &OWN {
        headers.remove(name);
    }
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_identity(name.as_str()))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    let bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(ApiError::internal)?;
    headers.insert(AUTHORIZATION, bearer);
    for (name, value) in [
        (FORWARDED_FOR, told.chain),
        (FORWARDED_PROTO, told.proto),
        (FORWARDED_HOST, told.host),
    ] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    add_via(headers);
    let given = headers.get(&TRACEPARENT).and_then(|v| v.to_str().ok());
    // Two of them are none (section 3.2 of the specification).
    let only = headers.get_all(&TRACEPARENT).iter().count() == 1;
    let (parent, went_on) = trace::next(given.filter(|_| only));
    if !went_on {
        headers.remove(&TRACESTATE);
    }
    if let Ok(parent) = HeaderValue::try_from(parent) {
        headers.insert(TRACEPARENT, parent);
    }
    let id = sender.request_id.as_deref();
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
    Ok(())
}

/// What is said of the caller's address and of how it asked.
struct Told {
    chain: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Told {
    fn of(headers: &HeaderMap, sender: &Sender) -> Self {
        let believed = |name: &HeaderName| {
            let value = headers.get(name).filter(|_| sender.is_trusted);
            value.filter(|value| value.len() <= 512).cloned()
        };
        let mut chain: Vec<String> = Vec::new();
        if sender.is_trusted {
            let lines = headers.get_all(&FORWARDED_FOR).iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            let hops = lines.flat_map(|line| line.split(',')).map(str::trim);
            chain.extend(hops.filter(|hop| !hop.is_empty()).map(str::to_owned));
        }
        chain.push(sender.peer.to_string());
        let is_scheme = |value: &HeaderValue| value == "http" || value == "https";
        let own = if sender.is_tls { "https" } else { "http" };
        let proto = believed(&FORWARDED_PROTO).filter(is_scheme);
        Self {
            chain: HeaderValue::try_from(chain.join(", ")).ok(),
            proto: Some(proto.unwrap_or(HeaderValue::from_static(own))),
            host: believed(&FORWARDED_HOST).or_else(|| sender.host.clone()),
        }
    }
}

/// Servers that turn headers into variables make `x-user-id` and `x_user_id` one.
fn is_identity(name: &str) -> bool {
    let name = name.replace('_', "-");
    let own = OWN.iter().any(|own| own.as_str() == name);
    own || IDENTITY.iter().any(|begin| name.starts_with(begin))
}

/// Makes of an upstream's headers those for the caller.
pub(super) fn to_caller(headers: &mut HeaderMap, pool: &Pool) {
    drop_hop_by_hop(headers);
    for name in &ORIGIN {
        headers.remove(name);
    }
    if !pool.service().set_cookie {
        headers.remove(SET_COOKIE);
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        if let Some(inside) = headers.get(&name).and_then(|value| rewritten(value, pool)) {
            headers.insert(name, inside);
        }
    }
    add_via(headers);
}

/// An address of an upstream, as its callers reach it; `None` for one that is not theirs, or relative.
fn rewritten(value: &HeaderValue, pool: &Pool) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let (text, fragment) = match text.split_once('#') {
        Some((text, fragment)) => (text, Some(fragment)),
        None => (text, None),
    };
    if text.starts_with("//") || !(text.starts_with('/') || text.contains("://")) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let mut upstreams = pool.service().upstreams.iter();
    let inside = upstreams.find_map(|upstream| upstream.inside(&uri))?;
    let mut whole = format!("/svc/{}{inside}", pool.name());
    if let Some(fragment) = fragment {
        whole.push('#');
        whole.push_str(fragment);
    }
    HeaderValue::try_from(whole).ok()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let lines = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn add_via(headers: &mut HeaderMap) {
    headers.append(VIA, HeaderValue::from_static(VIA_TANDEM));
}

#[cfg(test)]
mod tests;

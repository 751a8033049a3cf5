//! The layer that counts requests: who asks, from where, what for; and refuses what is too much.
//!
//! Owns where the token of a request is looked for before it has found its handler. A user is whom a verified token speaks
//! for, never a claim; it is found out once, and what comes after takes it from the request ([`super::verified`]).
//! What counts as what is `limits`'.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;

use super::{ClientAddress, Verified, bearer};
use crate::app::App;
use crate::error::ApiError;
use crate::limits::{Class, Count, POLICY, STATE, Who, class_of};
use crate::session::handshake;

/// Counts a request and has it answered, or refuses it with 429. Headers of the answer say what is left.
pub async fn limit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let class = class_of(request.method(), route.map_or("", MatchedPath::as_str));
    let Some(class) = class.filter(|class| app.rates.is_counted(*class)) else {
        return next.run(request).await;
    };
    let trusted = &app.settings.http.trusted_proxies;
    let client = ClientAddress::of(request.extensions(), request.headers(), trusted);
    let token = token(class, &request);
    let who = Who {
        address: client.0,
        token: token.as_deref(),
    };
    if let Some(count) = app.rates.still_refused(class, who) {
        return told(refused(class, &count), count);
    }
    // Whoever needs the token finds out by itself what is wrong with it.
    let user = match who.token {
        Some(token) => app.auth.authenticate(token).await.ok(),
        None => None,
    };
    let counted = app
        .rates
        .count(class, who, user.as_ref().map(|user| &*user.user));
    let count = match counted.await {
        Ok(count) => count,
        Err(error) => return error.into_response(),
    };
    if let Some(count) = count.as_ref().filter(|count| count.wait.is_some()) {
        return told(refused(class, count), count.clone());
    }
    if let Some(known) = token.zip(user) {
        request.extensions_mut().insert(Verified(Arc::new(known)));
    }
    let response = next.run(request).await;
    match count {
        Some(count) => told(response, count),
        None => response,
    }
}

/// The token by which a request of that class may say who sends it.
fn token(class: Class, request: &Request) -> Option<String> {
    match class {
        Class::Connect => handshake::token_of(request, true),
        Class::Gateway if request.headers().contains_key(header::UPGRADE) => {
            handshake::token_of(request, false)
        }
        _ => bearer(request.headers()).map(str::to_owned),
    }
}

fn refused(class: Class, count: &Count) -> Response {
    let detail = format!("too many requests of the class {}: wait", class.name());
    let error = ApiError::new(ErrorCode::RateLimited, detail);
    error
        .retry_after(count.wait.unwrap_or_default())
        .into_response()
}

/// Adds what is left; a service behind the gateway may have said the same of itself.
fn told(mut response: Response, count: Count) -> Response {
    let headers = response.headers_mut();
    headers.append(HeaderName::from_static(POLICY), count.policy);
    headers.append(HeaderName::from_static(STATE), count.state);
    response
}

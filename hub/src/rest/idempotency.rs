//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that carries one is carried out once, and
//! whoever sends it again is told what the first was told.
//!
//! The flow: the layer [`once`] reads the body, claims the key in the store, lets the handler run to its end
//! even if the client goes, and keeps the answer if it is a success; after a refusal, which says that nothing was
//! done, the key is free again. A handler need do nothing. One that makes something takes [`Keyed`] and gives it
//! the id that the key was given, so that whoever takes over from a node that died makes it under the same id; one that
//! edits a document hands the key's receipt to the edit. An answer that says `Cache-Control: no-store` holds a secret and is
//! not kept: whoever asks again learns only that it was given.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use backplane::store::{Claimed, KeptAnswer, NewRequest, Receipt, Store};
use bytes::Bytes;
use protocol::ErrorCode;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::Caller;
use crate::app::App;
use crate::error::ApiError;

/// The header that carries the key.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, characters.
pub const KEY_LENGTH: usize = 255;
/// Largest answer that is kept, bytes.
const ANSWER_BYTES: u64 = 256 << 10;
/// Headers of an answer that are kept.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
/// Where this layer takes no keys: what is asked and answered there are passwords and tokens; plans keep theirs
/// in their own rows; services name theirs in the body.
const WITHOUT: [&str; 3] = ["/api/auth/", "/api/plans", "/api/server/"];

/// Whether requests to a path may carry a key for this layer.
pub(super) fn takes_keys(path: &str) -> bool {
    !WITHOUT.iter().any(|without| path.starts_with(without))
}

#[derive(Debug)]
struct Claim {
    receipt: Receipt,
    made_id: String,
    taken_up: bool,
    seq: Option<u64>,
}

/// The key that a request came with, if it did.
#[derive(Debug, Clone, Default)]
pub struct Keyed(Option<Arc<Claim>>);

impl FromRequestParts<Arc<App>> for Keyed {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Keyed {
    /// The id for what the request makes, a UUID v7: the same each time a request of this key is carried out.
    #[must_use]
    pub fn made_id(&self) -> String {
        match &self.0 {
            Some(claim) => claim.made_id.clone(),
            None => uuid::Uuid::now_v7().to_string(),
        }
    }

    /// Whether somebody tried before and never said how it ended: what the request makes may be there.
    #[must_use]
    pub fn is_taken_up(&self) -> bool {
        self.0.as_ref().is_some_and(|claim| claim.taken_up)
    }

    /// When the request was first tried, milliseconds since the Unix epoch, if somebody tried before and never said
    /// how it ended.
    #[must_use]
    pub fn taken_up_since(&self) -> Option<u64> {
        let claim = self.0.as_ref().filter(|claim| claim.taken_up)?;
        // The id holds the time at which it was made, on the clock of a node: clocks may differ a little.
        let id = uuid::Uuid::parse_str(&claim.made_id).ok()?;
        let (seconds, nanos) = id.get_timestamp()?.to_unix();
        Some((seconds * 1000 + u64::from(nanos / 1_000_000)).saturating_sub(1000))
    }

    /// What an edit takes along into the log.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        self.0.as_ref().map(|claim| claim.receipt.clone())
    }

    /// The sequence of the request's own update, if that is in the log already: nothing is left to do.
    #[must_use]
    pub fn applied(&self) -> Option<u64> {
        self.0.as_ref().and_then(|claim| claim.seq)
    }
}

/// The layer.
pub async fn once(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let unsafe_methods = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if !request.headers().contains_key(KEY)
        || !unsafe_methods.contains(request.method())
        || !takes_keys(request.uri().path())
    {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    // Whoever is nobody has no keys; the handler will say so.
    let Ok(Caller(caller)) = Caller::from_request_parts(&mut parts, &app).await else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    let key = match key(&parts.headers) {
        Ok(key) => key,
        Err(error) => return error.into_response(),
    };
    let settings = &app.settings;
    let most = settings.http.body_bytes.max(settings.collab.update_bytes);
    let Ok(body) = to_bytes(body, most).await else {
        let text = "the body is over the limit, or broke off";
        return ApiError::new(ErrorCode::TooLarge, text).into_response();
    };
    let request = new_request(&caller.user, key, fingerprint(&parts, &body));
    carried_out(app, request, |keyed| {
        parts.extensions.insert(keyed);
        next.run(Request::from_parts(parts, Body::from(body)))
    })
    .await
}

/// A request that a user has given a key; the fingerprint stands for what is asked.
pub(crate) fn new_request(user: &str, key: String, fingerprint: [u8; 32]) -> NewRequest {
    NewRequest {
        fingerprint,
        receipt: Receipt {
            user_id: user.to_owned(),
            key,
            claim: uuid::Uuid::now_v7().to_string(),
        },
        made_id: uuid::Uuid::now_v7().to_string(),
    }
}

/// Does the work unless that was done before; then it is what was told before.
pub(crate) async fn carried_out<W>(
    app: Arc<App>,
    request: NewRequest,
    work: impl FnOnce(Keyed) -> W,
) -> Response
where
    W: Future<Output = Response> + Send + 'static,
{
    let lease = app.settings.http.idempotency_lease;
    let keep = app.settings.http.idempotency_keep;
    let claim = match app.store.claim_request(&request, lease, keep).await {
        Ok(Claimed::Yours { made_id, seq }) => Claim {
            taken_up: made_id != request.made_id,
            receipt: request.receipt,
            made_id,
            seq,
        },
        Ok(other) => return told(other),
        Err(error) => return ApiError::from(error).into_response(),
    };
    let receipt = claim.receipt.clone();
    let work = work(Keyed(Some(Arc::new(claim))));
    // To the end, also when the client goes: it will ask again.
    let kept = async move {
        match tokio::time::timeout(lease, work).await {
            Ok(response) => keep_answer(&*app.store, &receipt, response).await,
            // What it has done is not known: the claim runs out now, and whoever asks again tries again.
            Err(_) => ApiError::new(ErrorCode::Timeout, "").into_response(),
        }
    };
    match tokio::spawn(kept.in_current_span()).await {
        Ok(response) => response,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(stopped) => ApiError::internal(stopped).into_response(),
        },
    }
}

/// What is told to whoever does not get the request.
fn told(claimed: Claimed) -> Response {
    match claimed {
        Claimed::Done(Some(answer)) => replayed(answer),
        Claimed::Done(None) => ApiError::new(
            ErrorCode::Conflict,
            "the request was carried out; its answer was not kept",
        )
        .into_response(),
        Claimed::Busy(left) => ApiError::new(
            ErrorCode::Conflict,
            "a request with this key is being carried out",
        )
        // Most are done in no time: whoever asks again then learns how it ended.
        .retry_after(left.min(Duration::from_secs(1)))
        .into_response(),
        Claimed::Other | Claimed::Yours { .. } => {
            ApiError::new(ErrorCode::IdempotencyConflict, "").into_response()
        }
    }
}

fn replayed(answer: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Keeps a success; a refusal says that nothing was done, and frees the key.
async fn keep_answer(store: &dyn Store, receipt: &Receipt, response: Response) -> Response {
    if response.status().is_server_error() {
        // It may have been done all the same: whoever asks again takes it up once the claim has run out.
        return response;
    }
    if !response.status().is_success() {
        if let Err(error) = store.release_request(receipt).await {
            tracing::debug!(%error, "a key stays taken until its claim runs out");
        }
        return response;
    }
    let rules = response.headers().get(header::CACHE_CONTROL);
    let is_secret = rules.is_some_and(|rules| rules == "no-store");
    let size = response.body().size_hint().upper();
    let (response, answer) = if is_secret || size.is_none_or(|size| size > ANSWER_BYTES) {
        (response, None)
    } else {
        let (parts, body) = response.into_parts();
        let Ok(body) = to_bytes(body, ANSWER_BYTES as usize).await else {
            return ApiError::internal("an answer broke off").into_response();
        };
        let kept = KEPT.iter().filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.to_string(), value.to_owned()))
        });
        let answer = KeptAnswer {
            status: parts.status.as_u16(),
            headers: kept.collect(),
            body: body.clone(),
        };
        (Response::from_parts(parts, Body::from(body)), Some(answer))
    };
    match store.finish_request(receipt, answer.as_ref()).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!("a request took longer than its claim"),
        Err(error) => tracing::warn!(%error, "an answer was not kept"),
    }
    response
}

/// The key: printable ASCII, in quotes as the draft has it or without.
fn key(headers: &HeaderMap) -> Result<String, ApiError> {
    let wrong = || {
        let reason = format!("is one key of 1 to {KEY_LENGTH} printable ASCII characters");
        ApiError::invalid("idempotency-key", reason)
    };
    let mut keys = headers.get_all(KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(wrong());
    };
    let key = key.to_str().map_err(|_| wrong())?.trim();
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    let key = inner.unwrap_or(key);
    is_key(key).then(|| key.to_owned()).ok_or_else(wrong)
}

/// Whether a key is printable ASCII, and short enough.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=KEY_LENGTH).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// What is asked: all that decides what the handler does.
fn fingerprint(parts: &Parts, body: &Bytes) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    add(parts.method.as_str().as_bytes());
    add(parts.uri.path().as_bytes());
    add(parts.uri.query().unwrap_or_default().as_bytes());
    for name in [header::CONTENT_TYPE, header::IF_MATCH] {
        let value = parts.headers.get(name);
        add(value.map_or(&[], HeaderValue::as_bytes));
    }
    add(body);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(values: &[&str]) -> Result<String, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(KEY, HeaderValue::from_str(value).unwrap());
        }
        key(&headers)
    }

    #[test]
    fn keys_are_read_in_quotes_and_without() {
        let long = "k".repeat(KEY_LENGTH);
        for (given, key) in [
            ("k-1", "k-1"),
            ("\"k-1\"", "k-1"),
            (&*long, &*long),
            ("\"", "\""),
        ] {
            assert_eq!(keyed(&[given]).unwrap(), key);
        }
        let too_long = "k".repeat(KEY_LENGTH + 1);
        for wrong in [
            &["\"\""][..],
            &["a b"],
            &["a", "b"],
            &["ü"],
            &[&too_long],
            &[""],
        ] {
            assert_eq!(
                keyed(wrong).unwrap_err().code,
                ErrorCode::Invalid,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn another_request_has_another_fingerprint() {
        let request = |method: &str, uri: &str, kind: &str| {
            let request = axum::http::Request::builder();
            let request = request.method(method).uri(uri).header("content-type", kind);
            request.body(()).unwrap().into_parts().0
        };
        let body = Bytes::from_static(b"{}");
        let one = fingerprint(&request("POST", "/a?b=c", "x"), &body);
        assert_eq!(one, fingerprint(&request("POST", "/a?b=c", "x"), &body));
        for other in [
            request("PUT", "/a?b=c", "x"),
            request("POST", "/a?b=d", "x"),
            request("POST", "/ab?=c", "x"),
            request("POST", "/a?b=c", "y"),
        ] {
            assert_ne!(one, fingerprint(&other, &body));
        }
        let parts = request("POST", "/a?b=c", "x");
        assert_ne!(one, fingerprint(&parts, &Bytes::from_static(b"[]")));
    }
}

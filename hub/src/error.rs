//! The one error of the HTTP edge: what a client is told, as an RFC 9457 problem document.
//!
//! Owns [`ApiError`], the request id and the writing of both into responses and the log. The inner
//! cause is logged with the id and never sent. Flow: a handler returns an [`ApiError`]; the
//! middleware [`request_id`], outermost, gives the document its id and logs what is 5xx.

mod extract;

use std::any::Any;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use backplane::store::StoreError;
use protocol::ErrorCode;
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;

pub use extract::{Body, Params, Segments};

/// Header that carries the request id, both ways.
pub const REQUEST_ID: &str = "x-request-id";

/// The id of the request under way, as an extension of it.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// One field of a request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name.
    #[schema(value_type = String, example = "name")]
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    #[schema(value_type = String, example = "has 1 to 64 characters")]
    pub reason: Cow<'static, str>,
}

/// Why a request failed.
#[derive(Debug)]
pub struct ApiError {
    /// The stable code; decides the status.
    pub code: ErrorCode,
    /// What happened, for a person; sent.
    pub detail: Cow<'static, str>,
    /// The fields at fault; sent.
    pub errors: Vec<FieldError>,
    /// When to try again; sent as `Retry-After`.
    pub retry_after: Option<Duration>,
    /// What really happened; logged, never sent.
    pub cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    /// An error of that code; an empty detail stands for the meaning of the code.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// Whether the store said that this is not allowed, rather than nothing at all.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.code, ErrorCode::NotFound | ErrorCode::Forbidden)
    }

    /// There is no such thing, or none that the caller may see.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "")
    }

    /// One field has a value that is not allowed.
    #[must_use]
    pub fn invalid(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid_fields(vec![FieldError {
            field: field.into(),
            reason: reason.into(),
        }])
    }

    /// Some fields have values that are not allowed.
    #[must_use]
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        let said = errors
            .iter()
            .map(|one| format!("{}: {}", one.field, one.reason));
        let detail = said.collect::<Vec<_>>().join("; ");
        Self {
            errors,
            ..Self::new(ErrorCode::Invalid, detail)
        }
    }

    /// Something failed inside.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::Internal, "").caused_by(cause)
    }

    /// Adds what really happened.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What happened, for a person.
    pub(crate) fn words(&self) -> &str {
        match &*self.detail {
            "" => self.code.meaning(),
            detail => detail,
        }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document's bytes; the id is left out where it is not known yet.
    fn document(&self, request_id: Option<&str>) -> Vec<u8> {
        let detail = self.words().to_owned();
        let problem = Problem {
            r#type: format!("urn:tandem:problem:{}", self.code.as_str()),
            title: self.code.meaning(),
            status: self.code.http_status(),
            code: self.code.as_str(),
            detail,
            errors: self.errors.clone(),
            request_id: request_id.map(str::to_owned),
        };
        // Serialising a struct of strings can't fail.
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// Writes what happened into the log: loudly if the hub is at fault.
    pub(crate) fn log(&self) {
        let cause = self.cause.as_deref().map(chain).unwrap_or_default();
        let code = self.code.as_str();
        if self.status().is_server_error() {
            tracing::error!(code, detail = %self.detail, %cause, "request failed");
        } else {
            tracing::debug!(code, detail = %self.detail, %cause, "request refused");
        }
    }
}

fn chain(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Why a request was refused, as it is sent (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// `urn:tandem:problem:` and the code.
    #[schema(example = "urn:tandem:problem:not_found")]
    r#type: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable: what a program goes by.
    #[schema(example = "not_found")]
    code: &'static str,
    /// What happened, for a person.
    detail: String,
    /// The fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// What the log knows the request by; also in the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict(_) => Self::new(ErrorCode::Conflict, "").caused_by(error),
            StoreError::Changed => Self::new(ErrorCode::PreconditionFailed, ""),
            StoreError::NotFound => Self::not_found(),
            StoreError::Unavailable(_) => Self::new(ErrorCode::Unavailable, "")
                .retry_after(Duration::from_secs(1))
                .caused_by(error),
            StoreError::Corrupt(_) => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(HttpBody::from(self.document(None)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if self.code == ErrorCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

/// Why a response of the hub refuses, if it does.
pub(crate) fn failure_of(response: &Response) -> Option<Arc<ApiError>> {
    let Failure(error) = response.extensions().get::<Failure>()?;
    Some(Arc::clone(error))
}

/// Rides on a response up to [`request_id`].
#[derive(Clone)]
struct Failure(Arc<ApiError>);

/// Rides on a response that another service made: [`request_id`] leaves its status and body alone.
#[derive(Debug, Clone, Copy)]
pub struct Foreign;

/// Middleware, to be the outermost: takes a sane id from the request or makes one, puts it into the
/// request's extensions, the tracing span, the response and its problem document, and logs failures.
pub async fn request_id(mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let id: Arc<str> = match given.filter(|id| is_sane(id)) {
        Some(id) => id.into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    // The path alone: the query may hold a token.
    let path = logged(request.uri().path());
    let span = tracing::info_span!("request", %id, method = %request.method(), path);
    async move {
        let mut response = finish(next.run(request).await, &id);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
    .instrument(span)
    .await
}

/// What the log says of a path: one that holds a token is cut before it.
fn logged(path: &str) -> &str {
    const HOLDS_TOKEN: &str = "/api/invitations/";
    path.get(..HOLDS_TOKEN.len())
        .filter(|start| *start == HOLDS_TOKEN)
        .unwrap_or(path)
}

fn is_sane(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(allowed)
}

/// Logs a failure and writes the id into its document; gives the bare refusals of layers (timeouts,
/// limits) a document at all.
fn finish(mut response: Response, id: &str) -> Response {
    if let Some(Failure(error)) = response.extensions_mut().remove::<Failure>() {
        error.log();
        *response.body_mut() = HttpBody::from(error.document(Some(id)));
        response.headers_mut().remove(header::CONTENT_LENGTH);
        return response;
    }
    if response.extensions().get::<Foreign>().is_some() {
        return response;
    }
    let bare = !response.headers().contains_key(header::CONTENT_TYPE)
        && response.body().size_hint().exact() == Some(0);
    match code_of(response.status()) {
        Some(code) if bare => {
            let problem = ApiError::new(code, "").into_response();
            let (parts, body) = problem.into_parts();
            *response.status_mut() = parts.status;
            response.headers_mut().extend(parts.headers);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = body;
            response.extensions_mut().extend(parts.extensions);
            finish(response, id)
        }
        _ => response,
    }
}

fn code_of(status: StatusCode) -> Option<ErrorCode> {
    match status {
        // A request that did not end in time: to its client the same as one that was not answered.
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Some(ErrorCode::Timeout),
        StatusCode::BAD_REQUEST => Some(ErrorCode::BadRequest),
        StatusCode::NOT_FOUND => Some(ErrorCode::NotFound),
        StatusCode::METHOD_NOT_ALLOWED => Some(ErrorCode::MethodNotAllowed),
        StatusCode::PAYLOAD_TOO_LARGE => Some(ErrorCode::TooLarge),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(ErrorCode::UnsupportedMedia),
        StatusCode::SERVICE_UNAVAILABLE => Some(ErrorCode::Unavailable),
        StatusCode::INTERNAL_SERVER_ERROR => Some(ErrorCode::Internal),
        _ => None,
    }
}

/// Answers a path that no route has.
pub async fn no_route() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is nothing at this path")
}

/// Answers a method that a path does not have; the `Allow` header says which it has.
pub async fn no_method() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "")
}

/// Answers for a handler that panicked.
#[must_use]
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::internal(format!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests;

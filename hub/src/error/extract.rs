//! Extractors whose refusals are problem documents: JSON body, query, path.
//!
//! Owns the wording of those refusals, which names the field at fault. Never validates meaning.

use std::error::Error as StdError;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use protocol::ErrorCode;
use serde::de::DeserializeOwned;

use super::{ApiError, FieldError};

/// A JSON body. Its size is bounded by axum's `DefaultBodyLimit`.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(error)) => Err(field_error(&error)),
            Err(JsonRejection::JsonSyntaxError(error)) => {
                Err(ApiError::new(ErrorCode::BadRequest, "the body is not JSON").caused_by(error))
            }
            Err(JsonRejection::MissingJsonContentType(_)) => Err(ApiError::new(
                ErrorCode::UnsupportedMedia,
                "the body must have the content type application/json",
            )),
            Err(other) if other.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(ApiError::new(
                ErrorCode::TooLarge,
                "the body is over the limit",
            )
            .caused_by(other)),
            Err(other) => Err(
                ApiError::new(ErrorCode::BadRequest, "the body could not be read").caused_by(other),
            ),
        }
    }
}

/// The query of the URL.
#[derive(Debug, Clone, Copy)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => Err(field_error(&error)),
            Err(other) => Err(
                ApiError::new(ErrorCode::BadRequest, "the query could not be read")
                    .caused_by(other),
            ),
        }
    }
}

/// The variable parts of the path.
#[derive(Debug, Clone, Copy)]
pub struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::MissingPathParams(error)) => Err(ApiError::internal(error)),
            Err(other) => Err(
                ApiError::new(ErrorCode::BadRequest, "the path could not be read").caused_by(other),
            ),
        }
    }
}

/// The field at fault stands before the first colon of what serde says, or in backticks after
/// "missing field" and "unknown field".
fn field_error(error: &(dyn StdError + 'static)) -> ApiError {
    let text = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let quoted = |prefix: &str| {
        let (_, rest) = text.split_once(prefix)?;
        Some(rest.split_once('`')?.0.to_owned())
    };
    let path = text
        .split_once(": ")
        .map(|(path, _)| path)
        .filter(|path| is_path(path));
    let reason = match path {
        Some(path) => text[path.len() + 2..].to_owned(),
        None => text.clone(),
    };
    // Where in the bytes it stood is of no use to who wrote the value.
    let reason = match reason.rfind(" at line ") {
        Some(end) => reason[..end].to_owned(),
        None => reason,
    };
    let named = quoted("missing field `").or_else(|| quoted("unknown field `"));
    let field = match (path.filter(|path| *path != "."), named) {
        (Some(path), Some(name)) if !path.ends_with(&name) => format!("{path}.{name}"),
        (Some(path), _) => path.to_owned(),
        (None, Some(name)) => name,
        (None, None) => "body".to_owned(),
    };
    ApiError::invalid_fields(vec![FieldError {
        field: field.into(),
        reason: reason.into(),
    }])
}

fn is_path(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'[' | b']');
    !text.is_empty() && text.bytes().all(allowed)
}

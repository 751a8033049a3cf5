//! What is in a document: its text, its Yjs state, its versions.
//!
//! Reads go through the document's own task, so that what is answered is durable and current; a
//! restore enters there too, as an edit that everyone in the document sees.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::document::DEFAULT_ROOT;
use backplane::store::{Version, VersionKind};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::conditions::{Conditions, content_tag, tagged};
use super::edits::{EditedView, Terms, carry_out};
use super::idempotency::Keyed;
use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::collab::{TextChange, Work};
use crate::error::{ApiError, Body, Params, Problem, Segments};
use crate::now_ms;

/// Longest name of a root type, bytes.
const ROOT_BYTES: usize = 128;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(text))
        .routes(routes!(state))
        .routes(routes!(versions, name_version))
        .routes(routes!(version, remove_version))
        .routes(routes!(version_text))
        .routes(routes!(restore))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Root {
    /// The root type that holds the text; `text` if it is left out.
    #[param(min_length = 1, max_length = 128, example = "text")]
    root: Option<String>,
}

impl Root {
    pub(super) fn name(self) -> Result<String, ApiError> {
        root_name(self.root)
    }
}

/// The name of a root type, as it may be.
pub(crate) fn root_name(root: Option<String>) -> Result<String, ApiError> {
    let root = root.unwrap_or_else(|| DEFAULT_ROOT.to_owned());
    if root.is_empty() || root.len() > ROOT_BYTES {
        let reason = format!("has 1 to {ROOT_BYTES} bytes");
        return Err(ApiError::invalid("root", reason));
    }
    Ok(root)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Beyond {
    /// A Yjs state vector, base64url without padding: only what lies beyond it is sent.
    #[param(pattern = "^[A-Za-z0-9_-]*$", example = "AA")]
    vector: Option<String>,
}

impl Beyond {
    fn vector(self) -> Result<Bytes, ApiError> {
        let Some(vector) = self.vector else {
            // That of an empty document.
            return Ok(Bytes::from_static(&[0]));
        };
        let decoded = URL_SAFE_NO_PAD.decode(vector.trim_end_matches('='));
        let decoded = decoded.map_err(|_| ApiError::invalid("vector", "is not base64url"))?;
        Ok(decoded.into())
    }
}

#[derive(Deserialize, ToSchema)]
struct NewVersion {
    /// For people.
    #[schema(min_length = 1, max_length = 64, example = "before the refactoring")]
    name: String,
}

#[derive(Serialize, ToSchema)]
struct VersionView {
    id: String,
    /// The document's id.
    document: String,
    /// The sequence of the newest update in it.
    seq: u64,
    /// `named` by a user, or kept by the hub.
    #[schema(pattern = "^(auto|named)$", example = "named")]
    kind: &'static str,
    /// Empty for one that the hub kept.
    name: String,
    /// The id of the user who named it.
    author: Option<String>,
    created_at: u64,
}

impl From<Version> for VersionView {
    fn from(version: Version) -> Self {
        Self {
            id: version.id,
            document: version.document_id,
            seq: version.seq,
            kind: version.kind.as_str(),
            name: version.name,
            author: version.author_id,
            created_at: version.created_at,
        }
    }
}

fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn binary(state: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], state).into_response()
}

async fn may(app: &App, caller: &Caller, id: &str, operation: Operation) -> Result<(), ApiError> {
    app.auth
        .authorize_document(&caller.0.user, id, operation)
        .await?;
    Ok(())
}

/// Reads a document's text, once all of it is durable.
#[utoipa::path(get, path = "/api/documents/{id}/text", tag = "documents", params(("id" = String, Path, description = "The document's id."), Root, ("If-None-Match" = Option<String>, Header, description = "Tags of what the client has.")),
    responses(
        (status = 200, description = "The text.", body = String, content_type = "text/plain", headers(("ETag" = String, description = "The content's tag."))),
        (status = 304, description = "The client has it."),
    ))]
async fn text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(root): Params<Root>,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::ReadDocument).await?;
    let captured = app.documents.capture(&id).await?;
    let tag = content_tag(captured.tag);
    if conditions.has(&tag) {
        return Ok(tagged(&conditions, &tag, ()));
    }
    let text = app.reads.text_of(captured.state, root).await?;
    Ok(tagged(&conditions, &tag, plain(text)))
}

/// Reads a document's Yjs state as one update, once all of it is durable: whole, or what lies beyond a state vector.
#[utoipa::path(get, path = "/api/documents/{id}/state", tag = "documents", params(("id" = String, Path, description = "The document's id."), Beyond, ("If-None-Match" = Option<String>, Header, description = "Tags of what the client has.")),
    responses(
        (status = 200, description = "A Yjs v1 update.", body = Vec<u8>, content_type = "application/octet-stream", headers(("ETag" = String, description = "The content's tag."))),
        (status = 304, description = "The client has it."),
    ))]
async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(beyond): Params<Beyond>,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let vector = beyond.vector()?;
    may(&app, &caller, &id, Operation::ReadDocument).await?;
    let captured = app.documents.capture_beyond(&id, &vector).await?;
    let tag = content_tag(captured.tag);
    Ok(tagged(&conditions, &tag, binary(captured.state)))
}

/// Lists a document's versions.
#[utoipa::path(get, path = "/api/documents/{id}/versions", tag = "documents", params(("id" = String, Path, description = "The document's id."), PageQuery),
    responses((status = 200, description = "A part of the list, newest first.", body = Listing<VersionView>)))]
async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<VersionView>>, ApiError> {
    let page = query.page()?;
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let before = (!page.after.is_empty()).then_some(page.after.as_str());
    let read = app.reads.versions(&id, before, page.read()).await?;
    Ok(page.of(read, |version| &version.id, VersionView::from))
}

/// Keeps a document as it is now under a name.
#[utoipa::path(post, path = "/api/documents/{id}/versions", tag = "documents", params(("id" = String, Path, description = "The document's id.")), request_body = NewVersion,
    responses((status = 201, description = "Kept.", body = VersionView, headers(("Location" = String, description = "Its path.")))))]
async fn name_version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    keyed: Keyed,
    Body(asked): Body<NewVersion>,
) -> Result<Response, ApiError> {
    field("name", names::display(&asked.name))?;
    may(&app, &caller, &id, Operation::NameVersion).await?;
    let captured = app.documents.capture(&id).await?;
    let mut version = Version {
        id: keyed.made_id(),
        document_id: id,
        seq: captured.seq,
        kind: VersionKind::Named,
        name: asked.name,
        author_id: Some(caller.0.user.to_string()),
        created_at: now_ms(),
    };
    if let Err(error) = app.store.add_version(&version, &captured.state).await {
        // Whoever tried before may have kept it and died before it could say so.
        let made = match keyed.is_taken_up() {
            true => app.store.version(&version.document_id, &version.id).await?,
            false => None,
        };
        version = made.ok_or(error)?.0;
    }
    let location = format!(
        "/api/documents/{}/versions/{}",
        version.document_id, version.id
    );
    let view = VersionView::from(version);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(view),
    )
        .into_response())
}

pub(super) async fn read_version(
    app: &App,
    id: &str,
    version: &str,
) -> Result<(Version, Bytes), ApiError> {
    let found = app.store.version(id, version).await?;
    found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such version"))
}

/// Reads a version's Yjs state.
#[utoipa::path(get, path = "/api/documents/{id}/versions/{version}", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("version" = String, Path, description = "The version's id.")),
    responses((status = 200, description = "A Yjs v1 update.", body = Vec<u8>, content_type = "application/octet-stream")))]
async fn version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    Ok(binary(state))
}

/// Reads a version's text.
#[utoipa::path(get, path = "/api/documents/{id}/versions/{version}/text", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("version" = String, Path, description = "The version's id."), Root),
    responses((status = 200, description = "The text.", body = String, content_type = "text/plain")))]
async fn version_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
    Params(root): Params<Root>,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    Ok(plain(app.reads.text_of(state, root).await?))
}

/// Deletes a version.
#[utoipa::path(delete, path = "/api/documents/{id}/versions/{version}", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("version" = String, Path, description = "The version's id.")),
    responses((status = 204, description = "Deleted.")))]
async fn remove_version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    may(&app, &caller, &id, Operation::NameVersion).await?;
    if app.store.delete_version(&id, &version).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::new(
        ErrorCode::NotFound,
        "there is no such version",
    ))
}

/// Makes the text what it was in a version; what else the document holds stays as it is.
#[utoipa::path(post, path = "/api/documents/{id}/versions/{version}/restore", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("version" = String, Path, description = "The version's id."), Root, ("If-Match" = Option<String>, Header, description = "Tags of the content that it is to be done on.")),
    responses(
        (status = 200, description = "Restored, as an edit that everyone in the document sees, and durable.", body = EditedView, headers(("ETag" = String, description = "The tag of the content that it made."))),
        (status = 409, description = "The text holds embedded objects.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The content is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn restore(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
    Params(root): Params<Root>,
    conditions: Conditions,
    keyed: Keyed,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::RestoreVersion).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    let text = app.reads.text_of(state, root.clone()).await?;
    let change = TextChange::Whole(text);
    let terms = Terms {
        caller,
        operation: Operation::RestoreVersion,
        only_if: conditions.only_if(),
        keyed,
        agent: None,
    };
    carry_out(&app, &id, terms, Work::Text { root, change }).await
}

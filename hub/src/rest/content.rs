//! What is in a document: its text, its Yjs state, its versions.
//!
//! Reads go through the document's own task, so that what is answered is durable and current; a
//! restore enters there too, as an edit that everyone in the document sees.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::store::{Version, VersionKind};
use bytes::Bytes;
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};

use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Body, Params, Segments};
use crate::now_ms;

/// Longest name of a root type, bytes.
const ROOT_BYTES: usize = 128;

/// The routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/documents/{id}/text", get(text))
        .route("/api/documents/{id}/state", get(state))
        .route(
            "/api/documents/{id}/versions",
            get(versions).post(name_version),
        )
        .route(
            "/api/documents/{id}/versions/{version}",
            get(version).delete(remove_version),
        )
        .route(
            "/api/documents/{id}/versions/{version}/text",
            get(version_text),
        )
        .route(
            "/api/documents/{id}/versions/{version}/restore",
            post(restore),
        )
}

#[derive(Deserialize)]
struct Root {
    root: Option<String>,
}

impl Root {
    fn name(self) -> Result<String, ApiError> {
        let root = self.root.unwrap_or_else(|| DEFAULT_ROOT.to_owned());
        if root.is_empty() || root.len() > ROOT_BYTES {
            return Err(ApiError::invalid(
                "root",
                format!("has 1 to {ROOT_BYTES} bytes"),
            ));
        }
        Ok(root)
    }
}

#[derive(Deserialize)]
struct NewVersion {
    name: String,
}

#[derive(Serialize)]
struct VersionView {
    id: String,
    document: String,
    seq: u64,
    kind: &'static str,
    name: String,
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

/// Text of a state, made off the runtime's threads: large documents take their time.
async fn text_of(state: Bytes, root: String) -> Result<String, ApiError> {
    let made = tokio::task::spawn_blocking(move || {
        Replica::from_state(&state).map(|replica| replica.text(&root))
    });
    let failed = |text: String| ApiError::new(ErrorCode::Internal, "").caused_by(text);
    match made.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
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

async fn text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(root): Params<Root>,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::ReadDocument).await?;
    let captured = app.documents.capture(&id).await?;
    Ok(plain(text_of(captured.state, root).await?))
}

async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, ApiError> {
    may(&app, &caller, &id, Operation::ReadDocument).await?;
    let captured = app.documents.capture(&id).await?;
    Ok(binary(captured.state))
}

async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<VersionView>>, ApiError> {
    let page = query.page()?;
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let before = (!page.after.is_empty()).then_some(page.after.as_str());
    let read = app.store.versions(&id, before, page.read()).await?;
    Ok(page.of(read, |version| &version.id, VersionView::from))
}

async fn name_version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Body(asked): Body<NewVersion>,
) -> Result<Response, ApiError> {
    field("name", names::display(&asked.name))?;
    may(&app, &caller, &id, Operation::NameVersion).await?;
    let captured = app.documents.capture(&id).await?;
    let version = Version {
        id: uuid::Uuid::now_v7().to_string(),
        document_id: id,
        seq: captured.seq,
        kind: VersionKind::Named,
        name: asked.name,
        author_id: Some(caller.0.user.to_string()),
        created_at: now_ms(),
    };
    app.store.add_version(&version, &captured.state).await?;
    Ok((StatusCode::CREATED, Json(VersionView::from(version))).into_response())
}

async fn read_version(app: &App, id: &str, version: &str) -> Result<(Version, Bytes), ApiError> {
    let found = app.store.version(id, version).await?;
    found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such version"))
}

async fn version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    Ok(binary(state))
}

async fn version_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
    Params(root): Params<Root>,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::ReadVersions).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    Ok(plain(text_of(state, root).await?))
}

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

/// Makes the text what it was; what else the document holds stays as it is.
async fn restore(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments((id, version)): Segments<(String, String)>,
    Params(root): Params<Root>,
) -> Result<StatusCode, ApiError> {
    let root = root.name()?;
    may(&app, &caller, &id, Operation::RestoreVersion).await?;
    let (_, state) = read_version(&app, &id, &version).await?;
    let text = text_of(state, root.clone()).await?;
    app.documents.replace_text(&id, &root, &text).await?;
    Ok(StatusCode::NO_CONTENT)
}

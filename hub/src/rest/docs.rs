//! Documents as resources: list, create, read, rename, delete.
//!
//! Owns the shapes of these requests and answers. Never touches a document's text: that is
//! `content`'s and the document actor's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backplane::store::{Document, StoreError};
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};

use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Body, Params, Segments};
use crate::events;
use crate::now_ms;

/// The routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/projects/{project}/documents", get(list).post(create))
        .route(
            "/api/documents/{id}",
            get(read).patch(rename).delete(remove),
        )
}

#[derive(Deserialize)]
struct NewPath {
    path: String,
}

/// A document as a client sees it.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentView {
    id: String,
    project: String,
    path: String,
    created_at: u64,
    updated_at: u64,
    head: u64,
}

impl From<Document> for DocumentView {
    fn from(document: Document) -> Self {
        let Document {
            id,
            project_id,
            path,
            created_at,
            updated_at,
            head,
        } = document;
        Self {
            id,
            project: project_id,
            path,
            created_at,
            updated_at,
            head,
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<DocumentView>>, ApiError> {
    let page = query.page()?;
    app.auth
        .authorize(&caller.user, &project, Operation::ListDocuments)
        .await?;
    let read = app
        .store
        .documents(&project, &page.after, page.read())
        .await?;
    Ok(page.of(read, |document| &document.path, DocumentView::from))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Body(asked): Body<NewPath>,
) -> Result<Response, ApiError> {
    field("path", names::path(&asked.path))?;
    app.auth
        .authorize(&caller.user, &project, Operation::CreateDocument)
        .await?;
    let now = now_ms();
    let document = Document {
        id: uuid::Uuid::now_v7().to_string(),
        project_id: project,
        path: asked.path,
        created_at: now,
        updated_at: now,
        head: 0,
    };
    let created = events::document_created(&document, &caller.user);
    app.store
        .add_document(&document, &[created])
        .await
        .map_err(taken)?;
    let location = format!("/api/documents/{}", document.id);
    let view = DocumentView::from(document);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(view),
    )
        .into_response())
}

async fn read(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<DocumentView>, ApiError> {
    let asked = app
        .auth
        .authorize_document(&caller.user, &id, Operation::ReadDocument)
        .await;
    let (document, _) = asked?;
    Ok(Json(document.into()))
}

async fn rename(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    Body(asked): Body<NewPath>,
) -> Result<Json<DocumentView>, ApiError> {
    field("path", names::path(&asked.path))?;
    let found = app
        .auth
        .authorize_document(&caller.user, &id, Operation::RenameDocument)
        .await;
    let (mut document, _) = found?;
    let renamed = events::document_renamed(&document, &asked.path, &caller.user);
    app.store
        .rename_document(&id, &asked.path, &[renamed])
        .await
        .map_err(taken)?;
    document.path = asked.path;
    Ok(Json(document.into()))
}

async fn remove(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<StatusCode, ApiError> {
    app.auth.delete_document(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn taken(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict(_) => ApiError::new(
            ErrorCode::Conflict,
            "there is a document at this path already",
        ),
        other => other.into(),
    }
}

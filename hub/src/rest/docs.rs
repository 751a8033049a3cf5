//! Documents as resources: list, create, read, rename, delete.
//!
//! Owns the shapes of these requests and answers. Never touches a document's text: that is
//! `content`'s and the document actor's.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::{Document, StoreError};
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::conditions::{Conditions, mark, tag_of, tagged};
use super::idempotency::Keyed;
use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Body, Params, Problem, Segments};
use crate::events;
use crate::now_ms;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, rename, remove))
}

#[derive(Deserialize, ToSchema)]
struct NewPath {
    /// Where it is in its project: no empty part, no `.` or `..` among the parts.
    #[schema(min_length = 1, max_length = 512, example = "src/main.rs")]
    path: String,
}

/// A document as a client sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DocumentView {
    id: String,
    /// The project's id.
    project: String,
    #[schema(example = "src/main.rs")]
    path: String,
    created_at: u64,
    /// When its newest update was committed.
    updated_at: u64,
    /// The sequence of its newest committed update.
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

/// Lists a project's documents.
#[utoipa::path(get, path = "/api/projects/{project}/documents", tag = "documents", params(("project" = String, Path, description = "The project's id."), PageQuery),
    responses((status = 200, description = "A part of the list, by path.", body = Listing<DocumentView>)))]
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
        .reads
        .documents(&project, &page.after, page.read())
        .await?;
    Ok(page.of(read, |document| &document.path, DocumentView::from))
}

/// Creates an empty document.
#[utoipa::path(post, path = "/api/projects/{project}/documents", tag = "documents", params(("project" = String, Path, description = "The project's id.")), request_body = NewPath,
    responses(
        (status = 201, description = "Created.", body = DocumentView, headers(("Location" = String, description = "Its path."))),
        (status = 409, description = "There is a document at this path already.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    keyed: Keyed,
    Body(asked): Body<NewPath>,
) -> Result<Response, ApiError> {
    field("path", names::path(&asked.path))?;
    app.auth
        .authorize(&caller.user, &project, Operation::CreateDocument)
        .await?;
    let now = now_ms();
    let mut document = Document {
        id: keyed.made_id(),
        project_id: project,
        path: asked.path,
        created_at: now,
        updated_at: now,
        head: 0,
    };
    let created = events::document_created(&document, &caller.user);
    if let Err(error) = app.store.add_document(&document, &[created]).await {
        // Whoever tried before may have made it and died before it could say so.
        let made = match keyed.is_taken_up() {
            true => app.store.document(&document.id).await?,
            false => None,
        };
        document = made.ok_or_else(|| taken(error))?;
    }
    let location = format!("/api/documents/{}", document.id);
    let view = DocumentView::from(document);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(view),
    )
        .into_response())
}

/// Reads what a document is called and how far it is.
#[utoipa::path(get, path = "/api/documents/{id}", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("If-None-Match" = Option<String>, Header, description = "Tags of what the client has.")),
    responses(
        (status = 200, description = "The document.", body = DocumentView, headers(("ETag" = String, description = "Its tag."))),
        (status = 304, description = "The client has it."),
    ))]
async fn read(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let asked = app
        .auth
        .authorize_document(&caller.user, &id, Operation::ReadDocument)
        .await;
    let (document, _) = asked?;
    let view = DocumentView::from(document);
    Ok(tagged(&conditions, &tag_of(&view), Json(view)))
}

/// Moves a document to another path of its project.
#[utoipa::path(patch, path = "/api/documents/{id}", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("If-Match" = Option<String>, Header, description = "Tags that the document must have.")), request_body = NewPath,
    responses(
        (status = 200, description = "The document as it is now.", body = DocumentView, headers(("ETag" = String, description = "Its tag."))),
        (status = 409, description = "There is a document at this path already.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn rename(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
    Body(asked): Body<NewPath>,
) -> Result<Response, ApiError> {
    field("path", names::path(&asked.path))?;
    let found = app
        .auth
        .authorize_document(&caller.user, &id, Operation::RenameDocument)
        .await;
    let (mut document, _) = found?;
    conditions.check(&tag_of(&DocumentView::from(document.clone())))?;
    // Of several who move it on the same condition the store lets one.
    let from = conditions.names_tags().then_some(document.path.as_str());
    let renamed = events::document_renamed(&document, &asked.path, &caller.user);
    app.store
        .rename_document(&id, from, &asked.path, &[renamed])
        .await
        .map_err(taken)?;
    document.path = asked.path;
    let view = DocumentView::from(document);
    let tag = tag_of(&view);
    let mut response = Json(view).into_response();
    mark(&mut response, &tag);
    Ok(response)
}

/// Deletes a document with its versions.
#[utoipa::path(delete, path = "/api/documents/{id}", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("If-Match" = Option<String>, Header, description = "Tags that the document must have.")),
    responses(
        (status = 204, description = "Deleted."),
        (status = 412, description = "It is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
) -> Result<StatusCode, ApiError> {
    if conditions.names_tags() {
        let found = app
            .auth
            .authorize_document(&caller.user, &id, Operation::DeleteDocument)
            .await;
        let (document, _) = found?;
        conditions.check(&tag_of(&DocumentView::from(document)))?;
    }
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

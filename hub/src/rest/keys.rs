//! `/api/projects/{project}/keys`: the API keys of services that work within a project.
//!
//! Owns the shapes of these requests and answers. Keys of the whole hub are made on the command line alone.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::ApiKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::auth::services::Permission;
use crate::error::{ApiError, Body, Params, Problem, Segments};
use crate::now_ms;

/// Shortest and longest life of a key that has an end, seconds.
const LEAST_TTL: u64 = 60;
const MOST_TTL: u64 = 10 * 365 * 24 * 3600;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(keys, make_key))
        .routes(routes!(revoke_key))
}

#[derive(Deserialize, ToSchema)]
struct NewKey {
    /// For people.
    #[schema(min_length = 1, max_length = 64, example = "build server")]
    name: String,
    /// What it allows. `revoke` and `password_reset` are for keys of the whole hub.
    #[schema(min_items = 1, example = json!(["publish", "history"]))]
    permissions: Vec<Permission>,
    /// For how long, seconds; for ever if it is left out.
    #[schema(minimum = 60, maximum = 315_360_000, example = 2_592_000)]
    expires_in: Option<u64>,
}

impl NewKey {
    fn check(&self) -> Result<(), ApiError> {
        field("name", names::display(&self.name))?;
        if self.permissions.is_empty() {
            return Err(ApiError::invalid("permissions", "has at least one"));
        }
        if let Some(one) = self.permissions.iter().find(|one| one.is_of_the_hub()) {
            let reason = format!("{} is for keys of the whole hub", one.as_str());
            return Err(ApiError::invalid("permissions", reason));
        }
        let bounds = LEAST_TTL..=MOST_TTL;
        if self.expires_in.is_some_and(|ttl| !bounds.contains(&ttl)) {
            let reason = format!("must be {LEAST_TTL} to {MOST_TTL}");
            return Err(ApiError::invalid("expires_in", reason));
        }
        Ok(())
    }
}

#[derive(Serialize, ToSchema)]
struct KeyView {
    id: String,
    #[schema(example = "my-app")]
    project: Option<String>,
    #[schema(example = "build server")]
    name: String,
    #[schema(example = json!(["publish", "history"]))]
    permissions: Vec<String>,
    /// The user id of its maker; none if that account is gone.
    created_by: Option<String>,
    created_at: u64,
    /// Refused from then on; never if there is none.
    expires_at: Option<u64>,
    /// Used last, to a minute.
    last_used_at: Option<u64>,
    /// What the service sends as `Authorization: Bearer`; shown when the key is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "tdk_019a0c7e5d6f7a8b9c0d1e2f3a4b5c6d_QmFzZTY0dXJsIG9mIDMyIHJhbmRvbSBieXRlcw"
    )]
    key: Option<String>,
}

impl KeyView {
    fn new(key: ApiKey, shown: Option<String>) -> Self {
        Self {
            id: key.id,
            project: key.project_id,
            name: key.name,
            permissions: key.permissions,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            key: shown,
        }
    }
}

/// Lists a project's API keys, oldest first. For owners.
#[utoipa::path(get, path = "/api/projects/{project}/keys", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), PageQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<KeyView>)))]
async fn keys(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<KeyView>>, ApiError> {
    let page = query.page()?;
    app.auth
        .authorize(&caller.user, &project, Operation::ManageKeys)
        .await?;
    let (after, limit) = (&page.after, page.read());
    let read = app.store.api_keys(Some(&project), after, limit).await?;
    Ok(page.of(read, |key| &key.id, |key| KeyView::new(key, None)))
}

/// Makes an API key for a service that works within the project. For owners; it stays when its maker leaves.
#[utoipa::path(post, path = "/api/projects/{project}/keys", tag = "projects", request_body = NewKey,
    params(("project" = String, Path, description = "The project's id.")),
    responses(
        (status = 201, description = "Made; the key is shown this once.", body = KeyView,
            headers(("Location" = String, description = "Its path."))),
        (status = 409, description = "The project has as many as it may.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn make_key(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Body(asked): Body<NewKey>,
) -> Result<Response, ApiError> {
    asked.check()?;
    let expires_at = asked.expires_in.map(|ttl| now_ms() + ttl * 1000);
    let (name, permissions) = (asked.name, asked.permissions);
    let made = app
        .auth
        .make_project_key(&caller, &project, name, permissions, expires_at);
    let (key, shown) = made.await?;
    let location = format!("/api/projects/{project}/keys/{}", key.id);
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let view = KeyView::new(key, Some(shown));
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Revokes an API key: it is refused from now on, on every node. For owners.
#[utoipa::path(delete, path = "/api/projects/{project}/keys/{id}", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), ("id" = String, Path, description = "The key's id.")),
    responses((status = 204, description = "Revoked.")))]
async fn revoke_key(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments((project, id)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    app.auth
        .authorize(&caller.user, &project, Operation::ManageKeys)
        .await?;
    match app.store.drop_api_key(Some(&project), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found()),
    }
}

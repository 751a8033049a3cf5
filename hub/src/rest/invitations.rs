//! Invitations into projects: owners make, list and withdraw them; whoever has the token looks and accepts.
//!
//! Owns the shapes of these requests and answers. What they mean is `crate::auth`'s.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::Invitation;
use protocol::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::projects::RoleName;
use super::{Caller, Listing, PageQuery};
use crate::app::App;
use crate::auth::invitations::{TTL, Terms};
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Body, Params, Problem, Segments};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(invitations, invite))
        .routes(routes!(withdraw_invitation))
        .routes(routes!(invitation))
        .routes(routes!(accept_invitation))
}

#[derive(Deserialize, ToSchema)]
struct NewInvitation {
    /// What who accepts becomes.
    #[schema(value_type = RoleName)]
    role: Role,
    /// The only login that may accept it; anybody who has the token if it is left out.
    #[schema(
        min_length = 2,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]*$",
        example = "bob"
    )]
    login: Option<String>,
    /// How many may accept it; one if it is left out.
    #[schema(minimum = 1, maximum = 1000, example = 1)]
    uses: Option<u32>,
    /// For how long, seconds; seven days if it is left out.
    #[schema(minimum = 60, maximum = 7_776_000, example = 604_800)]
    expires_in: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct InvitationView {
    id: String,
    #[schema(example = "my-app")]
    project: String,
    #[schema(value_type = RoleName)]
    role: Role,
    /// The only login that may accept it, in small letters.
    login: Option<String>,
    /// How many may accept it.
    #[schema(minimum = 1, maximum = 1000)]
    uses: u32,
    /// How many have.
    #[schema(minimum = 0, maximum = 1000)]
    used: u32,
    /// The user id of who invites.
    inviter: String,
    created_at: u64,
    /// It is good until then, as long as who invites owns the project.
    expires_at: u64,
    /// What is handed to those who are invited; shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl InvitationView {
    fn new(invitation: Invitation, token: Option<String>) -> Self {
        let Invitation {
            id,
            project_id,
            role,
            login,
            uses,
            used,
            inviter_id,
            created_at,
            expires_at,
        } = invitation;
        Self {
            id,
            project: project_id,
            role,
            login,
            uses,
            used,
            inviter: inviter_id,
            created_at,
            expires_at,
            token,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct OfferView {
    #[schema(example = "my-app")]
    project: String,
    #[schema(example = "My app")]
    project_name: String,
    #[schema(value_type = RoleName)]
    role: Role,
    /// The display name of who invites.
    #[schema(example = "Alice")]
    inviter: String,
    /// The only login that may accept it, in small letters.
    login: Option<String>,
    expires_at: u64,
}

#[derive(Serialize, ToSchema)]
struct MembershipView {
    #[schema(example = "my-app")]
    project: String,
    /// The caller's role now: the one before if that was as strong.
    #[schema(value_type = RoleName)]
    role: Role,
}

/// Lists a project's invitations, oldest first; those that are over for a while too. For owners.
#[utoipa::path(get, path = "/api/projects/{project}/invitations", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), PageQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<InvitationView>)))]
async fn invitations(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<InvitationView>>, ApiError> {
    let page = query.page()?;
    app.auth
        .authorize(&caller.user, &project, Operation::ManageMembers)
        .await?;
    let read = app
        .store
        .invitations(&project, &page.after, page.read())
        .await?;
    let show = |invitation| InvitationView::new(invitation, None);
    Ok(page.of(read, |invitation| &invitation.id, show))
}

/// Makes an invitation. For owners; it is good only as long as its maker is one.
#[utoipa::path(post, path = "/api/projects/{project}/invitations", tag = "projects", request_body = NewInvitation,
    params(("project" = String, Path, description = "The project's id.")),
    responses(
        (status = 201, description = "Made; its token is shown this once.", body = InvitationView,
            headers(("Location" = String, description = "Its path."))),
        (status = 409, description = "The project has as many as it may.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn invite(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Body(asked): Body<NewInvitation>,
) -> Result<Response, ApiError> {
    let terms = Terms {
        role: asked.role,
        login: asked.login,
        uses: asked.uses.unwrap_or(1),
        ttl: asked.expires_in.map_or(TTL, Duration::from_secs),
    };
    let (invitation, token) = app.auth.invite(&caller, &project, terms).await?;
    let location = format!("/api/projects/{project}/invitations/{}", invitation.id);
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let view = InvitationView::new(invitation, Some(token));
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Withdraws an invitation. Whoever has accepted it stays a member. For owners.
#[utoipa::path(delete, path = "/api/projects/{project}/invitations/{id}", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), ("id" = String, Path, description = "The invitation's id.")),
    responses((status = 204, description = "Withdrawn.")))]
async fn withdraw_invitation(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments((project, id)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    app.auth
        .authorize(&caller.user, &project, Operation::ManageMembers)
        .await?;
    match app.store.drop_invitation(&project, &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found()),
    }
}

/// Tells what an invitation is for. Needs no login.
#[utoipa::path(get, path = "/api/invitations/{token}", tag = "projects", security(()),
    params(("token" = String, Path, description = "The invitation's token.")),
    responses(
        (status = 200, description = "What it is for.", body = OfferView),
        (status = 410, description = "It is used up or past its time, or who invites owns the project no longer.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn invitation(
    State(app): State<Arc<App>>,
    Segments(token): Segments<String>,
) -> Result<Response, ApiError> {
    let offer = app.auth.offer(&token).await?;
    let view = OfferView {
        project: offer.invitation.project_id,
        project_name: offer.project,
        role: offer.invitation.role,
        inviter: offer.inviter,
        login: offer.invitation.login,
        expires_at: offer.invitation.expires_at,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// Makes the caller a member of the project that the invitation is for. Lowers no role; a repetition changes nothing.
#[utoipa::path(post, path = "/api/invitations/{token}/accept", tag = "projects",
    params(("token" = String, Path, description = "The invitation's token.")),
    responses(
        (status = 200, description = "The caller is a member.", body = MembershipView),
        (status = 410, description = "It is used up or past its time, or who invites owns the project no longer.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn accept_invitation(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(token): Segments<String>,
) -> Result<Json<MembershipView>, ApiError> {
    let (project, role) = app.auth.accept_invitation(&caller, &token).await?;
    Ok(Json(MembershipView { project, role }))
}

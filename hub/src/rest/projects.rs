//! `/api/projects`: projects and their members.
//!
//! Owns the shapes of these requests and answers, and how an id is made from a name. Rights and
//! their changes go through `crate::auth`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::{Member, Project, StoreError, User};
use protocol::{ErrorCode, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::conditions::{Conditions, tag_of, tagged};
use super::idempotency::Keyed;
use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::Principal;
use crate::auth::names;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Body, Params, Problem, Segments};
use crate::events;
use crate::now_ms;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, remove))
        .routes(routes!(members))
        .routes(routes!(set_member, remove_member))
}

#[derive(Deserialize, ToSchema)]
struct NewProject {
    /// Small letters, digits and dashes; made from the name if it is left out.
    #[schema(
        min_length = 2,
        max_length = 63,
        pattern = "^[a-z0-9][a-z0-9-]*$",
        example = "my-app"
    )]
    id: Option<String>,
    /// For people.
    #[schema(min_length = 1, max_length = 64, example = "My app")]
    name: String,
}

#[derive(Deserialize, ToSchema)]
struct NewRole {
    #[schema(value_type = RoleName)]
    role: Role,
}

/// A member's role, weakest first; each may what the weaker ones may.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RoleName {
    /// Reads documents and channels.
    Viewer,
    /// Also publishes to rooms.
    Commenter,
    /// Also creates and edits documents.
    Editor,
    /// Also manages members and deletes the project.
    Owner,
}

#[derive(Serialize, ToSchema)]
struct ProjectView {
    #[schema(example = "my-app")]
    id: String,
    #[schema(example = "My app")]
    name: String,
    /// The caller's.
    #[schema(value_type = RoleName)]
    role: Role,
    created_at: u64,
}

impl ProjectView {
    fn new(project: Project, role: Role) -> Self {
        let Project {
            id,
            name,
            created_at,
        } = project;
        Self {
            id,
            name,
            role,
            created_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct MemberView {
    /// The user's id.
    user: String,
    #[schema(example = "alice")]
    login: String,
    #[schema(example = "Alice")]
    name: String,
    #[schema(value_type = RoleName)]
    role: Role,
}

impl From<Member> for MemberView {
    fn from(member: Member) -> Self {
        let Member {
            user_id,
            login,
            name,
            role,
        } = member;
        Self {
            user: user_id,
            login,
            name,
            role,
        }
    }
}

/// Lists the projects that the caller is a member of.
#[utoipa::path(get, path = "/api/projects", tag = "projects", params(PageQuery), responses(
    (status = 200, description = "A part of the list, by id.", body = Listing<ProjectView>),
))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<ProjectView>>, ApiError> {
    let page = query.page()?;
    let read = app
        .reads
        .projects_of(&caller.user, &page.after, page.read())
        .await?;
    Ok(page.of(
        read,
        |(project, _)| &project.id,
        |(project, role)| ProjectView::new(project, role),
    ))
}

/// Creates a project; the caller becomes its owner.
#[utoipa::path(post, path = "/api/projects", tag = "projects", request_body = NewProject, responses(
    (status = 201, description = "Created.", body = ProjectView, headers(("Location" = String, description = "Its path."))),
    (status = 409, description = "The id that was asked for is taken.", body = Problem, content_type = "application/problem+json"),
))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    keyed: Keyed,
    Body(asked): Body<NewProject>,
) -> Result<Response, ApiError> {
    field("name", names::display(&asked.name))?;
    if let Some(id) = &asked.id {
        field("id", names::project(id))?;
    }
    let chosen = asked.id.is_some();
    let id = asked.id.unwrap_or_else(|| id_of(&asked.name));
    let mut project = Project {
        id,
        name: asked.name.trim().to_owned(),
        created_at: now_ms(),
    };
    let created = events::project_created(&project, &caller.user);
    let added = app
        .store
        .add_project(&project, &caller.user, &[created])
        .await;
    match added {
        Err(StoreError::Conflict(_)) if made_before(&app, &caller, &project, &keyed).await? => {}
        Err(StoreError::Conflict(_)) if chosen => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "this project id is taken",
            ));
        }
        // An id that we made of the name is taken: a random end makes it another.
        Err(StoreError::Conflict(_)) => {
            project.id = format!("{}-{:08x}", project.id, rand::random::<u32>());
            let created = events::project_created(&project, &caller.user);
            app.store
                .add_project(&project, &caller.user, &[created])
                .await?;
        }
        other => other?,
    }
    let location = format!("/api/projects/{}", project.id);
    let view = ProjectView::new(project, Role::Owner);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(view),
    )
        .into_response())
}

/// Whether the project was made by the same request, whose answer was lost: it is the caller's, of that name, and
/// not older than the request's key.
async fn made_before(
    app: &App,
    caller: &Principal,
    project: &Project,
    keyed: &Keyed,
) -> Result<bool, ApiError> {
    let Some(since) = keyed.taken_up_since() else {
        return Ok(false);
    };
    let found = app.store.project(&project.id).await?;
    let is_it = found.is_some_and(|it| it.name == project.name && it.created_at >= since);
    let role = app.store.role(&project.id, &caller.user).await?;
    Ok(is_it && role == Some(Role::Owner))
}

/// The letters and digits of a name, with dashes between; short enough for a random end.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if id.len() == 48 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            id.push(c);
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    let id = id.trim_end_matches('-');
    if id.len() < 2 {
        "project".to_owned()
    } else {
        id.to_owned()
    }
}

/// Reads a project.
#[utoipa::path(get, path = "/api/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), ("If-None-Match" = Option<String>, Header, description = "Tags of what the client has.")),
    responses(
        (status = 200, description = "The project.", body = ProjectView, headers(("ETag" = String, description = "Its tag, as this user sees it."))),
        (status = 304, description = "The client has it."),
    ))]
async fn read(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let role = app
        .auth
        .authorize(&caller.user, &id, Operation::ReadProject)
        .await?;
    let project = app.reads.project(&id).await?;
    let project = project.ok_or_else(ApiError::not_found)?;
    let view = ProjectView::new(project, role);
    Ok(tagged(&conditions, &tag_of(&view), Json(view)))
}

/// The project as it is, for whoever may delete it.
async fn current(app: &App, caller: &Principal, id: &str) -> Result<ProjectView, ApiError> {
    let operation = Operation::DeleteProject;
    let role = app.auth.authorize(&caller.user, id, operation).await?;
    let project = app.store.project(id).await?;
    let project = project.ok_or_else(ApiError::not_found)?;
    Ok(ProjectView::new(project, role))
}

/// Deletes a project with all that is in it.
#[utoipa::path(delete, path = "/api/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), ("If-Match" = Option<String>, Header, description = "Tags that the project must have.")),
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
        let view = current(&app, &caller, &id).await?;
        conditions.check(&tag_of(&view))?;
    }
    app.auth.delete_project(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a project's members.
#[utoipa::path(get, path = "/api/projects/{project}/members", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), PageQuery),
    responses((status = 200, description = "A part of the list, by user id.", body = Listing<MemberView>)))]
async fn members(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<MemberView>>, ApiError> {
    let page = query.page()?;
    app.auth
        .authorize(&caller.user, &id, Operation::ReadProject)
        .await?;
    let read = app.reads.members(&id, &page.after, page.read()).await?;
    Ok(page.of(read, |member| &member.user_id, MemberView::from))
}

/// Adds a member, or gives one another role. It takes effect at once, in open sessions as well.
#[utoipa::path(put, path = "/api/projects/{project}/members/{user}", tag = "projects", request_body = NewRole,
    params(("project" = String, Path, description = "The project's id."), ("user" = String, Path, description = "The user's id or login.")),
    responses(
        (status = 200, description = "The member as it is now.", body = MemberView),
        (status = 409, description = "The project would be left without an owner.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn set_member(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments((project, user)): Segments<(String, String)>,
    Body(asked): Body<NewRole>,
) -> Result<Json<MemberView>, ApiError> {
    // Asked before the user is looked up, so that only owners learn which logins there are.
    app.auth
        .authorize(&caller.user, &project, Operation::ManageMembers)
        .await?;
    let user = find_user(&app, &user).await?;
    app.auth
        .set_member(&caller, &project, &user.id, asked.role)
        .await?;
    let User {
        id, login, name, ..
    } = user;
    Ok(Json(MemberView {
        user: id,
        login,
        name,
        role: asked.role,
    }))
}

/// Removes a member. Everybody may leave by themself.
#[utoipa::path(delete, path = "/api/projects/{project}/members/{user}", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), ("user" = String, Path, description = "The user's id or login.")),
    responses(
        (status = 204, description = "Removed."),
        (status = 409, description = "The project would be left without an owner.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn remove_member(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments((project, user)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    app.auth
        .authorize(&caller.user, &project, Operation::ReadProject)
        .await?;
    let user = find_user(&app, &user).await?;
    app.auth.remove_member(&caller, &project, &user.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user by id, else by login.
pub(super) async fn find_user(app: &App, id_or_login: &str) -> Result<User, ApiError> {
    if let Some(user) = app.store.user(id_or_login).await? {
        return Ok(user);
    }
    let user = app.store.user_by_login(id_or_login).await?;
    user.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_of_names() {
        for (name, id) in [
            ("Demo", "demo"),
            ("  My  first project! ", "my-first-project"),
            ("Übung", "bung"),
            ("日本", "project"),
            ("x", "project"),
            ("---", "project"),
        ] {
            assert_eq!(id_of(name), id, "{name}");
        }
        let long = format!("{}-{:08x}", id_of(&"long name ".repeat(30)), u32::MAX);
        assert!(names::project(&long).is_ok(), "{long}");
    }
}

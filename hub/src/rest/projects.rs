//! `/api/projects`: projects and their members.
//!
//! Owns the shapes of these requests and answers, and how an id is made from a name. Rights and
//! their changes go through `crate::auth`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use backplane::store::{Member, Project, StoreError, User};
use protocol::{ErrorCode, Role};
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
        .route("/api/projects", get(list).post(create))
        .route("/api/projects/{project}", get(read).delete(remove))
        .route("/api/projects/{project}/members", get(members))
        .route(
            "/api/projects/{project}/members/{user}",
            put(set_member).delete(remove_member),
        )
}

#[derive(Deserialize)]
struct NewProject {
    id: Option<String>,
    name: String,
}

#[derive(Deserialize)]
struct NewRole {
    role: Role,
}

#[derive(Serialize)]
struct ProjectView {
    id: String,
    name: String,
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

#[derive(Serialize)]
struct MemberView {
    user: String,
    login: String,
    name: String,
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

async fn list(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<ProjectView>>, ApiError> {
    let page = query.page()?;
    let read = app
        .store
        .projects_of(&caller.user, &page.after, page.read())
        .await?;
    Ok(page.of(
        read,
        |(project, _)| &project.id,
        |(project, role)| ProjectView::new(project, role),
    ))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
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
    match app
        .store
        .add_project(&project, &caller.user, &[created])
        .await
    {
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

async fn read(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<ProjectView>, ApiError> {
    let role = app
        .auth
        .authorize(&caller.user, &id, Operation::ReadProject)
        .await?;
    let project = app
        .store
        .project(&id)
        .await?
        .ok_or_else(ApiError::not_found)?;
    Ok(Json(ProjectView::new(project, role)))
}

async fn remove(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<StatusCode, ApiError> {
    app.auth.delete_project(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

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
    let read = app.store.members(&id, &page.after, page.read()).await?;
    Ok(page.of(read, |member| &member.user_id, MemberView::from))
}

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
async fn find_user(app: &App, id_or_login: &str) -> Result<User, ApiError> {
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

//! `/api/auth/sessions`, `/api/auth/password` and its reset: what users do with their own account.
//!
//! Owns the shapes of these requests and answers. What they mean is `crate::auth`'s. A token that resets a password
//! is made for a service, which sends it to the user; the hub sends no mail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::LoginSession;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Caller, ClientAddress, Listing, PageQuery, Service};
use crate::app::App;
use crate::auth::reset::REDEEM;
use crate::auth::services::Permission;
use crate::cached::Seen;
use crate::error::{ApiError, Body, Params, Problem, Segments};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(sessions))
        .routes(routes!(end_session))
        .routes(routes!(change_password))
        .routes(routes!(make_reset))
        .routes(routes!(redeem_reset))
}

#[derive(Serialize, ToSchema)]
struct SessionView {
    id: String,
    /// When it logged in.
    created_at: u64,
    /// Whether this request came with a token of it.
    current: bool,
    /// How the client called itself at the login.
    #[schema(example = "Mozilla/5.0 (X11; Linux x86_64)")]
    user_agent: Option<String>,
    /// Where it came from then.
    #[schema(example = "203.0.113.7")]
    address: Option<String>,
    /// When its tokens were refreshed last.
    refreshed_at: Option<u64>,
    /// When a token of it came in last, if that is still known.
    last_seen: Option<LastSeenView>,
}

#[derive(Serialize, ToSchema)]
struct LastSeenView {
    /// When, at most a minute too early.
    at: u64,
    /// Where it came from then.
    #[schema(example = "203.0.113.7")]
    address: String,
    /// How the client called itself then.
    #[schema(example = "Mozilla/5.0 (X11; Linux x86_64)")]
    user_agent: Option<String>,
    /// `rest`: a request; `session`: a session on `/ws` was opened.
    #[schema(example = "rest")]
    transport: &'static str,
}

impl From<Seen> for LastSeenView {
    fn from(seen: Seen) -> Self {
        Self {
            at: seen.at,
            address: seen.address.to_string(),
            user_agent: seen.user_agent,
            transport: seen.transport.as_str(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
struct NewPassword {
    /// The password as it is.
    #[schema(example = "correct horse battery staple")]
    current: String,
    /// 8 to 128 bytes.
    #[schema(
        min_length = 8,
        max_length = 128,
        example = "incorrect horse battery staple"
    )]
    new: String,
}

#[derive(Deserialize, ToSchema)]
struct ResetOf {
    /// Whose password.
    #[schema(example = "alice")]
    login: String,
}

#[derive(Serialize, ToSchema)]
struct ResetView {
    /// For the user alone: whoever has it sets the password.
    token: String,
    /// It is good until then.
    expires_at: u64,
}

#[derive(Deserialize, ToSchema)]
struct Redemption {
    /// As it was sent to the user.
    token: String,
    /// 8 to 128 bytes.
    #[schema(
        min_length = 8,
        max_length = 128,
        example = "incorrect horse battery staple"
    )]
    password: String,
}

/// Lists the caller's login sessions that can still be used, oldest first.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "auth", params(PageQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<SessionView>)))]
async fn sessions(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<SessionView>>, ApiError> {
    let page = query.page()?;
    let read = app
        .auth
        .login_sessions(&caller.user, &page.after, page.read())
        .await?;
    let seen = read.iter().map(|session| app.seen.seen(&session.id));
    let mut seen = join_all(seen).await.into_iter();
    let show = |session: LoginSession| SessionView {
        current: *session.id == *caller.login_session,
        id: session.id,
        created_at: session.created_at,
        user_agent: session.user_agent,
        address: session.address,
        refreshed_at: session.refreshed_at,
        last_seen: seen.next().flatten().map(LastSeenView::from),
    };
    Ok(page.of(read, |session| &session.id, show))
}

/// Ends one of the caller's login sessions: its tokens are refused from now on, and its sockets are closed.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "auth",
    params(("id" = String, Path, description = "The login session's id.")),
    responses((status = 204, description = "Ended.")))]
async fn end_session(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<StatusCode, ApiError> {
    app.auth.end_session(&caller.user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets the caller's password and ends the caller's other login sessions.
#[utoipa::path(post, path = "/api/auth/password", tag = "auth", request_body = NewPassword,
    responses((status = 204, description = "Set.")))]
async fn change_password(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    ClientAddress(address): ClientAddress,
    Body(asked): Body<NewPassword>,
) -> Result<StatusCode, ApiError> {
    app.auth
        .change_password(&caller, &asked.current, &asked.new, address)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a one-time token that resets a user's password, for a service that sends it to the user.
///
/// Needs a key of the hub with the permission `password_reset`.
#[utoipa::path(post, path = "/api/auth/password-resets", tag = "auth", request_body = ResetOf,
    responses((status = 201, description = "The token, shown this once.", body = ResetView,
        headers(("Location" = String, description = "Where it is redeemed.")))))]
async fn make_reset(
    State(app): State<Arc<App>>,
    Service(service): Service,
    Body(asked): Body<ResetOf>,
) -> Result<Response, ApiError> {
    service.check(Permission::PasswordReset)?;
    let made = app.auth.make_reset(&asked.login).await?;
    let view = ResetView {
        token: made.token,
        expires_at: made.expires_at,
    };
    let headers = [
        (header::LOCATION, REDEEM),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Sets a password by a token, which is used up then, and ends all of the user's login sessions.
#[utoipa::path(post, path = "/api/auth/password-resets/redeem", tag = "auth", security(()), request_body = Redemption,
    responses(
        (status = 204, description = "Set: log in with it."),
        (status = 404, description = "There is no such token.", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The token is used up, withdrawn or past its time.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn redeem_reset(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    Body(asked): Body<Redemption>,
) -> Result<StatusCode, ApiError> {
    app.auth
        .redeem_reset(&asked.token, &asked.password, address)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

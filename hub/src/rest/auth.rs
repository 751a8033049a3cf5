//! `/api/auth`: register, log in, refresh, log out, who am I, public keys.
//!
//! Owns the shapes of these requests and answers. What they mean is `crate::auth`'s.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Caller, ClientAddress};
use crate::app::App;
use crate::auth::Tokens;
use crate::error::{ApiError, Body, Params};

/// The routes.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/auth/register", post(register))
        .route("/api/auth/login", post(login))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(logout))
        .route("/api/auth/me", get(me))
        .route("/api/auth/jwks", get(jwks))
        .route("/.well-known/jwks.json", get(jwks))
}

#[derive(Deserialize)]
struct Registration {
    login: String,
    password: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Credentials {
    login: String,
    password: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize)]
struct Logout {
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
struct UserView {
    id: String,
    login: String,
    name: String,
}

#[derive(Serialize)]
struct TokensView {
    user: UserView,
    access_token: String,
    refresh_token: String,
    expires_in: u64,
    session: String,
}

#[derive(Serialize)]
struct Me {
    user: UserView,
    session: Arc<str>,
    expires_at: u64,
}

impl From<backplane::store::User> for UserView {
    fn from(user: backplane::store::User) -> Self {
        Self {
            id: user.id,
            login: user.login,
            name: user.name,
        }
    }
}

/// Tokens are for their receiver alone: no cache keeps them.
fn answer(status: StatusCode, tokens: Tokens) -> Response {
    let view = TokensView {
        user: tokens.user.into(),
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
        expires_in: tokens.expires_in.as_secs(),
        session: tokens.session,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response()
}

async fn register(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    Body(asked): Body<Registration>,
) -> Result<Response, ApiError> {
    let name = asked.name.as_deref();
    let tokens = app
        .auth
        .register(&asked.login, &asked.password, name, address)
        .await?;
    Ok(answer(StatusCode::CREATED, tokens))
}

async fn login(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    Body(asked): Body<Credentials>,
) -> Result<Response, ApiError> {
    let tokens = app
        .auth
        .login(&asked.login, &asked.password, address)
        .await?;
    Ok(answer(StatusCode::OK, tokens))
}

async fn refresh(
    State(app): State<Arc<App>>,
    Body(asked): Body<Refresh>,
) -> Result<Response, ApiError> {
    let tokens = app.auth.refresh(&asked.refresh_token).await?;
    Ok(answer(StatusCode::OK, tokens))
}

/// Ends the caller's login session; with `?all=true` every one of the caller's.
async fn logout(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(asked): Params<Logout>,
) -> Result<StatusCode, ApiError> {
    match asked.all {
        true => app.auth.logout_all(&caller.user).await?,
        false => app.auth.logout(&caller.login_session).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn me(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
) -> Result<impl IntoResponse, ApiError> {
    let user = app
        .store
        .user(&caller.user)
        .await?
        .ok_or_else(ApiError::not_found)?;
    let me = Me {
        user: user.into(),
        session: caller.login_session,
        expires_at: caller.expires_ms,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(me)))
}

async fn jwks(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers = [
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::CONTENT_TYPE, "application/jwk-set+json"),
    ];
    (headers, app.auth.jwks().to_string())
}

//! `/api/auth`: register, log in, refresh, log out, who am I, public keys.
//!
//! Owns the shapes of these requests and answers. What they mean is `crate::auth`'s.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Caller, LoginClient};
use crate::app::App;
use crate::auth::Tokens;
use crate::error::{ApiError, Body, Params, Problem};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(jwks))
        .route("/.well-known/jwks.json", get(jwks))
}

#[derive(Deserialize, ToSchema)]
struct Registration {
    /// What to log in with; letters, digits and `. _ @ + -`.
    #[schema(
        min_length = 2,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]*$",
        example = "alice"
    )]
    login: String,
    /// 8 to 128 bytes.
    #[schema(
        min_length = 8,
        max_length = 128,
        example = "correct horse battery staple"
    )]
    password: String,
    /// The display name; the login if it is left out.
    #[schema(min_length = 1, max_length = 64, example = "Alice")]
    name: Option<String>,
    /// The token of an invitation: the account is a member from the start. Works where registration is closed too.
    invitation: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct Credentials {
    #[schema(example = "alice")]
    login: String,
    #[schema(example = "alice-demo-password")]
    password: String,
}

#[derive(Deserialize, ToSchema)]
struct Refresh {
    /// The newest one; each is good for one refresh.
    refresh_token: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Logout {
    /// Ends every login session of the caller.
    #[serde(default)]
    all: bool,
}

#[derive(Serialize, ToSchema)]
struct UserView {
    id: String,
    #[schema(example = "alice")]
    login: String,
    #[schema(example = "Alice")]
    name: String,
}

#[derive(Serialize, ToSchema)]
struct TokensView {
    user: UserView,
    /// For every request, until it expires.
    access_token: String,
    /// For one refresh. One that is used twice ends its login session.
    refresh_token: String,
    /// How long the access token lives, seconds.
    #[schema(example = 900)]
    expires_in: u64,
    /// The login session's id.
    session: String,
}

#[derive(Serialize, ToSchema)]
struct Me {
    user: UserView,
    /// The login session's id.
    #[schema(value_type = String)]
    session: Arc<str>,
    /// When the token expires.
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

/// Makes an account and logs it in.
#[utoipa::path(post, path = "/api/auth/register", tag = "auth", security(()), request_body = Registration, responses(
    (status = 201, description = "The account's first tokens.", body = TokensView),
    (status = 403, description = "Registration is closed here, or the invitation is for another login.", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such invitation.", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The login is taken.", body = Problem, content_type = "application/problem+json"),
    (status = 410, description = "The invitation is used up or past its time.", body = Problem, content_type = "application/problem+json"),
))]
async fn register(
    State(app): State<Arc<App>>,
    LoginClient(client): LoginClient,
    Body(asked): Body<Registration>,
) -> Result<Response, ApiError> {
    let name = asked.name.as_deref();
    let (login, password) = (&asked.login, &asked.password);
    let tokens = match &asked.invitation {
        None => app.auth.register(login, password, name, client).await?,
        Some(token) => {
            let registered = app
                .auth
                .register_invited(login, password, name, token, client);
            registered.await?
        }
    };
    Ok(answer(StatusCode::CREATED, tokens))
}

/// Logs in.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", security(()), request_body = Credentials, responses(
    (status = 200, description = "Tokens.", body = TokensView),
    (status = 401, description = "Login or password is wrong.", body = Problem, content_type = "application/problem+json"),
))]
async fn login(
    State(app): State<Arc<App>>,
    LoginClient(client): LoginClient,
    Body(asked): Body<Credentials>,
) -> Result<Response, ApiError> {
    let tokens = app
        .auth
        .login(&asked.login, &asked.password, client)
        .await?;
    Ok(answer(StatusCode::OK, tokens))
}

/// Trades a refresh token for new tokens.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", security(()), request_body = Refresh, responses(
    (status = 200, description = "New tokens.", body = TokensView),
    (status = 401, description = "The token is not valid, or was used before.", body = Problem, content_type = "application/problem+json"),
))]
async fn refresh(
    State(app): State<Arc<App>>,
    Body(asked): Body<Refresh>,
) -> Result<Response, ApiError> {
    let tokens = app.auth.refresh(&asked.refresh_token).await?;
    Ok(answer(StatusCode::OK, tokens))
}

/// Ends the caller's login session, or every one of the caller's.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", params(Logout),
    responses((status = 204, description = "Ended: its tokens are refused from now on, and its sockets are closed.")))]
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

/// Tells who the caller is.
#[utoipa::path(get, path = "/api/auth/me", tag = "auth",
    responses((status = 200, description = "The caller.", body = Me)))]
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

/// The public keys that tokens are signed with (RFC 7517).
#[utoipa::path(get, path = "/api/auth/jwks", tag = "auth", security(()),
    responses((status = 200, description = "A JWK set.", body = serde_json::Value, content_type = "application/jwk-set+json")))]
async fn jwks(State(app): State<Arc<App>>) -> impl IntoResponse {
    let headers = [
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::CONTENT_TYPE, "application/jwk-set+json"),
    ];
    (headers, app.auth.jwks().to_string())
}

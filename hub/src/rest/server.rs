//! `/api/server`: what services do with an API key. Here: with a user's live sessions; `messages` has channels,
//! `events` domain events.
//!
//! Owns what a key reaches: its project, or all of the hub. What lies outside is not found, so that nobody learns
//! of it. Never speaks for a user: every call says whom it is about.

mod events;
mod messages;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backplane::store::User;
use protocol::{ChannelName, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Service;
use super::projects::find_user;
use crate::app::App;
use crate::auth::services::{Permission, ServiceKey};
use crate::channels::Channels;
use crate::connections::orders::{Order, Reached};
use crate::error::{ApiError, Body, Segments};

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(messages::routes())
        .merge(events::routes())
        .routes(routes!(subscribe))
        .routes(routes!(unsubscribe))
        .routes(routes!(disconnect))
        .routes(routes!(revoke))
        .routes(routes!(sessions))
}

#[derive(Deserialize, ToSchema)]
struct ServerFollowing {
    /// Id or login of the user.
    #[schema(example = "alice")]
    user: String,
    /// Any channel that the user may follow.
    #[schema(min_length = 1, max_length = 255, example = "room:my-app/build")]
    channel: String,
}

#[derive(Deserialize, ToSchema)]
struct Disconnection {
    /// Id or login of the user.
    #[schema(example = "alice")]
    user: String,
    /// Whether the clients are asked to come back; they are if it is left out. Only a key of the hub can say no.
    reconnect: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
struct Revocation {
    /// Id or login of the user.
    #[schema(example = "alice")]
    user: String,
}

#[derive(Serialize, ToSchema)]
struct ReachedView {
    /// Live sessions that it concerns, on all nodes.
    #[schema(example = 2)]
    sessions: u64,
    /// Whether every node has answered; of the others nothing is known.
    complete: bool,
}

impl From<Reached> for ReachedView {
    fn from(Reached { sessions, complete }: Reached) -> Self {
        Self { sessions, complete }
    }
}

/// A channel that the key reaches; a feed by its user's id or login.
async fn channel_of(app: &App, key: &ServiceKey, text: &str) -> Result<ChannelName, ApiError> {
    let invalid =
        |error: protocol::channel::ChannelError| ApiError::invalid("channel", error.to_string());
    // A service has no feed of its own: `feed:me` names nobody.
    let owner = text.strip_prefix("feed:").filter(|user| *user != "me");
    let name = ChannelName::parse(text, owner.unwrap_or("?")).map_err(invalid)?;
    if let ChannelName::Feed(user) = &name {
        if owner.is_none() {
            return Err(ApiError::invalid(
                "channel",
                "a feed is named feed:<user id>",
            ));
        }
        let user = member_of(app, key, user).await?;
        return Ok(ChannelName::Feed(user.id.into()));
    }
    let missing = || ApiError::new(ErrorCode::NotFound, format!("there is no {name}"));
    let project = app.sessions.channels.project_of(&name).await?;
    let Some(project) = project.filter(|project| key.covers(Some(project))) else {
        return Err(missing());
    };
    app.store.project(&project).await?.ok_or_else(missing)?;
    Ok(name)
}

/// A user that the key reaches: any of the hub's, or a member of the key's project.
async fn member_of(app: &App, key: &ServiceKey, user: &str) -> Result<User, ApiError> {
    let found = find_user(app, user).await?;
    if let Some(project) = &key.project
        && app.store.role(project, &found.id).await?.is_none()
    {
        return Err(ApiError::new(ErrorCode::NotFound, "there is no such user"));
    }
    Ok(found)
}

/// Has a user's live sessions follow a channel, on every node, if the user may.
///
/// Each session is told `subscribed` with the id 0. At most once: sessions that open later do not follow by
/// themselves, and a node that does not answer may not have heard of it. Needs the permission `subscribe`.
#[utoipa::path(post, path = "/api/server/subscribe", tag = "server", request_body = ServerFollowing,
    responses((status = 200, description = "Sessions that were told.", body = ReachedView)))]
async fn subscribe(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<ServerFollowing>,
) -> Result<Json<ReachedView>, ApiError> {
    let (user, name) = followed(&app, &key, &asked).await?;
    let operation = Channels::subscribe_operation(&name);
    let channels = &app.sessions.channels;
    channels.authorize(&user.id, &name, operation).await?;
    let channel = name.to_string();
    let order = Order::Subscribe { channel };
    Ok(Json(app.orders.give(&user.id, order).await.into()))
}

/// Ends a user's live sessions' following of a channel, on every node.
///
/// Each is told `revoked` of the channel. At most once, as `subscribe`. Needs the permission `subscribe`.
#[utoipa::path(post, path = "/api/server/unsubscribe", tag = "server", request_body = ServerFollowing,
    responses((status = 200, description = "Sessions that were told.", body = ReachedView)))]
async fn unsubscribe(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<ServerFollowing>,
) -> Result<Json<ReachedView>, ApiError> {
    let (user, name) = followed(&app, &key, &asked).await?;
    let channel = name.to_string();
    let order = Order::Unsubscribe { channel };
    Ok(Json(app.orders.give(&user.id, order).await.into()))
}

async fn followed(
    app: &App,
    key: &ServiceKey,
    asked: &ServerFollowing,
) -> Result<(User, ChannelName), ApiError> {
    key.check(Permission::Subscribe)?;
    let user = member_of(app, key, &asked.user).await?;
    // A user's own feed may be called as the user calls it.
    let text = match asked.channel.as_str() {
        "feed:me" => format!("feed:{}", user.id),
        other => other.to_owned(),
    };
    let name = channel_of(app, key, &text).await?;
    match &name {
        ChannelName::Feed(owner) if **owner != *user.id => Err(ApiError::new(
            ErrorCode::Forbidden,
            "a feed is its user's alone",
        )),
        _ => Ok((user, name)),
    }
}

/// Closes a user's live sockets, sessions and documents' alike, on every node.
///
/// The close code is 4520, which asks clients to reconnect, or 4420, which asks them not to. Neither takes a right:
/// see `revoke`. At most once, as `subscribe`. Needs the permission `disconnect`.
#[utoipa::path(post, path = "/api/server/disconnect", tag = "server", request_body = Disconnection,
    responses((status = 200, description = "Sockets that are closed.", body = ReachedView)))]
async fn disconnect(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<Disconnection>,
) -> Result<Json<ReachedView>, ApiError> {
    key.check(Permission::Disconnect)?;
    let reconnect = asked.reconnect.unwrap_or(true);
    let user = member_of(&app, &key, &asked.user).await?;
    if !reconnect && key.project.is_some() {
        // A socket may serve other projects too.
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "only a key of the whole hub can keep clients from coming back",
        ));
    }
    let order = Order::Disconnect { reconnect };
    Ok(Json(app.orders.give(&user.id, order).await.into()))
}

/// Ends all login sessions of a user: their tokens are refused from now on, and their sockets are closed.
///
/// Durable: it is done when this answers, and holds on every node within a second. Needs a key of the hub with the
/// permission `revoke`.
#[utoipa::path(post, path = "/api/server/revoke", tag = "server", request_body = Revocation,
    responses((status = 204, description = "Ended.")))]
async fn revoke(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<Revocation>,
) -> Result<StatusCode, ApiError> {
    key.check(Permission::Revoke)?;
    let user = member_of(&app, &key, &asked.user).await?;
    app.auth.logout_all(&user.id.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Counts a user's live sockets, sessions and documents' alike, on every node.
///
/// Needs the permission `presence`.
#[utoipa::path(get, path = "/api/server/users/{user}/sessions", tag = "server",
    params(("user" = String, Path, description = "Id or login of the user.")),
    responses((status = 200, description = "How many there are.", body = ReachedView)))]
async fn sessions(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Segments(user): Segments<String>,
) -> Result<Json<ReachedView>, ApiError> {
    key.check(Permission::Presence)?;
    let user = member_of(&app, &key, &user).await?;
    Ok(Json(app.orders.give(&user.id, Order::Count).await.into()))
}

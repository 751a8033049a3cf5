//! Channels for services: publish to one or many, who is there, what was said.
//!
//! A service may write to every kind of channel, those included that take no messages from clients. What it
//! writes is told as from `key:<id>`, so that it passes for neither a user's nor the hub's own.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use backplane::broker::Publish;
use futures::StreamExt as _;
use protocol::frame::ResetReason;
use protocol::{Blob, ChannelName, DeliveryClass, ErrorCode, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::Service;
use super::super::channels::{ClassName, MessageView};
use super::channel_of;
use crate::app::App;
use crate::auth::services::{Permission, ServiceKey};
use crate::channels::fanout::history_message;
use crate::error::{ApiError, Body, Params};

/// Channels of one broadcast.
const MOST_CHANNELS: usize = 1000;
/// Channels of one broadcast that are written to at the same time.
const AT_ONCE: usize = 16;
/// Longest `key` and `idempotency_key`, bytes.
const MAX_KEY_BYTES: usize = 128;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(publish))
        .routes(routes!(broadcast))
        .routes(routes!(presence))
        .routes(routes!(history))
}

#[derive(Deserialize, ToSchema)]
struct ServerPublication {
    /// Any channel: `room:<project>/<name>`, `project:<id>`, `doc:<id>`, `plan:<id>`, `feed:<user id>`.
    #[schema(min_length = 1, max_length = 255, example = "room:my-app/build")]
    channel: String,
    /// The message; exactly one of `data` and `bytes`.
    #[schema(value_type = Option<Value>, example = json!({ "state": "passed" }))]
    data: Option<Value>,
    /// The message, as bytes in base64.
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    bytes: Option<Blob>,
    /// `reliable` if it is left out.
    #[schema(value_type = Option<ClassName>)]
    class: Option<DeliveryClass>,
    /// Class `latest`: which value it replaces.
    #[schema(min_length = 1, max_length = 128)]
    key: Option<String>,
    /// A second message of this API key with the same one is not sent again to the same channel, for some minutes.
    #[schema(min_length = 1, max_length = 128)]
    idempotency_key: Option<String>,
}

#[derive(Deserialize, ToSchema)]
struct ServerBroadcast {
    /// As in `publish`; each once.
    #[schema(min_items = 1, max_items = 1000, example = json!(["room:my-app/build", "project:my-app"]))]
    channels: Vec<String>,
    /// The message; exactly one of `data` and `bytes`.
    #[schema(value_type = Option<Value>, example = json!({ "state": "passed" }))]
    data: Option<Value>,
    /// The message, as bytes in base64.
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    bytes: Option<Blob>,
    /// `reliable` if it is left out.
    #[schema(value_type = Option<ClassName>)]
    class: Option<DeliveryClass>,
    /// Class `latest`: which value it replaces.
    #[schema(min_length = 1, max_length = 128)]
    key: Option<String>,
    /// A second message of this API key with the same one is not sent again to the same channel, for some minutes.
    #[schema(min_length = 1, max_length = 128)]
    idempotency_key: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ServerPosition {
    epoch: String,
    offset: u64,
}

impl From<Position> for ServerPosition {
    fn from(Position { epoch, offset }: Position) -> Self {
        Self { epoch, offset }
    }
}

#[derive(Serialize, ToSchema)]
struct ServerPublished {
    /// The place of a reliable message in the channel; none of other classes.
    position: Option<ServerPosition>,
    /// The idempotency key had been used: nothing was sent again.
    duplicate: bool,
}

#[derive(Serialize, ToSchema)]
struct BroadcastResult {
    channel: String,
    /// The place of a reliable message in the channel.
    position: Option<ServerPosition>,
    /// The idempotency key had been used: nothing was sent again.
    duplicate: bool,
    /// Why it was not sent.
    error: Option<BroadcastFailure>,
}

#[derive(Serialize, ToSchema)]
struct BroadcastFailure {
    /// As of a problem document.
    #[schema(value_type = String, example = "not_found")]
    code: ErrorCode,
    /// For people.
    detail: String,
}

#[derive(Serialize, ToSchema)]
struct BroadcastResults {
    /// One for each channel, in their order.
    results: Vec<BroadcastResult>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OfChannel {
    /// The channel.
    #[param(min_length = 1, max_length = 255, example = "room:my-app/build")]
    channel: String,
}

#[derive(Serialize, ToSchema)]
struct ServerMember {
    /// The session's id.
    session: String,
    /// The user's id.
    user: String,
    /// The user's display name.
    name: String,
    /// The session's own ephemeral state, if it set one.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct ServerPresence {
    /// By session id; a very full channel is cut off.
    members: Vec<ServerMember>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// The channel.
    #[param(min_length = 1, max_length = 255, example = "room:my-app/build")]
    channel: String,
    /// Messages after this place: the epoch, with `offset`. From the oldest that is kept if both are left out.
    epoch: Option<String>,
    /// The offset, with `epoch`.
    #[param(minimum = 0)]
    offset: Option<u64>,
    /// At most so many messages; the hub's own limit if it is left out or larger.
    #[param(minimum = 1, example = 100)]
    limit: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct ServerHistory {
    /// The channel's epoch: with the offset of the last message, where to read on.
    epoch: String,
    /// The channel's newest offset.
    offset: u64,
    /// Oldest first, without a gap.
    messages: Vec<MessageView>,
    /// There are more after the last one.
    more: bool,
    /// The place asked for can't be gone on from: `epoch`, `expired` or `ahead`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(epoch|expired|ahead)$")]
    reset: Option<ResetReason>,
}

/// The message of a request, checked.
fn message(
    app: &App,
    key: &ServiceKey,
    data: Option<Value>,
    bytes: Option<Blob>,
    class: Option<DeliveryClass>,
    keys: (Option<String>, Option<String>),
) -> Result<Publish, ApiError> {
    if data.is_some() == bytes.is_some() {
        return Err(ApiError::invalid(
            "data",
            "send exactly one of data and bytes",
        ));
    }
    let (name, idempotency_key) = keys;
    for (field, value) in [("key", &name), ("idempotency_key", &idempotency_key)] {
        let length = value.as_ref().map_or(1, String::len);
        if !(1..=MAX_KEY_BYTES).contains(&length) {
            return Err(ApiError::invalid(field, "has 1 to 128 bytes"));
        }
    }
    let class = class.unwrap_or_default();
    if class == DeliveryClass::Latest && name.is_none() {
        return Err(ApiError::invalid(
            "key",
            "a message of class latest needs one",
        ));
    }
    let most = app.settings.session.message_bytes;
    let size = data.as_ref().map_or(0, |data| data.to_string().len());
    if size > most || bytes.as_ref().is_some_and(|bytes| bytes.0.len() > most) {
        let text = format!("a message has at most {most} bytes");
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    let sender = key.sender();
    Ok(Publish {
        class,
        key: name.map(Arc::from),
        data,
        bytes,
        event: None,
        // Another sender's equal key is another key.
        idempotency_key: idempotency_key.map(|own| format!("{sender}/{own}").into()),
        from: Some(sender),
        dedup: None,
    })
}

async fn send(
    app: &App,
    key: &ServiceKey,
    channel: &str,
    message: Publish,
) -> Result<ServerPublished, ApiError> {
    let name = channel_of(app, key, channel).await?;
    let is_reliable = message.class == DeliveryClass::Reliable;
    let published = app.sessions.channels.publish(&name, message).await?;
    Ok(ServerPublished {
        position: is_reliable.then(|| published.position.into()),
        duplicate: published.duplicate,
    })
}

/// Sends a message to a channel of any kind.
///
/// Subscribers see it as from `key:<id>`. Needs the permission `publish`.
#[utoipa::path(post, path = "/api/server/publish", tag = "server", request_body = ServerPublication,
    responses((status = 200, description = "Taken.", body = ServerPublished)))]
async fn publish(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<ServerPublication>,
) -> Result<Json<ServerPublished>, ApiError> {
    key.check(Permission::Publish)?;
    let keys = (asked.key, asked.idempotency_key);
    let message = message(&app, &key, asked.data, asked.bytes, asked.class, keys)?;
    Ok(Json(send(&app, &key, &asked.channel, message).await?))
}

/// Sends one message to many channels, each with a result of its own.
///
/// What fails for one channel does not stop the others; to send again what failed, use an idempotency key. Needs the
/// permission `broadcast`.
#[utoipa::path(post, path = "/api/server/broadcast", tag = "server", request_body = ServerBroadcast,
    responses((status = 200, description = "What became of each.", body = BroadcastResults)))]
async fn broadcast(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<ServerBroadcast>,
) -> Result<Json<BroadcastResults>, ApiError> {
    key.check(Permission::Broadcast)?;
    if !(1..=MOST_CHANNELS).contains(&asked.channels.len()) {
        let reason = format!("has 1 to {MOST_CHANNELS}");
        return Err(ApiError::invalid("channels", reason));
    }
    let distinct: HashSet<&String> = asked.channels.iter().collect();
    if distinct.len() < asked.channels.len() {
        return Err(ApiError::invalid("channels", "names a channel twice"));
    }
    let keys = (asked.key, asked.idempotency_key);
    let message = message(&app, &key, asked.data, asked.bytes, asked.class, keys)?;
    let (app, key, message) = (&app, &key, &message);
    let sent = futures::stream::iter(asked.channels).map(|channel| async move {
        let sent = send(app, key, &channel, message.clone()).await;
        BroadcastResult::new(channel, sent)
    });
    let results = sent.buffered(AT_ONCE).collect().await;
    Ok(Json(BroadcastResults { results }))
}

impl BroadcastResult {
    fn new(channel: String, sent: Result<ServerPublished, ApiError>) -> Self {
        let (position, duplicate, error) = match sent {
            Ok(sent) => (sent.position, sent.duplicate, None),
            Err(error) => {
                if let Some(cause) = &error.cause {
                    tracing::warn!(%channel, %cause, "a broadcast did not reach a channel");
                }
                let detail = match error.detail.is_empty() {
                    true => error.code.meaning().to_owned(),
                    false => error.detail.into_owned(),
                };
                let code = error.code;
                (None, false, Some(BroadcastFailure { code, detail }))
            }
        };
        Self {
            channel,
            position,
            duplicate,
            error,
        }
    }
}

/// A channel that may be read: a feed holds what concerns its user in all projects, so that only a key of the
/// whole hub reads it.
async fn readable(app: &App, key: &ServiceKey, channel: &str) -> Result<ChannelName, ApiError> {
    let name = channel_of(app, key, channel).await?;
    match name {
        ChannelName::Feed(_) if key.project.is_some() => Err(ApiError::not_found()),
        name => Ok(name),
    }
}

/// Lists who is in a channel: sessions that subscribed with presence, on all nodes.
///
/// Needs the permission `presence`.
#[utoipa::path(get, path = "/api/server/presence", tag = "server", params(OfChannel),
    responses((status = 200, description = "Who is there.", body = ServerPresence)))]
async fn presence(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Params(asked): Params<OfChannel>,
) -> Result<Json<ServerPresence>, ApiError> {
    key.check(Permission::Presence)?;
    let name = readable(&app, &key, &asked.channel).await?;
    let members = app.sessions.channels.members(&name).await?;
    let members = members.into_iter().map(|member| ServerMember {
        session: member.session,
        user: member.user,
        name: member.name,
        state: member.state,
    });
    Ok(Json(ServerPresence {
        members: members.collect(),
    }))
}

/// Reads the retained messages of a channel.
///
/// Needs the permission `history`.
#[utoipa::path(get, path = "/api/server/history", tag = "server", params(HistoryQuery),
    responses((status = 200, description = "A page of them.", body = ServerHistory)))]
async fn history(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Params(asked): Params<HistoryQuery>,
) -> Result<Json<ServerHistory>, ApiError> {
    key.check(Permission::History)?;
    let since = match (asked.epoch, asked.offset) {
        (Some(epoch), Some(offset)) => Some(Position { epoch, offset }),
        (None, None) => None,
        _ => {
            let reason = "epoch and offset belong together";
            return Err(ApiError::invalid("offset", reason));
        }
    };
    if asked.limit == Some(0) {
        return Err(ApiError::invalid("limit", "is at least 1"));
    }
    let name = readable(&app, &key, &asked.channel).await?;
    let most = app.settings.session.history_page;
    let limit = asked.limit.map_or(most, |limit| most.min(limit as usize));
    let channels = &app.sessions.channels;
    let page = channels.history(&name, since.as_ref(), limit).await?;
    let messages = page.messages.iter().map(|message| history_message(message));
    Ok(Json(ServerHistory {
        messages: messages.map(MessageView::from).collect(),
        epoch: page.newest.epoch,
        offset: page.newest.offset,
        more: page.more,
        reset: page.reset,
    }))
}

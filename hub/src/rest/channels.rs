//! `/api/channels`: what a session does with a channel, without one.
//!
//! Owns the shapes of these requests and answers. The rules, rights and limits are those of a session, in the same
//! code: `crate::channels`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use backplane::broker::Publication;
use protocol::frame::{HistoryMessage, Member, ResetReason};
use protocol::{Blob, ChannelName, DeliveryClass, Position};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use crate::app::App;
use crate::auth::Principal;
use crate::auth::rbac::Operation;
use crate::channels::fanout::history_message;
use crate::channels::page_size;
use crate::channels::publish::{Draft, parse};
use crate::config::Settings;
use crate::error::{ApiError, Body, Params};

/// The routes. A message is as large as on a session.
pub(super) fn routes(settings: &Settings) -> OpenApiRouter<Arc<App>> {
    let publish = OpenApiRouter::new()
        .routes(routes!(publish))
        .layer(DefaultBodyLimit::max(settings.session.message_bytes));
    OpenApiRouter::new()
        .merge(publish)
        .routes(routes!(history))
        .routes(routes!(presence))
        .routes(routes!(latest))
}

/// How a message may be dropped for a slow subscriber.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ClassName {
    /// Takes an offset, is kept in history, and is replayed to a slow or resuming subscriber.
    Reliable,
    /// Takes no offset; a newer one of the same key replaces it.
    Latest,
    /// Takes no offset, is kept nowhere, may be dropped.
    Lossy,
}

/// Why messages can't be read on with.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ResetName {
    /// The channel's history was lost: its epoch is another.
    Epoch,
    /// The position is older than what is kept.
    Expired,
    /// The position lies beyond the newest message.
    Ahead,
}

/// A message to a channel; exactly one of `data` and `bytes`.
#[derive(Deserialize, ToSchema)]
struct NewMessage {
    /// A room: `room:<project>/<name>`.
    #[schema(min_length = 1, max_length = 255, example = "room:my-app/lobby")]
    channel: String,
    /// The message; not `null`.
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
    /// The message, as bytes in base64 (RFC 4648 section 4, padded).
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    bytes: Option<Blob>,
    /// `reliable` if it is left out.
    #[schema(value_type = Option<ClassName>)]
    class: Option<DeliveryClass>,
    /// For class `latest`: which value it replaces; 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
    key: Option<String>,
    /// A resend with the same key within the hub's dedup window is not sent again; 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128)]
    idempotency_key: Option<String>,
}

/// A place in a channel.
#[derive(Serialize, ToSchema)]
struct PositionView {
    /// The channel's epoch.
    epoch: String,
    /// Gapless within the epoch.
    offset: u64,
}

impl From<Position> for PositionView {
    fn from(position: Position) -> Self {
        let Position { epoch, offset } = position;
        Self { epoch, offset }
    }
}

#[derive(Serialize, ToSchema)]
struct SentView {
    /// Its place, if it is reliable.
    position: Option<PositionView>,
    /// The idempotency key had been used: nothing was sent again.
    duplicate: bool,
}

/// Sends a message to a room.
///
/// As a session's `publish`, with the same rights and rules.
#[utoipa::path(post, path = "/api/channels/publish", tag = "channels", request_body = NewMessage,
    responses((status = 200, description = "The hub has taken it.", body = SentView)))]
async fn publish(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Body(asked): Body<NewMessage>,
) -> Result<Json<SentView>, ApiError> {
    let draft = Draft {
        data: asked.data,
        bytes: asked.bytes,
        class: asked.class,
        key: asked.key,
        idempotency_key: asked.idempotency_key,
    };
    let channels = &app.sessions.channels;
    let sent = channels.send_as(&caller, &asked.channel, draft).await?;
    if let Ok(ChannelName::Room { project, .. }) = parse(&asked.channel, &caller)
        && !sent.duplicate
    {
        let tally = app.connections.meter().tally(&caller.user, &project);
        tally.message();
    }
    Ok(Json(SentView {
        position: sent.position.map(PositionView::from),
        duplicate: sent.duplicate,
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ChannelQuery {
    /// The channel's name; one's own feed is `feed:me`.
    #[param(min_length = 1, max_length = 255, example = "room:my-app/lobby")]
    channel: String,
}

/// The channel of that name, if the user may do that there.
async fn open(
    app: &App,
    who: &Principal,
    channel: &str,
    operation: Operation,
) -> Result<ChannelName, ApiError> {
    let channel = parse(channel, who)?;
    let channels = &app.sessions.channels;
    channels.authorize(&who.user, &channel, operation).await?;
    Ok(channel)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// The channel's name; one's own feed is `feed:me`.
    #[param(min_length = 1, max_length = 255, example = "room:my-app/lobby")]
    channel: String,
    /// After a position: its epoch. From the oldest that is kept, if epoch and offset are left out.
    since_epoch: Option<String>,
    /// And its offset.
    since_offset: Option<u64>,
    /// At most so many messages, and at most as many as one answer of this hub has.
    #[param(minimum = 1)]
    limit: Option<u32>,
}

/// A message that is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct MessageView {
    offset: u64,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
    /// The message, as bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    bytes: Option<Blob>,
    /// The id of the event that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The id of the user who sent it, or `key:<id>` for a service; left out for messages of the hub itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// When the hub took it, milliseconds since the Unix epoch.
    time: u64,
}

impl From<HistoryMessage> for MessageView {
    fn from(message: HistoryMessage) -> Self {
        let HistoryMessage {
            offset,
            data,
            bytes,
            event,
            from,
            time,
        } = message;
        Self {
            offset,
            data,
            bytes,
            event,
            from,
            time,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct HistoryView {
    /// The channel's name.
    channel: String,
    /// The channel's epoch.
    epoch: String,
    /// The newest offset.
    offset: u64,
    /// Oldest first.
    messages: Vec<MessageView>,
    /// There are more after the last one.
    more: bool,
    /// Why the position that was asked for can't be read on from: read the channel's state again, then go on from
    /// this `epoch` and `offset`.
    #[schema(value_type = Option<ResetName>)]
    reset: Option<ResetReason>,
}

/// Reads the messages that a channel keeps.
#[utoipa::path(get, path = "/api/channels/history", tag = "channels", params(HistoryQuery),
    responses((status = 200, description = "A part of them.", body = HistoryView)))]
async fn history(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<HistoryView>, ApiError> {
    if query.limit == Some(0) {
        return Err(ApiError::invalid("limit", "must be at least 1"));
    }
    let since = match (query.since_epoch, query.since_offset) {
        (Some(epoch), Some(offset)) => Some(Position { epoch, offset }),
        (None, None) => None,
        (None, Some(_)) => return Err(ApiError::invalid("since_epoch", "is missing")),
        (Some(_), None) => return Err(ApiError::invalid("since_offset", "is missing")),
    };
    let channel = open(&app, &caller, &query.channel, Operation::ReadHistory).await?;
    let limit = page_size(query.limit, app.settings.session.history_page);
    let channels = &app.sessions.channels;
    let page = channels.history(&channel, since.as_ref(), limit).await?;
    let messages = page.messages.iter().map(|one| history_message(one).into());
    Ok(Json(HistoryView {
        channel: channel.public(),
        epoch: page.newest.epoch,
        offset: page.newest.offset,
        messages: messages.collect(),
        more: page.more,
        reset: page.reset,
    }))
}

/// A session in a channel.
#[derive(Serialize, ToSchema)]
struct PresentView {
    /// The session's id.
    session: String,
    /// The user's id.
    user: String,
    /// The user's name.
    name: String,
    /// The session's own ephemeral state, if it set one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    state: Option<Value>,
}

impl From<Member> for PresentView {
    fn from(member: Member) -> Self {
        let Member {
            session,
            user,
            name,
            state,
        } = member;
        Self {
            session,
            user,
            name,
            state,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct PresenceView {
    /// The channel's name.
    channel: String,
    /// By session, at most as many as this hub lists.
    members: Vec<PresentView>,
}

/// Tells who is in a channel: the sessions that joined its presence.
#[utoipa::path(get, path = "/api/channels/presence", tag = "channels", params(ChannelQuery),
    responses((status = 200, description = "Who is there.", body = PresenceView)))]
async fn presence(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<ChannelQuery>,
) -> Result<Json<PresenceView>, ApiError> {
    let channel = open(&app, &caller, &query.channel, Operation::Presence).await?;
    let members = app.sessions.channels.members(&channel).await?;
    Ok(Json(PresenceView {
        channel: channel.public(),
        members: members.into_iter().map(PresentView::from).collect(),
    }))
}

/// The newest value of a key.
#[derive(Serialize, ToSchema)]
struct ValueView {
    key: String,
    /// Rises with every value of the key.
    version: u64,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    data: Option<Value>,
    /// The value, as bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    bytes: Option<Blob>,
    /// The id of the user who sent it, or `key:<id>` for a service; left out for messages of the hub itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// When the hub took it, milliseconds since the Unix epoch.
    time: u64,
}

impl ValueView {
    fn of(value: &Publication) -> Option<Self> {
        Some(Self {
            key: value.key.as_deref()?.to_owned(),
            version: value.version,
            data: value.data.clone(),
            bytes: value.bytes.clone(),
            from: value.from.as_deref().map(str::to_owned),
            time: value.time,
        })
    }
}

#[derive(Serialize, ToSchema)]
struct LatestView {
    /// The channel's name.
    channel: String,
    /// By key.
    values: Vec<ValueView>,
}

/// Reads the newest value of each key that was sent with class `latest` and is still kept.
#[utoipa::path(get, path = "/api/channels/latest", tag = "channels", params(ChannelQuery),
    responses((status = 200, description = "The values.", body = LatestView)))]
async fn latest(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<ChannelQuery>,
) -> Result<Json<LatestView>, ApiError> {
    let channel = open(&app, &caller, &query.channel, Operation::ReadHistory).await?;
    let values = app.sessions.channels.latest(&channel).await?;
    let mut values: Vec<ValueView> = values
        .iter()
        .filter_map(|value| ValueView::of(value))
        .collect();
    values.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Json(LatestView {
        channel: channel.public(),
        values,
    }))
}

//! The whole session protocol of `/ws` on one page: `ClientFrame` and `ServerFrame`.
//!
//! A client authenticates (header, subprotocol or a first `connect`), gets `connected`, then sends
//! requests with an `id` of its choosing; each gets exactly one reply that carries that `id`
//! (`subscribed`, `ack`, `history`, `presence`, `doc`, `pong` or `error`). Requests of one session are
//! served in order. Unknown fields are ignored; an unknown `type` gets an `error`.
//! Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use crate::{Blob, DeliveryClass, ErrorCode, Position};

/// The subprotocol of JSON text frames.
pub const SUBPROTOCOL_JSON: &str = "tandem.v1.json";
/// The subprotocol of MessagePack binary frames.
pub const SUBPROTOCOL_MSGPACK: &str = "tandem.v1.msgpack";
/// Prefix of the subprotocol that carries a token (never echoed).
pub const SUBPROTOCOL_BEARER: &str = "bearer.";

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Authenticates, if no token came with the handshake; may resume subscriptions at once.
    Connect {
        /// Request id.
        #[serde(default)]
        id: u32,
        /// Access token; needed unless the handshake carried one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// Channels to subscribe to, each from its last seen position.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        resume: BTreeMap<String, Position>,
    },
    /// Follows a channel, from a position or from now on.
    Subscribe {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
        /// Last position seen: what came after it is replayed, or `reset` says that it can't be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        /// Also join the channel's presence, get its members, and follow who joins and leaves.
        #[serde(default)]
        presence: bool,
    },
    /// Stops following a channel.
    Unsubscribe {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
    },
    /// Sends a message to a channel; acknowledged once the broker has accepted it.
    Publish {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
        /// The message; exactly one of `data` and `bytes`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "unknown")]
        data: Option<Value>,
        /// The message, as bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "string | Uint8Array | null")]
        bytes: Option<Blob>,
        /// Delivery class; the namespace's default if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<DeliveryClass>,
        /// For class `latest`: which value this replaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// A resend with the same key within the dedup window is acknowledged, not repeated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    },
    /// Asks who is in a channel.
    Presence {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
    },
    /// Sets this session's own ephemeral state in a channel (subscribed with `presence`); null clears it.
    State {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
        /// The state, at most the configured bytes.
        #[ts(type = "unknown")]
        data: Value,
    },
    /// Reads retained messages of a channel.
    History {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
        /// After this position; from the oldest retained if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
        /// At most this many, capped by the hub (its `limits.history_page`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// A step of a document's conversation.
    Doc {
        /// Request id; needed for `open` and `close`, optional else. The `ack` of an update says that it was
        /// handed in; only `durable` says that it is committed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// Document id, or `project/path`; replies use the same spelling.
        doc: String,
        /// What to do.
        op: ClientDocOp,
        /// `open` and `sync`: the client's state vector; `update`: a Yjs v1 update; `awareness`: an awareness update.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "string | Uint8Array | null")]
        data: Option<Blob>,
    },
    /// Replaces the session's token before it expires.
    Refresh {
        /// Request id.
        id: u32,
        /// A fresh access token of the same user.
        token: String,
    },
    /// Asks for a `pong`: browsers can't see WebSocket pings.
    Ping {
        /// Request id.
        id: u32,
    },
}

/// What a `doc` frame from a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ClientDocOp {
    /// Joins the document; the reply is `opened`, then `sync` with what the client lacks.
    Open,
    /// Leaves the document.
    Close,
    /// Asks for what lies beyond a state vector.
    Sync,
    /// Edits; every update counts, from 1, towards `durable`.
    Update,
    /// Carets, names, selections.
    Awareness,
}

/// What the hub sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The session is authenticated.
    Connected {
        /// Id of the `connect` frame; 0 if the handshake carried the token.
        id: u32,
        /// Session id.
        session: String,
        /// User id.
        user: String,
        /// The user's display name.
        name: String,
        /// Node id.
        node: String,
        /// Limits of this session.
        limits: Limits,
        /// The hub pings when nothing came for this long; a client that hears nothing for twice as long is cut off.
        ping_ms: u64,
        /// The hub's clock.
        time: u64,
        /// When the token expires.
        expires: u64,
    },
    /// Following a channel; messages after `offset` follow.
    Subscribed {
        /// Request id; 0 for a channel resumed by `connect`, or that a service subscribed the session to.
        id: u32,
        /// Channel name.
        channel: String,
        /// The channel's epoch.
        epoch: String,
        /// Messages after this offset follow: the position asked for if `recovered`, else the newest.
        offset: u64,
        /// The position asked for was honoured: everything after it follows.
        recovered: bool,
        /// The position could not be honoured: read the channel's state again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<ResetReason>,
        /// Who is here, if presence was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        members: Option<Vec<Member>>,
    },
    /// The request was carried out.
    Ack {
        /// Request id.
        id: u32,
        /// `publish` of a reliable message: its place in the channel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        /// `publish`: the idempotency key had been used: nothing was sent again.
        #[serde(default, skip_serializing_if = "is_false")]
        duplicate: bool,
        /// `refresh`: when the new token expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
    },
    /// The request was refused.
    Error {
        /// Request id; absent if the frame could not be read that far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// Stable code.
        code: ErrorCode,
        /// What is wrong, for people.
        message: String,
        /// Try again after this long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// A message of a channel.
    Message {
        /// Channel name.
        channel: String,
        /// Reliable messages: the offset; gapless within the channel's epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// The message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "unknown")]
        data: Option<Value>,
        /// The message, as bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "string | Uint8Array | null")]
        bytes: Option<Blob>,
        /// Class `latest`: which value this replaces.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Class `latest`: rises with every value of the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        /// Event id, if it came from a domain event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<String>,
        /// The user who sent it, or `key:<id>` for a service; absent for messages of the hub itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// When the broker took it.
        time: u64,
    },
    /// Who joined, left or changed state since the last one; or, with an `id`, who is here.
    Presence {
        /// Request id, if this answers one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// Channel name.
        channel: String,
        /// Members new or changed, or all of them in a reply.
        joined: Vec<Member>,
        /// Session ids that left.
        left: Vec<String>,
    },
    /// Retained messages.
    History {
        /// Request id.
        id: u32,
        /// Channel name.
        channel: String,
        /// The channel's epoch.
        epoch: String,
        /// The newest offset.
        offset: u64,
        /// The messages, oldest first.
        messages: Vec<HistoryMessage>,
        /// There are more after the last one.
        more: bool,
    },
    /// A step of a document's conversation.
    Doc {
        /// Request id, if this answers one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        /// The document, as the client spelled it.
        doc: String,
        /// What it is.
        op: ServerDocOp,
        /// `opened`: the hub's state vector; `sync`, `update`: a Yjs v1 update; `awareness`: an awareness update.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(type = "string | Uint8Array | null")]
        data: Option<Blob>,
        /// `durable`: this session's updates up to this one are settled: committed, but for those that were
        /// `denied`; `denied`: which one. Over `/api/stream` and `/api/poll` with `sync` and `update`: the sequence in
        /// the document's log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// `opened`: the document's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        document: Option<String>,
        /// `opened` and `rights`: whether updates are accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writable: Option<bool>,
        /// `denied` and `closed`: why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The token expires soon: send `refresh`.
    Expiring {
        /// In this long.
        in_ms: u64,
    },
    /// Messages of this channel were lost to this session: read its state again.
    Reset {
        /// Channel name.
        channel: String,
        /// Why.
        reason: ResetReason,
        /// Messages after this position follow.
        position: Position,
    },
    /// Come back after a delay: the socket closes next.
    Reconnect {
        /// The delay.
        after_ms: u64,
        /// Why.
        reason: String,
    },
    /// The session, or one of its channels, lost its rights, or a service unsubscribed it.
    Revoked {
        /// The channel; absent if the whole session ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
        /// Why.
        reason: String,
    },
    /// Answers `ping`.
    Pong {
        /// Request id.
        id: u32,
        /// The hub's clock.
        time: u64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// What a `doc` frame from the hub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ServerDocOp {
    /// Joined; `data` is the hub's state vector: send what it lacks as an `update`.
    Opened,
    /// Left, by request or because the document went away (`reason`).
    Closed,
    /// What the client lacked.
    Sync,
    /// Somebody's edit.
    Update,
    /// Somebody's caret.
    Awareness,
    /// Updates up to `n` are committed.
    Durable,
    /// An update was refused (`reason`).
    Denied,
    /// The right to write changed (`writable`).
    Rights,
}

/// Why messages can't be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The channel's history was lost: its epoch is another.
    Epoch,
    /// The position is older than what is retained.
    Expired,
    /// The position lies beyond the newest message.
    Ahead,
}

/// One session in a channel's presence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
pub struct Member {
    /// Session id.
    pub session: String,
    /// User id.
    pub user: String,
    /// Display name.
    pub name: String,
    /// The session's own ephemeral state, if it set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "unknown")]
    pub state: Option<Value>,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
pub struct HistoryMessage {
    /// Its offset.
    pub offset: u64,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "unknown")]
    pub data: Option<Value>,
    /// The message, as bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "string | Uint8Array | null")]
    pub bytes: Option<Blob>,
    /// Event id, if it came from a domain event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The user who sent it, or `key:<id>` for a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When the broker took it.
    pub time: u64,
}

/// Limits told to a client at connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
pub struct Limits {
    /// Longest message, bytes.
    pub message_bytes: u64,
    /// Most channels of one session.
    pub channels: u32,
    /// Most documents of one session.
    pub documents: u32,
    /// Most messages of one `history` reply.
    pub history_page: u32,
}

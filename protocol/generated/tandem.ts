// The wire types of Tandem, generated from the Rust types by
// `cargo run -p protocol --bin schema`. Do not edit.

/**
 * What a client sends.
 */
export type ClientFrame = { "type": "connect", 
/**
 * Request id.
 */
id: number, 
/**
 * Access token; needed unless the handshake carried one.
 */
token?: string | null, 
/**
 * Channels to subscribe to, each from its last seen position.
 */
resume?: { [key in string]: Position }, } | { "type": "subscribe", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * Last position seen: what came after it is replayed, or `reset` says that it can't be.
 */
position?: Position | null, 
/**
 * Also join the channel's presence, get its members, and follow who joins and leaves.
 */
presence: boolean, } | { "type": "unsubscribe", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, } | { "type": "publish", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * The message; exactly one of `data` and `bytes`.
 */
data?: unknown, 
/**
 * The message, as bytes.
 */
bytes?: string | Uint8Array | null, 
/**
 * Delivery class; the namespace's default if absent.
 */
class?: DeliveryClass | null, 
/**
 * For class `latest`: which value this replaces.
 */
key?: string | null, 
/**
 * A resend with the same key within the dedup window is acknowledged, not repeated.
 */
idempotency_key?: string | null, } | { "type": "presence", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, } | { "type": "state", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * The state, at most the configured bytes.
 */
data: unknown, } | { "type": "history", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * After this position; from the oldest retained if absent.
 */
since?: Position | null, 
/**
 * At most this many, capped by the hub (its `limits.history_page`).
 */
limit?: number | null, } | { "type": "doc", 
/**
 * Request id; needed for `open` and `close`, optional else. The `ack` of an update says that it was
 * handed in; only `durable` says that it is committed.
 */
id?: number | null, 
/**
 * Document id, or `project/path`; replies use the same spelling.
 */
doc: string, 
/**
 * What to do.
 */
op: ClientDocOp, 
/**
 * `open` and `sync`: the client's state vector; `update`: a Yjs v1 update; `awareness`: an awareness update.
 */
data?: string | Uint8Array | null, } | { "type": "refresh", 
/**
 * Request id.
 */
id: number, 
/**
 * A fresh access token of the same user.
 */
token: string, } | { "type": "ping", 
/**
 * Request id.
 */
id: number, };

/**
 * What a `doc` frame from a client asks for.
 */
export type ClientDocOp = "open" | "close" | "sync" | "update" | "awareness";

/**
 * What the hub sends.
 */
export type ServerFrame = { "type": "connected", 
/**
 * Id of the `connect` frame; 0 if the handshake carried the token.
 */
id: number, 
/**
 * Session id.
 */
session: string, 
/**
 * User id.
 */
user: string, 
/**
 * The user's display name.
 */
name: string, 
/**
 * Node id.
 */
node: string, 
/**
 * Limits of this session.
 */
limits: Limits, 
/**
 * The hub pings when nothing came for this long; a client that hears nothing for twice as long is cut off.
 */
ping_ms: number, 
/**
 * The hub's clock.
 */
time: number, 
/**
 * When the token expires.
 */
expires: number, } | { "type": "subscribed", 
/**
 * Request id; 0 for a channel resumed by `connect`, or that a service subscribed the session to.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * The channel's epoch.
 */
epoch: string, 
/**
 * Messages after this offset follow: the position asked for if `recovered`, else the newest.
 */
offset: number, 
/**
 * The position asked for was honoured: everything after it follows.
 */
recovered: boolean, 
/**
 * The position could not be honoured: read the channel's state again.
 */
reset?: ResetReason | null, 
/**
 * Who is here, if presence was asked for.
 */
members?: Array<Member> | null, } | { "type": "ack", 
/**
 * Request id.
 */
id: number, 
/**
 * `publish` of a reliable message: its place in the channel.
 */
position?: Position | null, 
/**
 * `publish`: the idempotency key had been used: nothing was sent again.
 */
duplicate?: boolean, 
/**
 * `refresh`: when the new token expires.
 */
expires?: number | null, } | { "type": "error", 
/**
 * Request id; absent if the frame could not be read that far.
 */
id?: number | null, 
/**
 * Stable code.
 */
code: ErrorCode, 
/**
 * What is wrong, for people.
 */
message: string, 
/**
 * Try again after this long.
 */
retry_after_ms?: number | null, } | { "type": "message", 
/**
 * Channel name.
 */
channel: string, 
/**
 * Reliable messages: the offset; gapless within the channel's epoch.
 */
offset?: number | null, 
/**
 * The message.
 */
data?: unknown, 
/**
 * The message, as bytes.
 */
bytes?: string | Uint8Array | null, 
/**
 * Class `latest`: which value this replaces.
 */
key?: string | null, 
/**
 * Class `latest`: rises with every value of the key.
 */
version?: number | null, 
/**
 * Event id, if it came from a domain event.
 */
event?: string | null, 
/**
 * The user who sent it, or `key:<id>` for a service; absent for messages of the hub itself.
 */
from?: string | null, 
/**
 * When the broker took it.
 */
time: number, } | { "type": "presence", 
/**
 * Request id, if this answers one.
 */
id?: number | null, 
/**
 * Channel name.
 */
channel: string, 
/**
 * Members new or changed, or all of them in a reply.
 */
joined: Array<Member>, 
/**
 * Session ids that left.
 */
left: Array<string>, } | { "type": "history", 
/**
 * Request id.
 */
id: number, 
/**
 * Channel name.
 */
channel: string, 
/**
 * The channel's epoch.
 */
epoch: string, 
/**
 * The newest offset.
 */
offset: number, 
/**
 * The messages, oldest first.
 */
messages: Array<HistoryMessage>, 
/**
 * There are more after the last one.
 */
more: boolean, } | { "type": "doc", 
/**
 * Request id, if this answers one.
 */
id?: number | null, 
/**
 * The document, as the client spelled it.
 */
doc: string, 
/**
 * What it is.
 */
op: ServerDocOp, 
/**
 * `opened`: the hub's state vector; `sync`, `update`: a Yjs v1 update; `awareness`: an awareness update.
 */
data?: string | Uint8Array | null, 
/**
 * `durable`: this session's updates up to this one are settled: committed, but for those that were
 * `denied`; `denied`: which one. Over `/api/stream` and `/api/poll` with `sync` and `update`: the sequence in
 * the document's log.
 */
n?: number | null, 
/**
 * `opened`: the document's id.
 */
document?: string | null, 
/**
 * `opened` and `rights`: whether updates are accepted.
 */
writable?: boolean | null, 
/**
 * `denied` and `closed`: why.
 */
reason?: string | null, } | { "type": "expiring", 
/**
 * In this long.
 */
in_ms: number, } | { "type": "reset", 
/**
 * Channel name.
 */
channel: string, 
/**
 * Why.
 */
reason: ResetReason, 
/**
 * Messages after this position follow.
 */
position: Position, } | { "type": "reconnect", 
/**
 * The delay.
 */
after_ms: number, 
/**
 * Why.
 */
reason: string, } | { "type": "revoked", 
/**
 * The channel; absent if the whole session ends.
 */
channel?: string | null, 
/**
 * Why.
 */
reason: string, } | { "type": "pong", 
/**
 * Request id.
 */
id: number, 
/**
 * The hub's clock.
 */
time: number, };

/**
 * What a `doc` frame from the hub is.
 */
export type ServerDocOp = "opened" | "closed" | "sync" | "update" | "awareness" | "durable" | "denied" | "rights";

/**
 * Why messages can't be replayed.
 */
export type ResetReason = "epoch" | "expired" | "ahead";

/**
 * Where a subscriber stands in a channel: everything up to `offset` has been seen.
 *
 * Offsets are gapless within an epoch and start at 1; 0 means "nothing yet". The epoch changes
 * whenever the channel's retained history is lost, so equal offsets of two epochs never mean the
 * same message.
 */
export type Position = { 
/**
 * The channel's epoch.
 */
epoch: string, 
/**
 * The last offset seen.
 */
offset: number, };

/**
 * How a message may be dropped for a slow subscriber.
 */
export type DeliveryClass = "reliable" | "latest" | "lossy";

/**
 * One session in a channel's presence.
 */
export type Member = { 
/**
 * Session id.
 */
session: string, 
/**
 * User id.
 */
user: string, 
/**
 * Display name.
 */
name: string, 
/**
 * The session's own ephemeral state, if it set one.
 */
state?: unknown, };

/**
 * A retained message.
 */
export type HistoryMessage = { 
/**
 * Its offset.
 */
offset: number, 
/**
 * The message.
 */
data?: unknown, 
/**
 * The message, as bytes.
 */
bytes?: string | Uint8Array | null, 
/**
 * Event id, if it came from a domain event.
 */
event?: string | null, 
/**
 * The user who sent it, or `key:<id>` for a service.
 */
from?: string | null, 
/**
 * When the broker took it.
 */
time: number, };

/**
 * Limits told to a client at connect.
 */
export type Limits = { 
/**
 * Longest message, bytes.
 */
message_bytes: number, 
/**
 * Most channels of one session.
 */
channels: number, 
/**
 * Most documents of one session.
 */
documents: number, 
/**
 * Most messages of one `history` reply.
 */
history_page: number, };

/**
 * Why a request was refused. The same codes serve `error` frames and REST problem documents.
 */
export type ErrorCode = "bad_request" | "invalid" | "unknown_type" | "unauthorized" | "payment_required" | "forbidden" | "not_found" | "method_not_allowed" | "not_acceptable" | "conflict" | "gone" | "precondition_failed" | "too_large" | "unsupported_media" | "not_subscribed" | "idempotency_conflict" | "limit_reached" | "rate_limited" | "quota_exceeded" | "internal" | "upstream_failed" | "upstream_unavailable" | "overloaded" | "unavailable" | "timeout" | "upstream_timeout";

/**
 * A member's role in a project, weakest first: `Viewer < Commenter < Editor < Owner`.
 */
export type Role = "viewer" | "commenter" | "editor" | "owner";

/**
 * Something that happened, told once to whoever it concerns.
 */
export type Event = { 
/**
 * UUID v7 (RFC 9562): unique, and ordered by time of creation. Consumers deduplicate by it.
 */
id: string, 
/**
 * Dotted type, also the routing key: `plan.created`, `document.opened`.
 */
type: string, 
/**
 * The project that it happened in; none for events of a user alone.
 */
project?: string | null, 
/**
 * The user or service that caused it.
 */
actor?: string | null, 
/**
 * What it is about: `plan:<id>`, `doc:<id>`, `project:<id>`, `user:<id>`.
 */
subject: string, 
/**
 * When it happened, milliseconds since the Unix epoch.
 */
time: number, 
/**
 * W3C trace context (`traceparent`), if the cause was traced.
 */
traceparent?: string | null, 
/**
 * Version of this envelope; readers accept any up to [`SCHEMA_VERSION`].
 */
schema_version: number, 
/**
 * What the type says it carries.
 */
data: unknown, };

/** The subprotocols of `/ws`. */
export const SUBPROTOCOLS = {
  json: "tandem.v1.json",
  msgpack: "tandem.v1.msgpack",
  bearer: "bearer.",
} as const;

/** Every error code: its HTTP status, whether the same request may succeed later, what it means. */
export const ERROR_CODES = {
  bad_request: { status: 400, temporary: false, meaning: "The request is malformed." },
  invalid: { status: 422, temporary: false, meaning: "A field of the request has a value that is not allowed." },
  unknown_type: { status: 400, temporary: false, meaning: "The frame's type is not known to this version." },
  unauthorized: { status: 401, temporary: false, meaning: "The token or password is missing, wrong, expired or revoked." },
  payment_required: { status: 402, temporary: false, meaning: "A quota is used up, and more of it has to be paid for." },
  forbidden: { status: 403, temporary: false, meaning: "The role does not allow this." },
  not_found: { status: 404, temporary: false, meaning: "There is no such thing, or none that you may see." },
  method_not_allowed: { status: 405, temporary: false, meaning: "The path exists, the method does not." },
  not_acceptable: { status: 406, temporary: false, meaning: "None of the answers that the request accepts can be given here." },
  conflict: { status: 409, temporary: false, meaning: "It exists already, or changed meanwhile." },
  gone: { status: 410, temporary: false, meaning: "It was there and is used up, withdrawn or past its time." },
  precondition_failed: { status: 412, temporary: false, meaning: "It has changed since the version that the request names." },
  too_large: { status: 413, temporary: false, meaning: "The message, update or document is over its limit." },
  unsupported_media: { status: 415, temporary: false, meaning: "The body's content type is not accepted here." },
  not_subscribed: { status: 409, temporary: false, meaning: "The session is not subscribed to this channel or has not opened this document." },
  idempotency_conflict: { status: 422, temporary: false, meaning: "The idempotency key was used for another request." },
  limit_reached: { status: 409, temporary: false, meaning: "A limit on the number of channels, documents or members is reached." },
  rate_limited: { status: 429, temporary: true, meaning: "Too many requests: wait and try again." },
  quota_exceeded: { status: 429, temporary: true, meaning: "A quota of a day is used up: wait for the next one." },
  internal: { status: 500, temporary: true, meaning: "Something failed inside; the log has the details." },
  upstream_failed: { status: 502, temporary: true, meaning: "The service behind the gateway gave no usable answer." },
  upstream_unavailable: { status: 503, temporary: true, meaning: "No instance of the service behind the gateway takes requests now." },
  overloaded: { status: 503, temporary: true, meaning: "As many requests as this node takes at once are under way." },
  unavailable: { status: 503, temporary: true, meaning: "A part that this needs is down, full or leaving." },
  timeout: { status: 504, temporary: true, meaning: "It took too long." },
  upstream_timeout: { status: 504, temporary: true, meaning: "The service behind the gateway took too long." },
} as const satisfies Record<ErrorCode, { status: number; temporary: boolean; meaning: string }>;

/** Every close code: its name, whether to reconnect after it, what it means. */
export const CLOSE_CODES = {
  1000: { name: "Normal", reconnect: false, meaning: "The purpose of the connection is fulfilled." },
  1002: { name: "ProtocolError", reconnect: false, meaning: "The frames broke RFC 6455." },
  1003: { name: "Unsupported", reconnect: false, meaning: "Text where only binary is spoken, or the other way round." },
  1007: { name: "InvalidData", reconnect: false, meaning: "A text message was not UTF-8." },
  1009: { name: "TooBig", reconnect: false, meaning: "A message was over the limit of this endpoint." },
  1011: { name: "InternalError", reconnect: true, meaning: "Something failed inside; the log has the details." },
  4400: { name: "BadFrame", reconnect: false, meaning: "A frame was not of the protocol of this endpoint." },
  4401: { name: "Unauthorized", reconnect: false, meaning: "The token is missing, wrong or revoked." },
  4403: { name: "Forbidden", reconnect: false, meaning: "The role in the project does not allow this, or no longer does." },
  4404: { name: "NotFound", reconnect: false, meaning: "There is no such document, or none that you may see." },
  4410: { name: "Revoked", reconnect: false, meaning: "The login or the membership was revoked during the session." },
  4420: { name: "SentAway", reconnect: false, meaning: "A service of this deployment has disconnected the user: do not reconnect by yourself." },
  4422: { name: "HostileUpdate", reconnect: false, meaning: "An update could not be applied; the document is unharmed." },
  4500: { name: "Failed", reconnect: true, meaning: "A part that this session needs failed: reconnect." },
  4501: { name: "TokenExpired", reconnect: true, meaning: "The token expired in the session: reconnect with a fresh one." },
  4503: { name: "Draining", reconnect: true, meaning: "The node is leaving: reconnect after the delay that was told." },
  4508: { name: "Slow", reconnect: true, meaning: "The client did not read what it asked for in time." },
  4509: { name: "ConnectTimeout", reconnect: true, meaning: "No token came within the time allowed." },
  4510: { name: "IdleTimeout", reconnect: true, meaning: "Nothing, not even a pong, came for too long." },
  4513: { name: "OverCapacity", reconnect: true, meaning: "The node has no room for this session or document now." },
  4520: { name: "SentBack", reconnect: true, meaning: "A service of this deployment has disconnected the user: reconnect." },
  4529: { name: "RateLimited", reconnect: true, meaning: "Frames came faster than allowed for too long." },
} as const;

/** The types of the hub's own events: what each tells and carries. */
export const EVENT_TYPES = {
  "project.created": "A project was made by its first owner. Data: its `name`.",
  "project.deleted": "A project was deleted with all that was in it. No data.",
  "member.added": "A project has a new member. Data: the `user` and the `role`.",
  "member.changed": "A member has another role. Data: the `user`, the `role`, and the role `before`.",
  "member.removed": "A member was removed or left. Data: the `user`.",
  "document.created": "A project has a new document. Data: its `path`.",
  "document.renamed": "A document has another path. Data: the `path`, and the path `before`.",
  "document.deleted": "A document was deleted with its versions. Data: its `path`.",
  "plan.requested": "A plan was asked for; it is queued. Data: the `request`.",
  "plan.cancelled": "A plan that had not ended was cancelled. No data.",
  "plan.progress": "A worker has come further with a plan. Data: the `attempt`, and the `stage`, or a `step` that is worked out.",
  "plan.created": "A plan is made. Data: the `attempt`, its `summary`, how many `steps`, who made it (`by`).",
  "plan.failed": "A plan could not be made. Data: the `attempt` and the `reason`.",
  "ai.used": "A model was asked. Data: the `model`, `tokens_in`, `tokens_out`, whether they are `estimated`, and what it was `for`.",
  "mention.created": "A document names a member who was not named there before. Data: the `user`, the `document`, its `path`, the `line` and its text (`excerpt`).",
  "notification.created": "A user has a new notification, or one that grew. Data: the `notification`, the id that it `replaced`, how many are `unread`.",
  "mcp.called": "An agent has used a tool. Data: the `agent`, the `tool`, and the `error` if it failed.",
  "notification.read": "A user has read notifications. Data: the `id` of one, or the id `up_to` which all were, or `all`; how many are left `unread`.",
  "notification.deleted": "A user has deleted a notification. Data: its `id`; how many are left `unread`.",
} as const;

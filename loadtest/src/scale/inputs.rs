//! What the model is fed with: measured unit costs, the assumed load, the machines. Never computes.

use serde::{Deserialize, Serialize};

/// What one operation costs, measured (`loadtest units` writes it). Microseconds are of one core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Units {
    /// Memory of an idle session with one subscription to a channel of its own, KiB.
    pub(crate) session_kib: f64,
    /// A hub's share of an idle session: pings and timers, µs per second.
    pub(crate) session_us_per_s: f64,
    /// A session opened with a token that is at hand, and one subscription: hub, µs.
    pub(crate) connect_us: f64,
    /// The same: Redis, µs.
    pub(crate) connect_redis_us: f64,
    /// The same: PostgreSQL, µs.
    pub(crate) connect_postgres_us: f64,
    /// Taking a message and handing it to the broker: hub, µs.
    pub(crate) publish_us: f64,
    /// The same, to no subscriber: Redis, µs.
    pub(crate) publish_redis_us: f64,
    /// What it takes in Redis while it is in the history, bytes.
    pub(crate) publish_redis_bytes: f64,
    /// A message that arrives at a node with subscribers: hub, µs.
    pub(crate) receive_us: f64,
    /// One delivery to one session: hub, µs.
    pub(crate) deliver_us: f64,
    /// One delivery to one node: Redis, µs.
    pub(crate) deliver_redis_us: f64,
    /// One edit taken, applied, sent on and acknowledged: its hub, µs.
    pub(crate) edit_us: f64,
    /// One edit from another node applied and sent on to one client: hub, µs.
    pub(crate) edit_remote_us: f64,
    /// One edit told to a node's own ears only: Redis, µs.
    pub(crate) edit_redis_us: f64,
    /// Each other node that hears of it: Redis, µs.
    pub(crate) copy_redis_us: f64,
    /// The same: PostgreSQL, µs.
    pub(crate) copy_postgres_us: f64,
    /// One edit in the log: PostgreSQL, µs.
    pub(crate) edit_postgres_us: f64,
    /// The same: bytes of write-ahead log.
    pub(crate) edit_wal_bytes: f64,
    /// A document that is open on a node while nobody edits: hub, µs per second.
    pub(crate) document_us_per_s: f64,
    /// The same: Redis, µs per second.
    pub(crate) document_redis_us_per_s: f64,
    /// The same: PostgreSQL, µs per second.
    pub(crate) document_postgres_us_per_s: f64,
    /// Memory of an open document beside its content, one peer included, KiB.
    pub(crate) document_kib: f64,
    /// One event through outbox, relay, queue and bridge to its channel: hubs, µs.
    pub(crate) event_us: f64,
    /// The same, its id remembered: Redis, µs.
    pub(crate) event_redis_us: f64,
    /// The same: Redis, bytes.
    pub(crate) event_redis_bytes: f64,
    /// The same: RabbitMQ, µs.
    pub(crate) event_rabbit_us: f64,
    /// The same: PostgreSQL, µs.
    pub(crate) event_postgres_us: f64,
    /// The same: bytes of write-ahead log.
    pub(crate) event_wal_bytes: f64,
    /// Events per second that the bridge's one active consumer took at most.
    pub(crate) bridge_per_second: f64,
    /// Events per second that left the outbox by its one relay at most.
    pub(crate) relay_per_second: f64,
    /// A node that does nothing: Redis, µs per second.
    pub(crate) node_redis_us_per_s: f64,
    /// The same: RabbitMQ, µs per second.
    pub(crate) node_rabbit_us_per_s: f64,
    /// The same: PostgreSQL, µs per second.
    pub(crate) node_postgres_us_per_s: f64,
}

/// What the sessions do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Of a hundred sessions so many have a document open and edit it now.
    pub(crate) editing_percent: f64,
    /// Edits per second of one who edits.
    pub(crate) edits_per_second: f64,
    /// People in one document at a time.
    pub(crate) people_per_document: f64,
    /// Memory of a document's content, KiB.
    pub(crate) document_kib: f64,
    /// Messages per second that one session publishes, on average.
    pub(crate) messages_per_second: f64,
    /// Subscribers of the channel that a message goes to.
    pub(crate) subscribers: f64,
    /// How long a message is kept for clients that come back, s.
    pub(crate) history_seconds: f64,
    /// Domain events per second of one session.
    pub(crate) events_per_second: f64,
    /// Subscribers of the channel that an event goes to.
    pub(crate) event_subscribers: f64,
    /// How long the id of an event is remembered, s.
    pub(crate) dedup_seconds: f64,
    /// Over how many seconds all sessions of a node that leaves come back.
    pub(crate) reconnect_seconds: f64,
}

/// What the machines give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machines {
    /// Cores of a hub node.
    pub(crate) hub_cores: f64,
    /// Memory of a hub node for sessions and documents, GiB.
    pub(crate) hub_gib: f64,
    /// File descriptors of a hub process.
    pub(crate) hub_descriptors: f64,
    /// Memory of a Redis server for data, GiB; it has one core.
    pub(crate) redis_gib: f64,
    /// Cores of the database that queries may take.
    pub(crate) postgres_cores: f64,
    /// MiB per second that its write-ahead log may grow by.
    pub(crate) postgres_wal_mib: f64,
    /// Connections that the database takes.
    pub(crate) postgres_connections: f64,
    /// Connections of one node to it.
    pub(crate) node_connections: f64,
    /// Cores of a RabbitMQ node.
    pub(crate) rabbit_cores: f64,
    /// How full anything may be, percent of its limit.
    pub(crate) utilisation_percent: f64,
}

/// All that the model needs, as the file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    /// How and when the units were measured.
    pub(crate) measured: String,
    pub(crate) units: Units,
    pub(crate) load: Load,
    pub(crate) machines: Machines,
}

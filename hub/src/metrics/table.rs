//! Every metric: name, kind, labels, unit, meaning.
//!
//! Owns the table and nothing else; whoever counts takes the name from here. Names end in the unit, and in `_total` if they only grow.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows; a restart begins at 0.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How often a value lay at or below each of these bounds.
    Histogram(&'static [f64]),
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in.
    pub unit: Unit,
    /// Its labels; each has few values, whatever clients do.
    pub labels: &'static [&'static str],
    /// What it says.
    pub text: &'static str,
}

impl Metric {
    /// Tells the recorder its unit and meaning.
    pub(super) fn describe(&self) {
        let Self {
            name, unit, text, ..
        } = *self;
        let text = text.trim();
        match self.kind {
            Kind::Counter => describe_counter!(name, unit, text),
            Kind::Gauge => describe_gauge!(name, unit, text),
            Kind::Histogram(_) => describe_histogram!(name, unit, text),
        }
    }
}

/// Answers over HTTP, and whatever waits for another service.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const UPDATES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 2048.0, 8192.0,
];

macro_rules! metrics {
    ($($(#[doc = $text:literal])+ $ident:ident = $name:literal, $kind:expr, $unit:ident, [$($label:literal),*];)*) => {
        $(pub(crate) const $ident: &str = $name;)*

        /// All of them.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: $kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            text: concat!($($text),+),
        }),*];
    };
}

metrics! {
    /// The hub's version, as a label; always 1.
    BUILD = "tandem_build_info", Kind::Gauge, Count, ["version"];
    /// Requests answered, by the template of the route (`none` for those that no route took) and the class of the
    /// status. An upgrade to a WebSocket is one of them (1xx).
    HTTP_REQUESTS = "tandem_http_requests_total", Kind::Counter, Count, ["route", "method", "status"];
    /// How long the head of an answer took.
    HTTP_SECONDS = "tandem_http_request_seconds", Kind::Histogram(SECONDS), Seconds, ["route"];
    /// Open connections: sessions (on `/ws`, streams, polls that wait), and document sockets.
    CONNECTIONS = "tandem_connections", Kind::Gauge, Count, ["kind"];
    /// Users with at least one of them.
    USERS = "tandem_users", Kind::Gauge, Count, [];
    /// Documents in memory.
    DOCUMENTS = "tandem_documents", Kind::Gauge, Count, [];
    /// Bytes of updates that are not in the log yet, with what each costs in memory.
    UNDURABLE_BYTES = "tandem_undurable_bytes", Kind::Gauge, Bytes, [];
    /// How long a group commit of updates took, retries included.
    COMMIT_SECONDS = "tandem_commit_seconds", Kind::Histogram(SECONDS), Seconds, [];
    /// How many updates a group commit held.
    COMMIT_UPDATES = "tandem_commit_updates", Kind::Histogram(UPDATES), Count, [];
    /// Messages that clients published, by delivery class, and updates of documents (`document`).
    RECEIVED_MESSAGES = "tandem_received_messages_total", Kind::Counter, Count, ["class"];
    /// Bytes of what they carried, about: a message's value is not written down to be measured.
    RECEIVED_BYTES = "tandem_received_bytes_total", Kind::Counter, Bytes, ["class"];
    /// Messages handed to send queues, counted once per receiver; `document` has updates and awareness. What a slow
    /// receiver is replayed from history is not counted again.
    SENT_MESSAGES = "tandem_sent_messages_total", Kind::Counter, Count, ["class"];
    /// Bytes of them, as they are sent.
    SENT_BYTES = "tandem_sent_bytes_total", Kind::Counter, Bytes, ["class"];
    /// How long the broker took to accept a message.
    PUBLISH_SECONDS = "tandem_publish_seconds", Kind::Histogram(SECONDS), Seconds, [];
    /// Reads that the cache was asked for: `hit` (it had the answer, or somebody else was about to), `fill` (the
    /// store was read), `error` (the store failed). The hit rate is hits by all of them.
    CACHE_READS = "tandem_cache_reads_total", Kind::Counter, Count, ["kind", "outcome"];
    /// What writes and changes of rights made the cache forget.
    CACHE_REMOVALS = "tandem_cache_removals_total", Kind::Counter, Count, ["kind"];
    /// Requests through the gateway: `answered` (by an upstream), `refused` (by the hub), `failed`, `timeout` and
    /// `unavailable` (no upstream answered rightly, in time, or at all), `error`.
    GATEWAY_REQUESTS = "tandem_gateway_requests_total", Kind::Counter, Count, ["service", "outcome"];
    /// How long the head of an answer through the gateway took.
    GATEWAY_HEAD_SECONDS = "tandem_gateway_head_seconds", Kind::Histogram(SECONDS), Seconds, ["service", "outcome"];
    /// Requests that were sent again after a failure of an upstream.
    GATEWAY_RETRIES = "tandem_gateway_retries_total", Kind::Counter, Count, ["service"];
    /// Failures of upstreams, trials after a pause included.
    GATEWAY_FAILURES = "tandem_gateway_upstream_failures_total", Kind::Counter, Count, ["service"];
    /// How often an upstream was left alone because it failed.
    GATEWAY_BREAKERS = "tandem_gateway_breaker_opened_total", Kind::Counter, Count, ["service"];
    /// Readings of the file of services after the start: `loaded` or `refused`.
    GATEWAY_RELOADS = "tandem_gateway_reloads_total", Kind::Counter, Count, ["outcome"];
}

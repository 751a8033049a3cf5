//! Metrics: the name, unit and meaning of every one, in one table, and the recorder that keeps them.
//!
//! Owns the recorder of the process, the page `docs/metrics.md` that is made from the table, and the counts of
//! what is too frequent to look a metric up for. No metric has a label per user, document or channel: how many
//! series there are is decided by the code, never by a client. Never serves a request: `http` does.
//!
//! **What counting costs.** A message to a channel is counted once, however many receive it: the fan-out adds up
//! in a local variable and ends with two relaxed additions to [`Flow`], beside the lock and the copy of a pointer
//! that each subscriber costs. Such counts are plain atomics, copied into the recorder when somebody reads
//! `/metrics`. What is timed (a publication, a group commit) holds its histogram; only a REST request looks its
//! series up.

mod docs;
pub(crate) mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use protocol::DeliveryClass;

pub use docs::markdown;
pub use table::{ALL, Kind, Metric};

/// How often the recorder tidies up: samples of histograms wait until then.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of this process, made by whoever comes first. A process has one, however many hubs run in it.
pub fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL {
            if let Kind::Histogram(buckets) = metric.kind {
                let name = Matcher::Full(metric.name.to_owned());
                builder = builder
                    .set_buckets_for_metric(name, buckets)
                    .expect("the table has buckets for every histogram");
            }
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("this process has another recorder of metrics: /metrics stays empty");
        }
        for metric in ALL {
            metric.describe();
        }
        handle
    })
}

/// Messages and their bytes, counted where a look-up would be too dear.
#[derive(Debug, Default)]
pub struct Flow {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Flow {
    const fn new() -> Self {
        Self {
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Counts so many messages of so many bytes in all.
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Messages in one direction, by class.
#[derive(Debug)]
pub struct Traffic {
    reliable: Flow,
    latest: Flow,
    lossy: Flow,
    /// Updates of documents.
    document: Flow,
}

impl Traffic {
    const fn new() -> Self {
        Self {
            reliable: Flow::new(),
            latest: Flow::new(),
            lossy: Flow::new(),
            document: Flow::new(),
        }
    }

    /// The messages of a delivery class.
    #[must_use]
    pub fn of(&self, class: DeliveryClass) -> &Flow {
        match class {
            DeliveryClass::Reliable => &self.reliable,
            DeliveryClass::Latest => &self.latest,
            DeliveryClass::Lossy => &self.lossy,
        }
    }

    /// The updates of documents.
    #[must_use]
    pub fn document(&self) -> &Flow {
        &self.document
    }

    fn tell(&self, messages: &'static str, bytes: &'static str) {
        for (class, flow) in [
            ("reliable", &self.reliable),
            ("latest", &self.latest),
            ("lossy", &self.lossy),
            ("document", &self.document),
        ] {
            let (all, size) = (&flow.messages, &flow.bytes);
            counter!(messages, "class" => class).absolute(all.load(Ordering::Relaxed));
            counter!(bytes, "class" => class).absolute(size.load(Ordering::Relaxed));
        }
    }
}

/// What clients sent.
pub static RECEIVED: Traffic = Traffic::new();
/// What was put into send queues, once per receiver.
pub static SENT: Traffic = Traffic::new();

/// Bytes of updates that are not in the log yet, with what each costs in memory.
static UNDURABLE: AtomicI64 = AtomicI64::new(0);

/// So many bytes more (or less) are not in the log yet.
pub fn undurable_changed(bytes: i64) {
    UNDURABLE.fetch_add(bytes, Ordering::Relaxed);
}

macro_rules! held {
    ($($(#[doc = $text:literal])+ $name:ident = $metric:expr;)*) => {
        $($(#[doc = $text])+
        pub fn $name() -> &'static Histogram {
            static HELD: LazyLock<Histogram> = LazyLock::new(|| {
                // One that is taken before there is a recorder would record nothing for good.
                recorder();
                histogram!($metric)
            });
            &HELD
        })*
    };
}

held! {
    /// How long the broker takes to accept a message.
    publish_seconds = table::PUBLISH_SECONDS;
    /// How long a group commit takes, retries included.
    commit_seconds = table::COMMIT_SECONDS;
    /// How many updates a group commit holds.
    commit_updates = table::COMMIT_UPDATES;
}

/// What only the node itself can count, at the moment when the metrics are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Sessions on `/ws`.
    pub sessions: usize,
    /// Document sockets.
    pub sockets: usize,
    /// Users with at least one of them.
    pub users: usize,
    /// Documents in memory.
    pub documents: usize,
}

/// The page that Prometheus reads (text format 0.0.4).
#[must_use]
pub fn page(now: Snapshot) -> String {
    let recorder = recorder();
    let set = |name: &'static str, value: usize| gauge!(name).set(value as f64);
    gauge!(table::CONNECTIONS, "kind" => "session").set(now.sessions as f64);
    gauge!(table::CONNECTIONS, "kind" => "document").set(now.sockets as f64);
    set(table::USERS, now.users);
    set(table::DOCUMENTS, now.documents);
    gauge!(table::UNDURABLE_BYTES).set(UNDURABLE.load(Ordering::Relaxed) as f64);
    gauge!(table::BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    RECEIVED.tell(table::RECEIVED_MESSAGES, table::RECEIVED_BYTES);
    SENT.tell(table::SENT_MESSAGES, table::SENT_BYTES);
    recorder.render()
}

/// Counts a request that was answered. `route` is the template of the route, never the path.
pub fn answered(route: &str, method: &'static str, status: u16, took: Duration) {
    let class = match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    let route = route.to_owned();
    counter!(
        table::HTTP_REQUESTS,
        "route" => route.clone(), "method" => method, "status" => class
    )
    .increment(1);
    histogram!(table::HTTP_SECONDS, "route" => route).record(took.as_secs_f64());
}

/// Counts a read that the cache was asked for, and how it ended.
pub fn cache_read(kind: &'static str, outcome: &'static str) {
    counter!(table::CACHE_READS, "kind" => kind, "outcome" => outcome).increment(1);
}

/// Counts what a write made the cache forget.
pub fn cache_removal(kind: &'static str) {
    counter!(table::CACHE_REMOVALS, "kind" => kind).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_on_the_page() {
        let before = SENT.lossy.messages.load(Ordering::Relaxed);
        SENT.of(DeliveryClass::Lossy).add(3, 600);
        publish_seconds().record(0.003);
        answered("/api/x/{id}", "GET", 204, Duration::from_millis(7));
        cache_read("members", "hit");
        let page = page(Snapshot {
            sessions: 4,
            ..Snapshot::default()
        });
        let has = |line: &str| assert!(page.contains(line), "{line} is not in\n{page}");
        has("tandem_connections{kind=\"session\"} 4\n");
        has(&format!(
            "tandem_sent_messages_total{{class=\"lossy\"}} {}\n",
            before + 3
        ));
        has("tandem_publish_seconds_bucket{le=\"0.005\"}");
        has("tandem_http_requests_total{route=\"/api/x/{id}\",method=\"GET\",status=\"2xx\"} 1\n");
        has("tandem_http_request_seconds_count{route=\"/api/x/{id}\"} 1\n");
        has("tandem_cache_reads_total{kind=\"members\",outcome=\"hit\"}");
    }
}

//! The background jobs that a node runs: housekeeping, the way of events from the outbox to the bus, the consumers of
//! the bus, the index of projects' code, plans, mentions and digests.
//!
//! Owns the order in which they start and stop. Events are relayed only once every consumer's queue
//! exists, as the bus keeps nothing for those that come later; consumers stop after the relay. Which
//! node does what is settled by leases and by the bus: every node runs all of them. What a job does
//! is `workers`'.

use std::sync::Arc;
use std::time::Duration;

use backplane::bus::{Bus, ConsumerSpec, Handler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workers::context::{self, Indexer, Repository};
use workers::{
    Bridge, Digest, EventLog, Housekeeping, Mentions, Notifier, Nudge, PlanRequested, Planning,
    PlanningOptions, Relay, UsageTracking, digest, mentions, relay,
};

use crate::backends::Backends;
use crate::config::Settings;

/// How often the store is cleaned.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// How long ended logins stay in the store.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the relay's lease lasts where nobody else can open the store: the next start frees it, and
/// each renewal is a write to the disk.
const LEASE_ALONE: Duration = Duration::from_secs(3600);

/// The running jobs of a node.
pub struct Jobs {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Jobs {
    /// Starts all of them.
    #[must_use]
    pub fn start(backends: &Backends, settings: &Settings) -> Self {
        let jobs = Self {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let housekeeping = Housekeeping {
            store: Arc::clone(&backends.store),
            every: HOUSEKEEPING,
            keep_ended: KEEP_ENDED,
            keep_notifications: settings.notifications.keep,
            keep_auto_versions: settings.collab.versions_kept,
            keep_events: settings.events.keep,
        };
        jobs.tasks.spawn(housekeeping.run(jobs.stop.clone()));
        let relay = Relay {
            store: Arc::clone(&backends.store),
            bus: Arc::clone(&backends.bus),
            owner: backends.mesh.node().to_string(),
            every: relay::EVERY,
            ttl: if backends.lock.is_some() {
                LEASE_ALONE
            } else {
                relay::TTL
            },
            nudge: None,
        };
        if settings.context.index {
            let indexer = indexer(backends, settings);
            jobs.tasks.spawn(indexer.run(jobs.stop.clone()));
        }
        let nudge = Arc::new(Nudge::default());
        if settings.plans.workers > 0 {
            let planning = planning(backends, settings, &nudge);
            jobs.tasks.spawn(planning.run(jobs.stop.clone()));
        }
        jobs.tasks.spawn(mentions(backends).run(jobs.stop.clone()));
        let digest = Digest {
            store: Arc::clone(&backends.store),
            every: digest::EVERY,
        };
        jobs.tasks.spawn(digest.run(jobs.stop.clone()));
        // Ends the consumers, also if the relay should panic.
        let after = CancellationToken::new();
        let mut names = Vec::new();
        for (spec, handler) in consumers(backends, settings, nudge) {
            names.push(spec.name.clone());
            let (bus, after) = (Arc::clone(&backends.bus), after.clone());
            let consumer = async move { bus.consume(spec, handler, after).await };
            jobs.tasks.spawn(consumer);
        }
        let (bus, stop) = (Arc::clone(&backends.bus), jobs.stop.clone());
        jobs.tasks.spawn(async move {
            let _after = after.drop_guard();
            tokio::select! {
                () = stop.cancelled() => return,
                () = declared(&*bus, &names) => {}
            }
            relay.run(stop).await;
        });
        jobs
    }

    /// Tells them to stop; what they have taken and not done is taken up again, here or elsewhere.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Resolves when all have ended.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

/// What keeps the index of projects' code.
fn indexer(backends: &Backends, settings: &Settings) -> Indexer {
    let repositories = settings.context.repositories.iter();
    let repositories = repositories.map(|one| Repository {
        project: one.project.clone(),
        folder: one.folder.clone(),
    });
    Indexer {
        store: Arc::clone(&backends.store),
        owner: backends.mesh.node().to_string(),
        every: context::index::EVERY,
        file_bytes: settings.context.file_bytes,
        repositories: repositories.collect(),
        interval: settings.context.interval,
        embedder: backends.models.embedder.clone(),
    }
}

/// What makes plans, and is told by `nudge` that it is worth to look for some.
fn planning(backends: &Backends, settings: &Settings, nudge: &Arc<Nudge>) -> Planning {
    Planning {
        store: Arc::clone(&backends.store),
        broker: backends.carrier.broker(),
        model: backends.models.writer.clone(),
        search: backends.search(),
        owner: backends.mesh.node().to_string(),
        options: PlanningOptions {
            workers: settings.plans.workers,
            timeout: settings.plans.timeout,
            tokens: settings.plans.tokens,
            lease: settings.plans.lease,
            answer_tokens: settings.ai.answer_tokens,
        },
        nudge: Arc::clone(nudge),
    }
}

/// What finds who is named in documents.
fn mentions(backends: &Backends) -> Mentions {
    Mentions {
        store: Arc::clone(&backends.store),
        owner: backends.mesh.node().to_string(),
        every: mentions::EVERY,
        rest: mentions::REST,
        ttl: match backends.lock {
            Some(_) => LEASE_ALONE,
            None => mentions::TTL,
        },
    }
}

/// Who consumes what.
fn consumers(
    backends: &Backends,
    settings: &Settings,
    nudge: Arc<Nudge>,
) -> Vec<(ConsumerSpec, Arc<dyn Handler>)> {
    let (prefetch, attempts) = (settings.amqp.prefetch, settings.amqp.attempts);
    let log = EventLog {
        store: Arc::clone(&backends.store),
    };
    let usage = UsageTracking {
        store: Arc::clone(&backends.store),
    };
    let bridge = Bridge {
        broker: backends.carrier.broker(),
        dedup: settings.bridge.dedup_window,
    };
    let types = settings.bridge.types.iter();
    let types = types.map(|kind| kind.as_str().to_owned()).collect();
    let notifier = Notifier {
        store: Arc::clone(&backends.store),
        digest: settings.notifications.digest,
    };
    let mut all: Vec<(ConsumerSpec, Arc<dyn Handler>)> = vec![
        (EventLog::spec(prefetch, attempts), Arc::new(log)),
        (UsageTracking::spec(prefetch, attempts), Arc::new(usage)),
        (Notifier::spec(prefetch, attempts), Arc::new(notifier)),
        (Bridge::spec(types, prefetch, attempts), Arc::new(bridge)),
    ];
    // A node that makes no plans would take the word from one that does.
    if settings.plans.workers > 0 {
        let spec = PlanRequested::spec(prefetch, attempts);
        all.push((spec, Arc::new(PlanRequested { nudge })));
    }
    all
}

/// Waits until every consumer's queue exists, however long the bus is away.
async fn declared(bus: &dyn Bus, names: &[String]) {
    for name in names {
        // Each try waits some seconds by itself.
        while let Err(error) = bus.declared(name).await {
            tracing::debug!(%error, name, "a consumer's queue is not there yet");
        }
    }
}

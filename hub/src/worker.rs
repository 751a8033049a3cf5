//! A node without clients: the background jobs alone, beside hubs on the same services.
//!
//! Owns its start and its stop. What it runs is the same as on every hub (`jobs`): plans are taken from one queue by
//! whoever is free, so that more of these make more plans at once. Opens no port and serves nobody.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backends::Backends;
use crate::channels::fanout::Fanout;
use crate::config::Settings;
use crate::guard::Guard;
use crate::health::Health;
use crate::jobs::Jobs;
use crate::metrics;
use crate::node::{StartError, host};

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its settings make it a node of its own.
    #[error(
        "a worker needs the services that it shares with hubs: {0} is not set. A hub with nothing configured makes its plans itself"
    )]
    Alone(&'static str),
    /// As a hub.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running worker.
pub struct Worker {
    backends: Backends,
    guard: Arc<Guard>,
    settings: Arc<Settings>,
    jobs: Jobs,
    stop: CancellationToken,
    tasks: TaskTracker,
    _lock: Option<File>,
}

impl Worker {
    /// Opens the services and starts the jobs. Waits some seconds for a node that was killed and is in the way.
    ///
    /// # Errors
    /// [`WorkerError`], in words for whoever runs it.
    pub async fn start(settings: Settings) -> Result<Self, WorkerError> {
        if settings.database.url.is_none() {
            return Err(WorkerError::Alone("database.url"));
        }
        if settings.redis.url.is_empty() {
            return Err(WorkerError::Alone("redis.url"));
        }
        metrics::recorder();
        let settings = Arc::new(settings);
        // Nobody subscribes here: it hears of no channel.
        let fanout = Fanout::new(settings.channels.presence_interval);
        let opened = Backends::open(&settings, fanout.deliverer()).await;
        let mut backends = opened.map_err(StartError::from)?;
        let mut guard = Guard::new(
            Arc::clone(&backends.store),
            backends.link.clone(),
            backends.mesh.node(),
            format!("{} (worker)", host()),
            false,
        );
        guard.enter().await.map_err(StartError::from)?;
        let guard = Arc::new(guard);
        let lock = backends.lock.take();
        let jobs = Jobs::start(&backends, &settings);
        let worker = Self {
            guard,
            settings,
            jobs,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _lock: lock,
            backends,
        };
        let probe = worker.backends.carrier.clone();
        let health = Health::new(
            Arc::clone(&worker.backends.store),
            Arc::clone(&worker.backends.mesh),
            Arc::clone(&worker.backends.bus),
            Box::new(move || probe.is_up()),
        );
        let keep = Arc::clone(&worker.guard).keep(Arc::new(health), worker.stop.clone());
        worker.tasks.spawn(keep);
        Ok(worker)
    }

    /// Resolves with the reason when another node has taken this one's place: it must be shut down then.
    pub fn expelled(&self) -> impl Future<Output = String> + Send + use<> {
        self.guard.expelled()
    }

    /// Stops within `shutdown.timeout`; `false` if something was not done by then. What it had taken is taken up by
    /// another.
    pub async fn shutdown(self) -> bool {
        let until = Instant::now() + self.settings.shutdown.timeout;
        let left = || until.saturating_duration_since(Instant::now());
        self.jobs.stop();
        let jobs = tokio::time::timeout(left() / 2, self.jobs.ended()).await;
        self.stop.cancel();
        self.tasks.close();
        let ended = async { tokio::join!(self.tasks.wait(), self.backends.carrier.goodbye()) };
        let ended = tokio::time::timeout(left(), ended).await;
        self.guard.depart().await;
        let closing = left().max(Duration::from_secs(1));
        let closed = tokio::time::timeout(closing, self.backends.store.close()).await;
        [jobs.is_ok(), ended.is_ok(), closed.is_ok()] == [true; 3]
    }
}

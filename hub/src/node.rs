//! The node as a value: built from settings, bound, shut down.
//!
//! [`Hub::bind`] returns when it listens, so that a test can bind port 0 and ask where. Shutting down
//! goes from the outside in: readiness fails, jobs end, sessions are sent away each with its own delay,
//! what they left is made durable, the other nodes are told, the store is closed; all of it within a
//! bound.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::CloseCode;
use tokio::net::TcpListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::auth::watch::Watch;
use crate::auth::{Auth, News, RightsChange};
use crate::backends::{BackendError, Backends, Carrier};
use crate::cached::{LastSeen, Reads};
use crate::channels::Channels;
use crate::channels::fanout::Fanout;
use crate::collab::{Documents, yws};
use crate::config::Settings;
use crate::connections::orders::{Ear, Orders};
use crate::connections::{self, Connections};
use crate::demo;
use crate::gateway::Gateway;
use crate::guard::{Guard, GuardError};
use crate::health::Health;
use crate::jobs::Jobs;
use crate::limits::{MemoryBudget, Rates};
use crate::listener::{self, TlsError};
use crate::metrics;
use crate::session::Services;

/// How often what has run out is swept.
const SWEEP: Duration = Duration::from_secs(60);
/// How long jobs may take to end.
const JOBS: Duration = Duration::from_secs(3);

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A service can't be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Another node is in the way.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The signing keys can't be read or made.
    #[error("the signing keys can't be used: {0}")]
    Keys(String),
    /// The address can't be listened on.
    #[error("{address} can't be listened on: {reason}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The services' file is wrong.
    #[error("the gateway's services can't be used:\n  {0}")]
    Gateway(String),
    /// The demo could not be set up.
    #[error("the demo project can't be made: {0}")]
    Demo(String),
}

/// A running hub.
pub struct Hub {
    app: Arc<App>,
    address: SocketAddr,
    tls: bool,
    guard: Arc<Guard>,
    carrier: Carrier,
    jobs: Jobs,
    /// Ends listening.
    stop: CancellationToken,
    /// Ends what sessions and documents need as long as there are any.
    last: CancellationToken,
    tasks: TaskTracker,
    /// Keeps other hubs off the data directory.
    _lock: Option<File>,
}

impl Hub {
    /// Opens the services, binds the address, and serves from then on. Waits some seconds for a node that
    /// was killed and is in the way.
    ///
    /// # Errors
    /// [`StartError`], in words for whoever runs it.
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        // Before anything is counted: what comes earlier is counted nowhere.
        metrics::recorder();
        let settings = Arc::new(settings);
        let tls = listener::tls(&settings)?;
        let fanout = Fanout::new(settings.channels.presence_interval);
        let backends = Backends::open(&settings, fanout.deliverer()).await?;
        let bind_error = |reason| StartError::Bind {
            address: settings.bind,
            reason,
        };
        let listening = TcpListener::bind(settings.bind).await.map_err(bind_error)?;
        let address = listening.local_addr().map_err(bind_error)?;
        let guard = admitted(&backends, address).await?;
        let auth = open_auth(&settings, &backends).await?;
        // Before anyone can authenticate, so that no change of rights is missed.
        let changes = auth.changes();
        let watch = Watch::start(Arc::clone(&auth)).await;
        let watch = watch.map_err(|error| StartError::Keys(error.to_string()))?;
        let gateway = Gateway::open(&settings).map_err(StartError::Gateway)?;
        let app = build(&settings, &backends, fanout, &auth, gateway);
        if settings.demo_enabled() {
            demo::seed(&app)
                .await
                .map_err(|error| StartError::Demo(error.detail.into_owned()))?;
        }
        let hub = Self {
            address,
            tls: tls.is_some(),
            guard,
            carrier: backends.carrier.clone(),
            jobs: Jobs::start(&backends, &settings),
            stop: CancellationToken::new(),
            last: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _lock: backends.lock,
            app,
        };
        let ear = hub.app.orders.listen().await;
        hub.start_tasks(changes, watch, ear);
        let router = crate::http::router(&hub.app);
        let serve = listener::serve(
            listening,
            tls,
            router,
            Arc::clone(&settings),
            hub.stop.clone(),
        );
        hub.tasks.spawn(serve);
        Ok(hub)
    }

    fn start_tasks(&self, changes: Receiver<News>, watch: Watch, ear: Ear) {
        let (app, stop) = (Arc::clone(&self.app), self.last.clone());
        self.tasks
            .spawn(watch_rights(Arc::clone(&app), changes, stop.clone()));
        // It ends with the last sender, or with the node.
        let (reads, heard) = (Arc::clone(&app.reads), app.auth.changes());
        let over = stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = reads.follow(heard) => {}
            }
        });
        self.tasks.spawn(tend_metrics(stop.clone()));
        self.tasks.spawn(watch.run(stop.clone()));
        self.tasks
            .spawn(Arc::clone(&app.orders).obey(ear, stop.clone()));
        self.tasks
            .spawn(Arc::clone(&app.gateway).watch(stop.clone()));
        let accounts = connections::keep_accounts(
            Arc::clone(&app.connections),
            Arc::clone(&app.store),
            app.settings.usage.flush,
            stop.clone(),
        );
        self.tasks.spawn(accounts);
        let keys = Arc::clone(&app.auth).tend_keys(stop.clone());
        self.tasks.spawn(keys);
        let issuers = Arc::clone(&app.auth).tend_issuers(stop.clone());
        self.tasks.spawn(issuers);
        let keep = Arc::clone(&self.guard).keep(Arc::clone(&app.health), stop.clone());
        self.tasks.spawn(keep);
        let carrier = self.carrier.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => {}
                }
                carrier.sweep();
                app.auth.sweep();
                app.seen.sweep();
            }
        });
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What it is made of.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Resolves with the reason when another node has taken this one's place on the database: it must
    /// be shut down then, as clients of the two would not hear each other.
    pub fn expelled(&self) -> impl Future<Output = String> + Send + use<> {
        self.guard.expelled()
    }

    /// Leaves politely, within `shutdown.timeout`; `false` if something was not done by then.
    pub async fn shutdown(self) -> bool {
        let settings = Arc::clone(&self.app.settings);
        let until = Instant::now() + settings.shutdown.timeout;
        let left = || until.saturating_duration_since(Instant::now());
        self.app.health.leave();
        // First what makes work for the rest; what it has taken is taken up by another node.
        self.jobs.stop();
        self.stop.cancel();
        self.app.gateway.drain();
        self.app
            .connections
            .drain(settings.shutdown.reconnect_spread);
        // Clients get half of the time to take their leave; the rest is for what they leave behind.
        let gone = async {
            while !self.app.connections.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (gone, jobs) = tokio::join!(
            tokio::time::timeout(left() / 2, gone),
            tokio::time::timeout(JOBS.min(left() / 2), self.jobs.ended()),
        );
        if jobs.is_err() {
            // A consumer that waits for a service that is down: the event is kept where it came from.
            tracing::info!("jobs were still under way; what they held is taken up again");
        }
        let durable = self.app.documents.flush(left()).await;
        if !durable {
            tracing::error!("not everything became durable in time; none of that was acknowledged");
        }
        self.last.cancel();
        self.tasks.close();
        let ended = async { tokio::join!(self.tasks.wait(), self.carrier.goodbye()) };
        let ended = tokio::time::timeout(left(), ended).await;
        self.guard.depart().await;
        self.app.documents.abort_writer();
        let closed =
            tokio::time::timeout(left().max(Duration::from_secs(1)), self.app.store.close());
        let closed = closed.await;
        durable && [gone.is_ok(), ended.is_ok(), closed.is_ok()] == [true; 3]
    }
}

/// Makes the node known to those on its store.
async fn admitted(backends: &Backends, address: SocketAddr) -> Result<Arc<Guard>, StartError> {
    let mut guard = Guard::new(
        Arc::clone(&backends.store),
        backends.link.clone(),
        backends.mesh.node(),
        reached_at(address),
        backends.lock.is_some(),
    );
    guard.enter().await?;
    Ok(Arc::new(guard))
}

/// An address for people: that of every interface says nothing of the machine.
fn reached_at(address: SocketAddr) -> String {
    match host() {
        name if address.ip().is_unspecified() && !name.is_empty() => {
            format!("{name}:{}", address.port())
        }
        _ => address.to_string(),
    }
}

/// The machine's name; empty if it has none.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

async fn open_auth(settings: &Settings, backends: &Backends) -> Result<Arc<Auth>, StartError> {
    let auth = Auth::open(
        &settings.auth,
        &settings.data_dir,
        Arc::clone(&backends.store),
        Arc::clone(&backends.mesh),
        Arc::clone(&backends.limiter),
    );
    match auth.await {
        Ok(auth) => Ok(Arc::new(auth)),
        Err(error) => Err(StartError::Keys(error.to_string())),
    }
}

fn build(
    settings: &Arc<Settings>,
    backends: &Backends,
    fanout: Arc<Fanout>,
    auth: &Arc<Auth>,
    gateway: Gateway,
) -> Arc<App> {
    let (store, carrier) = (&backends.store, &backends.carrier);
    let channels = Channels::new(
        carrier.broker(),
        fanout,
        Arc::clone(auth),
        settings.channels.presence_members,
    );
    let memory = Arc::new(MemoryBudget::new(settings.limits.memory_bytes));
    let documents = Arc::new(Documents::new(
        Arc::clone(store),
        Arc::clone(auth),
        Arc::clone(settings),
        Arc::clone(&memory),
        Arc::clone(&backends.mesh),
    ));
    let connections = Connections::new(
        settings.limits.sessions,
        settings.limits.sessions_per_user,
        memory,
    );
    let orders = Orders::new(
        Arc::clone(&connections),
        Arc::clone(&backends.mesh),
        Arc::clone(store),
    );
    let seen = LastSeen::new(Arc::clone(&backends.cache), settings.auth.refresh_ttl);
    let node = short(backends.mesh.node());
    let sessions = Arc::new(Services {
        settings: Arc::clone(settings),
        auth: Arc::clone(auth),
        channels: Arc::new(channels),
        documents: Arc::clone(&documents),
        connections: Arc::clone(&connections),
        seen: Arc::clone(&seen),
        node: node.clone(),
    });
    let yjs = Arc::new(yws::Services {
        auth: Arc::clone(auth),
        documents: Arc::clone(&documents),
    });
    let probe = carrier.clone();
    let health = Health::new(
        Arc::clone(store),
        Arc::clone(&backends.mesh),
        Arc::clone(&backends.bus),
        Box::new(move || probe.is_up()),
    );
    Arc::new(App {
        settings: Arc::clone(settings),
        store: Arc::clone(store),
        reads: Reads::new(
            Arc::clone(store),
            Arc::clone(&backends.cache),
            &settings.cache,
        ),
        seen,
        auth: Arc::clone(auth),
        rates: Rates::new(Arc::clone(&backends.limiter), &settings.rate),
        node,
        documents,
        connections,
        orders,
        sessions,
        yjs,
        gateway: Arc::new(gateway),
        search: backends.search(),
        health: Arc::new(health),
    })
}

/// What sessions are named after: the end of the node's id, which is random.
fn short(node: &str) -> String {
    let from = node.len().saturating_sub(8);
    node.get(from..).unwrap_or(node).to_owned()
}

/// Keeps the samples of histograms from piling up while nobody reads them.
async fn tend_metrics(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(metrics::UPKEEP) => metrics::recorder().run_upkeep(),
        }
    }
}

/// Passes changes of rights on to whoever is connected.
async fn watch_rights(app: Arc<App>, mut changes: Receiver<News>, stop: CancellationToken) {
    loop {
        let news = tokio::select! {
            () = stop.cancelled() => return,
            news = changes.recv() => news,
        };
        match news {
            Ok(news) => {
                if let Some(RightsChange::Document { id, .. }) = &news.change {
                    app.documents.close(
                        id,
                        CloseCode::NotFound,
                        "not_found: the document was deleted",
                    );
                }
                app.connections.rights_changed(&news);
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "changes of rights were missed: everyone checks again"
                );
                app.connections.recheck_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

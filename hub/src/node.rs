//! The node as a value: built from settings, bound, shut down.
//!
//! [`Hub::bind`] returns when it listens, so that a test can bind port 0 and ask where. Shutting down
//! goes from the outside in: readiness fails, sessions are sent away each with its own delay, what
//! they left is made durable, the store is closed; all of it within a bound.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backplane::broker::local::{LocalBroker, Retention};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Store, StoreError};
use protocol::CloseCode;
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workers::Housekeeping;

use crate::app::App;
use crate::auth::{Auth, RightsChange};
use crate::channels::Channels;
use crate::channels::fanout::Fanout;
use crate::collab::{Documents, yws};
use crate::config::Settings;
use crate::connections::Connections;
use crate::demo;
use crate::limits::MemoryBudget;
use crate::listener::{self, TlsError};
use crate::session::Services;

/// How often what has run out is swept.
const SWEEP: Duration = Duration::from_secs(60);
/// How often the store is cleaned.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// How long ended logins stay in the store.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error("the data directory {path} can't be used: {reason}")]
    DataDir {
        /// Which.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// Another hub runs on the data directory.
    #[error("another hub is running on the data directory {path}")]
    InUse {
        /// Which.
        path: String,
    },
    /// The database can't be opened.
    #[error("the database can't be opened: {0}")]
    Store(#[from] StoreError),
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
    /// The demo could not be set up.
    #[error("the demo project can't be made: {0}")]
    Demo(String),
}

/// A running hub.
pub struct Hub {
    app: Arc<App>,
    address: SocketAddr,
    tls: bool,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Keeps other hubs off the data directory.
    _lock: File,
}

/// Opens the store in the data directory, bringing its schema up to date. While the lock is held no
/// other hub can: two of them would each have its own live copy of a document.
///
/// # Errors
/// [`StartError::DataDir`], [`StartError::InUse`] or [`StartError::Store`].
pub async fn open_store(settings: &Settings) -> Result<(Arc<dyn Store>, File), StartError> {
    let folder = &settings.data_dir;
    let path = folder.display().to_string();
    let locked = std::fs::create_dir_all(folder)
        .and_then(|()| File::create(folder.join("lock")))
        .map(|file| file.try_lock().map(|()| file));
    let lock = match locked {
        Ok(Ok(lock)) => lock,
        Ok(Err(TryLockError::WouldBlock)) => return Err(StartError::InUse { path }),
        Ok(Err(TryLockError::Error(reason))) | Err(reason) => {
            return Err(StartError::DataDir { path, reason });
        }
    };
    let store = SqliteStore::open(&folder.join("tandem.db")).await?;
    Ok((Arc::new(store), lock))
}

impl Hub {
    /// Opens the store, binds the address, and serves from then on.
    ///
    /// # Errors
    /// [`StartError`], in words for whoever runs it.
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        let settings = Arc::new(settings);
        let tls = listener::tls(&settings)?;
        let (store, lock) = open_store(&settings).await?;
        let auth = Auth::open(&settings.auth, &settings.data_dir, Arc::clone(&store));
        let auth = Arc::new(auth.map_err(|error| StartError::Keys(error.to_string()))?);
        // Before anyone can authenticate, so that no change of rights is missed.
        let changes = auth.changes();
        let (app, broker) = build(&settings, &store, &auth);
        if settings.demo_enabled(true) {
            demo::seed(&app)
                .await
                .map_err(|error| StartError::Demo(error.detail.into_owned()))?;
        }
        let bind_error = |reason| StartError::Bind {
            address: settings.bind,
            reason,
        };
        let listening = TcpListener::bind(settings.bind).await.map_err(bind_error)?;
        let address = listening.local_addr().map_err(bind_error)?;
        let hub = Self {
            address,
            tls: tls.is_some(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _lock: lock,
            app,
        };
        hub.start_tasks(changes, broker);
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

    fn start_tasks(
        &self,
        changes: tokio::sync::broadcast::Receiver<RightsChange>,
        broker: Arc<LocalBroker>,
    ) {
        let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
        self.tasks
            .spawn(watch_rights(Arc::clone(&app), changes, stop.clone()));
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => {}
                }
                broker.sweep();
                app.auth.sweep();
            }
        });
        let housekeeping = Housekeeping {
            store: Arc::clone(&self.app.store),
            every: HOUSEKEEPING,
            keep_ended: KEEP_ENDED,
            keep_auto_versions: self.app.settings.collab.versions_kept,
        };
        self.tasks.spawn(housekeeping.run(self.stop.clone()));
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

    /// Leaves politely, within `shutdown.timeout`; `false` if something was not done by then.
    pub async fn shutdown(self) -> bool {
        let settings = Arc::clone(&self.app.settings);
        let until = Instant::now() + settings.shutdown.timeout;
        let left = || until.saturating_duration_since(Instant::now());
        self.app.draining.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.app
            .connections
            .drain(settings.shutdown.reconnect_spread);
        // Clients get half of the time to take their leave; the rest is for what they leave behind.
        let gone = async {
            while !self.app.connections.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(left() / 2, gone).await.is_ok();
        let durable = self.app.documents.flush(left()).await;
        if !durable {
            tracing::error!("not everything became durable in time; none of that was acknowledged");
        }
        self.tasks.close();
        let ended = tokio::time::timeout(left(), self.tasks.wait())
            .await
            .is_ok();
        self.app.documents.abort_writer();
        let closed =
            tokio::time::timeout(left().max(Duration::from_secs(1)), self.app.store.close());
        closed.await.is_ok() && gone && durable && ended
    }
}

fn build(
    settings: &Arc<Settings>,
    store: &Arc<dyn Store>,
    auth: &Arc<Auth>,
) -> (Arc<App>, Arc<LocalBroker>) {
    let limits = &settings.channels;
    let fanout = Fanout::new(limits.presence_interval);
    let retention = Retention {
        messages: limits.history_messages,
        bytes: limits.history_bytes,
        total_bytes: limits.total_bytes,
        age: limits.history_age,
        dedup: limits.dedup_window,
    };
    let broker = Arc::new(LocalBroker::new(fanout.deliverer(), retention));
    let channels = Channels::new(
        Arc::clone(&broker) as Arc<dyn backplane::broker::Broker>,
        fanout,
        Arc::clone(auth),
        limits.presence_members,
    );
    let memory = Arc::new(MemoryBudget::new(settings.limits.memory_bytes));
    let documents = Arc::new(Documents::new(
        Arc::clone(store),
        Arc::clone(auth),
        Arc::clone(settings),
        Arc::clone(&memory),
    ));
    let connections = Connections::new(
        settings.limits.sessions,
        settings.limits.sessions_per_user,
        memory,
    );
    let node = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let sessions = Arc::new(Services {
        settings: Arc::clone(settings),
        auth: Arc::clone(auth),
        channels: Arc::new(channels),
        documents: Arc::clone(&documents),
        connections: Arc::clone(&connections),
        node: node.clone(),
    });
    let yjs = Arc::new(yws::Services {
        auth: Arc::clone(auth),
        documents: Arc::clone(&documents),
    });
    let app = App {
        settings: Arc::clone(settings),
        store: Arc::clone(store),
        auth: Arc::clone(auth),
        node,
        documents,
        connections,
        sessions,
        yjs,
        draining: AtomicBool::new(false),
    };
    (Arc::new(app), broker)
}

/// Passes changes of rights on to whoever is connected.
async fn watch_rights(
    app: Arc<App>,
    mut changes: tokio::sync::broadcast::Receiver<RightsChange>,
    stop: CancellationToken,
) {
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(change) => {
                if let RightsChange::Document { id, .. } = &change {
                    app.documents.close(
                        id,
                        CloseCode::NotFound,
                        "not_found: the document was deleted",
                    );
                }
                app.connections.rights_changed(&change);
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

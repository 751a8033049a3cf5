//! The services that a node stands on, opened as the settings name them: store, cache, broker, mesh, bus, limiter,
//! models.
//!
//! Owns the choice between the embedded and the external one of each, and the lock on the data
//! directory. What each does is `backplane`'s. Never falls back to an embedded one when an external
//! one can't be reached.

mod models;

use std::fs::{File, TryLockError};
use std::sync::Arc;

use backplane::broker::local::{LocalBroker, Retention};
use backplane::broker::redis::RedisBroker;
use backplane::broker::{Broker, Deliver};
use backplane::bus::local::LocalBus;
use backplane::bus::rabbit::{RabbitBus, RabbitOptions};
use backplane::bus::{Bus, BusError};
use backplane::cache::Cache;
use backplane::cache::local::LocalCache;
use backplane::cache::redis::RedisCache;
use backplane::limiter::Limiter;
use backplane::limiter::local::LocalLimiter;
use backplane::limiter::redis::RedisLimiter;
use backplane::mesh::Mesh;
use backplane::mesh::local::LocalMesh;
use backplane::mesh::redis::RedisMesh;
use backplane::redis::{Link, LinkError, LinkOptions};
use backplane::store::postgres::{PostgresOptions, PostgresStore};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Store, StoreError};
use workers::ai::AiError;
use workers::context::{CodeSearch, Search};

pub use models::Models;

use crate::cached::Watched;
use crate::config::Settings;

/// Users, addresses and accounts whose rates are kept inside the process: at most about 30 MiB.
const BUCKETS: usize = 200_000;

/// Why a service can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
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
    /// RabbitMQ can't be used.
    #[error("RabbitMQ can't be used: {0}")]
    Bus(#[from] BusError),
    /// The file with RabbitMQ's authority can't be read.
    #[error("the authority's file {path} can't be read: {reason}")]
    Authority {
        /// Which.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// Redis can't be used.
    #[error("Redis can't be used: {0}")]
    Redis(#[from] LinkError),
    /// A model's provider can't be used as it is set.
    #[error("ai or embeddings can't be used as they are set: {0}")]
    Model(#[from] AiError),
}

/// What carries channels.
#[derive(Clone)]
pub enum Carrier {
    /// Inside this process.
    Local(Arc<LocalBroker>),
    /// Between nodes.
    Redis(Arc<RedisBroker>),
}

impl Carrier {
    /// As the hub uses it.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        match self {
            Self::Local(broker) => Arc::clone(broker) as Arc<dyn Broker>,
            Self::Redis(broker) => Arc::clone(broker) as Arc<dyn Broker>,
        }
    }

    /// Whether it takes messages now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Redis(broker) => broker.is_connected(),
        }
    }

    /// Drops what has run out; Redis does that by itself.
    pub fn sweep(&self) {
        if let Self::Local(broker) = self {
            broker.sweep();
        }
    }

    /// The node goes: its members leave their channels.
    pub async fn goodbye(&self) {
        if let Self::Redis(broker) = self {
            broker.goodbye().await;
        }
    }
}

/// What a node stands on.
pub struct Backends {
    /// The store; a write through it is forgotten by the cache.
    pub store: Arc<dyn Store>,
    /// What is read often: in Redis if the node shares one, else in this process.
    pub cache: Arc<dyn Cache>,
    /// Channels.
    pub carrier: Carrier,
    /// Other nodes; its name of this one is the node's id everywhere.
    pub mesh: Arc<dyn Mesh>,
    /// Domain events.
    pub bus: Arc<dyn Bus>,
    /// Rates of users, addresses and accounts.
    pub limiter: Arc<dyn Limiter>,
    /// Who writes plans and makes vectors.
    pub models: Models,
    /// The way to Redis, if the node shares one.
    pub link: Option<Arc<Link>>,
    /// Keeps other hubs off the data directory, if the store lies there.
    pub lock: Option<File>,
}

impl Backends {
    /// Opens all of them. What a channel hears goes to `deliver`.
    ///
    /// # Errors
    /// [`BackendError`], in words for whoever runs it.
    pub async fn open(
        settings: &Settings,
        deliver: Arc<dyn Deliver>,
    ) -> Result<Self, BackendError> {
        let models = Models::open(settings)?;
        let (store, lock) = open_store(settings).await?;
        let cache = open_cache(settings).await?;
        let store = Watched::over(store, Arc::clone(&cache));
        let bus = open_bus(settings, &store).await?;
        let retention = retention(settings);
        if settings.redis.url.is_empty() {
            return Ok(Self {
                store,
                cache,
                carrier: Carrier::Local(Arc::new(LocalBroker::new(deliver, retention))),
                mesh: Arc::new(LocalMesh::alone()),
                bus,
                limiter: Arc::new(LocalLimiter::new(BUCKETS)),
                models,
                link: None,
                lock,
            });
        }
        let node: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        let mesh = RedisMesh::connect(link_options(settings), Arc::clone(&node)).await?;
        let link = Some(Arc::clone(mesh.link()));
        let broker = RedisBroker::connect(link_options(settings), node, deliver, retention).await?;
        let limiter = RedisLimiter::connect(link_options(settings), settings.rate.timeout).await?;
        Ok(Self {
            store,
            cache,
            carrier: Carrier::Redis(broker),
            mesh: Arc::new(mesh),
            bus,
            limiter: Arc::new(limiter),
            models,
            link,
            lock,
        })
    }
}

impl Backends {
    /// The search over projects' code.
    #[must_use]
    pub fn search(&self) -> Arc<dyn Search> {
        Arc::new(CodeSearch {
            store: Arc::clone(&self.store),
            embedder: self.models.embedder.clone(),
        })
    }
}

/// Opens the store, bringing its schema up to date. One in the data directory comes with a lock: while
/// that is held no other hub can open it, as two of them would each have their own live copy of a document.
///
/// # Errors
/// [`BackendError`], in words for whoever runs it.
pub async fn open_store(
    settings: &Settings,
) -> Result<(Arc<dyn Store>, Option<File>), BackendError> {
    if let Some(url) = &settings.database.url {
        let database = &settings.database;
        let store = PostgresStore::connect(PostgresOptions {
            url: url.expose().to_owned(),
            replica_url: database
                .replica_url
                .as_ref()
                .map(|url| url.expose().to_owned()),
            connections: database.connections,
            acquire_timeout: database.acquire_timeout,
            statement_timeout: database.statement_timeout,
            lock_timeout: database.lock_timeout,
            application_name: "tandem".to_owned(),
        });
        return Ok((Arc::new(store.await?), None));
    }
    let folder = &settings.data_dir;
    let path = folder.display().to_string();
    let locked = std::fs::create_dir_all(folder)
        .and_then(|()| File::create(folder.join("lock")))
        .map(|file| file.try_lock().map(|()| file));
    let lock = match locked {
        Ok(Ok(lock)) => lock,
        Ok(Err(TryLockError::WouldBlock)) => return Err(BackendError::InUse { path }),
        Ok(Err(TryLockError::Error(reason))) | Err(reason) => {
            return Err(BackendError::DataDir { path, reason });
        }
    };
    let store = SqliteStore::open(&folder.join("tandem.db")).await?;
    Ok((Arc::new(store), Some(lock)))
}

/// Opens the store for a command that writes a row or two, also while hubs run on it. A data directory that no hub
/// runs on is opened as by [`open_store`].
///
/// # Errors
/// [`BackendError`], in words for whoever runs it.
pub async fn open_store_beside(
    settings: &Settings,
) -> Result<(Arc<dyn Store>, Option<File>), BackendError> {
    match open_store(settings).await {
        // The lock keeps off a second live copy of documents, of which such a command has none.
        Err(BackendError::InUse { .. }) => {
            let path = settings.data_dir.join("tandem.db");
            let store = SqliteStore::open_beside(&path).await?;
            Ok((Arc::new(store), None))
        }
        opened => opened,
    }
}

/// Nodes that share Redis share its cache: one that kept its own would not hear what others write.
async fn open_cache(settings: &Settings) -> Result<Arc<dyn Cache>, BackendError> {
    if settings.redis.url.is_empty() {
        return Ok(Arc::new(LocalCache::new(settings.cache.bytes as u64)));
    }
    Ok(Arc::new(RedisCache::connect(link_options(settings)).await?))
}

/// Events go through RabbitMQ if there is one; else each node hands those that it relays to its own
/// consumers.
async fn open_bus(
    settings: &Settings,
    store: &Arc<dyn Store>,
) -> Result<Arc<dyn Bus>, BackendError> {
    let Some(url) = &settings.amqp.url else {
        return Ok(Arc::new(LocalBus::new(Arc::clone(store))));
    };
    let ca = match &settings.amqp.ca {
        Some(path) => {
            Some(
                std::fs::read_to_string(path).map_err(|reason| BackendError::Authority {
                    path: path.display().to_string(),
                    reason,
                })?,
            )
        }
        None => None,
    };
    let bus = RabbitBus::connect(RabbitOptions {
        url: url.expose().to_owned(),
        ca,
        prefix: settings.amqp.prefix.as_str().to_owned(),
        name: "tandem".to_owned(),
    });
    Ok(Arc::new(bus.await?))
}

fn retention(settings: &Settings) -> Retention {
    let limits = &settings.channels;
    Retention {
        messages: limits.history_messages,
        bytes: limits.history_bytes,
        total_bytes: limits.total_bytes,
        age: limits.history_age,
        dedup: limits.dedup_window,
    }
}

fn link_options(settings: &Settings) -> LinkOptions {
    let redis = &settings.redis;
    LinkOptions {
        urls: redis
            .url
            .iter()
            .map(|url| url.expose().to_owned())
            .collect(),
        ca: redis.ca.clone(),
        prefix: redis.prefix.as_str().to_owned(),
        command_timeout: redis.command_timeout,
        watchdog: redis.watchdog,
    }
}

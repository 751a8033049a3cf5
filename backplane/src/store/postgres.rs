//! The shared store: one PostgreSQL database for all nodes, with a read replica if there is one.
//!
//! Owns the connections and the limits that they run under, and which reads may go to a replica. Every
//! guarantee of the traits is kept by locks in the database, as other nodes write at the same time: rows
//! are locked before what depends on them is read, in one order everywhere (users' rows and projects, then
//! documents by id, then files of the index, then subjects of events, then the number of the change of rights; requests with a key before
//! all of these). Nothing is
//! acknowledged that is not committed with `synchronous_commit=on`. Never retries a change whose
//! outcome is unknown.

mod api_keys;
mod context;
mod docs;
mod error;
mod events;
mod identities;
mod invitations;
mod log;
mod mentions;
mod nodes;
mod notifications;
mod passwords;
mod plans;
mod projects;
mod replica;
mod requests;
mod rights;
mod schema;
#[doc(hidden)]
pub mod sql;
mod terms;
mod tx;
mod upkeep;
mod usage;
mod users;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, timeout};

use super::{Keep, Store, StoreError};
use error::store_error;
use replica::Replica;
use tx::{Row, Rows, Statement, Tx, answered};

/// The newest step of the schema that this build knows.
pub const SCHEMA: i64 = schema::NEWEST;

/// How long the server may stay silent beyond the limits that it keeps itself.
const GRACE: Duration = Duration::from_secs(1);
/// A connection that lay idle for longer is asked whether it still stands before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// How the database is reached, and how long it may take.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/name`, with its options (`sslmode`, `sslrootcert`).
    pub url: String,
    /// The same of a streaming replica: one server, not a balancer before several.
    pub replica_url: Option<String>,
    /// Connections to the primary, and as many to the replica; at least one.
    pub connections: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may take; the server ends it.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock; the server ends it. It also ends a session that says
    /// nothing for that long in the midst of a transaction, as what it holds stops others.
    pub lock_timeout: Duration,
    /// What the server's own lists call this node.
    pub application_name: String,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The addresses hold passwords.
        f.debug_struct("PostgresOptions")
            .field("replica", &self.replica_url.is_some())
            .field("connections", &self.connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As it numbers itself: 150004 is 15.4.
    pub version: u64,
    /// The database's encoding.
    pub encoding: String,
    /// Whether it is a replica.
    pub in_recovery: bool,
    /// Whether commits reach the disk; without it a power cut may destroy the database.
    pub fsync: bool,
    /// Whether it survives pages that were half written.
    pub full_page_writes: bool,
    /// How far a commit of this session waits; this store asks for `on`.
    pub synchronous_commit: String,
    /// Connections that it accepts, of all clients together.
    pub max_connections: u64,
}

/// A [`Store`] in a PostgreSQL database that many nodes may share.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    primary: PgPool,
    replica: Option<Arc<Replica>>,
    /// Lists are not read on the replica.
    primary_only: bool,
    /// How long a call may take in all.
    patience: Duration,
}

impl PostgresStore {
    /// Connects, checks the server, and brings the schema up to date (one node at a time, the others
    /// wait). A replica that can't be reached is no failure: it is read once it can.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the server can't be reached or is not fit: older than 15, another
    /// encoding than UTF-8, only a replica. [`StoreError::Corrupt`] if the schema is newer than this build.
    pub async fn connect(options: PostgresOptions) -> Result<Self, StoreError> {
        let primary = connect_options(&options.url, &options)?;
        schema::prepare(&primary, options.acquire_timeout, options.lock_timeout).await?;
        let patience = options.acquire_timeout + options.statement_timeout + GRACE;
        let replica = match &options.replica_url {
            Some(url) => {
                let pool = pool(&options, patience).acquire_timeout(replica::ACQUIRE);
                let replica = pool.connect_lazy_with(connect_options(url, &options)?);
                Some(Arc::new(Replica::new(replica)))
            }
            None => None,
        };
        let primary = pool(&options, patience)
            .min_connections(1)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(primary)
            .await
            .map_err(store_error)?;
        Ok(Self {
            primary,
            replica,
            primary_only: false,
            patience,
        })
    }

    /// What the primary says of itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it says nothing.
    pub async fn server(&self) -> Result<Server, StoreError> {
        let mut connection = answered(self.deadline(), self.primary.acquire()).await?;
        Server::ask(&mut connection).await
    }

    /// Begins a write; dropped before its commit it leaves nothing.
    async fn write(&self) -> Result<Tx, StoreError> {
        Tx::begin(&self.primary, "BEGIN", self.patience).await
    }

    /// Begins a read of several statements that all see one moment.
    async fn read(&self) -> Result<Tx, StoreError> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        Tx::begin(&self.primary, BEGIN, self.patience).await
    }

    /// Commits what lists may show: the replica is not read before it has it.
    async fn commit(&self, tx: Tx) -> Result<(), StoreError> {
        let done = tx.commit().await;
        // Also after an error, which leaves it open whether it was committed.
        self.wrote();
        done
    }

    /// Runs one statement as a transaction of its own; how many rows it changed.
    async fn run(&self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let done = answered(self.deadline(), statement.execute(&self.primary)).await;
        self.wrote();
        done.map(|done| done.rows_affected())
    }

    /// The row on the primary, if there is one.
    async fn first<O: Row>(&self, rows: Rows<'_, O>) -> Result<Option<O>, StoreError> {
        answered(self.deadline(), rows.fetch_optional(&self.primary)).await
    }

    /// The rows on the primary.
    async fn all<O: Row>(&self, rows: Rows<'_, O>) -> Result<Vec<O>, StoreError> {
        answered(self.deadline(), rows.fetch_all(&self.primary)).await
    }

    /// The rows of a list, which is read on the replica if that has all that this node wrote.
    async fn list<'q, O: Row>(
        &self,
        rows: impl Fn() -> Rows<'q, O> + Send + Sync,
    ) -> Result<Vec<O>, StoreError> {
        if let Some(replica) = self.replica.as_ref().filter(|_| !self.primary_only) {
            let read = replica.read(&self.primary, &rows);
            if let Ok(Some(read)) = timeout(self.patience, read).await {
                return Ok(read);
            }
        }
        self.all(rows()).await
    }

    fn wrote(&self) {
        if let Some(replica) = &self.replica {
            replica.wrote();
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let ping = sqlx::query(sql::PING).execute(&self.primary);
        answered(self.deadline(), ping).await.map(drop)
    }

    fn on_primary(self: Arc<Self>) -> Arc<dyn Store> {
        Arc::new(Self {
            primary_only: true,
            ..Self::clone(&self)
        })
    }

    async fn housekeep(&self, keep: &Keep) -> Result<u64, StoreError> {
        self.tidy(keep).await
    }

    async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
        self.primary.close().await;
    }
}

fn connect_options(url: &str, options: &PostgresOptions) -> Result<PgConnectOptions, StoreError> {
    let millis = |time: Duration| time.as_millis().max(1).to_string();
    let lock = millis(options.lock_timeout);
    let connect = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unavailable(format!("the database's address: {error}")))?
        .application_name(&options.application_name)
        .options([
            ("synchronous_commit", "on"),
            ("statement_timeout", &millis(options.statement_timeout)),
            ("lock_timeout", &lock),
            ("idle_in_transaction_session_timeout", &lock),
            ("default_transaction_isolation", "read committed"),
        ]);
    Ok(connect.disable_statement_logging())
}

/// Connections that are asked whether they stand when they have lain idle, and when they come back:
/// one that a silent network holds up is given up instead of being lent again.
fn pool(options: &PostgresOptions, patience: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(options.connections.max(1))
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(move |connection, _| Box::pin(stands(connection, patience)))
}

/// Waits for the end of what a dropped call left under way.
async fn stands(connection: &mut PgConnection, patience: Duration) -> Result<bool, sqlx::Error> {
    match timeout(patience, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(late) => Err(sqlx::Error::Io(late.into())),
    }
}

/// PostgreSQL's integers are signed; a number beyond them means "without end" wherever one may come in.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that the schema keeps from being negative.
fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored)
        .map_err(|_| StoreError::Corrupt(format!("{stored} where no negative number can be")))
}

/// No stored text holds a NUL character, and a statement that is given one fails: such an id is nobody's.
fn may_be_stored(text: &str) -> bool {
    !text.contains('\0')
}

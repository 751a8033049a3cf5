//! The embedded store: one SQLite file in the data directory.
//!
//! Owns the connections (one writer, a few readers), the migrations, and how SQLite's errors are
//! told. Never lets two writers meet: every write is one `BEGIN IMMEDIATE` transaction on the one
//! writer connection, and is on disk (`synchronous=FULL`) when its call returns. Readers see the
//! newest commit at the start of their statement or transaction.

mod api_keys;
mod context;
mod docs;
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
mod requests;
mod rights;
mod sql;
mod usage;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::error::ErrorKind;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, Sqlite, Transaction};

use super::{Keep, Store, StoreError};

/// Connections for reads; WAL lets them run beside the writer.
const READERS: u32 = 4;
/// Page cache of the writer in SQLite's terms (KiB, negated): group commits touch a page per document.
const WRITER_CACHE: &str = "-16384";
/// How long a statement waits for a lock that another process holds on the file.
const BUSY: Duration = Duration::from_secs(5);
/// How long a call waits for a connection before the store counts as unavailable.
const ACQUIRE: Duration = Duration::from_secs(10);

/// The steps of the schema by number, in order. A step that has been released never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "accounts",
        include_str!("../../../migrations/sqlite/0001_accounts.sql"),
    ),
    (
        2,
        "documents",
        include_str!("../../../migrations/sqlite/0002_documents.sql"),
    ),
    (
        3,
        "plans",
        include_str!("../../../migrations/sqlite/0003_plans.sql"),
    ),
    (
        4,
        "services",
        include_str!("../../../migrations/sqlite/0004_services.sql"),
    ),
    (
        5,
        "nodes",
        include_str!("../../../migrations/sqlite/0005_nodes.sql"),
    ),
    (
        6,
        "identity",
        include_str!("../../../migrations/sqlite/0006_identity.sql"),
    ),
    (
        7,
        "requests",
        include_str!("../../../migrations/sqlite/0007_requests.sql"),
    ),
    (
        8,
        "issuers",
        include_str!("../../../migrations/sqlite/0008_issuers.sql"),
    ),
    (
        9,
        "lists of services",
        include_str!("../../../migrations/sqlite/0009_services.sql"),
    ),
    (
        10,
        "context",
        include_str!("../../../migrations/sqlite/0010_context.sql"),
    ),
    (
        11,
        "notifications",
        include_str!("../../../migrations/sqlite/0011_notifications.sql"),
    ),
    (
        12,
        "usage",
        include_str!("../../../migrations/sqlite/0012_usage.sql"),
    ),
];

/// The newest of them.
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// A [`Store`] in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if it is missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file can't be opened; [`StoreError::Corrupt`] if it is no
    /// database, or its schema is newer than this build.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = Self::connect(path).await?;
        migrate(&writer).await?;
        Self::with_readers(path, writer).await
    }

    /// Opens the file beside a process that has it open, and leaves its schema as it is: for a command that
    /// writes a row or two. Both processes' writes are whole, one waits for the other.
    ///
    /// # Errors
    /// As [`SqliteStore::open`]; [`StoreError::Unavailable`] if the schema is another than this build's.
    pub async fn open_beside(path: &Path) -> Result<Self, StoreError> {
        let writer = Self::connect(path).await?;
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&writer)
            .await
            .map_err(store_error)?;
        if newest != Some(NEWEST) {
            return Err(StoreError::Unavailable(
                "the running hub is of another version: use its own command".into(),
            ));
        }
        Self::with_readers(path, writer).await
    }

    /// The one connection that writes.
    async fn connect(path: &Path) -> Result<SqlitePool, StoreError> {
        make_private(path).map_err(|error| {
            StoreError::Unavailable(format!("can't open {}: {error}", path.display()))
        })?;
        pool(1)
            .connect_with(
                options(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .pragma("cache_size", WRITER_CACHE)
                    // Statement journals: what a bulk statement would undo. They need no disk.
                    .pragma("temp_store", "MEMORY"),
            )
            .await
            .map_err(store_error)
    }

    async fn with_readers(path: &Path, writer: SqlitePool) -> Result<Self, StoreError> {
        let readers = pool(READERS)
            .connect_with(options(path).read_only(true))
            .await
            .map_err(store_error)?;
        Ok(Self { writer, readers })
    }

    /// Begins a write; dropped before its commit it leaves nothing.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(store_error)
    }

    /// Runs a statement that deletes what is older than `time`, or than the database's clock says.
    async fn drop_older(
        &self,
        statement: &'static str,
        time: Option<u64>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let query = sqlx::query(statement);
        let query = match time {
            Some(time) => query.bind(int(time)),
            None => query,
        };
        let done = query.execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected())
    }

    /// Begins a read of several statements that all see one moment.
    async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(store_error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::PING)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    fn on_primary(self: Arc<Self>) -> Arc<dyn Store> {
        self
    }

    async fn housekeep(&self, keep: &Keep) -> Result<u64, StoreError> {
        let mut gone = self.drop_ended_logins(keep.ended_since).await?;
        gone += self
            .drop_older(sql::DROP_RESETS, Some(keep.ended_since))
            .await?;
        gone += self
            .drop_older(sql::DROP_ENDED_INVITATIONS, Some(keep.ended_since))
            .await?;
        gone += self.thin_versions(keep.auto_versions).await?;
        gone += self
            .drop_older(sql::DROP_TAKEN, Some(keep.inbox_since))
            .await?;
        gone += self.drop_logged(keep.logged_since).await?;
        gone += self
            .drop_older(
                sql::services::DROP_OLD_NOTIFICATIONS,
                Some(keep.notified_since),
            )
            .await?;
        gone += self
            .drop_older(sql::DROP_CHANGES, Some(keep.changes_since))
            .await?;
        gone += self.drop_older(sql::DROP_DEAD_NODES, None).await?;
        gone += self.drop_older(sql::DROP_EXPIRED_LEASES, None).await?;
        gone += self.drop_older(sql::DROP_EXPIRED_REQUESTS, None).await?;
        Ok(gone)
    }

    async fn close(&self) {
        // The writer goes last: the last connection to close folds the WAL into the file, which a
        // reader may not do.
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// Connections live as long as the store: SQLite's don't go stale, and pinging each costs a trip.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async { has_left_its_transaction(connection).await })
        })
}

/// Whether a connection may be used again. A full disk or a failing one makes SQLite roll back by
/// itself; sqlx then counts a transaction that is not there, for ever, and the writer would never
/// begin another, or a reader stand still at an old moment.
async fn has_left_its_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may be under way: what is answered after it has seen its end.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// The file holds password hashes: whoever else uses the machine gets no look at it. SQLite gives
/// its side files the same permissions.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Brings the schema up to date in one transaction, so that of two processes that open an old file the second
/// waits for the first and finds nothing to do.
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let mut tx = writer
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(store_error)?;
    let connection: &mut SqliteConnection = &mut tx;
    migrator()
        .run_direct(None, connection, false)
        .await
        .map_err(migrate_error)?;
    tx.commit().await.map_err(store_error)
}

fn migrator() -> Migrator {
    let steps = MIGRATIONS.iter().map(|&(version, name, sql)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(steps.collect())
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
            "the schema is newer than this build: it has migration {version}, this build knows {NEWEST}"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            store_error(error)
        }
        other => StoreError::Corrupt(other.to_string()),
    }
}

/// What an error of SQLite means to callers of the store.
fn store_error(error: sqlx::Error) -> StoreError {
    use sqlx::Error;
    match error {
        Error::RowNotFound => StoreError::NotFound,
        Error::Database(ref inner) => match inner.kind() {
            ErrorKind::UniqueViolation => StoreError::Conflict("it exists already"),
            ErrorKind::ForeignKeyViolation => {
                StoreError::Conflict("what it refers to does not exist, or refers to it")
            }
            ErrorKind::CheckViolation | ErrorKind::NotNullViolation => {
                StoreError::Conflict("a value is out of its bounds")
            }
            _ => match inner
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .map(primary)
            {
                Some(TOO_BIG) => StoreError::Conflict("a value is too large"),
                Some(CORRUPT | NOT_A_DATABASE | ERROR | MISMATCH) | None => {
                    StoreError::Corrupt(error.to_string())
                }
                Some(_) => StoreError::Unavailable(error.to_string()),
            },
        },
        Error::ColumnDecode { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::Decode(_)
        | Error::TypeNotFound { .. } => StoreError::Corrupt(error.to_string()),
        other => StoreError::Unavailable(other.to_string()),
    }
}

// SQLite's primary result codes that are no matter of waiting: a statement that doesn't fit the
// schema, a damaged file, a value over the length limit, a value of another type, a foreign file.
const ERROR: u32 = 1;
const CORRUPT: u32 = 11;
const TOO_BIG: u32 = 18;
const MISMATCH: u32 = 20;
const NOT_A_DATABASE: u32 = 26;

/// The low byte of an extended result code.
fn primary(extended: u32) -> u32 {
    extended & 0xff
}

/// SQLite's integers are signed; a number beyond them means "without end" wherever one may come in.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pragma(connections: &SqlitePool, name: &str) -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        let value = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connections);
        value.await.unwrap()
    }

    #[tokio::test]
    async fn a_commit_is_synced_and_keys_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        // 2 is FULL: a process kill can't show a missing sync, so its setting is what can be tested.
        assert_eq!(pragma(&store.writer, "synchronous").await, "2");
        assert_eq!(pragma(&store.writer, "journal_mode").await, "wal");
        assert_eq!(pragma(&store.writer, "foreign_keys").await, "1");
    }

    #[tokio::test]
    async fn a_file_is_opened_beside_who_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tandem.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let beside = SqliteStore::open_beside(&path).await.unwrap();
        for _ in 0..10 {
            let (one, other) = tokio::join!(store.ping(), beside.ping());
            one.unwrap();
            other.unwrap();
        }
        beside.close().await;
        store.ping().await.unwrap();
        let newer = "INSERT INTO _sqlx_migrations
            (version, description, success, checksum, execution_time) VALUES (99, '', 1, x'', 0)";
        sqlx::query(newer).execute(&store.writer).await.unwrap();
        let refused = SqliteStore::open_beside(&path).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        let refused = sqlx::query(sql::PING)
            .execute(&store.readers)
            .await
            .map_err(store_error);
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        store.ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_is_unavailable_and_passes() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        let full = sqlx::query("PRAGMA max_page_count = 1")
            .execute(&store.writer)
            .await;
        full.unwrap();
        let blob = "INSERT INTO events_log (event_id, type, subject, occurred_at, envelope)
            VALUES ('e', 't', 's', 1, json_array(hex(zeroblob(1000000))))";
        let mut tx = store.write().await.unwrap();
        let refused = sqlx::query(blob)
            .execute(&mut *tx)
            .await
            .map_err(store_error);
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        drop(tx);
        let room = sqlx::query("PRAGMA max_page_count = 1000000")
            .execute(&store.writer)
            .await;
        room.unwrap();
        let mut tx = store.write().await.unwrap();
        sqlx::query(blob).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

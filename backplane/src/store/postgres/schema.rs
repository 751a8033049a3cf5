//! The schema: which steps there are, and how nodes that start at once bring it up to date.
//!
//! Owns the lock under which steps are made. Steps only add, so that a node of an older build that is
//! running goes on beside the new schema; one that is started on it refuses, as it can't know what it
//! would leave out. A step that has been released never changes.

use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, SqlSafeStr};
use tokio::time::Instant;

use super::error::{migrate_error, store_error};
use super::tx::answered;
use super::{Server, sql};
use crate::store::StoreError;

/// By number, in order.
const STEPS: &[(i64, &str, &str)] = &[
    (
        1,
        "accounts",
        include_str!("../../../../migrations/postgres/0001_accounts.sql"),
    ),
    (
        2,
        "documents",
        include_str!("../../../../migrations/postgres/0002_documents.sql"),
    ),
    (
        3,
        "plans",
        include_str!("../../../../migrations/postgres/0003_plans.sql"),
    ),
    (
        4,
        "services",
        include_str!("../../../../migrations/postgres/0004_services.sql"),
    ),
    (
        5,
        "nodes",
        include_str!("../../../../migrations/postgres/0005_nodes.sql"),
    ),
    (
        6,
        "identity",
        include_str!("../../../../migrations/postgres/0006_identity.sql"),
    ),
    (
        7,
        "requests",
        include_str!("../../../../migrations/postgres/0007_requests.sql"),
    ),
    (
        8,
        "issuers",
        include_str!("../../../../migrations/postgres/0008_issuers.sql"),
    ),
    (
        9,
        "lists of services",
        include_str!("../../../../migrations/postgres/0009_services.sql"),
    ),
    (
        10,
        "context",
        include_str!("../../../../migrations/postgres/0010_context.sql"),
    ),
    (
        11,
        "notifications",
        include_str!("../../../../migrations/postgres/0011_notifications.sql"),
    ),
    (
        12,
        "usage",
        include_str!("../../../../migrations/postgres/0012_usage.sql"),
    ),
];

/// The newest step.
pub(super) const NEWEST: i64 = STEPS[STEPS.len() - 1].0;

/// The oldest server whose SQL this is, as it numbers itself.
const OLDEST: u64 = 150_000;
/// How long another node's migration is waited for.
const OTHERS: Duration = Duration::from_secs(600);

/// Held, until its session ends, by the node that looks at the schema.
const LOCK: &str = "SELECT 1::bigint FROM pg_advisory_lock(hashtextextended('tandem schema', 3))";
/// The server's limits would end a long step, or the wait for another node's.
const NO_LIMITS: &str = "SELECT set_config('statement_timeout', '0', false),
    set_config('lock_timeout', '0', false)";
/// A step that waits for a lock makes everyone behind it wait.
const SHORT_LOCKS: &str = "SELECT set_config('lock_timeout', $1, false)";

/// Checks the server and brings its schema up to date, on a connection of its own.
pub(super) async fn prepare(
    options: &PgConnectOptions,
    connect: Duration,
    lock_timeout: Duration,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + connect;
    let mut connection = answered(deadline, options.connect()).await?;
    check(&Server::ask(&mut connection).await?)?;
    let migrated = tokio::time::timeout(OTHERS, migrate(&mut connection, lock_timeout)).await;
    // Ends the session, and with it the lock, also after a failure. Its own failure changes nothing.
    drop(tokio::time::timeout(connect, connection.close()).await);
    migrated.unwrap_or_else(|_| {
        Err(StoreError::Unavailable(
            "another node has been at the schema for too long".into(),
        ))
    })
}

fn check(server: &Server) -> Result<(), StoreError> {
    if server.version < OLDEST {
        return Err(StoreError::Unavailable(format!(
            "PostgreSQL 15 or newer is needed, the server is {}",
            server.version / 10_000
        )));
    }
    if server.encoding != "UTF8" {
        return Err(StoreError::Unavailable(format!(
            "the database's encoding is {}, it must be UTF8",
            server.encoding
        )));
    }
    if server.in_recovery {
        return Err(StoreError::Unavailable(
            "the database address is that of a replica, which can't be written".into(),
        ));
    }
    Ok(())
}

async fn migrate(connection: &mut PgConnection, lock_timeout: Duration) -> Result<(), StoreError> {
    for statement in [NO_LIMITS, LOCK] {
        sqlx::query(statement)
            .execute(&mut *connection)
            .await
            .map_err(store_error)?;
    }
    sqlx::query(SHORT_LOCKS)
        .bind(lock_timeout.as_millis().to_string())
        .execute(&mut *connection)
        .await
        .map_err(store_error)?;
    let steps = STEPS.iter().map(|&(version, name, sql)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_locking(false);
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| migrate_error(error, NEWEST))
}

impl Server {
    pub(super) async fn ask(connection: &mut PgConnection) -> Result<Self, StoreError> {
        type Answer = (i64, String, bool, bool, bool, String, i64);
        let (version, encoding, in_recovery, fsync, full_page_writes, commit, connections): Answer =
            sqlx::query_as(sql::SERVER)
                .fetch_one(connection)
                .await
                .map_err(store_error)?;
        Ok(Self {
            version: version.unsigned_abs(),
            encoding,
            in_recovery,
            fsync,
            full_page_writes,
            synchronous_commit: commit,
            max_connections: connections.unsigned_abs(),
        })
    }
}

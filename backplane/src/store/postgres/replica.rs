//! A streaming replica, read for lists as soon as it has all that this node wrote.
//!
//! Owns how far this node has written and whether the replica is there. A list misses nothing that a
//! finished call of this node wrote, but for the heads that group commits move: those come too
//! often to wait for, and lists show them only for information. Never fails a read: whatever goes wrong,
//! the primary is read instead.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::sql;
use super::tx::{Row, Rows};

/// How long a read waits for a connection to the replica before it goes to the primary.
pub(super) const ACQUIRE: Duration = Duration::from_millis(250);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a replica that failed is left alone.
const REST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Replica {
    pool: PgPool,
    /// How many writes of this node have finished.
    writes: AtomicU64,
    /// Of how many of them it is known how far the primary's log had come.
    known: AtomicU64,
    /// How far it had come then, in bytes.
    needed: AtomicI64,
    /// Until when the replica is left alone after a failure; none while it works.
    resting: Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            writes: AtomicU64::new(0),
            known: AtomicU64::new(0),
            needed: AtomicI64::new(0),
            resting: Mutex::new(None),
        }
    }

    /// A write of this node has finished.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// The rows; none if the replica is behind what this node wrote, or does not answer.
    pub(super) async fn read<'q, O: Row>(
        &self,
        primary: &PgPool,
        rows: &(impl Fn() -> Rows<'q, O> + Send + Sync),
    ) -> Option<Vec<O>> {
        if self.rests() {
            return None;
        }
        let needed = self.needed(primary).await?;
        let read = timeout(ANSWER, self.read_from(needed, rows())).await;
        match read.unwrap_or_else(|late| Err(sqlx::Error::Io(late.into()))) {
            Ok(rows) => {
                self.works();
                rows
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Asks how far the replica is, and reads on the same connection: replay never goes back.
    async fn read_from<O: Row>(
        &self,
        needed: i64,
        rows: Rows<'_, O>,
    ) -> Result<Option<Vec<O>>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let (replayed,): (Option<i64>,) = sqlx::query_as(sql::REPLAYED_TO)
            .fetch_one(&mut *connection)
            .await?;
        if replayed.is_none_or(|replayed| replayed < needed) {
            return Ok(None);
        }
        rows.fetch_all(&mut *connection).await.map(Some)
    }

    /// How far the replica has to be for a list to show what this node wrote. The primary is asked
    /// once after writes, not at each.
    async fn needed(&self, primary: &PgPool) -> Option<i64> {
        // Read before the question: what finished by then lies before the answer.
        let writes = self.writes.load(Ordering::Acquire);
        if self.known.load(Ordering::Acquire) < writes {
            let (written,): (i64,) = sqlx::query_as(sql::WRITTEN_TO)
                .fetch_one(primary)
                .await
                .ok()?;
            self.needed.fetch_max(written, Ordering::AcqRel);
            self.known.fetch_max(writes, Ordering::AcqRel);
        }
        Some(self.needed.load(Ordering::Acquire))
    }

    fn rests(&self) -> bool {
        self.resting().is_some_and(|until| Instant::now() < until)
    }

    fn works(&self) {
        if self.resting().take().is_some() {
            info!("the read replica answers again");
        }
    }

    fn failed(&self, error: &sqlx::Error) {
        let began = self.resting().replace(Instant::now() + REST).is_none();
        if began && !self.pool.is_closed() {
            warn!(%error, "the read replica failed; lists are read on the primary");
        }
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.resting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

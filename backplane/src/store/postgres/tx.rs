//! One transaction, or one statement, on the primary: bounded in time, its errors told in the store's terms.
//!
//! Owns the deadline of a call. The server ends a statement that takes too long; the deadline is for a
//! server, or a network, that has gone silent. A transaction that is dropped before its commit leaves nothing.

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::PgArguments;
use sqlx::query::{Query, QueryAs};
use sqlx::{FromRow, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::{Instant, timeout_at};

use super::error::store_error;
use super::sql;
use crate::store::StoreError;

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;
/// A statement with its values, whose rows become `O`.
pub(super) type Rows<'q, O> = QueryAs<'q, Postgres, O, PgArguments>;

/// A row as sqlx makes it.
pub(super) trait Row: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin {}
impl<O: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin> Row for O {}

/// What the server says in that time, or that it says nothing.
pub(super) async fn answered<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(store_error),
        Err(_) => Err(StoreError::Unavailable(
            "the database does not answer".into(),
        )),
    }
}

/// A transaction under way.
pub(super) struct Tx {
    inner: Transaction<'static, Postgres>,
    deadline: Instant,
}

impl Tx {
    pub(super) async fn begin(
        pool: &PgPool,
        begin: &'static str,
        patience: Duration,
    ) -> Result<Self, StoreError> {
        let deadline = Instant::now() + patience;
        let inner = answered(deadline, pool.begin_with(begin)).await?;
        Ok(Self { inner, deadline })
    }

    /// How many rows the statement changed.
    pub(super) async fn run(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let done = answered(self.deadline, statement.execute(&mut *self.inner)).await?;
        Ok(done.rows_affected())
    }

    /// The row, if there is one.
    pub(super) async fn first<O: Row>(
        &mut self,
        rows: Rows<'_, O>,
    ) -> Result<Option<O>, StoreError> {
        answered(self.deadline, rows.fetch_optional(&mut *self.inner)).await
    }

    pub(super) async fn all<O: Row>(&mut self, rows: Rows<'_, O>) -> Result<Vec<O>, StoreError> {
        answered(self.deadline, rows.fetch_all(&mut *self.inner)).await
    }

    /// For what streams its rows: the connection, and until when it may.
    pub(super) fn parts(&mut self) -> (&mut PgConnection, Instant) {
        (&mut self.inner, self.deadline)
    }

    /// Gives this transaction's statements another limit, each and all of them together.
    pub(super) async fn allow(&mut self, time: Duration) -> Result<(), StoreError> {
        let limit = time.as_millis().to_string();
        self.run(sqlx::query(sql::ALLOW_TIME).bind(limit)).await?;
        self.deadline = Instant::now() + time;
        Ok(())
    }

    /// An error leaves it open whether the transaction was committed: the connection may have
    /// broken on the way back.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        answered(self.deadline, self.inner.commit()).await
    }
}

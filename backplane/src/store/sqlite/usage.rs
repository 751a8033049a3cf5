//! Usage in SQLite.

use async_trait::async_trait;

use super::sql::{TAKE_EVENT, services as sql};
use super::{SqliteStore, int, store_error};
use crate::store::StoreError;
use crate::store::rows::{self, PeriodRow};
use crate::store::usage::{CountedFor, Granularity, Period, Usage, UsageOf, Used, cells};

#[async_trait]
impl Usage for SqliteStore {
    async fn add_usage(
        &self,
        used: &[Used],
        event: Option<CountedFor<'_>>,
        now: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if let Some(event) = event {
            let taken = sqlx::query(TAKE_EVENT)
                .bind(event.consumer)
                .bind(event.event_id)
                .bind(int(now))
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            if taken.rows_affected() == 0 {
                return Ok(false);
            }
        }
        for ((user, hour, project), amounts) in cells(used) {
            let mut add = sqlx::query(sql::ADD_USAGE)
                .bind(user)
                .bind(int(hour))
                .bind(project);
            for column in amounts.columns() {
                add = add.bind(int(column));
            }
            add.execute(&mut *tx).await.map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn usage(
        &self,
        of: UsageOf<'_>,
        from: u64,
        to: u64,
        granularity: Granularity,
    ) -> Result<Vec<Period>, StoreError> {
        let (statement, whose) = match of {
            UsageOf::User(id) => (sql::USAGE_OF_USER, id),
            UsageOf::Project(id) => (sql::USAGE_OF_PROJECT, id),
        };
        let read: Vec<PeriodRow> = sqlx::query_as(statement)
            .bind(whose)
            .bind(int(from))
            .bind(int(to))
            .bind(granularity.millis())
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        read.into_iter().map(rows::period).collect()
    }
}

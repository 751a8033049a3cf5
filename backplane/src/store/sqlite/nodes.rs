//! Nodes and leases in SQLite.
//!
//! Owns the database's clock, by which lifetimes and leases go, and the check of a fence inside
//! another's transaction.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, int, sql, store_error};
use crate::store::{Fence, NodeRecord, Nodes, Presence, StoreError};

type NodeRow = (String, String, Option<String>, String);

fn record((id, address, broker, version): NodeRow) -> NodeRecord {
    NodeRecord {
        id,
        address,
        broker,
        version,
    }
}

pub(super) fn millis(time: Duration) -> i64 {
    // A lease of a million years is for ever; more would run over when the clock is added.
    const LONGEST: i64 = 1 << 55;
    i64::try_from(time.as_millis()).map_or(LONGEST, |millis| millis.min(LONGEST))
}

/// Refuses what is done for a lease that is no longer held.
pub(super) async fn check_fence(
    tx: &mut Transaction<'static, Sqlite>,
    fence: &Fence,
) -> Result<(), StoreError> {
    let held: Option<i64> = sqlx::query_scalar(sql::FENCE_HOLDS)
        .bind(&fence.lease)
        .bind(int(fence.number))
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    held.map(drop)
        .ok_or(StoreError::Conflict("the lease was lost"))
}

#[async_trait]
impl Nodes for SqliteStore {
    async fn enter(&self, node: &NodeRecord, ttl: Duration) -> Result<Presence, StoreError> {
        let mut tx = self.write().await?;
        let stranger: Option<NodeRow> = sqlx::query_as(sql::STRANGER)
            .bind(&node.id)
            .bind(&node.broker)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if let Some(stranger) = stranger {
            return Ok(Presence::Refused(record(stranger)));
        }
        sqlx::query(sql::PUT_NODE)
            .bind(&node.id)
            .bind(&node.address)
            .bind(&node.broker)
            .bind(&node.version)
            .bind(millis(ttl))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(Presence::Admitted)
    }

    async fn depart(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for statement in [sql::DROP_NODE, sql::DROP_LEASES_OF] {
            sqlx::query(statement)
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows: Vec<NodeRow> = sqlx::query_as(sql::NODES)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(rows.into_iter().map(record).collect())
    }

    async fn lease(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let mut tx = self.write().await?;
        let mut number: Option<u64> = sqlx::query_scalar(sql::RENEW_LEASE)
            .bind(name)
            .bind(owner)
            .bind(millis(ttl))
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if number.is_none() {
            let next: i64 = sqlx::query_scalar(sql::NEXT_FENCE)
                .fetch_one(&mut *tx)
                .await
                .map_err(store_error)?;
            number = sqlx::query_scalar(sql::TAKE_LEASE)
                .bind(name)
                .bind(owner)
                .bind(millis(ttl))
                .bind(next)
                .fetch_optional(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        let Some(number) = number else {
            return Ok(None);
        };
        tx.commit().await.map_err(store_error)?;
        let lease = name.to_owned();
        Ok(Some(Fence { lease, number }))
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::DROP_LEASE)
            .bind(name)
            .bind(owner)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }
}

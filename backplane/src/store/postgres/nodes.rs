//! Nodes and leases in PostgreSQL.
//!
//! Owns the check of a fence inside another's transaction. Goes by the database's clock alone.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::tx::Tx;
use super::{PostgresStore, int, number, sql};
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
    // A lease of ten thousand years is for ever; the server's calendar ends not long after.
    const LONGEST: i64 = 10_000 * 365 * 24 * 3_600_000;
    i64::try_from(time.as_millis()).map_or(LONGEST, |millis| millis.min(LONGEST))
}

/// Refuses what is done for a lease that is no longer held, and keeps it from being taken over until
/// the transaction ends.
pub(super) async fn check_fence(tx: &mut Tx, fence: &Fence) -> Result<(), StoreError> {
    let row = query_as(sql::FENCE_HOLDS)
        .bind(&fence.lease)
        .bind(int(fence.number));
    let held: Option<(i64,)> = tx.first(row).await?;
    held.map(drop)
        .ok_or(StoreError::Conflict("the lease was lost"))
}

#[async_trait]
impl Nodes for PostgresStore {
    async fn enter(&self, node: &NodeRecord, ttl: Duration) -> Result<Presence, StoreError> {
        let mut tx = self.write().await?;
        tx.run(query(sql::LOCK_NODES)).await?;
        let stranger = query_as(sql::STRANGER).bind(&node.id).bind(&node.broker);
        if let Some(stranger) = tx.first(stranger).await? {
            return Ok(Presence::Refused(record(stranger)));
        }
        let put = query(sql::PUT_NODE)
            .bind(&node.id)
            .bind(&node.address)
            .bind(&node.broker)
            .bind(&node.version)
            .bind(millis(ttl));
        tx.run(put).await?;
        tx.commit().await?;
        Ok(Presence::Admitted)
    }

    async fn depart(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        tx.run(query(sql::DROP_NODE).bind(id)).await?;
        tx.run(query(sql::DROP_LEASES_OF).bind(id)).await?;
        tx.commit().await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows: Vec<NodeRow> = self.all(query_as(sql::NODES)).await?;
        Ok(rows.into_iter().map(record).collect())
    }

    async fn lease(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let row = query_as(sql::LEASE)
            .bind(name)
            .bind(owner)
            .bind(millis(ttl));
        let taken: Option<(i64,)> = self.first(row).await?;
        let fence = |(held,)| {
            Ok(Fence {
                lease: name.to_owned(),
                number: number(held)?,
            })
        };
        taken.map(fence).transpose()
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StoreError> {
        let drop_lease = query(sql::DROP_LEASE).bind(name).bind(owner);
        self.run(drop_lease).await.map(drop)
    }
}

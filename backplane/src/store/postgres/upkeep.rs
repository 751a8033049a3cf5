//! Housekeeping in PostgreSQL: what is past its time goes, in small transactions.
//!
//! Owns the size of those: a deletion never holds many rows, and two nodes that tidy at once pass by what
//! the other holds.

use sqlx::{query, query_as};

use super::{PostgresStore, int, sql};
use crate::store::{Keep, StoreError};

/// Rows that one transaction deletes.
const BATCH: usize = 2_000;

impl PostgresStore {
    pub(super) async fn tidy(&self, keep: &Keep) -> Result<u64, StoreError> {
        let mut gone = self.drop_revoked_logins(keep.ended_since).await?;
        gone += self.drop_expired_logins(keep.ended_since).await?;
        gone += self
            .drop_older(sql::DROP_OUTSIDE_LOGINS, keep.ended_since)
            .await?;
        gone += self.drop_older(sql::DROP_RESETS, keep.ended_since).await?;
        gone += self
            .drop_older(sql::DROP_ENDED_INVITATIONS, keep.ended_since)
            .await?;
        gone += self.thin_versions(keep.auto_versions).await?;
        gone += self.drop_older(sql::DROP_TAKEN, keep.inbox_since).await?;
        gone += self.drop_older(sql::DROP_LOGGED, keep.logged_since).await?;
        gone += self
            .drop_older(sql::services::DROP_OLD_NOTIFICATIONS, keep.notified_since)
            .await?;
        gone += self
            .drop_older(sql::DROP_CHANGES, keep.changes_since)
            .await?;
        gone += self.run(query(sql::DROP_DEAD_NODES)).await?;
        gone += self.run(query(sql::DROP_EXPIRED_LEASES)).await?;
        loop {
            let expired = query(sql::DROP_EXPIRED_REQUESTS).bind(BATCH as i64);
            let dropped = self.run(expired).await?;
            gone += dropped;
            if dropped < BATCH as u64 {
                return Ok(gone);
            }
        }
    }

    /// Deletes logins that were revoked before then, with their tokens.
    async fn drop_revoked_logins(&self, before: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let mut tx = self.write().await?;
            let ended = query_as(sql::ENDED_LOGINS)
                .bind(int(before))
                .bind(BATCH as i64);
            let ended: Vec<(String,)> = tx.all(ended).await?;
            let ids: Vec<String> = ended.into_iter().map(|(id,)| id).collect();
            gone += tx.run(query(sql::DROP_TOKENS_OF).bind(&ids)).await?;
            gone += tx.run(query(sql::DROP_LOGINS).bind(&ids)).await?;
            tx.commit().await?;
            if ids.len() < BATCH {
                return Ok(gone);
            }
        }
    }

    /// Deletes tokens that expired before then, and the logins that have none left.
    async fn drop_expired_logins(&self, before: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let mut tx = self.write().await?;
            let expired = query_as(sql::DROP_EXPIRED_TOKENS)
                .bind(int(before))
                .bind(BATCH as i64);
            let expired: Vec<(String,)> = tx.all(expired).await?;
            let logins: Vec<String> = expired.into_iter().map(|(id,)| id).collect();
            gone += logins.len() as u64;
            gone += tx.run(query(sql::DROP_EMPTY_LOGINS).bind(&logins)).await?;
            tx.commit().await?;
            if logins.len() < BATCH {
                return Ok(gone);
            }
        }
    }

    /// Deletes automatic versions but the newest `keep` of each document.
    async fn thin_versions(&self, keep: u32) -> Result<u64, StoreError> {
        let surplus = query_as(sql::SURPLUS_VERSIONS).bind(i64::from(keep));
        let surplus: Vec<(String,)> = self.all(surplus).await?;
        let surplus: Vec<String> = surplus.into_iter().map(|(id,)| id).collect();
        let mut gone = 0;
        for batch in surplus.chunks(BATCH) {
            gone += self.run(query(sql::DROP_VERSIONS).bind(batch)).await?;
        }
        Ok(gone)
    }

    /// Deletes what is older than `time`, by a statement that takes a batch.
    async fn drop_older(&self, statement: &'static str, time: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let older = query(statement).bind(int(time)).bind(BATCH as i64);
            let dropped = self.run(older).await?;
            gone += dropped;
            if dropped < BATCH as u64 {
                return Ok(gone);
            }
        }
    }
}

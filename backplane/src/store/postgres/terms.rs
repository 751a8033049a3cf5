//! A group commit some of whose shares have terms: they are looked at, and kept, in its own transaction.
//!
//! Locks requests first, then documents, each in one order. A commit whose outcome is unknown is tried again like
//! any other: a receipt then tells what has been appended already.

use std::collections::HashMap;

use sqlx::{query, query_as};
use tokio::time::timeout_at;

use super::error::{is_collision, store_error};
use super::log::{TRIES, append, pause, pieces, unanswered};
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::batch::{Held, decided, join, merged, receipts, results, taken};
use crate::store::{Append, Receipt, StoreError};

/// What a transaction failed of.
enum Failed {
    Database(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl PostgresStore {
    pub(super) async fn append_on_terms(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        let deadline = self.deadline();
        for attempt in 1.. {
            match timeout_at(deadline, self.try_on_terms(batch, now)).await {
                Ok(Ok(results)) => return Ok(results),
                Ok(Err(Failed::Database(error))) if is_collision(&error) && attempt < TRIES => {
                    pause(attempt).await;
                }
                Ok(Err(Failed::Database(error))) => return Err(store_error(error)),
                Ok(Err(Failed::Store(error))) => return Err(error),
                Err(_) => break,
            }
        }
        Err(unanswered())
    }

    async fn try_on_terms(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, Failed> {
        let mut tx = self.primary.begin().await?;
        let asked: Vec<&Receipt> = batch
            .iter()
            .filter_map(|append| append.terms.as_ref()?.receipt.as_ref())
            .filter(|receipt| may_be_stored(&receipt.user_id) && may_be_stored(&receipt.key))
            .collect();
        let mut claims = HashMap::new();
        if !asked.is_empty() {
            let users: Vec<&str> = asked.iter().map(|it| it.user_id.as_str()).collect();
            let keys: Vec<&str> = asked.iter().map(|it| it.key.as_str()).collect();
            let rows: Vec<(String, String, String, Option<i64>)> = query_as(sql::LOCK_CLAIMS)
                .bind(users)
                .bind(keys)
                .fetch_all(&mut *tx)
                .await?;
            for (user, key, claim, seq) in rows {
                let held: Held = (claim, seq.map(number).transpose()?);
                claims.insert((user, key), held);
            }
        }
        let ids: Vec<&str> = batch
            .iter()
            .map(|append| append.document_id.as_str())
            .filter(|id| may_be_stored(id))
            .collect();
        let rows: Vec<(String, i64)> = query_as(sql::LOCK_HEADS)
            .bind(ids)
            .fetch_all(&mut *tx)
            .await?;
        let mut heads = HashMap::new();
        for (id, head) in rows {
            heads.insert(id, number(head)?);
        }
        let decided = decided(batch, &heads, &claims);
        let taken = taken(batch, &decided);
        let mut shares = join(&taken);
        shares.retain(|share| may_be_stored(share.document_id));
        shares.sort_unstable_by_key(|share| share.document_id);
        let mut reached = HashMap::new();
        for piece in pieces(&shares) {
            for (id, head) in append(piece, now).fetch_all(&mut *tx).await? {
                reached.insert(id, number(head)?);
            }
        }
        let results = results(&taken, &reached);
        let done = receipts(&taken, &results);
        if !done.is_empty() {
            let users: Vec<&str> = done.iter().map(|(it, _)| it.user_id.as_str()).collect();
            let keys: Vec<&str> = done.iter().map(|(it, _)| it.key.as_str()).collect();
            let seqs: Vec<i64> = done.iter().map(|(_, seq)| int(*seq)).collect();
            query(sql::NOTE_RECEIPTS)
                .bind(users)
                .bind(keys)
                .bind(seqs)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(merged(decided, results))
    }
}

//! The update logs of documents in SQLite: group commit, reading, snapshots.
//!
//! Owns the order of a document's updates: sequences are taken and frames written in one
//! transaction. Never looks into an update.

use std::collections::HashMap;
use std::pin::pin;

use bytes::Bytes;
use futures::TryStreamExt;
use serde_json::json;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, docs, int, nodes, sql, store_error};
use crate::store::batch::{Share, decided, join, merged, receipts, results, taken};
use crate::store::log::{Tail, decode_frame};
use crate::store::{Append, Fence, Loaded, LogFrame, Snapshot, StoreError};

type FrameRow = (u64, u64, Vec<u8>);

impl SqliteStore {
    /// One transaction in three trips, however many documents the batch has; shares with terms take a few more.
    pub(super) async fn append_batch(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        if batch.iter().all(|append| append.updates.is_empty()) {
            return Ok(results(&batch.iter().collect::<Vec<_>>(), &HashMap::new()));
        }
        let mut tx = self.write().await?;
        let decided = match batch.iter().any(|append| append.terms.is_some()) {
            true => decide(&mut tx, batch).await?,
            false => batch.iter().map(|_| None).collect(),
        };
        let taken = taken(batch, &decided);
        let shares = join(&taken);
        let mut heads = HashMap::new();
        if !shares.is_empty() {
            let (index, frames) = packed(&shares);
            let told: String = sqlx::query_scalar(sql::APPEND)
                .bind(index)
                .bind(frames)
                .bind(int(now))
                .fetch_one(&mut *tx)
                .await
                .map_err(store_error)?;
            let told: Vec<(String, u64)> = serde_json::from_str(&told)
                .map_err(|error| StoreError::Corrupt(format!("heads: {error}")))?;
            heads.extend(told);
        }
        let results = results(&taken, &heads);
        for (receipt, seq) in receipts(&taken, &results) {
            sqlx::query(sql::NOTE_RECEIPT)
                .bind(&receipt.user_id)
                .bind(&receipt.key)
                .bind(int(seq))
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)?;
        Ok(merged(decided, results))
    }

    pub(super) async fn load_whole(&self, id: &str) -> Result<Loaded, StoreError> {
        let mut tx = self.read().await?;
        let document = sqlx::query_as(sql::DOCUMENT)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?
            .map(docs::document)
            .ok_or(StoreError::NotFound)?;
        let snapshot: Option<(u64, Vec<u8>)> = sqlx::query_as(sql::SNAPSHOT)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let snapshot = snapshot.map(|(seq, state)| Snapshot {
            seq,
            state: state.into(),
        });
        let seq = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        let tail = read_tail(&mut tx, id, seq, usize::MAX)
            .await?
            .up_to(document.head)?;
        Ok(Loaded {
            document,
            snapshot,
            tail,
        })
    }

    pub(super) async fn read_log(
        &self,
        id: &str,
        seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogFrame>, StoreError> {
        let mut tx = self.read().await?;
        let (head, cut) = head_and_cut(&mut tx, id).await?;
        if seq < cut.unwrap_or(0) {
            return Err(StoreError::NotFound);
        }
        let frames = read_tail(&mut tx, id, seq, max_bytes).await?.so_far();
        if frames.is_empty() && seq < head {
            return Err(StoreError::Corrupt(format!(
                "no log after {seq}, the head is {head}"
            )));
        }
        Ok(frames)
    }

    pub(super) async fn put_snapshot(
        &self,
        id: &str,
        snapshot: &Snapshot,
        fence: Option<&Fence>,
        now: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if let Some(fence) = fence {
            nodes::check_fence(&mut tx, fence).await?;
        }
        let (head, stored) = head_and_cut(&mut tx, id).await?;
        if snapshot.seq > head {
            return Err(StoreError::Conflict(
                "the snapshot is beyond the document's head",
            ));
        }
        if stored.is_some_and(|stored| stored >= snapshot.seq) {
            return Ok(false);
        }
        sqlx::query(sql::PUT_SNAPSHOT)
            .bind(id)
            .bind(int(snapshot.seq))
            .bind(&snapshot.state[..])
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        sqlx::query(sql::CUT_LOG)
            .bind(id)
            .bind(int(snapshot.seq))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }
}

/// Looks at what the terms of a batch speak of; nothing else writes meanwhile.
async fn decide(
    tx: &mut Transaction<'static, Sqlite>,
    batch: &[Append],
) -> Result<Vec<Option<Result<u64, StoreError>>>, StoreError> {
    let ids: Vec<&str> = batch
        .iter()
        .map(|append| append.document_id.as_str())
        .collect();
    let heads: Vec<(String, u64)> = sqlx::query_as(sql::HEADS)
        .bind(serde_json::Value::from(ids).to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(store_error)?;
    let mut claims = HashMap::new();
    for receipt in batch
        .iter()
        .filter_map(|append| append.terms.as_ref()?.receipt.as_ref())
    {
        let claim: Option<(String, Option<u64>)> = sqlx::query_as(sql::CLAIM)
            .bind(&receipt.user_id)
            .bind(&receipt.key)
            .fetch_optional(&mut **tx)
            .await
            .map_err(store_error)?;
        if let Some(claim) = claim {
            claims.insert((receipt.user_id.clone(), receipt.key.clone()), claim);
        }
    }
    Ok(decided(batch, &heads.into_iter().collect(), &claims))
}

/// A batch as the statement takes it: a JSON array of `[document id, updates, offset, length]`, and the frames,
/// one behind the other.
fn packed(shares: &[Share<'_>]) -> (String, Vec<u8>) {
    let mut frames = Vec::with_capacity(shares.iter().map(|share| share.frame.len()).sum());
    let mut index = Vec::with_capacity(shares.len());
    for share in shares {
        let start = frames.len();
        index.push(json!([
            share.document_id,
            share.updates,
            start,
            share.frame.len()
        ]));
        frames.extend_from_slice(&share.frame);
    }
    (serde_json::Value::Array(index).to_string(), frames)
}

/// A document's head, and the sequence of its snapshot.
async fn head_and_cut(
    tx: &mut Transaction<'static, Sqlite>,
    id: &str,
) -> Result<(u64, Option<u64>), StoreError> {
    sqlx::query_as(sql::HEAD)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?
        .ok_or(StoreError::NotFound)
}

/// Frames after `seq` until `max_bytes` are passed, one at least.
async fn read_tail(
    tx: &mut Transaction<'static, Sqlite>,
    id: &str,
    seq: u64,
    max_bytes: usize,
) -> Result<Tail, StoreError> {
    let mut tail = Tail::after(seq);
    let mut bytes = 0_usize;
    let mut rows = pin!(
        sqlx::query_as::<_, FrameRow>(sql::LOG_AFTER)
            .bind(id)
            .bind(int(seq))
            .fetch(&mut **tx)
    );
    while let Some((first, last, data)) = rows.try_next().await.map_err(store_error)? {
        bytes = bytes.saturating_add(data.len());
        tail.push(decode_frame(first, last, &Bytes::from(data))?)?;
        if bytes > max_bytes {
            break;
        }
    }
    Ok(tail)
}

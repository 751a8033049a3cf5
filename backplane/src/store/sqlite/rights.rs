//! Changes of rights, and signing keys, in SQLite.
//!
//! Owns the numbering of changes: [`note_change`] is called inside the transaction that makes one.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, int, sql, store_error};
use crate::store::{Change, Rights, SigningKey, StoreError};

type KeyRow = (String, Vec<u8>, u64, u64);

/// Writes a change down in the transaction that makes it, under the next number.
pub(super) async fn note_change(
    tx: &mut Transaction<'static, Sqlite>,
    change: &Change,
) -> Result<(), StoreError> {
    let change = serde_json::to_string(change)
        .map_err(|error| StoreError::Corrupt(format!("change of rights: {error}")))?;
    let seq: i64 = sqlx::query_scalar(sql::NEXT_CHANGE)
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)?;
    sqlx::query(sql::PUT_CHANGE)
        .bind(seq)
        .bind(change)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

#[async_trait]
impl Rights for SqliteStore {
    async fn rights_head(&self) -> Result<u64, StoreError> {
        sqlx::query_scalar(sql::CHANGE_HEAD)
            .fetch_one(&self.readers)
            .await
            .map_err(store_error)
    }

    async fn rights_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, Change)>, StoreError> {
        let rows: Vec<(u64, String)> = sqlx::query_as(sql::CHANGES)
            .bind(int(seq))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter()
            .map(|(seq, change)| {
                let change = serde_json::from_str(&change)
                    .map_err(|error| StoreError::Corrupt(format!("change {seq}: {error}")))?;
                Ok((seq, change))
            })
            .collect()
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let rows: Vec<KeyRow> = sqlx::query_as(sql::KEYS)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        let key = |(kid, private, created_at, active_from)| SigningKey {
            kid,
            private,
            created_at,
            active_from,
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_KEY)
            .bind(&key.kid)
            .bind(&key.private)
            .bind(int(key.created_at))
            .bind(int(key.active_from))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn drop_signing_key(&self, kid: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::DROP_KEY)
            .bind(kid)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected() > 0)
    }
}

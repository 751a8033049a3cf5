//! Changes of rights, and signing keys, in PostgreSQL.
//!
//! Owns the numbering of changes: [`note_change`] is called inside the transaction that makes one, as its last
//! step, because the numbers' row stays locked until the commit.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::{Change, Rights, SigningKey, StoreError};

type KeyRow = (String, Vec<u8>, i64, i64);

/// Writes a change down in the transaction that makes it, under the next number.
pub(super) async fn note_change(tx: &mut Tx, change: &Change) -> Result<(), StoreError> {
    let change = serde_json::to_string(change)
        .map_err(|error| StoreError::Corrupt(format!("change of rights: {error}")))?;
    match tx.run(query(sql::PUT_CHANGE).bind(change)).await? {
        1 => Ok(()),
        _ => Err(StoreError::Corrupt(
            "the row that numbers changes of rights is gone".into(),
        )),
    }
}

#[async_trait]
impl Rights for PostgresStore {
    async fn rights_head(&self) -> Result<u64, StoreError> {
        let head: Option<(i64,)> = self.first(query_as(sql::CHANGE_HEAD)).await?;
        let (head,) = head.ok_or_else(|| {
            StoreError::Corrupt("the row that numbers changes of rights is gone".into())
        })?;
        number(head)
    }

    async fn rights_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, Change)>, StoreError> {
        let rows = query_as(sql::CHANGES).bind(int(seq)).bind(i64::from(limit));
        let rows: Vec<(i64, String)> = self.all(rows).await?;
        rows.into_iter()
            .map(|(seq, change)| {
                let change = serde_json::from_str(&change)
                    .map_err(|error| StoreError::Corrupt(format!("change {seq}: {error}")))?;
                Ok((number(seq)?, change))
            })
            .collect()
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let rows: Vec<KeyRow> = self.all(query_as(sql::KEYS)).await?;
        rows.into_iter()
            .map(|(kid, private, created_at, active_from)| {
                Ok(SigningKey {
                    kid,
                    private,
                    created_at: number(created_at)?,
                    active_from: number(active_from)?,
                })
            })
            .collect()
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        let add = query(sql::ADD_KEY)
            .bind(&key.kid)
            .bind(&key.private)
            .bind(int(key.created_at))
            .bind(int(key.active_from));
        self.run(add).await.map(drop)
    }

    async fn drop_signing_key(&self, kid: &str) -> Result<bool, StoreError> {
        if !may_be_stored(kid) {
            return Ok(false);
        }
        let dropped = self.run(query(sql::DROP_KEY).bind(kid)).await?;
        Ok(dropped > 0)
    }
}

//! API keys in SQLite.
//!
//! Never sees a secret, only its hash.

use async_trait::async_trait;

use super::{SqliteStore, int, sql, store_error};
use crate::store::api_keys::{hash, joined, split};
use crate::store::{ApiKey, ApiKeys, StoreError};

type Row = (
    String,
    Option<String>,
    String,
    Vec<u8>,
    String,
    Option<String>,
    u64,
    Option<u64>,
    Option<u64>,
);

fn key(row: Row) -> Result<ApiKey, StoreError> {
    let (id, project_id, name, secret, permissions, created_by, created_at, expires_at, used) = row;
    Ok(ApiKey {
        id,
        project_id,
        name,
        secret_hash: hash(&secret)?,
        permissions: split(&permissions),
        created_by,
        created_at,
        expires_at,
        last_used_at: used,
    })
}

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn add_api_key(&self, key: &ApiKey, most: u32) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if let Some(project) = &key.project_id {
            let count: u32 = sqlx::query_scalar(sql::COUNT_API_KEYS)
                .bind(project)
                .fetch_one(&mut *tx)
                .await
                .map_err(store_error)?;
            if count >= most {
                return Ok(false);
            }
        }
        sqlx::query(sql::ADD_API_KEY)
            .bind(&key.id)
            .bind(&key.project_id)
            .bind(&key.name)
            .bind(&key.secret_hash[..])
            .bind(joined(&key.permissions))
            .bind(&key.created_by)
            .bind(int(key.created_at))
            .bind(key.expires_at.map(int))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let row: Option<Row> = sqlx::query_as(sql::API_KEY)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        row.map(key).transpose()
    }

    async fn api_keys(
        &self,
        project_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(sql::API_KEYS)
            .bind(project_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(key).collect()
    }

    async fn drop_api_key(&self, project_id: Option<&str>, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::DROP_API_KEY)
            .bind(project_id)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected() > 0)
    }

    async fn touch_api_key(&self, id: &str, now: u64, since: u64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::TOUCH_API_KEY)
            .bind(id)
            .bind(int(now))
            .bind(int(since))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }
}

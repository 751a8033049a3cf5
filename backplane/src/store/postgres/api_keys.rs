//! API keys in PostgreSQL: a project's are counted under the lock of its row.
//!
//! Never sees a secret, only its hash.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::projects::lock;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::api_keys::{hash, joined, split};
use crate::store::{ApiKey, ApiKeys, StoreError};

type KeyRow = (
    String,
    Option<String>,
    String,
    Vec<u8>,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
);

fn key(row: KeyRow) -> Result<ApiKey, StoreError> {
    let (id, project_id, name, secret, permissions, created_by, created_at, expires_at, used) = row;
    Ok(ApiKey {
        id,
        project_id,
        name,
        secret_hash: hash(&secret)?,
        permissions: split(&permissions),
        created_by,
        created_at: number(created_at)?,
        expires_at: expires_at.map(number).transpose()?,
        last_used_at: used.map(number).transpose()?,
    })
}

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn add_api_key(&self, key: &ApiKey, most: u32) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if let Some(project) = &key.project_id {
            if !lock(&mut tx, project).await? {
                return Err(StoreError::Conflict("there is no such project"));
            }
            let count = query_as(sql::COUNT_API_KEYS).bind(project);
            let count: Option<(i64,)> = tx.first(count).await?;
            if count.is_some_and(|(count,)| count >= i64::from(most)) {
                return Ok(false);
            }
        }
        let add = query(sql::ADD_API_KEY)
            .bind(&key.id)
            .bind(&key.project_id)
            .bind(&key.name)
            .bind(&key.secret_hash[..])
            .bind(joined(&key.permissions))
            .bind(&key.created_by)
            .bind(int(key.created_at))
            .bind(key.expires_at.map(int));
        tx.run(add).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        let row: Option<KeyRow> = self.first(query_as(sql::API_KEY).bind(id)).await?;
        row.map(key).transpose()
    }

    async fn api_keys(
        &self,
        project_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let texts = [project_id.unwrap_or_default(), after];
        if !texts.into_iter().all(may_be_stored) {
            return Ok(Vec::new());
        }
        let rows = match project_id {
            Some(project) => query_as(sql::API_KEYS_OF).bind(project),
            None => query_as(sql::API_KEYS),
        };
        let rows: Vec<KeyRow> = self.all(rows.bind(after).bind(i64::from(limit))).await?;
        rows.into_iter().map(key).collect()
    }

    async fn drop_api_key(&self, project_id: Option<&str>, id: &str) -> Result<bool, StoreError> {
        if !may_be_stored(project_id.unwrap_or_default()) || !may_be_stored(id) {
            return Ok(false);
        }
        let drop = query(sql::DROP_API_KEY).bind(project_id).bind(id);
        Ok(self.run(drop).await? > 0)
    }

    async fn touch_api_key(&self, id: &str, now: u64, since: u64) -> Result<(), StoreError> {
        let touch = query(sql::TOUCH_API_KEY)
            .bind(id)
            .bind(int(now))
            .bind(int(since));
        self.run(touch).await.map(drop)
    }
}

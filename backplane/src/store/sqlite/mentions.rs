//! Names in documents in SQLite.

use async_trait::async_trait;
use serde_json::Value;

use super::events::put_events;
use super::sql::services as sql;
use super::{SqliteStore, int, store_error};
use crate::store::StoreError;
use crate::store::mentions::{Mentions, Scan, Scanned, TellMention};

#[async_trait]
impl Mentions for SqliteStore {
    async fn scanned(&self, after: &str, limit: u32) -> Result<Vec<Scanned>, StoreError> {
        let rows: Vec<(String, u64, u64)> = sqlx::query_as(sql::SCANNED)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        let scanned = |(document_id, head, scanned)| Scanned {
            document_id,
            head,
            scanned,
        };
        Ok(rows.into_iter().map(scanned).collect())
    }

    async fn members_named(
        &self,
        project_id: &str,
        logins: &[String],
    ) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as(sql::NAMED)
            .bind(project_id)
            .bind(Value::from(logins).to_string())
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)
    }

    async fn note_scan(&self, scan: &Scan<'_>, tell: TellMention<'_>) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let noted = sqlx::query(sql::NOTE_SCANNED)
            .bind(scan.document_id)
            .bind(int(scan.from))
            .bind(int(scan.to))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if noted.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(named) = scan.named {
            sqlx::query(sql::DROP_MENTIONS)
                .bind(scan.document_id)
                .bind(Value::from(named).to_string())
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        for user in scan.tell {
            let added = sqlx::query(sql::ADD_MENTION)
                .bind(scan.document_id)
                .bind(user)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            if added.rows_affected() == 1 {
                put_events(&mut tx, &[tell(user)]).await?;
            }
        }
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }
}

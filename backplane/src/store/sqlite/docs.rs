//! Documents and their versions in SQLite.
//!
//! Owns names, places and kept states. The logs are next door in `log`.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::Event;

use super::events::put_events;
use super::rights::note_change;
use super::{SqliteStore, int, sql, store_error};
use crate::store::{
    Append, Change, Docs, Document, Fence, Loaded, LogFrame, Snapshot, StoreError, Version,
    VersionKind,
};

/// Stands after every id, as no text sorts behind it.
const END: &str = "\u{10ffff}";

pub(super) type DocumentRow = (String, String, String, u64, u64, u64);

pub(super) fn document(row: DocumentRow) -> Document {
    let (id, project_id, path, created_at, updated_at, head) = row;
    Document {
        id,
        project_id,
        path,
        created_at,
        updated_at,
        head,
    }
}

type VersionRow = (String, String, u64, String, String, Option<String>, u64);

fn version(row: VersionRow) -> Result<Version, StoreError> {
    let (id, document_id, seq, kind, name, author_id, created_at) = row;
    Ok(Version {
        id,
        document_id,
        seq,
        kind: VersionKind::stored(&kind)?,
        name,
        author_id,
        created_at,
    })
}

#[async_trait]
impl Docs for SqliteStore {
    async fn add_document(&self, document: &Document, events: &[Event]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_DOCUMENT)
            .bind(&document.id)
            .bind(&document.project_id)
            .bind(&document.path)
            .bind(int(document.created_at))
            .bind(int(document.updated_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn document(&self, id: &str) -> Result<Option<Document>, StoreError> {
        let row = sqlx::query_as(sql::DOCUMENT)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(document))
    }

    async fn document_at(
        &self,
        project_id: &str,
        path: &str,
    ) -> Result<Option<Document>, StoreError> {
        let row = sqlx::query_as(sql::DOCUMENT_AT)
            .bind(project_id)
            .bind(path)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(document))
    }

    async fn documents(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Document>, StoreError> {
        let rows: Vec<DocumentRow> = sqlx::query_as(sql::DOCUMENTS)
            .bind(project_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(rows.into_iter().map(document).collect())
    }

    async fn rename_document(
        &self,
        id: &str,
        from: Option<&str>,
        path: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let before = sqlx::query_as(sql::DOCUMENT)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?
            .map(document)
            .ok_or(StoreError::NotFound)?;
        if from.is_some_and(|from| from != before.path) {
            return Err(StoreError::Changed);
        }
        if before.path == path {
            return Ok(());
        }
        sqlx::query(sql::RENAME_DOCUMENT)
            .bind(id)
            .bind(path)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn delete_document(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let project: Option<String> = sqlx::query_scalar(sql::DROP_DOCUMENT)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(project) = project else {
            return Ok(false);
        };
        let id = id.to_owned();
        note_change(&mut tx, &Change::Document { id, project }).await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn heads(&self, ids: &[String]) -> Result<Vec<(String, u64)>, StoreError> {
        sqlx::query_as(sql::HEADS)
            .bind(serde_json::Value::from(ids).to_string())
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)
    }

    async fn append(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.append_batch(batch, now).await
    }

    async fn load(&self, id: &str) -> Result<Loaded, StoreError> {
        self.load_whole(id).await
    }

    async fn log_after(
        &self,
        id: &str,
        seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogFrame>, StoreError> {
        self.read_log(id, seq, max_bytes).await
    }

    async fn save_snapshot(
        &self,
        id: &str,
        snapshot: &Snapshot,
        fence: Option<&Fence>,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.put_snapshot(id, snapshot, fence, now).await
    }

    async fn add_version(&self, version: &Version, state: &Bytes) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_VERSION)
            .bind(&version.id)
            .bind(&version.document_id)
            .bind(int(version.seq))
            .bind(version.kind.as_str())
            .bind(&version.name)
            .bind(&version.author_id)
            .bind(int(version.created_at))
            .bind(&state[..])
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn versions(
        &self,
        document_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        let rows: Vec<VersionRow> = sqlx::query_as(sql::VERSIONS)
            .bind(document_id)
            .bind(before.unwrap_or(END))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(version).collect()
    }

    async fn version(
        &self,
        document_id: &str,
        id: &str,
    ) -> Result<Option<(Version, Bytes)>, StoreError> {
        type Row = (
            String,
            String,
            u64,
            String,
            String,
            Option<String>,
            u64,
            Vec<u8>,
        );
        let row: Option<Row> = sqlx::query_as(sql::VERSION)
            .bind(document_id)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        row.map(
            |(id, document_id, seq, kind, name, author, created_at, state)| {
                let kept = version((id, document_id, seq, kind, name, author, created_at))?;
                Ok((kept, Bytes::from(state)))
            },
        )
        .transpose()
    }

    async fn delete_version(&self, document_id: &str, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::DROP_VERSION)
            .bind(document_id)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected() > 0)
    }
}

impl SqliteStore {
    /// Deletes automatic versions but the newest `keep` of each document. They are found on a reader,
    /// so that the writer is held for the deletion alone.
    pub(super) async fn thin_versions(&self, keep: u32) -> Result<u64, StoreError> {
        let surplus: Vec<String> = sqlx::query_scalar(sql::SURPLUS_VERSIONS)
            .bind(keep)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        if surplus.is_empty() {
            return Ok(0);
        }
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::DROP_VERSIONS)
            .bind(serde_json::Value::from(surplus).to_string())
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected())
    }
}

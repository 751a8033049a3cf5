//! Documents and their versions in PostgreSQL.
//!
//! Owns names, places and kept states. The logs are next door in `log`.

use async_trait::async_trait;
use bytes::Bytes;
use protocol::Event;
use sqlx::{query, query_as};

use super::events::put_events;
use super::rights::note_change;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::{
    Append, Change, Docs, Document, Fence, Loaded, LogFrame, Snapshot, StoreError, Version,
    VersionKind,
};

/// Stands after every id, as no text sorts behind it.
const END: &str = "\u{10ffff}";

pub(super) type DocumentRow = (String, String, String, i64, i64, i64);

pub(super) fn document(row: DocumentRow) -> Result<Document, StoreError> {
    let (id, project_id, path, created_at, updated_at, head) = row;
    Ok(Document {
        id,
        project_id,
        path,
        created_at: number(created_at)?,
        updated_at: number(updated_at)?,
        head: number(head)?,
    })
}

type VersionRow = (String, String, i64, String, String, Option<String>, i64);

fn version(row: VersionRow) -> Result<Version, StoreError> {
    let (id, document_id, seq, kind, name, author_id, created_at) = row;
    Ok(Version {
        id,
        document_id,
        seq: number(seq)?,
        kind: VersionKind::stored(&kind)?,
        name,
        author_id,
        created_at: number(created_at)?,
    })
}

#[async_trait]
impl Docs for PostgresStore {
    async fn add_document(&self, document: &Document, events: &[Event]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let add = query(sql::ADD_DOCUMENT)
            .bind(&document.id)
            .bind(&document.project_id)
            .bind(&document.path)
            .bind(int(document.created_at))
            .bind(int(document.updated_at));
        tx.run(add).await?;
        put_events(&mut tx, events).await?;
        self.commit(tx).await
    }

    async fn document(&self, id: &str) -> Result<Option<Document>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        self.first(query_as(sql::DOCUMENT).bind(id))
            .await?
            .map(document)
            .transpose()
    }

    async fn document_at(
        &self,
        project_id: &str,
        path: &str,
    ) -> Result<Option<Document>, StoreError> {
        if !may_be_stored(project_id) || !may_be_stored(path) {
            return Ok(None);
        }
        self.first(query_as(sql::DOCUMENT_AT).bind(project_id).bind(path))
            .await?
            .map(document)
            .transpose()
    }

    async fn documents(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Document>, StoreError> {
        let list = || {
            query_as(sql::DOCUMENTS)
                .bind(project_id)
                .bind(after)
                .bind(i64::from(limit))
        };
        let rows: Vec<DocumentRow> = self.list(list).await?;
        rows.into_iter().map(document).collect()
    }

    async fn rename_document(
        &self,
        id: &str,
        from: Option<&str>,
        path: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        if !may_be_stored(id) {
            return Err(StoreError::NotFound);
        }
        let mut tx = self.write().await?;
        let before: Option<(String,)> = tx.first(query_as(sql::LOCK_PATH).bind(id)).await?;
        let (before,) = before.ok_or(StoreError::NotFound)?;
        if from.is_some_and(|from| from != before) {
            return Err(StoreError::Changed);
        }
        if before == path {
            return Ok(());
        }
        tx.run(query(sql::RENAME_DOCUMENT).bind(id).bind(path))
            .await?;
        put_events(&mut tx, events).await?;
        self.commit(tx).await
    }

    async fn delete_document(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        if !may_be_stored(id) {
            return Ok(false);
        }
        let mut tx = self.write().await?;
        let dropped: Option<(String,)> = tx.first(query_as(sql::DROP_DOCUMENT).bind(id)).await?;
        let Some((project,)) = dropped else {
            return Ok(false);
        };
        put_events(&mut tx, events).await?;
        let id = id.to_owned();
        note_change(&mut tx, &Change::Document { id, project }).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn append(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.append_batch(batch, now).await
    }

    async fn heads(&self, ids: &[String]) -> Result<Vec<(String, u64)>, StoreError> {
        let ids: Vec<&str> = ids
            .iter()
            .map(String::as_str)
            .filter(|id| may_be_stored(id))
            .collect();
        let rows: Vec<(String, i64)> = self.all(query_as(sql::HEADS).bind(ids)).await?;
        rows.into_iter()
            .map(|(id, head)| Ok((id, number(head)?)))
            .collect()
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
        let add = query(sql::ADD_VERSION)
            .bind(&version.id)
            .bind(&version.document_id)
            .bind(int(version.seq))
            .bind(version.kind.as_str())
            .bind(&version.name)
            .bind(&version.author_id)
            .bind(int(version.created_at))
            .bind(&state[..]);
        self.run(add).await.map(drop)
    }

    async fn versions(
        &self,
        document_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        let list = || {
            query_as(sql::VERSIONS)
                .bind(document_id)
                .bind(before.unwrap_or(END))
                .bind(i64::from(limit))
        };
        let rows: Vec<VersionRow> = self.list(list).await?;
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
            i64,
            String,
            String,
            Option<String>,
            i64,
            Vec<u8>,
        );
        if !may_be_stored(document_id) || !may_be_stored(id) {
            return Ok(None);
        }
        let row = query_as(sql::VERSION).bind(document_id).bind(id);
        let row: Option<Row> = self.first(row).await?;
        row.map(
            |(id, document_id, seq, kind, name, author, created_at, state)| {
                let kept = version((id, document_id, seq, kind, name, author, created_at))?;
                Ok((kept, Bytes::from(state)))
            },
        )
        .transpose()
    }

    async fn delete_version(&self, document_id: &str, id: &str) -> Result<bool, StoreError> {
        if !may_be_stored(document_id) || !may_be_stored(id) {
            return Ok(false);
        }
        let drop_version = query(sql::DROP_VERSION).bind(document_id).bind(id);
        Ok(self.run(drop_version).await? > 0)
    }
}

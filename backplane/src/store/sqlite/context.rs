//! The index of projects' code in SQLite: chunks by an FTS5 table without content.
//!
//! Owns the queries that FTS5 is asked; a chunk's row there goes by a trigger, whatever deletes the chunk.

use async_trait::async_trait;
use serde_json::Value;
use sqlx::{Sqlite, Transaction};

use super::sql::context as sql;
use super::{SqliteStore, int, store_error};
use crate::store::StoreError;
use crate::store::context::{
    Candidate, CandidateRow, Candidates, ContextFile, Contexts, FileSource, Hash, NewChunk,
    Outlined, Stale, Vectorless, Walked, candidate, hash, in_order, number, packed, project_term,
    searched, small, unpacked,
};

type Tx = Transaction<'static, Sqlite>;

#[async_trait]
impl Contexts for SqliteStore {
    async fn stale_documents(
        &self,
        after: &str,
        page: u32,
    ) -> Result<Walked<Stale, String>, StoreError> {
        let mut tx = self.read().await?;
        let (last, count): (Option<String>, u32) = sqlx::query_as(sql::DOCUMENTS_END)
            .bind(after)
            .bind(page)
            .fetch_one(&mut *tx)
            .await
            .map_err(store_error)?;
        let found: Vec<(String, u64, Option<u64>)> = sqlx::query_as(sql::STALE_DOCUMENTS)
            .bind(after)
            .bind(&last)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let stale = |(document_id, head, indexed)| Stale {
            document_id,
            head,
            indexed,
        };
        Ok(Walked {
            found: found.into_iter().map(stale).collect(),
            next: last.filter(|_| count == page),
        })
    }

    async fn put_file(&self, file: &ContextFile, chunks: &[NewChunk]) -> Result<bool, StoreError> {
        if chunks.iter().any(|chunk| chunk.text.contains('\0')) {
            return Err(StoreError::Conflict("a text holds a NUL character"));
        }
        let mut tx = self.write().await?;
        if !has_place(&mut tx, file).await? {
            return Ok(false);
        }
        let known = known(&mut tx, file).await?;
        let id = match known {
            Some((_, seq, _)) if seq > int(file.seq) => return Ok(false),
            Some((id, _, hash)) if hash == file.hash => {
                sqlx::query(sql::SEE_FILE)
                    .bind(id)
                    .bind(&file.path)
                    .bind(int(file.seq))
                    .execute(&mut *tx)
                    .await
                    .map_err(store_error)?;
                tx.commit().await.map_err(store_error)?;
                return Ok(true);
            }
            Some((id, ..)) => Some(id),
            None => None,
        };
        let id = put_row(&mut tx, id, file, chunks).await?;
        for chunk in chunks {
            add_chunk(&mut tx, id, &file.project_id, chunk).await?;
        }
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn repository_files(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, Hash)>, StoreError> {
        let read: Vec<(String, Vec<u8>)> = sqlx::query_as(sql::REPOSITORY_FILES)
            .bind(project_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        read.into_iter()
            .map(|(path, stored)| Ok((path, hash(stored)?)))
            .collect()
    }

    async fn remove_files(
        &self,
        project_id: &str,
        paths: &[String],
        seq: u64,
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        let mut tx = self.write().await?;
        for path in paths {
            let dropped = sqlx::query(sql::DROP_FILE)
                .bind(project_id)
                .bind(path)
                .bind(int(seq))
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            gone += dropped.rows_affected();
        }
        tx.commit().await.map_err(store_error)?;
        Ok(gone)
    }

    async fn candidates(
        &self,
        project_id: &str,
        terms: &[String],
        limit: u32,
    ) -> Result<Candidates, StoreError> {
        let mut tx = self.read().await?;
        let project = project_term(project_id);
        let (total, length): (u64, u64) = sqlx::query_as(sql::SIZE_OF)
            .bind(project_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(store_error)?;
        let mut frequencies = Vec::with_capacity(terms.len());
        let mut any = Vec::new();
        for term in searched(terms) {
            let mut frequency = 0;
            if let Some(term) = term {
                frequency = sqlx::query_scalar(sql::COUNT_MATCHES)
                    .bind(format!("\"{project}\" AND \"{term}\""))
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(store_error)?;
                any.push(format!("\"{term}\""));
            }
            frequencies.push(frequency);
        }
        if any.is_empty() {
            return Ok(Candidates {
                chunks: Vec::new(),
                frequencies,
                total,
                length,
            });
        }
        let ids: Vec<i64> = sqlx::query_scalar(sql::MATCHES)
            .bind(format!("\"{project}\" AND ({})", any.join(" OR ")))
            .bind(limit)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let chunks = read_chunks(&mut tx, project_id, &ids).await?;
        Ok(Candidates {
            chunks: in_order(chunks, &ids),
            frequencies,
            total,
            length,
        })
    }

    async fn chunks(&self, project_id: &str, ids: &[u64]) -> Result<Vec<Candidate>, StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| int(*id)).collect();
        let mut tx = self.read().await?;
        read_chunks(&mut tx, project_id, &ids).await
    }

    async fn outline(
        &self,
        project_id: &str,
        paths: &[String],
        limit: u32,
    ) -> Result<Vec<Outlined>, StoreError> {
        let outline = match paths {
            [] => sqlx::query_as(sql::OUTLINE).bind(project_id).bind(limit),
            paths => sqlx::query_as(sql::OUTLINE_OF)
                .bind(project_id)
                .bind(limit)
                .bind(Value::from(paths).to_string()),
        };
        let read: Vec<(String, String, i64)> = outline
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        let outlined = |(path, symbol, line)| {
            Ok(Outlined {
                path,
                symbol,
                line: small(line)?,
            })
        };
        read.into_iter().map(outlined).collect()
    }

    async fn missing_vectors(
        &self,
        model: &str,
        after: u64,
        page: u32,
    ) -> Result<Walked<Vectorless, u64>, StoreError> {
        let mut tx = self.read().await?;
        let (last, more) = end(&mut tx, sql::CHUNKS_END, after, page).await?;
        let found: Vec<(String, Vec<u8>, String)> = sqlx::query_as(sql::VECTORLESS)
            .bind(int(after))
            .bind(last)
            .bind(model)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let vectorless = |(project_id, stored, text)| {
            Ok(Vectorless {
                project_id,
                hash: hash(stored)?,
                text,
            })
        };
        Ok(Walked {
            found: found
                .into_iter()
                .map(vectorless)
                .collect::<Result<_, StoreError>>()?,
            next: more,
        })
    }

    async fn put_vectors(
        &self,
        model: &str,
        vectors: &[(Hash, Vec<f32>)],
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for (hash, vector) in vectors {
            sqlx::query(sql::PUT_VECTOR)
                .bind(model)
                .bind(&hash[..])
                .bind(packed(vector))
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)
    }

    async fn vectors_of(
        &self,
        project_id: &str,
        model: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<f32>)>, StoreError> {
        let read: Vec<(u64, Vec<u8>)> = sqlx::query_as(sql::VECTORS_OF)
            .bind(project_id)
            .bind(model)
            .bind(int(after))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        read.into_iter()
            .map(|(id, stored)| Ok((id, unpacked(&stored)?)))
            .collect()
    }

    async fn drop_unused_vectors(
        &self,
        after: u64,
        page: u32,
    ) -> Result<(u64, Option<u64>), StoreError> {
        let mut tx = self.write().await?;
        let (last, more) = end(&mut tx, sql::VECTORS_END, after, page).await?;
        let dropped = sqlx::query(sql::DROP_VECTORS)
            .bind(int(after))
            .bind(last)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok((dropped.rows_affected(), more))
    }
}

/// Whether what the file belongs to is there.
async fn has_place(tx: &mut Tx, file: &ContextFile) -> Result<bool, StoreError> {
    let has = match &file.source {
        FileSource::Document(id) => sqlx::query_scalar(sql::HAS_DOCUMENT)
            .bind(id)
            .bind(&file.project_id),
        FileSource::Repository => sqlx::query_scalar(sql::HAS_PROJECT).bind(&file.project_id),
    };
    let has: Option<i64> = has.fetch_optional(&mut **tx).await.map_err(store_error)?;
    Ok(has.is_some())
}

/// Number, sequence and hash of the file, if it is known.
async fn known(tx: &mut Tx, file: &ContextFile) -> Result<Option<(i64, i64, Vec<u8>)>, StoreError> {
    let known = match &file.source {
        FileSource::Document(id) => sqlx::query_as(sql::FILE_OF_DOCUMENT).bind(id),
        FileSource::Repository => sqlx::query_as(sql::FILE_OF_REPOSITORY)
            .bind(&file.project_id)
            .bind(&file.path),
    };
    known.fetch_optional(&mut **tx).await.map_err(store_error)
}

/// The file's row as it is to be, without chunks; its number.
async fn put_row(
    tx: &mut Tx,
    known: Option<i64>,
    file: &ContextFile,
    chunks: &[NewChunk],
) -> Result<i64, StoreError> {
    let (count, length) = size(chunks);
    let Some(id) = known else {
        let document = match &file.source {
            FileSource::Document(id) => Some(id),
            FileSource::Repository => None,
        };
        return sqlx::query_scalar(sql::ADD_FILE)
            .bind(&file.project_id)
            .bind(document)
            .bind(&file.path)
            .bind(&file.hash[..])
            .bind(int(file.seq))
            .bind(count)
            .bind(length)
            .fetch_one(&mut **tx)
            .await
            .map_err(store_error);
    };
    sqlx::query(sql::DROP_CHUNKS)
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    sqlx::query(sql::SET_FILE)
        .bind(id)
        .bind(&file.path)
        .bind(&file.hash[..])
        .bind(int(file.seq))
        .bind(count)
        .bind(length)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(id)
}

/// How many chunks, and how many terms in all.
fn size(chunks: &[NewChunk]) -> (i64, i64) {
    let length: usize = chunks.iter().map(|chunk| chunk.terms.len()).sum();
    (int(chunks.len() as u64), int(length as u64))
}

async fn add_chunk(
    tx: &mut Tx,
    file: i64,
    project: &str,
    chunk: &NewChunk,
) -> Result<(), StoreError> {
    let terms = chunk.terms.join(" ");
    let id: i64 = sqlx::query_scalar(sql::ADD_CHUNK)
        .bind(file)
        .bind(project)
        .bind(chunk.first_line)
        .bind(chunk.last_line)
        .bind(&chunk.symbol)
        .bind(chunk.kind.as_str())
        .bind(&chunk.text)
        .bind(&chunk.hash[..])
        .bind(&terms)
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)?;
    sqlx::query(sql::ADD_TERMS)
        .bind(id)
        .bind(format!("{} {terms}", project_term(project)))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn read_chunks(
    tx: &mut Tx,
    project_id: &str,
    ids: &[i64],
) -> Result<Vec<Candidate>, StoreError> {
    let rows: Vec<CandidateRow> = sqlx::query_as(sql::CHUNKS)
        .bind(project_id)
        .bind(Value::from(ids).to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(store_error)?;
    rows.into_iter().map(candidate).collect()
}

/// The last number of a page, and where the walk goes on if that is not the end.
async fn end(
    tx: &mut Tx,
    statement: &'static str,
    after: u64,
    page: u32,
) -> Result<(Option<i64>, Option<u64>), StoreError> {
    let (last, count): (Option<i64>, u32) = sqlx::query_as(statement)
        .bind(int(after))
        .bind(page)
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)?;
    let more = last.filter(|_| count == page).map(number).transpose()?;
    Ok((last, more))
}

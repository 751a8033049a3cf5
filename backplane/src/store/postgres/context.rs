//! The index of projects' code in PostgreSQL: chunks by a GIN index over their terms.
//!
//! Owns the queries that it is asked. A file's row is locked before what is known of it is judged, after the project
//! and the document that it belongs to.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::notifications::keep;
use super::sql::{context as sql, services::KEEP_PROJECTS};
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number};
use crate::store::StoreError;
use crate::store::context::{
    Candidate, CandidateRow, Candidates, ContextFile, Contexts, FileSource, Hash, NewChunk,
    Outlined, Stale, Vectorless, Walked, candidate, hash, in_order, packed, project_term, searched,
    small, unpacked,
};

#[async_trait]
impl Contexts for PostgresStore {
    async fn stale_documents(
        &self,
        after: &str,
        page: u32,
    ) -> Result<Walked<Stale, String>, StoreError> {
        let mut tx = self.read().await?;
        let end = query_as(sql::DOCUMENTS_END)
            .bind(after)
            .bind(i64::from(page));
        let (last, count): (Option<String>, i64) =
            tx.first(end).await?.ok_or(StoreError::NotFound)?;
        let stale = query_as(sql::STALE_DOCUMENTS).bind(after).bind(&last);
        let found: Vec<(String, i64, Option<i64>)> = tx.all(stale).await?;
        let stale = |(document_id, head, indexed): (String, i64, Option<i64>)| {
            Ok(Stale {
                document_id,
                head: number(head)?,
                indexed: indexed.map(number).transpose()?,
            })
        };
        Ok(Walked {
            found: found
                .into_iter()
                .map(stale)
                .collect::<Result<_, StoreError>>()?,
            next: last.filter(|_| count == i64::from(page)),
        })
    }

    async fn put_file(&self, file: &ContextFile, chunks: &[NewChunk]) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let project = std::iter::once(file.project_id.as_str());
        if keep(&mut tx, KEEP_PROJECTS, project).await?.is_empty() {
            return Ok(false);
        }
        let document = match &file.source {
            FileSource::Document(id) => Some(id),
            FileSource::Repository => None,
        };
        if let Some(id) = document {
            let kept = query_as(sql::KEEP_DOCUMENT).bind(id).bind(&file.project_id);
            if tx.first::<(String,)>(kept).await?.is_none() {
                return Ok(false);
            }
        }
        let add = query(sql::ADD_FILE)
            .bind(&file.project_id)
            .bind(document)
            .bind(&file.path);
        tx.run(add).await?;
        let known = match document {
            Some(id) => query_as(sql::FILE_OF_DOCUMENT).bind(id),
            None => query_as(sql::FILE_OF_REPOSITORY)
                .bind(&file.project_id)
                .bind(&file.path),
        };
        let known: Option<(i64, i64, Vec<u8>)> = tx.first(known).await?;
        let (id, seq, known) = known.ok_or(StoreError::NotFound)?;
        if seq > int(file.seq) {
            return Ok(false);
        }
        if known == file.hash {
            let see = query(sql::SEE_FILE)
                .bind(id)
                .bind(&file.path)
                .bind(int(file.seq));
            tx.run(see).await?;
        } else {
            replace(&mut tx, id, file, chunks).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn repository_files(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(String, Hash)>, StoreError> {
        let files = query_as(sql::REPOSITORY_FILES)
            .bind(project_id)
            .bind(after)
            .bind(i64::from(limit));
        let read: Vec<(String, Vec<u8>)> = self.all(files).await?;
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
        let mut tx = self.write().await?;
        // Who deletes the project would take the same rows in another order.
        keep(&mut tx, KEEP_PROJECTS, std::iter::once(project_id)).await?;
        let drop = query(sql::DROP_FILES)
            .bind(project_id)
            .bind(paths)
            .bind(int(seq));
        let gone = tx.run(drop).await?;
        tx.commit().await?;
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
        let size: Option<(i64, i64)> = tx.first(query_as(sql::SIZE_OF).bind(project_id)).await?;
        let (total, length) = size.unwrap_or_default();
        // What is no term is found nowhere: no lexeme begins with two equals signs.
        let quoted: Vec<String> = searched(terms)
            .map(|term| format!("'{}'", term.unwrap_or("==")))
            .collect();
        let both: Vec<String> = quoted
            .iter()
            .map(|term| format!("'{project}' & {term}"))
            .collect();
        let counts: Vec<(i64,)> = tx.all(query_as(sql::COUNT_MATCHES).bind(both)).await?;
        let mut found = Candidates {
            total: number(total)?,
            length: number(length)?,
            ..Candidates::default()
        };
        for (count,) in counts {
            found.frequencies.push(number(count)?);
        }
        if quoted.is_empty() {
            return Ok(found);
        }
        let weight = |count: &u64| (1.0 + found.total as f64 / (1 + count) as f64).ln();
        let weights: Vec<f64> = found.frequencies.iter().map(weight).collect();
        let matches = query_as(sql::MATCHES)
            .bind(format!("'{project}' & ({})", quoted.join(" | ")))
            .bind(quoted)
            .bind(weights)
            .bind(i64::from(limit));
        let ids: Vec<(i64,)> = tx.all(matches).await?;
        let ids: Vec<i64> = ids.into_iter().map(|(id,)| id).collect();
        found.chunks = in_order(read_chunks(&mut tx, project_id, &ids).await?, &ids);
        Ok(found)
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
        let fine: Vec<&str> = paths
            .iter()
            .map(String::as_str)
            .filter(|path| may_be_stored(path))
            .collect();
        let outline = query_as(sql::OUTLINE)
            .bind(project_id)
            .bind(i64::from(limit))
            .bind((!paths.is_empty()).then_some(fine));
        let read: Vec<(String, String, i64)> = self.all(outline).await?;
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
        let (last, next) = end(&mut tx, sql::CHUNKS_END, after, page).await?;
        let missing = query_as(sql::VECTORLESS)
            .bind(int(after))
            .bind(last)
            .bind(model);
        let found: Vec<(String, Vec<u8>, String)> = tx.all(missing).await?;
        let vectorless = |(project_id, stored, text)| {
            Ok(Vectorless {
                project_id,
                hash: hash(stored)?,
                text,
            })
        };
        let found = found.into_iter().map(vectorless);
        Ok(Walked {
            found: found.collect::<Result<_, StoreError>>()?,
            next,
        })
    }

    async fn put_vectors(
        &self,
        model: &str,
        vectors: &[(Hash, Vec<f32>)],
    ) -> Result<(), StoreError> {
        let (hashes, vectors): (Vec<&[u8]>, Vec<Vec<u8>>) = vectors
            .iter()
            .map(|(hash, vector)| (&hash[..], packed(vector)))
            .unzip();
        let put = query(sql::PUT_VECTORS)
            .bind(model)
            .bind(hashes)
            .bind(vectors);
        self.run(put).await.map(drop)
    }

    async fn vectors_of(
        &self,
        project_id: &str,
        model: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<f32>)>, StoreError> {
        let vectors = query_as(sql::VECTORS_OF)
            .bind(project_id)
            .bind(model)
            .bind(int(after))
            .bind(i64::from(limit));
        let read: Vec<(i64, Vec<u8>)> = self.all(vectors).await?;
        read.into_iter()
            .map(|(id, stored)| Ok((number(id)?, unpacked(&stored)?)))
            .collect()
    }

    async fn drop_unused_vectors(
        &self,
        after: u64,
        page: u32,
    ) -> Result<(u64, Option<u64>), StoreError> {
        let mut tx = self.write().await?;
        let (last, next) = end(&mut tx, sql::VECTORS_END, after, page).await?;
        let dropped = tx
            .run(query(sql::DROP_VECTORS).bind(int(after)).bind(last))
            .await?;
        tx.commit().await?;
        Ok((dropped, next))
    }
}

/// Puts the chunks in place of those that the file has; its row is locked.
async fn replace(
    tx: &mut Tx,
    id: i64,
    file: &ContextFile,
    chunks: &[NewChunk],
) -> Result<(), StoreError> {
    tx.run(query(sql::DROP_CHUNKS).bind(id)).await?;
    let length: usize = chunks.iter().map(|chunk| chunk.terms.len()).sum();
    let set = query(sql::SET_FILE)
        .bind(id)
        .bind(&file.path)
        .bind(&file.hash[..])
        .bind(int(file.seq))
        .bind(int(chunks.len() as u64))
        .bind(int(length as u64));
    tx.run(set).await?;
    let of = |line: fn(&NewChunk) -> u32| -> Vec<i64> {
        chunks.iter().map(|chunk| i64::from(line(chunk))).collect()
    };
    let symbols: Vec<Option<&str>> = chunks.iter().map(|chunk| chunk.symbol.as_deref()).collect();
    let kinds: Vec<&str> = chunks.iter().map(|chunk| chunk.kind.as_str()).collect();
    let texts: Vec<&str> = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    let hashes: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk.hash[..]).collect();
    let terms: Vec<String> = chunks.iter().map(|chunk| chunk.terms.join(" ")).collect();
    let add = query(sql::ADD_CHUNKS)
        .bind(id)
        .bind(&file.project_id)
        .bind(project_term(&file.project_id))
        .bind(of(|chunk| chunk.first_line))
        .bind(of(|chunk| chunk.last_line))
        .bind(symbols)
        .bind(kinds)
        .bind(texts)
        .bind(hashes)
        .bind(terms);
    tx.run(add).await.map(drop)
}

async fn read_chunks(
    tx: &mut Tx,
    project_id: &str,
    ids: &[i64],
) -> Result<Vec<Candidate>, StoreError> {
    let chunks = query_as(sql::CHUNKS).bind(project_id).bind(ids);
    let rows: Vec<CandidateRow> = tx.all(chunks).await?;
    rows.into_iter().map(candidate).collect()
}

/// The last number of a page, and where the walk goes on if that is not the end.
async fn end(
    tx: &mut Tx,
    statement: &'static str,
    after: u64,
    page: u32,
) -> Result<(Option<i64>, Option<u64>), StoreError> {
    let end = query_as(statement).bind(int(after)).bind(i64::from(page));
    let (last, count): (Option<i64>, i64) = tx.first(end).await?.ok_or(StoreError::NotFound)?;
    let next = last.filter(|_| count == i64::from(page));
    Ok((last, next.map(number).transpose()?))
}

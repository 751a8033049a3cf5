//! The update logs of documents in PostgreSQL: group commit, reading, snapshots.
//!
//! Owns the order of a document's updates: a sequence is taken under the lock of the document's row, in the
//! statement that writes the frame. Never looks into an update.
//!
//! A group commit whose connection breaks may have been committed or not. It is told as
//! [`StoreError::Unavailable`], and who appends the same updates again may append them twice: the log then
//! holds them twice, which changes no document, as updates are idempotent.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use sqlx::{query, query_as};
use tokio::time::{sleep, timeout_at};

use super::docs::{self, DocumentRow};
use super::error::{is_collision, store_error};
use super::nodes::check_fence;
use super::tx::{Rows, Tx, answered};
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::batch::{Share, join, results};
use crate::store::log::{Tail, decode_frame};
use crate::store::{Append, Document, Fence, Loaded, LogFrame, Snapshot, StoreError};

/// How often a group commit is tried that collides with another's transaction.
pub(super) const TRIES: u32 = 5;
/// What it waits before, times the try and a little luck.
const PAUSE: Duration = Duration::from_millis(2);
/// The largest piece of data that TLS sends under one header.
const RECORD: usize = 1 << 14;
/// What a statement is beside its shares: messages' heads, array heads, the time.
const HEAD: usize = 256;
/// Statements that one group commit has at most, about.
const PIECES: usize = 16;
/// Frames that one statement reads at most when the bytes are bounded.
const PAGE: usize = 256;

type FrameRow = (i64, i64, Vec<u8>);

impl PostgresStore {
    /// One statement, or a few in one transaction, however many documents the batch has.
    pub(super) async fn append_batch(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        if batch.iter().any(|append| append.terms.is_some()) {
            return self.append_on_terms(batch, now).await;
        }
        let batch: Vec<&Append> = batch.iter().collect();
        let mut shares = join(&batch);
        // Such a document is missing, like any other that is; the statement would fail for all.
        shares.retain(|share| may_be_stored(share.document_id));
        let mut heads = HashMap::new();
        if !shares.is_empty() {
            // Documents are locked in this order, also from one statement to the next.
            shares.sort_unstable_by_key(|share| share.document_id);
            for (id, head) in self.commit_group(&pieces(&shares), now).await? {
                heads.insert(id, number(head)?);
            }
        }
        Ok(results(&batch, &heads))
    }

    async fn commit_group(
        &self,
        pieces: &[&[Share<'_>]],
        now: u64,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let deadline = self.deadline();
        for attempt in 1.. {
            match timeout_at(deadline, self.try_group(pieces, now)).await {
                Ok(Err(error)) if is_collision(&error) && attempt < TRIES => pause(attempt).await,
                Ok(done) => return done.map_err(store_error),
                Err(_) => break,
            }
        }
        Err(unanswered())
    }

    async fn try_group(
        &self,
        pieces: &[&[Share<'_>]],
        now: u64,
    ) -> Result<Vec<(String, i64)>, sqlx::Error> {
        if let [whole] = pieces {
            return append(whole, now).fetch_all(&self.primary).await;
        }
        let mut tx = self.primary.begin().await?;
        let mut heads = Vec::new();
        for piece in pieces {
            heads.extend(append(piece, now).fetch_all(&mut *tx).await?);
        }
        tx.commit().await?;
        Ok(heads)
    }

    pub(super) async fn load_whole(&self, id: &str) -> Result<Loaded, StoreError> {
        if !may_be_stored(id) {
            return Err(StoreError::NotFound);
        }
        let mut tx = self.read().await?;
        let (document, snapshot) = read_document(&mut tx, id).await?;
        let seq = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        let mut tail = Tail::after(seq);
        // A head that the snapshot has reached leaves no tail to ask for.
        if seq < document.head {
            read_all(&mut tx, id, seq, &mut tail).await?;
        }
        Ok(Loaded {
            tail: tail.up_to(document.head)?,
            document,
            snapshot,
        })
    }

    pub(super) async fn read_log(
        &self,
        id: &str,
        seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogFrame>, StoreError> {
        if !may_be_stored(id) {
            return Err(StoreError::NotFound);
        }
        let mut tx = self.read().await?;
        let (head, cut) = head_and_cut(&mut tx, id).await?;
        if seq < cut.unwrap_or(0) {
            return Err(StoreError::NotFound);
        }
        if seq >= head {
            return Ok(Vec::new());
        }
        let mut tail = Tail::after(seq);
        read_pages(&mut tx, id, seq, max_bytes, &mut tail).await?;
        let frames = tail.so_far();
        if frames.is_empty() {
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
        if !may_be_stored(id) {
            return Err(StoreError::NotFound);
        }
        let mut tx = self.write().await?;
        if let Some(fence) = fence {
            check_fence(&mut tx, fence).await?;
        }
        // Heads only rise and a snapshot stands for a committed one, so that no lock is needed on the document.
        let (head, _) = head_and_cut(&mut tx, id).await?;
        if snapshot.seq > head {
            return Err(StoreError::Conflict(
                "the snapshot is beyond the document's head",
            ));
        }
        let put = query(sql::PUT_SNAPSHOT)
            .bind(id)
            .bind(int(snapshot.seq))
            .bind(&snapshot.state[..])
            .bind(int(now));
        if tx.run(put).await? == 0 {
            return Ok(false);
        }
        let cut = query(sql::CUT_LOG).bind(id).bind(int(snapshot.seq));
        tx.run(cut).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Two that collided must not come back at one moment.
pub(super) async fn pause(attempt: u32) {
    sleep(PAUSE * attempt * rand::random_range(1..=4)).await;
}

pub(super) fn unanswered() -> StoreError {
    StoreError::Unavailable(
        "the database does not answer; whether it took the updates is unknown".into(),
    )
}

pub(super) fn append<'q>(shares: &'q [Share<'q>], now: u64) -> Rows<'q, (String, i64)> {
    let ids: Vec<&str> = shares.iter().map(|share| share.document_id).collect();
    let counts: Vec<i64> = shares.iter().map(|share| int(share.updates)).collect();
    let frames: Vec<&[u8]> = shares.iter().map(|share| &share.frame[..]).collect();
    query_as(sql::APPEND)
        .bind(ids)
        .bind(counts)
        .bind(frames)
        .bind(int(now))
}

/// Cuts a batch so that each statement is sent as one TLS record, or the batch in a bounded number of
/// statements. The driver writes each record by itself and leaves Nagle's algorithm on: the last one of
/// several would wait for the server's delayed acknowledgement, which takes 40 ms.
pub(super) fn pieces<'s, 'a>(shares: &'s [Share<'a>]) -> Vec<&'s [Share<'a>]> {
    let total: usize = shares.iter().map(sent).sum();
    let most = (RECORD - HEAD).max(total.div_ceil(PIECES));
    let (mut pieces, mut rest) = (Vec::new(), shares);
    while !rest.is_empty() {
        let mut size = 0;
        let fitting = rest.iter().take_while(|share| {
            size += sent(share);
            size <= most
        });
        let (piece, others) = rest.split_at(fitting.count().max(1));
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// How many bytes a share is in a statement: an id, a number and a frame, each after its length.
fn sent(share: &Share<'_>) -> usize {
    share.document_id.len() + share.frame.len() + 20
}

async fn read_document(tx: &mut Tx, id: &str) -> Result<(Document, Option<Snapshot>), StoreError> {
    type Row = (
        String,
        String,
        String,
        i64,
        i64,
        i64,
        Option<i64>,
        Option<Vec<u8>>,
    );
    let row: Option<Row> = tx.first(query_as(sql::LOADED).bind(id)).await?;
    let (id, project, path, created_at, updated_at, head, seq, state) =
        row.ok_or(StoreError::NotFound)?;
    let document: DocumentRow = (id, project, path, created_at, updated_at, head);
    let snapshot = match seq.zip(state) {
        Some((seq, state)) => Some(Snapshot {
            seq: number(seq)?,
            state: state.into(),
        }),
        None => None,
    };
    Ok((docs::document(document)?, snapshot))
}

/// A document's head, and the sequence of its snapshot.
async fn head_and_cut(tx: &mut Tx, id: &str) -> Result<(u64, Option<u64>), StoreError> {
    let row: Option<(i64, Option<i64>)> = tx.first(query_as(sql::HEAD).bind(id)).await?;
    let (head, cut) = row.ok_or(StoreError::NotFound)?;
    Ok((number(head)?, cut.map(number).transpose()?))
}

/// All frames after `seq`, as they come.
async fn read_all(tx: &mut Tx, id: &str, seq: u64, tail: &mut Tail) -> Result<(), StoreError> {
    let (connection, deadline) = tx.parts();
    let mut rows = pin!(
        query_as::<_, FrameRow>(sql::LOG_AFTER)
            .bind(id)
            .bind(int(seq))
            .fetch(connection)
    );
    while let Some(row) = answered(deadline, rows.try_next()).await? {
        push(tail, row)?;
    }
    Ok(())
}

/// Frames after `seq` until `max_bytes` are passed, one at least; not more is asked of the server.
async fn read_pages(
    tx: &mut Tx,
    id: &str,
    mut seq: u64,
    max_bytes: usize,
    tail: &mut Tail,
) -> Result<(), StoreError> {
    let mut bytes = 0_usize;
    loop {
        let page = query_as(sql::LOG_PAGE)
            .bind(id)
            .bind(int(seq))
            .bind(int((max_bytes - bytes) as u64))
            .bind(PAGE as i64);
        let rows: Vec<FrameRow> = tx.all(page).await?;
        let full = rows.len() == PAGE;
        for row in rows {
            seq = number(row.1)?;
            bytes = bytes.saturating_add(row.2.len());
            push(tail, row)?;
        }
        if !full || bytes > max_bytes {
            return Ok(());
        }
    }
}

fn push(tail: &mut Tail, (first, last, data): FrameRow) -> Result<(), StoreError> {
    let frame = decode_frame(number(first)?, number(last)?, &Bytes::from(data))?;
    tail.push(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sizes: &[usize]) -> Vec<Share<'static>> {
        let share = |size: &usize| Share {
            document_id: "an id of thirty-six characters, as a",
            updates: 1,
            frame: vec![7; *size],
        };
        sizes.iter().map(share).collect()
    }

    #[test]
    fn pieces_are_records_in_order_and_not_too_many() {
        let mixed: Vec<usize> = (0..400).map(|n| n * 37 % 900).collect();
        for sizes in [
            vec![1],
            vec![50; 100],
            vec![100_000],
            vec![10, 100_000, 10],
            vec![9_000; 3],
            vec![5_000; 2_000],
            mixed,
        ] {
            let shares = shares(&sizes);
            let pieces = pieces(&shares);
            let together: Vec<usize> = pieces
                .iter()
                .flat_map(|piece| piece.iter().map(|share| share.frame.len()))
                .collect();
            assert_eq!(together, sizes);
            assert!(pieces.len() <= 2 * PIECES, "{} pieces", pieces.len());
            let total: usize = shares.iter().map(sent).sum();
            for piece in pieces {
                let size: usize = piece.iter().map(sent).sum();
                let bounded = size + HEAD <= RECORD || size <= total.div_ceil(PIECES);
                assert!(!piece.is_empty() && (bounded || piece.len() == 1));
            }
        }
    }
}

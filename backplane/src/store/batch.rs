//! The shares of a group commit, joined per document, and what each share is told afterwards.
//!
//! Owns the order of several shares of one document: they follow each other as they stand in the batch, in one
//! frame. Knows no database.

use std::collections::HashMap;

use bytes::Bytes;

use super::log::encode_frame;
use super::{Append, StoreError};

/// What one document gets in a group commit.
pub(crate) struct Share<'a> {
    /// Its id; each stands once in a batch.
    pub(crate) document_id: &'a str,
    /// How many updates its frame holds, at least one.
    pub(crate) updates: u64,
    /// The frame.
    pub(crate) frame: Vec<u8>,
}

/// One share per document, in the order in which the documents come first. Empty shares are left out.
pub(crate) fn join(batch: &[Append]) -> Vec<Share<'_>> {
    let mut shares: Vec<Share<'_>> = Vec::with_capacity(batch.len());
    let mut places = HashMap::with_capacity(batch.len());
    for append in batch.iter().filter(|append| !append.updates.is_empty()) {
        let id = append.document_id.as_str();
        let place = *places.entry(id).or_insert_with(|| {
            shares.push(Share {
                document_id: id,
                updates: 0,
                frame: Vec::with_capacity(frame_size(&append.updates)),
            });
            shares.len() - 1
        });
        shares[place].updates += append.updates.len() as u64;
        encode_frame(&append.updates, &mut shares[place].frame);
    }
    shares
}

/// At most so many bytes, as long as the updates are of usual size: two for a length.
fn frame_size(updates: &[Bytes]) -> usize {
    updates.iter().map(|update| update.len() + 2).sum()
}

/// The last sequence of each share, counted back from the heads that the batch as a whole reached.
pub(crate) fn results(
    batch: &[Append],
    heads: &HashMap<String, u64>,
) -> Vec<Result<u64, StoreError>> {
    let mut later: HashMap<&str, u64> = HashMap::new();
    let mut results: Vec<_> = batch
        .iter()
        .rev()
        .map(|append| {
            if append.updates.is_empty() {
                return Err(StoreError::Conflict("an append holds at least one update"));
            }
            let id = append.document_id.as_str();
            let head = heads.get(id).ok_or(StoreError::NotFound)?;
            let later = later.entry(id).or_default();
            let last = head - *later;
            *later += append.updates.len() as u64;
            Ok(last)
        })
        .collect();
    results.reverse();
    results
}

//! The shares of a group commit, joined per document, and what each share is told afterwards.
//!
//! Owns the order of several shares of one document: they follow each other as they stand in the batch, in one
//! frame; and which shares with terms are taken. Knows no database.

use std::collections::HashMap;

use bytes::Bytes;

use super::log::encode_frame;
use super::{Append, Receipt, StoreError};

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
pub(crate) fn join<'a>(batch: &[&'a Append]) -> Vec<Share<'a>> {
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
    batch: &[&Append],
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

/// A claim as the store has it: who is at the request, and the sequence of its update if that is in the log.
pub(crate) type Held = (String, Option<u64>);

/// What becomes of each share before anything is written: `None` for those that are taken.
///
/// `heads` are those before the batch, `claims` by user and key.
pub(crate) fn decided(
    batch: &[Append],
    heads: &HashMap<String, u64>,
    claims: &HashMap<(String, String), Held>,
) -> Vec<Option<Result<u64, StoreError>>> {
    let mut heads = heads.clone();
    let decide = |append: &Append| {
        let head = heads.get_mut(&append.document_id);
        let count = append.updates.len() as u64;
        if let Some(terms) = &append.terms {
            if let Some(receipt) = &terms.receipt {
                match claims.get(&(receipt.user_id.clone(), receipt.key.clone())) {
                    Some((claim, seq)) if *claim == receipt.claim => {
                        // An attempt before this one was committed after all.
                        if let Some(seq) = seq {
                            return Some(Ok(*seq));
                        }
                    }
                    _ => return Some(Err(StoreError::Conflict("the request's claim is lost"))),
                }
            }
            let as_expected = match (terms.head, &head) {
                (None, _) => true,
                (Some(expected), Some(head)) => expected == **head,
                // The append itself will say that there is no such document.
                (Some(_), None) => true,
            };
            if !as_expected {
                return Some(Err(StoreError::Changed));
            }
        }
        if let Some(head) = head {
            *head += count;
        }
        None
    };
    batch.iter().map(decide).collect()
}

/// The results of all shares, from those of the ones that were taken.
pub(crate) fn merged(
    decided: Vec<Option<Result<u64, StoreError>>>,
    taken: Vec<Result<u64, StoreError>>,
) -> Vec<Result<u64, StoreError>> {
    let mut taken = taken.into_iter();
    let gone = || Err(StoreError::NotFound);
    decided
        .into_iter()
        .map(|decided| decided.unwrap_or_else(|| taken.next().unwrap_or_else(gone)))
        .collect()
}

/// The shares that are taken.
pub(crate) fn taken<'a>(
    batch: &'a [Append],
    decided: &[Option<Result<u64, StoreError>>],
) -> Vec<&'a Append> {
    let both = batch.iter().zip(decided);
    both.filter(|(_, decided)| decided.is_none())
        .map(|(append, _)| append)
        .collect()
}

/// Receipts whose update is being written, each with its sequence.
pub(crate) fn receipts<'a>(
    taken: &[&'a Append],
    results: &[Result<u64, StoreError>],
) -> Vec<(&'a Receipt, u64)> {
    let both = taken.iter().zip(results);
    both.filter_map(|(append, result)| {
        let receipt = append.terms.as_ref()?.receipt.as_ref()?;
        Some((receipt, *result.as_ref().ok()?))
    })
    .collect()
}

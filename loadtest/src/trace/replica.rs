//! One copy of the document: applies updates, and makes edits given in code points.

use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{
    Doc, GetString, OffsetKind, Options, ReadTxn, Snapshot, StateVector, Text, TextRef, Transact,
    Update,
};

use super::position::Positions;
use super::{Patch, TraceError};

/// Name of the shared text.
const ROOT: &str = "text";

/// A Yjs document with one text.
pub(crate) struct Replica {
    doc: Doc,
    text: TextRef,
    /// Kept only for sessions with characters of two units; none while it is out of date.
    positions: Option<Positions>,
    astral: bool,
}

impl Replica {
    /// An empty copy whose edits bear a client id; `astral` if characters of two units may come.
    pub(crate) fn new(client: u64, astral: bool) -> Self {
        let doc = Doc::with_options(Options {
            offset_kind: OffsetKind::Utf16,
            ..Options::with_client_id(ClientID::new(client))
        });
        let text = doc.get_or_insert_text(ROOT);
        Self {
            doc,
            text,
            positions: Some(Positions::default()),
            astral,
        }
    }

    /// Applies an update of another copy.
    pub(crate) fn apply(&mut self, update: &[u8]) -> Result<(), TraceError> {
        let update = Update::decode_v1(update).map_err(|e| TraceError::Update(e.to_string()))?;
        self.doc
            .transact_mut()
            .apply_update(update)
            .map_err(|e| TraceError::Update(e.to_string()))?;
        if self.astral {
            self.positions = None;
        }
        Ok(())
    }

    /// Makes the edits of one transaction; returns the update that carries them.
    pub(crate) fn edit(&mut self, patches: &[Patch]) -> Result<Vec<u8>, TraceError> {
        let positions = match &mut self.positions {
            Some(positions) => positions,
            stale => stale.insert(Positions::of(&self.text.get_string(&self.doc.transact()))),
        };
        let mut txn = self.doc.transact_mut();
        for Patch(at, delete, inserted) in patches {
            let from = positions.units(*at);
            let to = positions.units(at + delete);
            if to > self.text.len(&txn) {
                return Err(TraceError::Range {
                    at: *at,
                    delete: *delete,
                });
            }
            if to > from {
                self.text.remove_range(&mut txn, from, to - from);
                positions.remove(from, to - from);
            }
            if !inserted.is_empty() {
                self.text.insert(&mut txn, from, inserted);
                positions.insert(from, inserted);
            }
        }
        Ok(txn.encode_update_v1())
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// What is here, to compare updates with.
    pub(super) fn holdings(&self) -> Holdings {
        Holdings(self.doc.transact().snapshot())
    }

    /// What another copy lacks that knows of `state`, an encoded state vector.
    pub(crate) fn beyond(&self, state: &[u8]) -> Result<Vec<u8>, TraceError> {
        let state = StateVector::decode_v1(state).map_err(|e| TraceError::Update(e.to_string()))?;
        Ok(self.doc.transact().encode_diff_v1(&state))
    }
}

/// What a copy held at some moment.
pub(super) struct Holdings(Snapshot);

impl Holdings {
    /// Whether everything that an update inserts and deletes was there already.
    pub(super) fn cover(&self, update: &[u8]) -> Result<bool, TraceError> {
        let update = Update::decode_v1(update).map_err(|e| TraceError::Update(e.to_string()))?;
        let inserted = update.insertions(true);
        for (client, ranges) in inserted.iter() {
            let held = self.0.state_map.get(client);
            if ranges.iter().any(|range| range.end > held) {
                return Ok(false);
            }
        }
        Ok(update.delete_set().diff(&self.0.delete_set).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(at: usize, delete: usize, inserted: &str) -> Patch {
        Patch(at, delete, inserted.to_owned())
    }

    #[test]
    fn positions_are_code_points() {
        let mut one = Replica::new(1, true);
        let mut other = Replica::new(2, true);
        let first = one
            .edit(&[patch(0, 0, "a😀é€b"), patch(2, 1, "𝕏x")])
            .unwrap();
        assert_eq!(one.text(), "a😀𝕏x€b");
        other.apply(&first).unwrap();
        let second = other.edit(&[patch(3, 1, ""), patch(5, 0, "!")]).unwrap();
        assert_eq!(other.text(), "a😀𝕏€b!");
        assert!(!one.holdings().cover(&second).unwrap());
        one.apply(&second).unwrap();
        assert_eq!(one.text(), other.text());
        assert!(one.holdings().cover(&second).unwrap());
    }

    #[test]
    fn outside_the_text_is_an_error() {
        let mut replica = Replica::new(1, false);
        replica.edit(&[patch(0, 0, "abc")]).unwrap();
        for wrong in [patch(4, 0, "x"), patch(2, 2, "")] {
            assert!(matches!(
                replica.edit(&[wrong]),
                Err(TraceError::Range { .. })
            ));
        }
        assert!(replica.apply(&[1, 2, 3]).is_err());
    }

    #[test]
    fn deletions_count_as_covered_only_when_made() {
        let mut one = Replica::new(1, false);
        let mut other = Replica::new(2, false);
        let text = one.edit(&[patch(0, 0, "abc")]).unwrap();
        other.apply(&text).unwrap();
        let deletion = one.edit(&[patch(1, 1, "")]).unwrap();
        assert!(!other.holdings().cover(&deletion).unwrap());
        let all = one.beyond(&[0]).unwrap();
        other.apply(&all).unwrap();
        assert!(
            other.holdings().cover(&deletion).unwrap() && other.holdings().cover(&text).unwrap()
        );
    }
}

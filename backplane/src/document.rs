//! A Yjs document in memory: from snapshot and tail, by updates, to text and diffs.
//!
//! [`Replica`] is where hostile bytes stop. An update is walked before it is decoded, and decoded
//! before it touches the document; it is applied only when all that it rests on is there, so nothing
//! ever waits inside the document itself; a panic of the CRDT is caught, and the replica then says that
//! it must be loaded again. Never does I/O.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use protocol::yupdate::{self, UpdateShape};
use serde_json::{Value, json};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{
    Assoc, ClientID, Doc, GetString, IndexedSequence, OffsetKind, Options, ReadTxn, StateVector,
    Text, Transact, TransactionMut, Update, WriteTxn,
};

use crate::store::{Loaded, StoreError};
use crate::text::{Splice, difference, units};

/// The root type that text is read from and written to when none is named.
pub const DEFAULT_ROOT: &str = "text";

/// Most clients in a state vector that is taken from a peer.
const MAX_VECTOR_CLIENTS: usize = 1 << 20;

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It changed the document, and is itself exactly the change.
    Whole,
    /// It changed the document by less than it holds: this is the change.
    Part(Vec<u8>),
    /// All of it was there already.
    Nothing,
}

/// Why an update was not applied; the document is as it was, unless [`Refused::Broken`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It rests on something that is not here yet: apply it again later.
    #[error("the update rests on changes that are missing")]
    NotReady,
    /// It is not a Yjs v1 update, or breaks its rules.
    #[error("not a valid update: {0}")]
    Hostile(String),
    /// The text holds things that are no characters, so that places in it can't be told by counting those.
    #[error("the text holds embedded objects: it can be edited over a document socket only")]
    Rich,
    /// The CRDT failed in the middle: load the document again before anything else.
    #[error("the document failed while applying an update")]
    Broken,
}

/// A Yjs document.
pub struct Replica {
    doc: Doc,
    have: HashMap<u64, u64>,
}

impl Default for Replica {
    fn default() -> Self {
        Self::new()
    }
}

fn contained<R>(act: impl FnOnce() -> R) -> Result<R, Refused> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| Refused::Broken)
}

impl Replica {
    /// An empty document.
    #[must_use]
    pub fn new() -> Self {
        Self::with_client(None)
    }

    fn with_client(client: Option<u64>) -> Self {
        let mut options = Options {
            // Offsets as Yjs counts them.
            offset_kind: OffsetKind::Utf16,
            // A server that tidies formatting would write edits of its own.
            cleanup_formatting: false,
            ..Options::default()
        };
        if let Some(client) = client {
            options.client_id = ClientID::new(client);
        }
        Self {
            doc: Doc::with_options(options),
            have: HashMap::new(),
        }
    }

    /// The document as the store has it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if what is stored can't be applied.
    pub fn from_loaded(loaded: &Loaded) -> Result<Self, StoreError> {
        let mut replica = Self::new();
        let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
        let tail = loaded.tail.iter().flat_map(|frame| &frame.updates);
        for update in snapshot.chain(tail) {
            replica.apply(update).map_err(|error| {
                StoreError::Corrupt(format!("document {}: {error}", loaded.document.id))
            })?;
        }
        Ok(replica)
    }

    /// The document that an update makes from nothing.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn from_state(state: &[u8]) -> Result<Self, Refused> {
        let mut replica = Self::new();
        replica.apply(state)?;
        Ok(replica)
    }

    /// Applies a Yjs v1 update, whole or not at all.
    ///
    /// # Errors
    /// [`Refused`]; after [`Refused::Broken`] this replica must not be used again.
    pub fn apply(&mut self, update: &[u8]) -> Result<Applied, Refused> {
        let shape = UpdateShape::parse(update).map_err(|e| Refused::Hostile(e.to_string()))?;
        let have = |client| self.have.get(&client).copied().unwrap_or(0);
        if !shape.is_ready(have) {
            return Err(Refused::NotReady);
        }
        let overlaps = shape.clients.iter().any(|run| run.first < have(run.client));
        let decoded = catch_unwind(|| Update::decode_v1(update))
            .map_err(|_| Refused::Hostile("it can't be decoded".into()))?
            .map_err(|e| Refused::Hostile(e.to_string()))?;
        let (outcome, change) = contained(|| {
            // Should this panic, the transaction must not commit while unwinding: a second panic would
            // end the process. The replica is not used again then, so it may stay locked.
            let mut txn = ManuallyDrop::new(self.doc.transact_mut());
            let outcome = txn.apply_update(decoded);
            let left = txn.prune_pending().is_some();
            let change = change_of(&mut txn, &shape, overlaps, &self.have);
            drop(ManuallyDrop::into_inner(txn));
            (outcome.map(|()| left), change)
        })?;
        match outcome {
            Ok(false) => {}
            // The walk says ready and the CRDT disagrees: parts may be in, so start over from the log.
            Ok(true) | Err(_) => return Err(Refused::Broken),
        }
        for run in &shape.clients {
            let have = self.have.entry(run.client).or_insert(0);
            *have = (*have).max(run.end);
        }
        Ok(change)
    }

    /// Whether an update holds nothing that is not here; `false` if that can't be told.
    #[must_use]
    pub fn adds_nothing(&self, update: &[u8]) -> bool {
        let Ok(shape) = UpdateShape::parse(update) else {
            return false;
        };
        let have = |client| self.have.get(&client).copied().unwrap_or(0);
        if shape.clients.iter().any(|run| run.end > have(run.client)) {
            return false;
        }
        if shape.deletes.is_empty() {
            return true;
        }
        let known = contained(|| {
            let update = Update::decode_v1(update).ok()?;
            let deleted = self.doc.transact().snapshot().delete_set;
            Some(update.delete_set().diff(&deleted).is_empty())
        });
        matches!(known, Ok(Some(true)))
    }

    /// The state vector, encoded.
    #[must_use]
    pub fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// What a peer with this state vector lacks, as an update.
    ///
    /// # Errors
    /// [`Refused::Hostile`] if it is not a state vector; [`Refused::Broken`] if the CRDT failed.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, Refused> {
        let theirs = yupdate::parse_state_vector(state_vector, MAX_VECTOR_CLIENTS)
            .map_err(|e| Refused::Hostile(e.to_string()))?;
        let mut vector = StateVector::default();
        for (client, clock) in theirs {
            // What we have never heard of can't shorten the answer.
            if let Some(have) = self.have.get(&client) {
                let clock = u32::try_from(clock.min(*have)).unwrap_or(u32::MAX);
                vector.set_max(ClientID::new(client), clock);
            }
        }
        contained(|| self.doc.transact().encode_diff_v1(&vector))
    }

    /// The whole state as one update.
    ///
    /// # Errors
    /// [`Refused::Broken`] if the CRDT failed.
    pub fn state(&self) -> Result<Vec<u8>, Refused> {
        contained(|| self.doc.transact().encode_diff_v1(&StateVector::default()))
    }

    /// A number that two replicas of the same content share, deletes included, which move no state vector.
    ///
    /// # Errors
    /// [`Refused::Broken`] if the CRDT failed.
    pub fn digest(&self) -> Result<u64, Refused> {
        let snapshot = contained(|| self.doc.transact().snapshot())?;
        let mut vector: Vec<(u64, u32)> = snapshot
            .state_map
            .iter()
            .filter(|(_, clock)| **clock > 0)
            .map(|(client, clock)| (client.get(), *clock))
            .collect();
        vector.sort_unstable();
        let mut digest = Fnv::default();
        for (client, clock) in vector {
            digest.add(client);
            digest.add(u64::from(clock));
        }
        for (client, ranges) in snapshot.delete_set.iter() {
            digest.add(client.get());
            // Neighbours count as one: how deletes are split depends on how they came.
            let mut run: Option<(u32, u32)> = None;
            for range in ranges.iter() {
                run = match run {
                    Some((start, end)) if range.start <= end => Some((start, end.max(range.end))),
                    before => {
                        digest.add_run(before);
                        Some((range.start, range.end))
                    }
                };
            }
            digest.add_run(run);
        }
        Ok(digest.0)
    }

    /// The text under a root name; empty if there is none of that name.
    #[must_use]
    pub fn text(&self, root: &str) -> String {
        let text = contained(|| {
            let text = self.doc.get_or_insert_text(root);
            text.get_string(&self.doc.transact())
        });
        text.unwrap_or_default()
    }

    /// Makes the text under a root name equal to `wanted` by changing what differs and nothing else; the
    /// update that did it, or `None` if it was equal already.
    ///
    /// # Errors
    /// As [`Self::splice`].
    pub fn replace_text(&mut self, root: &str, wanted: &str) -> Result<Option<Vec<u8>>, Refused> {
        let splices = difference::splices(&self.text(root), wanted);
        self.splice(root, &splices)
    }

    /// Makes these splices in the text under a root name, in order, as one edit; the update that did it, or
    /// `None` if there are none. They must lie within the text.
    ///
    /// # Errors
    /// [`Refused::Rich`] if places in the text are not those of its characters; [`Refused::Broken`] if
    /// the CRDT failed.
    pub fn splice(&mut self, root: &str, splices: &[Splice]) -> Result<Option<Vec<u8>>, Refused> {
        if splices.is_empty() {
            return Ok(None);
        }
        let plain = contained(|| {
            let text = self.doc.get_or_insert_text(root);
            let txn = self.doc.transact();
            text.len(&txn) == units(&text.get_string(&txn))
        })?;
        if !plain {
            return Err(Refused::Rich);
        }
        let update = contained(|| {
            let text = self.doc.get_or_insert_text(root);
            let mut txn = ManuallyDrop::new(self.doc.transact_mut());
            for splice in splices {
                if splice.removed > 0 {
                    text.remove_range(&mut txn, splice.at, splice.removed);
                }
                if !splice.inserted.is_empty() {
                    text.insert(&mut txn, splice.at, &splice.inserted);
                }
            }
            let update = txn.encode_update_v1();
            drop(ManuallyDrop::into_inner(txn));
            update
        })?;
        let vector = self.doc.transact().state_vector();
        self.have = vector
            .iter()
            .map(|(client, clock)| (client.get(), u64::from(*clock)))
            .collect();
        Ok(Some(update))
    }

    /// A place in the text under a root name that stays where it is whatever is edited around it: a relative position, in
    /// the JSON that Yjs makes and reads. `at` counts UTF-16 units; beyond the end is the end.
    #[must_use]
    pub fn place(&self, root: &str, at: u32) -> Value {
        let found = contained(|| {
            let text = self.doc.get_or_insert_text(root);
            let txn = self.doc.transact();
            let index = text.sticky_index(&txn, at, Assoc::After)?;
            index.id().copied()
        });
        match found.ok().flatten() {
            Some(id) => json!({
                "tname": root,
                "item": { "client": id.client.get(), "clock": u64::from(id.clock) },
                "assoc": 0,
            }),
            None => json!({ "tname": root, "assoc": 0 }),
        }
    }

    /// A copy of this document that edits under `client`, which nobody else may edit under meanwhile.
    ///
    /// # Errors
    /// [`Refused::Broken`] if the CRDT failed.
    pub fn fork(&self, client: u64) -> Result<Self, Refused> {
        let state = self.state()?;
        let mut fork = Self::with_client(Some(client));
        fork.apply(&state).map_err(|_| Refused::Broken)?;
        Ok(fork)
    }
}

/// FNV-1a: the same on every build, which the standard library's hashers don't promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_run(&mut self, run: Option<(u32, u32)>) {
        if let Some((start, end)) = run {
            self.add(u64::from(start));
            self.add(u64::from(end));
        }
    }
}

/// What a transaction changed, beside the update that it applied.
fn change_of(
    txn: &mut TransactionMut<'_>,
    shape: &UpdateShape,
    overlaps: bool,
    have: &HashMap<u64, u64>,
) -> Applied {
    let grew = shape
        .clients
        .iter()
        .any(|run| run.end > have.get(&run.client).copied().unwrap_or(0));
    let deleted = !txn.delete_set().is_empty();
    if !grew && !deleted {
        return Applied::Nothing;
    }
    // An update that also tells what was known may be far larger than the change.
    let deletes_nothing_new = !deleted && !shape.deletes.is_empty();
    if overlaps || deletes_nothing_new {
        return Applied::Part(txn.encode_update_v1());
    }
    Applied::Whole
}

#[cfg(test)]
mod tests;

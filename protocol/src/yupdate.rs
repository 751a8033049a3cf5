//! A look at the structure of a Yjs v1 update before anything else touches it.
//!
//! An update is a list of clients, each with a run of structs (items, garbage, skips), and then a
//! delete set. [`UpdateShape::parse`] walks all of it without building a document: it allocates in
//! proportion to the bytes that are there, never to a count that they claim, and recurses to a fixed
//! depth. It accepts what Yjs clients write; forms that yrs and Yjs read differently, or that one of
//! them can't read, are refused. [`UpdateShape::is_ready`] then says whether a document with a given
//! state vector can take the update whole, leaving nothing pending. Never decides about rights or
//! sizes: its caller bounds the update's bytes first.

mod content;
mod order;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::lib0::{Lib0Error, Reader};

/// Largest clock: yrs keeps clocks in 32 bits and compares some as signed.
pub const MAX_CLOCK: u64 = i32::MAX as u64;

/// Deepest nesting of a value inside an item.
pub const MAX_DEPTH: usize = 64;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
const UNUSED_FLAG: u8 = 0x10;
const GC: u8 = 0;
const SKIP: u8 = 10;

/// Why bytes are not an update, or not one that is let near a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Truncated, trailing or malformed bytes.
    #[error(transparent)]
    Lib0(#[from] Lib0Error),
    /// A clock, or a clock and a length together, over [`MAX_CLOCK`].
    #[error("a clock is over 2^31-1")]
    Clock,
    /// A run, garbage, skip or deleted range that holds nothing.
    #[error("a run or range is empty")]
    Empty,
    /// A client has two runs of structs, or two lists of deletes.
    #[error("client {0} is listed twice")]
    DuplicateClient(u64),
    /// Deleted ranges that overlap or are out of order.
    #[error("deleted ranges overlap or are out of order")]
    DeleteOrder,
    /// A struct of a kind, or with flags, that no current Yjs writes.
    #[error("unknown struct {0:#04x}")]
    UnknownStruct(u8),
    /// A shared type that either yrs or Yjs does not know.
    #[error("unknown shared type {0}")]
    UnknownType(u8),
    /// A value of a kind that lib0 does not know.
    #[error("unknown value {0}")]
    UnknownValue(u8),
    /// A parent that is neither named nor an id.
    #[error("unknown parent kind {0}")]
    UnknownParent(u64),
    /// A value nested deeper than [`MAX_DEPTH`].
    #[error("a value is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An embedded value that is not JSON.
    #[error("an embedded value is not JSON")]
    NotJson,
    /// Structs that need each other, or themselves: no order of applying them exists.
    #[error("structs depend on each other in a circle")]
    Circular,
    /// A state vector of more clients than allowed.
    #[error("more than {0} clients")]
    TooManyClients(usize),
}

/// One client's run of structs in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRange {
    /// The Yjs client id.
    pub client: u64,
    /// The clock that the run starts at.
    pub first: u64,
    /// One past the last clock that a struct covers; `first` if the run only skips.
    pub end: u64,
    /// One past the last clock that is skipped inside the run; 0 if nothing is.
    pub skipped_to: u64,
}

/// What an update holds and what it needs, without its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateShape {
    /// Each client's run, in the update's order.
    pub clients: Vec<ClientRange>,
    /// For each client that an item refers to: one past the highest clock referred to.
    pub needs: Vec<(u64, u64)>,
    /// For each client with deletes: one past the highest clock deleted.
    pub deletes: Vec<(u64, u64)>,
    /// How many structs there are, skips included.
    pub structs: usize,
}

impl UpdateShape {
    /// Walks an update.
    ///
    /// # Errors
    /// Says why the update is malformed or refused.
    pub fn parse(update: &[u8]) -> Result<Self, UpdateError> {
        let mut reader = Reader::new(update);
        let mut walk = Walk::default();
        let clients = reader.var_uint()?;
        // With a single run nothing in the update can wait for another run.
        walk.track_order = clients > 1;
        for _ in 0..clients {
            walk.run(&mut reader)?;
        }
        let deletes = read_deletes(&mut reader)?;
        reader.end()?;
        if !order::is_acyclic(&walk.ranges, &walk.edges) {
            return Err(UpdateError::Circular);
        }
        Ok(Self {
            clients: walk.ranges,
            needs: walk.needs.into_iter().collect(),
            deletes,
            structs: walk.structs,
        })
    }

    /// Whether the update changes nothing, whatever the document holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.structs == 0 && self.deletes.is_empty()
    }

    /// Whether a document takes the update whole and keeps nothing of it pending. `have` is its state
    /// vector: how many clocks of a client it holds, without a gap.
    #[must_use]
    pub fn is_ready(&self, have: impl Fn(u64) -> u64) -> bool {
        let mut after = BTreeMap::new();
        for range in &self.clients {
            let held = have(range.client);
            if range.first > held || range.skipped_to > held {
                return false;
            }
            after.insert(range.client, held.max(range.end));
        }
        self.needs.iter().chain(&self.deletes).all(|(client, end)| {
            let held = after.get(client).copied();
            *end <= held.unwrap_or_else(|| have(*client))
        })
    }
}

/// Reads a state vector of at most `max_clients`, sorted by client.
///
/// # Errors
/// Says why the bytes are not one.
pub fn parse_state_vector(
    bytes: &[u8],
    max_clients: usize,
) -> Result<Vec<(u64, u64)>, UpdateError> {
    let mut reader = Reader::new(bytes);
    let count = usize::try_from(reader.var_uint()?).unwrap_or(usize::MAX);
    if count > max_clients {
        return Err(UpdateError::TooManyClients(max_clients));
    }
    let mut vector = Vec::new();
    for _ in 0..count {
        let client = reader.var_uint()?;
        vector.push((client, clock(reader.var_uint()?)?));
    }
    reader.end()?;
    vector.sort_unstable();
    match vector.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(UpdateError::DuplicateClient(pair[0].0)),
        None => Ok(vector),
    }
}

/// What the walk has gathered so far.
#[derive(Default)]
struct Walk {
    ranges: Vec<ClientRange>,
    seen: BTreeMap<u64, u64>,
    needs: BTreeMap<u64, u64>,
    edges: Vec<order::Edge>,
    track_order: bool,
    structs: usize,
}

impl Walk {
    /// One client's run: how many structs, whose, from which clock, and the structs.
    fn run(&mut self, reader: &mut Reader<'_>) -> Result<(), UpdateError> {
        let count = reader.var_uint()?;
        let client = reader.var_uint()?;
        let first = clock(reader.var_uint()?)?;
        if count == 0 {
            return Err(UpdateError::Empty);
        }
        if self.seen.insert(client, first).is_some() {
            return Err(UpdateError::DuplicateClient(client));
        }
        let mut range = ClientRange {
            client,
            first,
            end: first,
            skipped_to: 0,
        };
        // What this run needed of each other client so far: only more than that is news.
        let mut needed = BTreeMap::new();
        let mut at = first;
        for _ in 0..count {
            let info = reader.u8()?;
            let len = match info {
                SKIP | GC => match reader.var_uint()? {
                    0 => return Err(UpdateError::Empty),
                    len => len,
                },
                _ => self.item(reader, info, (client, at), &mut needed)?,
            };
            at = span(at, len)?;
            if info == SKIP {
                range.skipped_to = at;
            } else {
                range.end = at;
            }
            self.structs += 1;
        }
        self.ranges.push(range);
        Ok(())
    }

    /// An item: what it stands next to, where it belongs, and its content. Returns its length.
    fn item(
        &mut self,
        reader: &mut Reader<'_>,
        info: u8,
        id: (u64, u64),
        needed: &mut BTreeMap<u64, u64>,
    ) -> Result<u64, UpdateError> {
        if info & UNUSED_FLAG != 0 {
            return Err(UpdateError::UnknownStruct(info));
        }
        if info & HAS_ORIGIN != 0 {
            self.reference(reader, id, needed)?;
        }
        if info & HAS_RIGHT_ORIGIN != 0 {
            self.reference(reader, id, needed)?;
        }
        // An item with a neighbour takes its parent and key from there.
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
            match reader.var_uint()? {
                1 => {
                    reader.str()?;
                }
                0 => self.reference(reader, id, needed)?,
                other => return Err(UpdateError::UnknownParent(other)),
            }
            if info & HAS_PARENT_SUB != 0 {
                reader.str()?;
            }
        }
        content::read(reader, info)
    }

    /// An id that the item at `id` refers to: it must exist before the item can be placed.
    fn reference(
        &mut self,
        reader: &mut Reader<'_>,
        (client, at): (u64, u64),
        needed: &mut BTreeMap<u64, u64>,
    ) -> Result<(), UpdateError> {
        let target = reader.var_uint()?;
        let target_end = span(clock(reader.var_uint()?)?, 1)?;
        let need = self.needs.entry(target).or_default();
        *need = target_end.max(*need);
        if target == client {
            // A client refers to what it wrote before, never to what comes later.
            return if target_end <= at {
                Ok(())
            } else {
                Err(UpdateError::Circular)
            };
        }
        if self.track_order {
            let more = match needed.entry(target) {
                Entry::Vacant(slot) => {
                    slot.insert(target_end);
                    true
                }
                Entry::Occupied(mut slot) => target_end > slot.insert(target_end.max(*slot.get())),
            };
            if more {
                self.edges.push(order::Edge {
                    run: self.ranges.len(),
                    at: at as u32,
                    target,
                    target_end: target_end as u32,
                });
            }
        }
        Ok(())
    }
}

/// The delete set: for each client, ranges of clocks in order. Returns where each client's end.
fn read_deletes(reader: &mut Reader<'_>) -> Result<Vec<(u64, u64)>, UpdateError> {
    let mut ends = BTreeMap::new();
    for _ in 0..reader.var_uint()? {
        let client = reader.var_uint()?;
        let mut end = 0;
        for _ in 0..reader.var_uint()? {
            let start = clock(reader.var_uint()?)?;
            let len = reader.var_uint()?;
            if len == 0 {
                return Err(UpdateError::Empty);
            }
            if start < end {
                return Err(UpdateError::DeleteOrder);
            }
            end = span(start, len)?;
        }
        if ends.insert(client, end).is_some() {
            return Err(UpdateError::DuplicateClient(client));
        }
    }
    // A client without ranges deletes nothing.
    Ok(ends.into_iter().filter(|(_, end)| *end > 0).collect())
}

const fn clock(value: u64) -> Result<u64, UpdateError> {
    if value > MAX_CLOCK {
        Err(UpdateError::Clock)
    } else {
        Ok(value)
    }
}

/// Where `len` clocks from `start` end. Both are below 2^54, so the sum can't wrap.
const fn span(start: u64, len: u64) -> Result<u64, UpdateError> {
    clock(start + len)
}

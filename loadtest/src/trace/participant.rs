//! One participant of a replay: a live copy that applies everything at once, and a view for each
//! author that it hosts, which holds exactly the ancestors of that author's next transaction.
//!
//! Pure but for the clock: updates in, updates out. The caller carries them, over a socket or not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::book::{Book, EMPTY};
use super::history::Frontier;
use super::replica::Replica;
use super::{Trace, TraceError};

/// See the module.
pub(crate) struct Participant {
    trace: Arc<Trace>,
    book: Arc<Book>,
    live: Replica,
    authors: Vec<Author>,
    /// By content: the first transaction with the same bytes.
    arrived: Vec<bool>,
    /// All transactions below have arrived.
    low: usize,
}

struct Author {
    view: Replica,
    frontier: Frontier,
    queue: VecDeque<u32>,
    /// What the view lacks for the next transaction, once worked out.
    lacking: Option<Vec<u32>>,
}

/// An edit that was made.
pub(crate) struct Made {
    /// The update to send; none if the transaction changed nothing.
    pub(crate) update: Option<Bytes>,
}

impl Participant {
    /// Participant `number` of `count`: it hosts every `count`-th author.
    pub(crate) fn new(trace: Arc<Trace>, book: Arc<Book>, number: usize, count: usize) -> Self {
        let total = trace.transactions.len();
        let hosted = (number..trace.authors).step_by(count.max(1));
        let authors = hosted.map(|author| Author {
            view: Replica::new(author as u64 + 1, trace.astral),
            frontier: Frontier::new(total),
            queue: (0..total)
                .filter(|index| trace.transactions[*index].author == author)
                .map(|index| index as u32)
                .collect(),
            lacking: None,
        });
        Self {
            authors: authors.collect(),
            // The live copy makes no edits of its own, so its client id never shows.
            live: Replica::new((trace.authors + number) as u64 + 1, trace.astral),
            arrived: vec![false; total],
            low: 0,
            trace,
            book,
        }
    }

    /// Takes an update from the server into the live copy; returns when those that came with it, and
    /// had not come before, were made.
    pub(crate) fn receive(&mut self, update: &[u8]) -> Result<Vec<Instant>, TraceError> {
        if update == EMPTY {
            return Ok(Vec::new());
        }
        self.live.apply(update)?;
        if let Some(index) = self.book.find(update) {
            return Ok(self.arrive(index).into_iter().collect());
        }
        // A merged or cut update: the server has resynchronised this client, or left out what it had.
        self.look_closer()
    }

    /// Finds what has arrived in substance, though not as it was sent: merged with others, or not at
    /// all because it repeated others' deletions. Returns when those updates were made.
    pub(crate) fn look_closer(&mut self) -> Result<Vec<Instant>, TraceError> {
        let holdings = self.live.holdings();
        let mut made = Vec::new();
        for index in self.low..self.arrived.len() {
            let Some(entry) = self.book.entry(index as u32) else {
                continue;
            };
            if !self.arrived[entry.content as usize] && holdings.cover(&entry.update)? {
                made.extend(self.arrive(index as u32));
            }
        }
        Ok(made)
    }

    /// Notes an arrival; returns when the update was made, the first time.
    fn arrive(&mut self, index: u32) -> Option<Instant> {
        let entry = self.book.entry(index)?;
        let seen = std::mem::replace(&mut self.arrived[entry.content as usize], true);
        (!seen).then_some(entry.made)
    }

    /// Makes the next edit that is due and whose ancestors have all arrived, if there is one.
    pub(crate) fn produce(
        &mut self,
        is_due: impl Fn(u32) -> bool,
    ) -> Result<Option<Made>, TraceError> {
        for author in 0..self.authors.len() {
            let Some(index) = self.authors[author].queue.front().copied() else {
                continue;
            };
            if is_due(index) && self.is_ready(author, index)? {
                return self.make(author, index).map(Some);
            }
        }
        Ok(None)
    }

    fn is_ready(&mut self, author: usize, index: u32) -> Result<bool, TraceError> {
        let lacking = match self.authors[author].lacking.take() {
            Some(lacking) => lacking,
            None => {
                let frontier = &self.authors[author].frontier;
                frontier.lacking(&self.trace, index as usize)?
            }
        };
        let ready = lacking.iter().all(|ancestor| self.has(*ancestor));
        self.authors[author].lacking = Some(lacking);
        Ok(ready)
    }

    fn has(&self, index: u32) -> bool {
        self.book.entry(index).is_some_and(|entry| {
            entry.update.as_ref() == EMPTY || self.arrived[entry.content as usize]
        })
    }

    fn make(&mut self, author: usize, index: u32) -> Result<Made, TraceError> {
        let author = &mut self.authors[author];
        let lacking = author.lacking.take().unwrap_or_default();
        for ancestor in &lacking {
            if let Some(entry) = self.book.entry(*ancestor) {
                author.view.apply(&entry.update)?;
            }
        }
        let patches = &self.trace.transactions[index as usize].patches;
        let update = Bytes::from(author.view.edit(patches)?);
        author.frontier.advance(&lacking, index as usize);
        author.queue.pop_front();
        self.book.enter(index, update.clone());
        if update.as_ref() == EMPTY {
            return Ok(Made { update: None });
        }
        self.live.apply(&update)?;
        self.arrive(index);
        Ok(Made {
            update: Some(update),
        })
    }

    /// Whether every transaction of the session has been made and has arrived here.
    pub(crate) fn is_complete(&mut self) -> bool {
        while self.low < self.arrived.len() && self.has(self.low as u32) {
            self.low += 1;
        }
        self.low == self.arrived.len()
    }

    /// The earliest transaction that this participant could make next.
    pub(crate) fn next(&self) -> Option<u32> {
        let fronts = self
            .authors
            .iter()
            .filter_map(|author| author.queue.front());
        fronts.min().copied()
    }

    /// What it waits for, in words.
    pub(crate) fn waits_for(&mut self) -> String {
        self.is_complete();
        let made = |index: usize| match self.book.entry(index as u32) {
            Some(_) => "made, not arrived",
            None => "not made",
        };
        match self.low {
            low if low == self.arrived.len() => "nothing".to_owned(),
            low => format!("transaction {low} ({})", made(low)),
        }
    }

    /// The text of the live copy.
    pub(crate) fn text(&self) -> String {
        self.live.text()
    }

    /// What a peer lacks that knows of `state`, an encoded state vector.
    pub(crate) fn beyond(&self, state: &[u8]) -> Result<Vec<u8>, TraceError> {
        self.live.beyond(state)
    }
}

#[cfg(test)]
mod tests;

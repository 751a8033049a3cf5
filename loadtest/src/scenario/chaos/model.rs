//! What must be true, whatever went wrong: the ledgers of documents and channels. Pure.
//!
//! Every edit and every message has a name of its own, so that each can be told to be there, to be
//! lost, or to be there twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use protocol::Position;

/// What became of one step of a line's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Step {
    /// Nobody did it.
    #[default]
    Never,
    /// Handed in; it may be there or not.
    Sent,
    /// Acknowledged: it is there.
    Acknowledged,
}

/// A line of a document: inserted whole at the start of a line, removed whole.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    inserted: Step,
    removed: Step,
}

/// An edit of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// The line of that name was inserted.
    Insert(String),
    /// The line of that name was removed.
    Remove(String),
}

/// What was done to one document.
#[derive(Debug, Default)]
pub(super) struct DocumentLedger {
    lines: BTreeMap<String, Line>,
    /// Edits handed in.
    pub(super) sent: u64,
    /// Edits acknowledged.
    pub(super) acknowledged: u64,
}

impl DocumentLedger {
    /// An edit is about to be handed in.
    pub(super) fn send(&mut self, edit: &Edit) {
        self.sent += 1;
        self.raise(edit, Step::Sent);
    }

    /// An edit was acknowledged.
    pub(super) fn acknowledge(&mut self, edit: &Edit) {
        self.acknowledged += 1;
        self.raise(edit, Step::Acknowledged);
    }

    fn raise(&mut self, edit: &Edit, to: Step) {
        let (name, removes) = match edit {
            Edit::Insert(name) => (name, false),
            Edit::Remove(name) => (name, true),
        };
        let line = self.lines.entry(name.clone()).or_default();
        let step = if removes {
            &mut line.removed
        } else {
            &mut line.inserted
        };
        *step = (*step).max(to);
    }

    /// What is wrong with a text of the document, in words.
    pub(super) fn check(&self, text: &str) -> Vec<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for line in text.lines() {
            *counts.entry(line).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for (name, line) in &self.lines {
            let count = counts.remove(name.as_str()).unwrap_or_default();
            let must = line.inserted == Step::Acknowledged && line.removed == Step::Never;
            if must && count == 0 {
                wrong.push(format!("the acknowledged insertion of {name} is lost"));
            }
            if line.removed == Step::Acknowledged && count > 0 {
                wrong.push(format!("the acknowledged removal of {name} is lost"));
            }
            if count > 1 {
                wrong.push(format!("{name} is there {count} times"));
            }
        }
        for (unknown, count) in counts {
            wrong.push(format!(
                "nobody wrote {unknown:?}, which is there {count} times"
            ));
        }
        wrong
    }
}

/// Where a message is from, as far as the model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reader(pub(super) usize);

/// What one subscriber has seen of a channel.
#[derive(Debug, Clone, Default)]
struct Seen {
    position: Option<Position>,
    ids: HashSet<String>,
    last_reset: Option<Instant>,
    resets: u64,
    messages: u64,
}

/// What was published to one channel and who saw it.
#[derive(Debug, Default)]
pub(super) struct ChannelLedger {
    /// What stands where, by epoch and offset.
    places: HashMap<(String, u64), String>,
    /// Where a message stands.
    by_id: HashMap<String, Vec<(String, u64)>>,
    /// Newest offset that was acknowledged, by epoch.
    newest: HashMap<String, u64>,
    /// What was accepted, with the moment at which it was first handed in.
    accepted: HashMap<String, Instant>,
    readers: BTreeMap<Reader, Seen>,
    epochs: HashSet<String>,
    wrong: Vec<String>,
}

impl ChannelLedger {
    /// A publisher was told where its message stands.
    pub(super) fn accepted_at(&mut self, id: &str, position: &Position, first_sent: Instant) {
        let newest = self.newest.entry(position.epoch.clone()).or_default();
        *newest = (*newest).max(position.offset);
        self.stands("its publisher", id, &position.epoch, position.offset);
        self.accepted(id, first_sent);
    }

    /// A publisher was told that its message is taken, not where.
    pub(super) fn accepted(&mut self, id: &str, first_sent: Instant) {
        self.accepted.insert(id.to_owned(), first_sent);
    }

    fn stands(&mut self, who: &str, id: &str, epoch: &str, offset: u64) {
        let place = (epoch.to_owned(), offset);
        self.epochs.insert(epoch.to_owned());
        match self.places.get(&place) {
            Some(other) if other != id => {
                self.wrong.push(format!(
                    "{who} has {id} at {epoch}/{offset}, where {other} stands"
                ));
                return;
            }
            Some(_) => return,
            None => {}
        }
        let others = self.by_id.entry(id.to_owned()).or_default();
        if let Some((_, at)) = others.iter().find(|(known, _)| known == epoch) {
            self.wrong.push(format!(
                "{id} stands at {at} and at {offset} of epoch {epoch}"
            ));
        }
        others.push(place.clone());
        self.places.insert(place, id.to_owned());
    }

    /// Where a reader would go on.
    pub(super) fn position(&self, reader: Reader) -> Option<Position> {
        self.readers.get(&reader)?.position.clone()
    }

    /// A reader was let in; `asked` is where it wanted to go on.
    pub(super) fn subscribed(
        &mut self,
        reader: Reader,
        asked: Option<&Position>,
        told: &Position,
        recovered: bool,
    ) {
        self.epochs.insert(told.epoch.clone());
        let seen = self.readers.entry(reader).or_default();
        match asked {
            Some(asked) if recovered => {
                if asked != told {
                    self.wrong.push(format!(
                        "{reader:?} asked to go on from {asked:?} and was let in at {told:?}"
                    ));
                }
            }
            Some(_) => {
                seen.resets += 1;
                seen.last_reset = Some(Instant::now());
            }
            // What came before its first subscription is not its business.
            None => seen.last_reset = Some(Instant::now()),
        }
        seen.position = Some(told.clone());
    }

    /// A running subscription was reset.
    pub(super) fn reset(&mut self, reader: Reader, position: &Position) {
        self.epochs.insert(position.epoch.clone());
        let seen = self.readers.entry(reader).or_default();
        seen.resets += 1;
        seen.last_reset = Some(Instant::now());
        seen.position = Some(position.clone());
    }

    /// A reader saw a message.
    pub(super) fn heard(&mut self, reader: Reader, offset: u64, id: &str) {
        let seen = self.readers.entry(reader).or_default();
        let Some(position) = &mut seen.position else {
            self.wrong
                .push(format!("{reader:?} heard {id} before it was let in"));
            return;
        };
        if offset != position.offset + 1 {
            self.wrong.push(format!(
                "{reader:?} heard {id} at {}/{offset} after {}",
                position.epoch, position.offset
            ));
        }
        position.offset = offset;
        let epoch = position.epoch.clone();
        seen.messages += 1;
        seen.ids.insert(id.to_owned());
        self.stands(&format!("{reader:?}"), id, &epoch, offset);
    }

    /// What every reader still has to see, in words; empty once all have seen all.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (reader, seen) in &self.readers {
            let Some(position) = &seen.position else {
                missing.push(format!("{reader:?} was never let in"));
                continue;
            };
            let newest = self
                .newest
                .get(&position.epoch)
                .copied()
                .unwrap_or_default();
            if position.offset < newest {
                missing.push(format!(
                    "{reader:?} stands at {} of epoch {}, the newest is {newest}",
                    position.offset, position.epoch
                ));
            }
            for (id, first_sent) in &self.accepted {
                let is_covered = seen.last_reset.is_some_and(|reset| reset > *first_sent);
                if !is_covered && !seen.ids.contains(id) {
                    missing.push(format!("{reader:?} has not seen {id}"));
                }
            }
        }
        missing
    }

    /// What went wrong on the way; `lives` is how often the broker has lost its run, at most.
    pub(super) fn wrong(&self, lives: usize) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if self.epochs.len() > lives + 1 {
            wrong.push(format!(
                "{} epochs, though the broker lost its run only {lives} times",
                self.epochs.len()
            ));
        }
        wrong
    }

    /// Messages accepted, deliveries seen, resets told.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&Seen) -> u64| self.readers.values().map(of).sum();
        (
            self.accepted.len() as u64,
            sum(|seen| seen.messages),
            sum(|seen| seen.resets),
        )
    }

    /// Messages that stand in more than one epoch: sent again after the broker had lost what it knew.
    pub(super) fn repeated(&self) -> usize {
        self.by_id
            .values()
            .filter(|places| places.len() > 1)
            .count()
    }
}

#[cfg(test)]
mod tests;

//! What users use of this node, gathered until it is written into the store.
//!
//! Owns the sums between two writes: what connections moved comes as amounts, what is done one by one (a message, an
//! edit) is added to a [`Tally`] that whoever does it holds. Never counts plans and tokens: their events do
//! (`workers::usage`). What could not be written waits for the next write, up to a bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backplane::store::usage::{HOUR, hour_of};
use backplane::store::{Amounts, Store, StoreError, Used};

/// Most cells (a user, an hour, a project) that wait to be written; what has no room is lost, and told.
const CELLS: usize = 100_000;
/// Cells that one transaction writes: other writers get in between.
const BATCH: usize = 1_000;

/// What somebody does in a project, counted one by one.
#[derive(Debug, Default)]
pub struct Tally {
    messages: AtomicU64,
    edits: AtomicU64,
}

impl Tally {
    /// A message was sent.
    pub fn message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// A document was edited.
    pub fn edit(&self) {
        self.edits.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the last time.
    fn take(&self) -> Amounts {
        Amounts {
            messages: self.messages.swap(0, Ordering::Relaxed),
            edits: self.edits.swap(0, Ordering::Relaxed),
            ..Amounts::default()
        }
    }
}

/// Of whom and of which project.
type Whose = (Arc<str>, Arc<str>);
/// A user, the beginning of an hour, and a project or none.
type Cell = (Arc<str>, u64, Option<Arc<str>>);

#[derive(Default)]
struct Waiting {
    cells: BTreeMap<Cell, Amounts>,
    /// Additions for which there was no room.
    lost: u64,
}

impl Waiting {
    fn add(&mut self, cell: Cell, amounts: &Amounts, most: usize) {
        let is_full = self.cells.len() >= most;
        if *amounts == Amounts::default() {
            return;
        }
        if is_full && !self.cells.contains_key(&cell) {
            self.lost += 1;
            return;
        }
        let sum = self.cells.entry(cell).or_default();
        *sum = sum.plus(amounts);
    }
}

/// The sums of this node.
#[derive(Default)]
pub struct Meter {
    tallies: Mutex<HashMap<Whose, Arc<Tally>>>,
    waiting: Mutex<Waiting>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meter {
    /// Where a user's messages and edits in a project are counted: one for all who ask. Who counts often keeps it.
    #[must_use]
    pub fn tally(&self, user: &Arc<str>, project: &str) -> Arc<Tally> {
        let whose = (Arc::clone(user), Arc::from(project));
        Arc::clone(lock(&self.tallies).entry(whose).or_default())
    }

    /// Adds what a connection used in the `elapsed_ms` before `now` (milliseconds since the Unix epoch): its time in the
    /// hours that it lies in, the bytes that came and went in the hour of `now`.
    pub fn connected(
        &self,
        user: &Arc<str>,
        project: Option<&Arc<str>>,
        (elapsed_ms, now): (u64, u64),
        (bytes_in, bytes_out): (u64, u64),
    ) {
        let mut waiting = lock(&self.waiting);
        let mut add = |hour, amounts| {
            let cell = (Arc::clone(user), hour, project.map(Arc::clone));
            waiting.add(cell, &amounts, CELLS);
        };
        for (hour, connected_ms) in hours_of(elapsed_ms, now) {
            add(
                hour,
                Amounts {
                    connected_ms,
                    ..Amounts::default()
                },
            );
        }
        add(
            hour_of(now),
            Amounts {
                bytes_in,
                bytes_out,
                ..Amounts::default()
            },
        );
    }

    /// Takes what the tallies have counted; those that nobody holds any more go.
    fn gather(&self, now: u64) {
        let mut counted = Vec::new();
        lock(&self.tallies).retain(|(user, project), tally| {
            // Asked first: who gets it meanwhile waits for the lock.
            let is_held = Arc::strong_count(tally) > 1;
            counted.push((Arc::clone(user), Arc::clone(project), tally.take()));
            is_held
        });
        let mut waiting = lock(&self.waiting);
        for (user, project, amounts) in counted {
            waiting.add((user, hour_of(now), Some(project)), &amounts, CELLS);
        }
    }

    /// Writes all that was used, in transactions of a bounded size. What is not written waits for the next time.
    ///
    /// # Errors
    /// As [`Usage::add_usage`](backplane::store::Usage::add_usage).
    pub async fn write(&self, store: &dyn Store, now: u64) -> Result<(), StoreError> {
        self.gather(now);
        let (cells, lost) = {
            let mut waiting = lock(&self.waiting);
            (
                std::mem::take(&mut waiting.cells),
                std::mem::take(&mut waiting.lost),
            )
        };
        if lost > 0 {
            tracing::error!(
                lost,
                "usage was not counted: more waits for the store than may"
            );
        }
        let used = |((user, hour, project), amounts): (Cell, Amounts)| Used {
            user_id: user.to_string(),
            project_id: project.map(|project| project.to_string()),
            time: hour,
            amounts,
        };
        let used: Vec<Used> = cells.into_iter().map(used).collect();
        for (at, batch) in used.chunks(BATCH).enumerate() {
            if let Err(error) = store.add_usage(batch, None, now).await {
                self.put_back(&used[at * BATCH..]);
                return Err(error);
            }
        }
        Ok(())
    }

    fn put_back(&self, used: &[Used]) {
        let mut waiting = lock(&self.waiting);
        for one in used {
            let project = one.project_id.as_deref().map(Arc::from);
            let cell = (Arc::from(one.user_id.as_str()), one.time, project);
            waiting.add(cell, &one.amounts, CELLS);
        }
    }
}

/// The hours in which the `elapsed_ms` before `now` lie, the newest first, and how much lies in each.
fn hours_of(elapsed_ms: u64, now: u64) -> impl Iterator<Item = (u64, u64)> {
    let (mut left, mut end) = (elapsed_ms.min(now), now);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        // What ends with an hour lies in it.
        let hour = hour_of(end - 1);
        let part = left.min(end - hour);
        left -= part;
        end -= part;
        Some((hour, part))
    })
}

/// How long it is to the end of the hour, milliseconds.
#[must_use]
pub fn left_of_hour(now: u64) -> u64 {
    hour_of(now).saturating_add(HOUR) - now
}

/// The one project that all are; `None` if there are none or several.
pub fn only<'a>(mut projects: impl Iterator<Item = &'a Arc<str>>) -> Option<&'a Arc<str>> {
    let first = projects.next()?;
    projects.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests;

//! What users and projects have used, by hour (`usage_` tables).
//!
//! A cell is of one user, one project or none, and one hour of UTC. Cells only grow.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::StoreError;

/// An hour in milliseconds.
pub const HOUR: u64 = 3_600_000;
/// A day in milliseconds; days are those of UTC.
pub const DAY: u64 = 24 * HOUR;

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Time of connections, milliseconds.
    pub connected_ms: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Edits of documents.
    pub edits: u64,
    /// Plans asked for.
    pub plans: u64,
    /// Tokens given to language models.
    pub tokens_in: u64,
    /// Tokens that they gave.
    pub tokens_out: u64,
}

impl Amounts {
    /// In the order of the columns.
    pub(crate) fn columns(&self) -> [u64; 8] {
        [
            self.connected_ms,
            self.messages,
            self.bytes_in,
            self.bytes_out,
            self.edits,
            self.plans,
            self.tokens_in,
            self.tokens_out,
        ]
    }

    /// Of columns in their order.
    pub(crate) fn of(columns: [u64; 8]) -> Self {
        let [
            connected_ms,
            messages,
            bytes_in,
            bytes_out,
            edits,
            plans,
            tokens_in,
            tokens_out,
        ] = columns;
        Self {
            connected_ms,
            messages,
            bytes_in,
            bytes_out,
            edits,
            plans,
            tokens_in,
            tokens_out,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        let (mut sum, more) = (self.columns(), more.columns());
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum = sum.saturating_add(more);
        }
        Self::of(sum)
    }
}

/// Something that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// By whom.
    pub user_id: String,
    /// In which project, if in one.
    pub project_id: Option<String>,
    /// When; its hour counts.
    pub time: u64,
    /// How much.
    pub amounts: Amounts,
}

/// The event that something is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedFor<'a> {
    /// Who counts.
    pub consumer: &'a str,
    /// The event.
    pub event_id: &'a str,
}

/// Whose usage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageOf<'a> {
    /// A user's, in all projects and in none.
    User(&'a str),
    /// A project's, by all users.
    Project(&'a str),
}

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// Each hour.
    Hour,
    /// Each day of UTC.
    Day,
    /// All of it.
    Total,
}

impl Granularity {
    /// In milliseconds; longer than any time for all of it.
    pub(crate) fn millis(self) -> i64 {
        match self {
            Self::Hour => HOUR as i64,
            Self::Day => DAY as i64,
            Self::Total => i64::MAX,
        }
    }
}

/// What was used in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// When it begins; 0 for all of it.
    pub start: u64,
    /// How much was used.
    pub amounts: Amounts,
}

/// The hour of a time: when it begins.
#[must_use]
pub fn hour_of(time: u64) -> u64 {
    time - time % HOUR
}

/// A cell's user, hour and project, by which they are locked.
pub(crate) type Cell<'a> = (&'a str, u64, Option<&'a str>);

/// What goes into each cell, in their order.
pub(crate) fn cells(used: &[Used]) -> BTreeMap<Cell<'_>, Amounts> {
    let mut cells: BTreeMap<Cell<'_>, Amounts> = BTreeMap::new();
    for one in used {
        let cell = (
            one.user_id.as_str(),
            hour_of(one.time),
            one.project_id.as_deref(),
        );
        let sum = cells.entry(cell).or_default();
        *sum = sum.plus(&one.amounts);
    }
    cells
}

/// Usage.
#[async_trait]
pub trait Usage {
    /// Adds to the cells, all in one transaction. What is counted for an event is counted once by that
    /// consumer, however often and by however many it is called, as long as the inbox knows the event: `false`
    /// the other times, and nothing is added. Users and projects that are gone are left out.
    async fn add_usage(
        &self,
        used: &[Used],
        event: Option<CountedFor<'_>>,
        now: u64,
    ) -> Result<bool, StoreError>;

    /// What was used in the hours that begin at `from` or later and before `to`, summed; oldest first, without
    /// the periods in which nothing was.
    async fn usage(
        &self,
        of: UsageOf<'_>,
        from: u64,
        to: u64,
        granularity: Granularity,
    ) -> Result<Vec<Period>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_one_cell_is_added_up() {
        let used = |user: &str, project: Option<&str>, time, edits| Used {
            user_id: user.into(),
            project_id: project.map(str::to_owned),
            time,
            amounts: Amounts {
                edits,
                bytes_in: 1,
                ..Amounts::default()
            },
        };
        let all = [
            used("b", None, HOUR, 1),
            used("a", Some("p"), 2 * HOUR - 1, 2),
            used("a", Some("p"), HOUR, 3),
            used("a", None, HOUR, 4),
            used("a", Some("p"), 2 * HOUR, u64::MAX),
            used("a", Some("p"), 2 * HOUR, 1),
        ];
        let cells = cells(&all);
        let edits: Vec<_> = cells
            .iter()
            .map(|(cell, amounts)| (*cell, amounts.edits, amounts.bytes_in))
            .collect();
        let expected = [
            (("a", HOUR, None), 4, 1),
            (("a", HOUR, Some("p")), 5, 2),
            (("a", 2 * HOUR, Some("p")), u64::MAX, 2),
            (("b", HOUR, None), 1, 1),
        ];
        assert_eq!(edits, expected);
    }
}

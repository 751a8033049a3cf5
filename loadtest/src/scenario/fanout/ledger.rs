//! Who has received what: the highest number seen by each subscriber, and the lowest of those.
//!
//! Pure. Numbers start at 1 and rise by one; 0 means that nothing has been seen.

use std::collections::VecDeque;

/// What went wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subscriber {member} got message {got} after {seen}")]
pub(super) struct OutOfOrder {
    /// Whose message.
    member: usize,
    /// The number it has.
    got: u64,
    /// The highest number seen before.
    seen: u64,
}

/// The record of one run of numbers.
#[derive(Debug)]
pub(super) struct Ledger {
    seen: Vec<u64>,
    /// `standing[i]`: how many subscribers have seen exactly `lowest + i`.
    standing: VecDeque<usize>,
    lowest: u64,
    deliveries: u64,
    missing: u64,
    gaps_allowed: bool,
}

impl Ledger {
    /// A record in which nobody has seen anything; `gaps_allowed` for classes that may drop.
    pub(super) fn new(members: usize, gaps_allowed: bool) -> Self {
        Self {
            seen: vec![0; members],
            standing: VecDeque::from([members]),
            lowest: 0,
            deliveries: 0,
            missing: 0,
            gaps_allowed,
        }
    }

    /// Takes a message: the next number, unless gaps are allowed.
    pub(super) fn take(&mut self, member: usize, got: u64) -> Result<(), OutOfOrder> {
        let seen = self.seen[member];
        if got != seen + 1 && (got <= seen || !self.gaps_allowed) {
            return Err(OutOfOrder { member, got, seen });
        }
        self.missing += got - seen - 1;
        self.deliveries += 1;
        self.seen[member] = got;
        self.raise(seen, got);
        Ok(())
    }

    /// Gives up what has not come up to a number: a class that may drop has dropped it.
    pub(super) fn forgive(&mut self, up_to: u64) {
        for seen in &mut self.seen {
            self.missing += up_to.saturating_sub(*seen);
            *seen = up_to.max(*seen);
        }
        self.lowest = up_to;
        self.standing = VecDeque::from([self.seen.len()]);
    }

    fn raise(&mut self, from: u64, to: u64) {
        let index = |number: u64, lowest: u64| (number - lowest) as usize;
        let reached = index(to, self.lowest);
        if self.standing.len() <= reached {
            self.standing.resize(reached + 1, 0);
        }
        self.standing[index(from, self.lowest)] -= 1;
        self.standing[reached] += 1;
        while self.standing.len() > 1 && self.standing[0] == 0 {
            self.standing.pop_front();
            self.lowest += 1;
        }
    }

    /// What every subscriber has seen.
    pub(super) fn lowest(&self) -> u64 {
        self.lowest
    }

    /// Messages taken so far.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Messages that were dropped, where that is allowed.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// A subscriber that has seen no more than the lowest number.
    pub(super) fn slowest(&self) -> Option<usize> {
        self.seen.iter().position(|seen| *seen == self.lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_follows_the_slowest() {
        let mut ledger = Ledger::new(3, false);
        for number in 1..=5 {
            ledger.take(0, number).unwrap();
            ledger.take(1, number).unwrap();
        }
        assert_eq!((ledger.lowest(), ledger.slowest()), (0, Some(2)));
        for number in 1..=4 {
            ledger.take(2, number).unwrap();
            assert_eq!(ledger.lowest(), number);
        }
        ledger.take(2, 5).unwrap();
        assert_eq!(
            (ledger.lowest(), ledger.deliveries(), ledger.missing()),
            (5, 15, 0)
        );
    }

    #[test]
    fn doubled_lost_and_swapped_messages_are_told() {
        let mut ledger = Ledger::new(1, false);
        ledger.take(0, 1).unwrap();
        assert!(ledger.take(0, 1).is_err(), "doubled");
        assert!(ledger.take(0, 3).is_err(), "lost");
        ledger.take(0, 2).unwrap();
        assert!(ledger.take(0, 1).is_err(), "swapped");
    }

    #[test]
    fn gaps_are_counted_where_allowed() {
        let mut ledger = Ledger::new(2, true);
        ledger.take(0, 4).unwrap();
        assert!(ledger.take(0, 4).is_err(), "doubled even so");
        ledger.forgive(5);
        assert_eq!((ledger.lowest(), ledger.missing()), (5, 3 + 1 + 5));
        ledger.take(0, 6).unwrap();
        ledger.take(1, 6).unwrap();
        assert_eq!(ledger.lowest(), 6);
    }
}

//! How many retries a service's requests may cost: a share of them, over a reserve.
//!
//! Without it retries would double the load of a service that fails because it has too much.

use std::sync::atomic::{AtomicU64, Ordering};

/// A retry, in the units that a request's share is counted in.
const RETRY: u64 = 100;
/// Retries that may be made at once after a time without any.
const RESERVE: u64 = 100;

/// The retries that are left.
#[derive(Debug)]
pub(super) struct Budget {
    share: u64,
    left: AtomicU64,
}

impl Budget {
    /// `percent` of the requests; none at all if it is 0.
    pub(super) fn new(percent: u32) -> Self {
        let reserve = if percent == 0 { 0 } else { RESERVE * RETRY };
        Self {
            share: u64::from(percent),
            left: AtomicU64::new(reserve),
        }
    }

    /// A request came.
    pub(super) fn earn(&self) {
        let more = |left: u64| (left < RESERVE * RETRY).then_some(left + self.share);
        // It is full otherwise.
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Takes a retry, if there is one left.
    pub(super) fn spend(&self) -> bool {
        let less = |left: u64| left.checked_sub(RETRY);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_and_then_a_share() {
        let budget = Budget::new(20);
        let spent = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(spent, 100);
        for _ in 0..50 {
            budget.earn();
        }
        let spent = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(spent, 10, "20 of a hundred");
        let none = Budget::new(0);
        none.earn();
        assert!(!none.spend());
    }
}

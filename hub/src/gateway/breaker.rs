//! The circuit breaker of one upstream: closed, open for a while, half open for one trial.
//!
//! Pure: the time comes in. Never counts what the caller did wrong: only its user knows whose fault
//! something was.

use std::time::Instant;

use crate::config::services::BreakerLimits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass; so many failed in a row.
    Closed(u32),
    /// None passes before then.
    Open(Instant),
    /// One is under way that decides.
    Trial,
}

/// What a breaker says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Pass.
    Pass,
    /// One request may try; say [`Breaker::begin_trial`] then.
    Try,
    /// No, before then.
    No(Instant),
    /// No: one is trying.
    Wait,
}

/// The breaker of one upstream.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    state: State,
}

impl Breaker {
    /// A closed one.
    pub(super) fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            state: State::Closed(0),
        }
    }

    /// Whether a request may pass.
    pub(super) fn says(&self, now: Instant) -> Says {
        match self.state {
            State::Closed(_) => Says::Pass,
            State::Open(until) if now < until => Says::No(until),
            State::Open(_) => Says::Try,
            State::Trial => Says::Wait,
        }
    }

    /// The one trial begins; it ends with a success, a failure or [`Self::abandon`].
    pub(super) fn begin_trial(&mut self) {
        self.state = State::Trial;
    }

    /// The trial ended without telling anything: the next request may try.
    pub(super) fn abandon(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Open(now);
        }
    }

    /// The upstream answered. Whoever asked before it opened decides nothing any more.
    pub(super) fn success(&mut self, is_trial: bool) {
        if is_trial || matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(0);
        }
    }

    /// The upstream failed; `true` if that opened the breaker.
    pub(super) fn failure(&mut self, is_trial: bool, now: Instant) -> bool {
        let opens = match &mut self.state {
            State::Closed(failures) => {
                *failures += 1;
                *failures >= self.limits.failures
            }
            State::Trial => is_trial,
            State::Open(_) => false,
        };
        if opens {
            self.state = State::Open(now + self.limits.cool_down);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const COOL: Duration = Duration::from_secs(10);

    fn breaker() -> Breaker {
        Breaker::new(BreakerLimits {
            failures: 3,
            cool_down: COOL,
        })
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let (mut breaker, now) = (breaker(), Instant::now());
        assert!(!breaker.failure(false, now) && !breaker.failure(false, now));
        breaker.success(false);
        assert!(!breaker.failure(false, now) && !breaker.failure(false, now));
        assert_eq!(breaker.says(now), Says::Pass);
        assert!(breaker.failure(false, now));
        assert_eq!(breaker.says(now), Says::No(now + COOL));
        // Those under way when it opened prolong nothing and close nothing.
        assert!(!breaker.failure(false, now + COOL / 2));
        breaker.success(false);
        assert_eq!(breaker.says(now), Says::No(now + COOL));
    }

    #[test]
    fn one_trial_decides() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..3 {
            breaker.failure(false, now);
        }
        let later = now + COOL;
        assert_eq!(breaker.says(later), Says::Try);
        breaker.begin_trial();
        assert_eq!(breaker.says(later), Says::Wait);
        assert!(!breaker.failure(false, later), "it is not the trial's");
        assert_eq!(breaker.says(later), Says::Wait);
        assert!(breaker.failure(true, later));
        assert_eq!(breaker.says(later), Says::No(later + COOL));
        let later = later + COOL;
        breaker.begin_trial();
        breaker.abandon(later);
        assert_eq!(breaker.says(later), Says::Try);
        breaker.begin_trial();
        breaker.success(true);
        assert_eq!(breaker.says(later), Says::Pass);
    }
}

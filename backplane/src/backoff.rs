//! Waiting longer after each failure, up to a bound, never in step with others.

use std::time::Duration;

/// How long to wait after failures that follow one another.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// About `first` after the first failure, then twice as long each time, never more than `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        let first = first.min(most);
        Self {
            first,
            most,
            next: first,
        }
    }

    /// How long to wait now: between three quarters and all of the present step, at random.
    pub fn delay(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.most);
        step.mul_f64(rand::random_range(0.75..=1.0))
    }

    /// It worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_its_bound() {
        let (first, most) = (Duration::from_millis(100), Duration::from_millis(450));
        let mut backoff = Backoff::new(first, most);
        for step in [100, 200, 400, 450, 450] {
            let delay = backoff.delay();
            let step = Duration::from_millis(step);
            assert!(
                delay <= step && delay >= step * 3 / 4,
                "{delay:?} of {step:?}"
            );
        }
        backoff.reset();
        assert!(backoff.delay() <= first);
    }
}

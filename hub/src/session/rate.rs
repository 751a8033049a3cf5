//! A token bucket: how many per second, with a burst of one second's worth.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that refills steadily; rate 0 means no limit.
pub(crate) struct Bucket {
    rate: f32,
    level: f32,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            rate: per_second as f32,
            level: per_second as f32,
            at: Instant::now(),
        }
    }

    /// Takes one; if there is none left, how long until there is.
    pub(crate) fn take(&mut self) -> Option<Duration> {
        if self.rate == 0.0 {
            return None;
        }
        let now = Instant::now();
        let refill = now.duration_since(self.at).as_secs_f32() * self.rate;
        self.level = (self.level + refill).min(self.rate.max(1.0));
        self.at = now;
        self.level -= 1.0;
        if self.level >= 0.0 {
            return None;
        }
        Some(Duration::from_secs_f32(-self.level / self.rate))
    }

    /// Takes one if there is one.
    ///
    /// # Errors
    /// How long until there is.
    pub(crate) fn take_one(&mut self) -> Result<(), Duration> {
        match self.take() {
            None => Ok(()),
            Some(wait) => {
                self.level += 1.0;
                Err(wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_allows_its_burst_then_its_rate() {
        let mut bucket = Bucket::new(10);
        for _ in 0..10 {
            assert_eq!(bucket.take(), None);
        }
        let wait = bucket.take().unwrap();
        assert!(wait <= Duration::from_millis(101) && wait >= Duration::from_millis(99));
        tokio::time::sleep(Duration::from_secs(60)).await;
        for _ in 0..10 {
            assert_eq!(bucket.take(), None);
        }
        assert!(bucket.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_costs_nothing() {
        let mut bucket = Bucket::new(2);
        assert!(bucket.take_one().is_ok() && bucket.take_one().is_ok());
        for _ in 0..100 {
            assert!(bucket.take_one().unwrap_err() <= Duration::from_millis(501));
        }
        tokio::time::sleep(Duration::from_millis(501)).await;
        assert!(bucket.take_one().is_ok());
    }

    #[test]
    fn rate_zero_is_no_limit() {
        let mut bucket = Bucket::new(0);
        for _ in 0..1000 {
            assert_eq!(bucket.take(), None);
        }
    }
}

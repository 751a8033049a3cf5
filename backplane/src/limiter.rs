//! The limiter: how much of something a key may still take, counted by all nodes together.
//!
//! Each key has a token bucket, kept as the one number that the generic cell rate algorithm needs: when it will be
//! full again. What is not kept is full, so a bucket that rests costs nothing. The arithmetic is here, in whole
//! microseconds, and the same for every implementation; they differ in whose clock and whose memory it is. Never
//! decides what happens when nobody can be asked: that is told as an error.

pub mod contract;
pub mod local;
pub mod redis;

use std::time::Duration;

use async_trait::async_trait;

/// The longest time that a bucket may take to fill, microseconds: a year. Keeps sums exact in Lua's numbers.
const LONGEST: u64 = 365 * 24 * 3600 * 1_000_000;

/// How large a bucket is, and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    burst: u32,
    /// Microseconds until one more may be taken.
    interval: u64,
}

impl Quota {
    /// A bucket of `burst` that gets `count` more in each `window`, evenly, to a microsecond each. `None`, for no limit, if
    /// one of them is 0. A bucket that would take longer than a year to fill is made smaller.
    #[must_use]
    pub fn new(burst: u32, count: u32, window: Duration) -> Option<Self> {
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        if burst == 0 || count == 0 || window == 0 {
            return None;
        }
        let count = u64::from(count);
        let rounded = window.saturating_add(count / 2) / count;
        let interval = rounded.clamp(1, LONGEST);
        let burst = u64::from(burst).min(LONGEST / interval) as u32;
        Some(Self { burst, interval })
    }

    /// What a full bucket holds.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How long an empty bucket takes to be full, microseconds.
    fn capacity(self) -> u64 {
        self.interval * u64::from(self.burst)
    }
}

/// What is asked of one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// Whose bucket.
    pub key: String,
    /// What the bucket is like. A quota that changes applies from the next take on.
    pub quota: Quota,
    /// How much; more than the burst counts as the burst, 0 only looks.
    pub cost: u32,
}

impl Take {
    /// One of a bucket.
    #[must_use]
    pub fn one(key: String, quota: Quota) -> Self {
        Self {
            key,
            quota,
            cost: 1,
        }
    }

    /// Microseconds of filling that the cost is worth.
    fn worth(&self) -> u64 {
        self.quota.interval * u64::from(self.cost.min(self.quota.burst))
    }

    fn has_room(&self, lack: u64) -> bool {
        lack + self.worth() <= self.quota.capacity()
    }
}

/// How a bucket stands after a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether this bucket had enough.
    pub allowed: bool,
    /// What it holds when it is full.
    pub limit: u32,
    /// What it holds now.
    pub remaining: u32,
    /// How long until it is full, if nothing more is taken.
    pub reset: Duration,
    /// How long until it has enough; zero if it had.
    pub retry_after: Duration,
}

/// Nobody can say how the bucket stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimiterError {
    /// The limiter can't be reached, did not answer in time, or refused. The take may or may not have counted.
    #[error("the limiter can't be asked: {0}")]
    Unavailable(String),
}

/// Token buckets by key.
#[async_trait]
pub trait Limiter: Send + Sync + 'static {
    /// Takes from all of the buckets, or, if one of them has too little, from none; one decision each, in their order. It is
    /// allowed if all of them are. Keys differ from each other. Concurrent takes, on whatever node, never get
    /// more than the buckets hold. One round trip at most, and none for no buckets.
    ///
    /// Where keys lie on several servers (a cluster of Redis) they are asked side by side, and a bucket that had enough
    /// is charged also when another one had not: never too little is counted.
    ///
    /// # Errors
    /// [`LimiterError::Unavailable`], within the implementation's bound.
    async fn take(&self, takes: &[Take]) -> Result<Vec<Decision>, LimiterError>;
}

/// The decisions of one take, from how much each bucket lacked before it, in microseconds of filling.
fn decide(takes: &[Take], lacks: &[u64]) -> Vec<Decision> {
    let pairs = || takes.iter().zip(lacks.iter().copied());
    let taken = pairs().all(|(take, lack)| take.has_room(lack));
    let decision = |(take, lack): (&Take, u64)| {
        let (worth, capacity) = (take.worth(), take.quota.capacity());
        let after = if taken { lack + worth } else { lack };
        let wait = (lack + worth).saturating_sub(capacity);
        Decision {
            allowed: wait == 0,
            limit: take.quota.burst,
            remaining: (capacity.saturating_sub(after) / take.quota.interval) as u32,
            reset: Duration::from_micros(after),
            retry_after: Duration::from_micros(wait),
        }
    };
    pairs().map(decision).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_have_bounds() {
        let minute = Duration::from_secs(60);
        let quota = Quota::new(1200, 1200, minute).unwrap();
        assert_eq!((quota.interval, quota.capacity()), (50_000, 60_000_000));
        for (burst, count, window) in [(0, 1, minute), (1, 0, minute), (1, 1, Duration::ZERO)] {
            assert_eq!(Quota::new(burst, count, window), None);
        }
        let fastest = Quota::new(u32::MAX, u32::MAX, Duration::from_micros(1)).unwrap();
        assert_eq!(fastest.interval, 1);
        let slowest = Quota::new(u32::MAX, 1, Duration::MAX).unwrap();
        assert_eq!((slowest.burst, slowest.capacity()), (1, LONGEST));
        let large = Quota::new(u32::MAX, 1, minute).unwrap();
        assert!(large.capacity() <= LONGEST && large.burst > 100_000);
    }

    proptest! {
        /// The bucket in microseconds of filling agrees with one that counts what it holds.
        #[test]
        fn a_lack_is_a_bucket(
            burst in 1_u32..20,
            interval in 1_u64..50,
            steps in prop::collection::vec((0_u64..200, 0_u32..25), 1..60),
        ) {
            let quota = Quota { burst, interval };
            let (mut lack, mut holds) = (0, quota.capacity());
            for (passed, cost) in steps {
                lack = u64::saturating_sub(lack, passed);
                holds = (holds + passed).min(quota.capacity());
                let take = Take { key: String::new(), quota, cost };
                let wanted = u64::from(cost.min(burst)) * interval;
                let decision = decide(std::slice::from_ref(&take), &[lack])[0];
                prop_assert_eq!(decision.allowed, wanted <= holds);
                prop_assert_eq!(decision.retry_after, Duration::from_micros(wanted.saturating_sub(holds)));
                if decision.allowed {
                    lack += take.worth();
                    holds -= wanted;
                }
                prop_assert_eq!(u64::from(decision.remaining), holds / interval);
                prop_assert_eq!(decision.reset, Duration::from_micros(quota.capacity() - holds));
            }
        }
    }
}

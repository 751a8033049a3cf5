//! Limits of the whole node: rates by key, and the memory budget.
//!
//! Owns [`KeyedRate`] (attempts per minute of one account or address) and [`MemoryBudget`]. Never
//! closes what is already in, and never waits: the answer is yes or no.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// After so many checks the keys that are back at rest are dropped, as the limiter keeps them for ever.
const SWEEP_EVERY: u32 = 1024;
/// How long a reading of the process's memory is good for.
const MEMORY_READING: Duration = Duration::from_millis(250);

/// So many attempts per minute and key, after a burst.
pub struct KeyedRate<K: Hash + Eq + Clone> {
    limiter: Option<DefaultKeyedRateLimiter<K>>,
    clock: DefaultClock,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> KeyedRate<K> {
    /// `burst` attempts at once, then `per_minute`; no limit if one of them is 0.
    #[must_use]
    pub fn per_minute(per_minute: u32, burst: u32) -> Self {
        let quota = NonZeroU32::new(per_minute)
            .zip(NonZeroU32::new(burst))
            .map(|(rate, burst)| Quota::per_minute(rate).allow_burst(burst));
        Self::of(quota)
    }

    /// So many per second, with a burst of one second's worth; no limit if it is 0.
    #[must_use]
    pub fn per_second(per_second: u32) -> Self {
        Self::of(NonZeroU32::new(per_second).map(Quota::per_second))
    }

    fn of(quota: Option<Quota>) -> Self {
        Self {
            limiter: quota.map(DefaultKeyedRateLimiter::keyed),
            clock: DefaultClock::default(),
            checks: AtomicU32::new(0),
        }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    /// How long to wait, if it was one too many.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
        limiter
            .check_key(key)
            .map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets the keys whose burst is whole again.
    pub fn sweep(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// The memory that this process may take before nothing new is let in. The reading is of the
/// resident set, and at most [`MEMORY_READING`] old.
#[derive(Debug)]
pub struct MemoryBudget {
    most: u64,
    started: Instant,
    read_at: AtomicU64,
    bytes: AtomicU64,
}

impl MemoryBudget {
    /// A budget of that many bytes; 0 for none.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most: most as u64,
            started: Instant::now(),
            read_at: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Whether something new may be let in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.most == 0 || self.resident() <= self.most
    }

    fn resident(&self) -> u64 {
        // From 1 on: 0 means never read.
        let now = self.started.elapsed().as_millis() as u64 + 1;
        let last = self.read_at.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= MEMORY_READING.as_millis() as u64;
        let order = Ordering::Relaxed;
        if due
            && self
                .read_at
                .compare_exchange(last, now, order, order)
                .is_ok()
        {
            self.bytes
                .store(read_resident().unwrap_or(0), Ordering::Relaxed);
        }
        self.bytes.load(Ordering::Relaxed)
    }
}

/// `None` where the system does not tell; the limit does nothing there.
fn read_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_per_key() {
        let rate = KeyedRate::<String>::per_minute(60, 2);
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert!(rate.check(&a).is_ok() && rate.check(&a).is_ok());
        let wait = rate.check(&a).unwrap_err();
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        assert!(rate.check(&b).is_ok());
        let none = KeyedRate::<String>::per_minute(0, 1);
        assert!((0..1000).all(|_| none.check(&a).is_ok()));
    }

    #[test]
    fn resting_keys_are_forgotten() {
        let rate = KeyedRate::<u32>::per_minute(u32::MAX, 10);
        for key in 0..50_000 {
            rate.check(&key).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
        rate.sweep();
        assert_eq!(rate.limiter.as_ref().unwrap().len(), 0);
    }

    #[test]
    fn memory_has_a_budget() {
        assert!(!MemoryBudget::new(1).has_room());
        assert!(MemoryBudget::new(usize::MAX).has_room());
        assert!(MemoryBudget::new(0).has_room());
        assert!(read_resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}

//! The memory budget: whether something new may still be let in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a reading of the process's memory is good for.
const MEMORY_READING: Duration = Duration::from_millis(250);

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
    fn memory_has_a_budget() {
        assert!(!MemoryBudget::new(1).has_room());
        assert!(MemoryBudget::new(usize::MAX).has_room());
        assert!(MemoryBudget::new(0).has_room());
        assert!(read_resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}

//! How often somebody may ask.

/// A bucket that refills with time.
pub struct TokenBucket {
    capacity: f64,
    level: f64,
    per_second: f64,
    updated: f64,
}

impl TokenBucket {
    /// Takes one if there is one left; else the request is refused.
    pub fn try_acquire(&mut self, now: f64) -> bool {
        self.refill(now);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }

    fn refill(&mut self, now: f64) {
        let gained = (now - self.updated) * self.per_second;
        self.level = (self.level + gained).min(self.capacity);
        self.updated = now;
    }
}

//! The limiter inside the process: this node alone, by its own clock that never goes back.
//!
//! Bounded: buckets that are full again are forgotten in the course of use, and beyond a number of keys those that
//! would be full soonest.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Decision, Limiter, LimiterError, Take, decide};

/// How often buckets that rest are forgotten, if there is a take.
const SWEEP: Duration = Duration::from_secs(30);

/// Buckets of this process.
pub struct LocalLimiter {
    origin: Instant,
    most: usize,
    // One lock for all: a take is two or three look-ups, and must see several buckets at once.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When each bucket will be full, microseconds since the origin.
    full_at: HashMap<Box<str>, u64>,
    /// When to sweep next, in the same time.
    sweep_at: u64,
}

impl LocalLimiter {
    /// A limiter that keeps at most `most` buckets (at least two), each about 150 bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            origin: Instant::now(),
            most: most.max(2),
            state: Mutex::default(),
        }
    }

    /// How many buckets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().full_at.len()
    }

    /// Whether every bucket is full and forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the buckets that are full again; also done now and then by [`Limiter::take`].
    pub fn sweep(&self) {
        let now = self.now();
        self.lock().sweep(now);
    }

    /// As [`Limiter::take`]; never fails, never waits.
    pub fn take_now(&self, takes: &[Take]) -> Vec<Decision> {
        let now = self.now();
        let mut state = self.lock();
        let lack = |take: &Take| {
            let full_at = state.full_at.get(take.key.as_str()).copied().unwrap_or(0);
            full_at.saturating_sub(now).min(take.quota.capacity())
        };
        let lacks: Vec<u64> = takes.iter().map(lack).collect();
        let decisions = decide(takes, &lacks);
        if decisions.iter().all(|decision| decision.allowed) {
            for (take, lack) in takes.iter().zip(lacks) {
                state.set(take, now + lack + take.worth());
            }
            if now >= state.sweep_at {
                state.sweep(now);
            }
            if state.full_at.len() > self.most {
                state.halve(now);
            }
        }
        decisions
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, take: &Take, full_at: u64) {
        if take.cost == 0 {
            return;
        }
        match self.full_at.get_mut(take.key.as_str()) {
            Some(kept) => *kept = full_at,
            None => drop(self.full_at.insert(take.key.as_str().into(), full_at)),
        }
    }

    fn sweep(&mut self, now: u64) {
        self.sweep_at = now + SWEEP.as_micros() as u64;
        self.full_at.retain(|_, full_at| *full_at > now);
        // What a crowd has left behind is given back.
        if self.full_at.capacity() > 4 * self.full_at.len() + 1024 {
            self.full_at.shrink_to_fit();
        }
    }

    /// Makes room when there are too many: by half, so that it is seldom done.
    fn halve(&mut self, now: u64) {
        self.sweep(now);
        let mut times: Vec<u64> = self.full_at.values().copied().collect();
        let half = times.len() / 2;
        let (_, middle, _) = times.select_nth_unstable(half);
        let middle = *middle;
        let mut room = half;
        self.full_at.retain(|_, full_at| {
            // Of those that are full at one time only so many stay.
            let stays = *full_at >= middle && room > 0;
            room -= usize::from(stays);
            stays
        });
    }
}

#[async_trait]
impl Limiter for LocalLimiter {
    async fn take(&self, takes: &[Take]) -> Result<Vec<Decision>, LimiterError> {
        Ok(self.take_now(takes))
    }
}

//! How much processor time each process has spent. Never starts anything.

use std::ops::{Add, Mul, Sub};
use std::time::Instant;

use crate::error::Result;
use crate::process;

/// A figure of each process: microseconds of one core, per operation or per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Costs {
    pub(super) hub_a: f64,
    pub(super) hub_b: f64,
    pub(super) redis: f64,
    pub(super) rabbit: f64,
    pub(super) postgres: f64,
}

impl Costs {
    fn with(self, other: Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            hub_a: combine(self.hub_a, other.hub_a),
            hub_b: combine(self.hub_b, other.hub_b),
            redis: combine(self.redis, other.redis),
            rabbit: combine(self.rabbit, other.rabbit),
            postgres: combine(self.postgres, other.postgres),
        }
    }
}

impl Add for Costs {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl Sub for Costs {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
}

impl Mul<f64> for Costs {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self.with(self, |a, _| a * factor)
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "A {:.2}, B {:.2}, Redis {:.2}, RabbitMQ {:.2}, PostgreSQL {:.2}",
            self.hub_a, self.hub_b, self.redis, self.rabbit, self.postgres
        )
    }
}

/// The first process of each service; 0 of one that is not there yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    pub(super) hub_a: u32,
    pub(super) hub_b: u32,
    pub(super) redis: u32,
    pub(super) rabbit: u32,
    pub(super) postgres: u32,
}

/// What had been spent at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    at: Instant,
    spent: Costs,
}

impl Meter {
    /// Reads all processes, their descendants included.
    pub(super) fn read(&self) -> Result<Reading> {
        let micros = |pid: u32| -> Result<f64> {
            if pid == 0 {
                return Ok(0.0);
            }
            Ok(process::family_cpu_time(pid)?.as_secs_f64() * 1e6)
        };
        Ok(Reading {
            at: Instant::now(),
            spent: Costs {
                hub_a: micros(self.hub_a)?,
                hub_b: micros(self.hub_b)?,
                redis: micros(self.redis)?,
                rabbit: micros(self.rabbit)?,
                postgres: micros(self.postgres)?,
            },
        })
    }
}

impl Reading {
    /// What was spent from `self` to `later`, and in how many seconds.
    pub(super) fn until(&self, later: &Self) -> (Costs, f64) {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        (later.spent - self.spent, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_process_is_seen() {
        let meter = Meter {
            redis: std::process::id(),
            ..Meter::default()
        };
        let before = meter.read().unwrap();
        let start = Instant::now();
        while start.elapsed().as_millis() < 200 {
            std::hint::spin_loop();
        }
        let (spent, seconds) = before.until(&meter.read().unwrap());
        assert!(spent.redis > 10_000.0, "{spent}");
        assert!(seconds >= 0.2);
        assert_eq!(spent.hub_a, 0.0);
    }
}

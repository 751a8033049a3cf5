//! Which fault happens when: a list that depends on the seed and the length alone. Pure.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::cluster::fault::{Fault, Target, Trouble};

/// Faults in each full minute, at least and at most.
const PER_MINUTE: std::ops::RangeInclusive<usize> = 5..=8;
/// Which part of a minute has faults; the rest of it is calm.
const BUSY: f64 = 0.75;

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// When it begins, from the start.
    pub(super) at: Duration,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// What it is.
    pub(super) fault: Fault,
}

/// The faults of a run, by time: bursts, with a calm end in every minute. Every kind comes before any
/// comes again, and Redis loses its data at least once.
pub(super) fn plan(seed: u64, length: Duration, hubs: usize) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut deck: Vec<Fault> = Vec::new();
    let mut planned = Vec::new();
    let minute = Duration::from_secs(60);
    let mut start = Duration::ZERO;
    while start < length {
        let window = minute.min(length - start);
        let share = window.as_secs_f64() / minute.as_secs_f64();
        let count = (random.random_range(PER_MINUTE) as f64 * share).ceil() as usize;
        let count = count.max(3);
        for place in 0..count {
            if deck.is_empty() {
                deck = kinds(hubs, &mut random);
                deck.shuffle(&mut random);
            }
            let place = place as f64 + random.random_range(0.0..1.0);
            let at = start + window.mul_f64(place / count as f64 * BUSY);
            let lasts = Duration::from_millis(random.random_range(300..5_000));
            planned.extend(deck.pop().map(|fault| Planned { at, lasts, fault }));
        }
        start += minute;
    }
    planned.sort_by_key(|planned| planned.at);
    if !planned
        .iter()
        .any(|planned| planned.fault == Fault::EmptyRedis)
    {
        let middle = planned.len() / 2;
        planned[middle].fault = Fault::EmptyRedis;
    }
    planned
}

/// One of each kind; which hub's way it is, chance decides.
fn kinds(hubs: usize, random: &mut StdRng) -> Vec<Fault> {
    let services = [Target::Redis, Target::Rabbit, Target::Postgres];
    let mut kinds = vec![Fault::EmptyRedis];
    for target in services.into_iter().chain((0..hubs).map(Target::Hub)) {
        kinds.extend([Fault::Kill(target), Fault::Restart(target)]);
    }
    kinds.extend(services.map(Fault::Pause));
    for to in services {
        let late = Trouble::Late(random.random_range(20..400));
        for trouble in [
            Trouble::Stalled,
            Trouble::StalledOut,
            Trouble::StalledIn,
            Trouble::Cut,
            late,
        ] {
            let hub = random.random_range(0..hubs);
            kinds.push(Fault::Way { hub, to, trouble });
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_seed_is_the_same_plan() {
        assert_eq!(plan(7, 3 * MINUTE, 3), plan(7, 3 * MINUTE, 3));
        assert_ne!(plan(7, 3 * MINUTE, 3), plan(8, 3 * MINUTE, 3));
    }

    #[test]
    fn enough_happens_and_every_minute_ends_calm() {
        for seed in 0..20 {
            let planned = plan(seed, 10 * MINUTE, 3);
            assert!(planned.len() >= 40, "{}", planned.len());
            for minute in 0..10 {
                let start = minute * MINUTE;
                let end = start + MINUTE;
                let here = planned.iter().filter(|p| p.at >= start && p.at < end);
                assert!(here.clone().count() >= 3);
                assert!(here.clone().all(|p| p.at < start + MINUTE.mul_f64(BUSY)));
            }
            assert!(planned.iter().any(|p| p.fault == Fault::EmptyRedis));
            let mut kinds: Vec<Fault> = planned.iter().map(|p| p.fault).collect();
            kinds.dedup();
            assert!(kinds.len() > 20, "only {} kinds", kinds.len());
        }
    }

    #[test]
    fn a_short_run_has_faults_too() {
        let planned = plan(1, MINUTE / 2, 3);
        assert!(planned.len() >= 3);
        assert!(planned.iter().any(|p| p.fault == Fault::EmptyRedis));
        assert!(planned.iter().all(|p| p.at < MINUTE / 2));
    }
}

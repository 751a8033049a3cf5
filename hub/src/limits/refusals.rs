//! Who was refused a moment ago, on this node: so that a flood costs neither a signature, nor a look into the store, nor
//! a round trip to the limiter.
//!
//! A bucket that has nothing has nothing until the time that the limiter told, whoever asks; so repeating that answer until
//! then is exact. It is repeated for a second at most: what the limiter has forgotten meanwhile is found out. Bounded
//! in number.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rates::Count;

/// The longest time that an answer is repeated.
const LONGEST: Duration = Duration::from_secs(1);
/// Answers that are kept at most.
const MOST: usize = 10_000;

/// Refusals by whom they hit.
#[derive(Default)]
pub(super) struct Refusals {
    hasher: RandomState,
    answers: Mutex<HashMap<u64, Answer>>,
}

struct Answer {
    /// When there is room again.
    room: Instant,
    /// Until when it is repeated.
    until: Instant,
    count: Count,
}

impl Refusals {
    /// Keeps the refusal `count`, which is to be waited out for `wait`.
    pub(super) fn keep(&self, whom: impl Hash, count: &Count, wait: Duration) {
        let now = Instant::now();
        let answer = Answer {
            room: now + wait,
            until: now + wait.min(LONGEST),
            count: count.clone(),
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            answers.retain(|_, answer| answer.until > now);
            if answers.len() >= MOST {
                // A larger crowd than is worth it: they are refused by the limiter.
                answers.clear();
            }
        }
        answers.insert(self.hasher.hash_one(whom), answer);
    }

    /// The refusal to repeat, with the wait that is left.
    pub(super) fn of(&self, whom: impl Hash) -> Option<Count> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.is_empty() {
            return None;
        }
        let key = self.hasher.hash_one(whom);
        let now = Instant::now();
        let answer = answers.get(&key)?;
        if answer.until <= now {
            answers.remove(&key);
            return None;
        }
        let wait = Some(answer.room - now);
        Some(Count {
            wait,
            ..answer.count.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Count {
        Count {
            policy: "p".parse().unwrap(),
            state: "s".parse().unwrap(),
            wait: Some(Duration::from_secs(30)),
        }
    }

    #[test]
    fn a_refusal_is_repeated_to_whom_it_hit_and_for_a_while() {
        let refusals = Refusals::default();
        assert!(refusals.of("ann").is_none());
        refusals.keep("ann", &refusal(), Duration::from_secs(30));
        refusals.keep("bob", &refusal(), Duration::from_millis(20));
        let repeated = refusals.of("ann").unwrap();
        assert_eq!(repeated.state, "s");
        let wait = repeated.wait.unwrap();
        assert!(wait > Duration::from_secs(29) && wait <= Duration::from_secs(30));
        assert!(refusals.of("cid").is_none());
        std::thread::sleep(Duration::from_millis(30));
        assert!(refusals.of("bob").is_none());
        assert!(refusals.of("ann").is_some());
        std::thread::sleep(LONGEST);
        assert!(refusals.of("ann").is_none());
        assert!(refusals.answers.lock().unwrap().is_empty());
    }

    #[test]
    fn they_are_bounded() {
        let refusals = Refusals::default();
        for n in 0..3 * MOST {
            refusals.keep(n, &refusal(), Duration::from_secs(1));
        }
        assert!(refusals.answers.lock().unwrap().len() <= MOST);
    }
}

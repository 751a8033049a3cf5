//! The members of a channel as this node has told them, so that an outage can be made good.
//!
//! Kept only where somebody has asked for presence, each member by a hash. Pure but for the clock.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use protocol::frame::Member;

use crate::broker::PresenceChange;

/// After history was lost, members come back for this long before anyone is said to have left.
pub(in crate::broker::redis) const RETURN_TIME: Duration = Duration::from_secs(10);

/// What was told of a channel's presence.
#[derive(Default)]
pub(super) struct Told {
    /// By session; `None` where nobody has asked.
    members: Option<HashMap<String, u64>>,
    /// When history was last found lost.
    lost: Option<Instant>,
}

/// How members differ from what was told.
pub(super) struct Difference {
    pub(super) changes: Vec<PresenceChange>,
    /// Some are missing of whom it can't be said yet that they have left.
    pub(super) unsaid: bool,
}

fn hash_of(member: &Member) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&member.user, &member.name).hash(&mut hasher);
    let state = member.state.as_ref().map(serde_json::Value::to_string);
    state.hash(&mut hasher);
    hasher.finish()
}

impl Told {
    /// From now on what is told is remembered.
    pub(super) fn watch(&mut self) {
        self.members.get_or_insert_default();
    }

    pub(super) fn is_watched(&self) -> bool {
        self.members.is_some()
    }

    /// History was lost, and members with it: those who live come back by themselves.
    pub(super) fn lost(&mut self) {
        self.lost = Some(Instant::now());
    }

    /// Remembers members that a caller is about to be told.
    pub(super) fn note(&mut self, members: &[Member]) {
        if let Some(told) = self.members.as_mut() {
            for member in members {
                let hash = hash_of(member);
                told.entry(member.session.clone()).or_insert(hash);
            }
        }
    }

    /// Whether this is news.
    pub(super) fn joined(&mut self, member: &Member) -> bool {
        let Some(told) = self.members.as_mut() else {
            return true;
        };
        let hash = hash_of(member);
        told.insert(member.session.clone(), hash) != Some(hash)
    }

    pub(super) fn left(&mut self, session: &str) {
        if let Some(told) = self.members.as_mut() {
            told.remove(session);
        }
    }

    /// Compares with the members as they are, which then are as told.
    pub(super) fn compare(&mut self, members: Vec<Member>) -> Difference {
        let returning = self.lost.is_some_and(|lost| lost.elapsed() < RETURN_TIME);
        let mut changes = Vec::new();
        let mut unsaid = false;
        if let Some(told) = self.members.as_mut() {
            let mut missing = std::mem::take(told);
            for member in members {
                let hash = hash_of(&member);
                let before = missing.remove(&member.session);
                told.insert(member.session.clone(), hash);
                if before != Some(hash) {
                    changes.push(PresenceChange::Joined(member));
                }
            }
            if returning {
                unsaid = !missing.is_empty();
                told.extend(missing);
            } else {
                changes.extend(missing.into_keys().map(PresenceChange::Left));
            }
        }
        Difference { changes, unsaid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(session: &str, name: &str) -> Member {
        Member {
            session: session.into(),
            user: "u".into(),
            name: name.into(),
            state: None,
        }
    }

    #[test]
    fn a_comparison_tells_what_was_missed_once() {
        let mut told = Told::default();
        told.watch();
        told.note(&[member("a", "a"), member("b", "b")]);
        assert!(told.joined(&member("c", "c")));
        assert!(!told.joined(&member("c", "c")));
        let now = || vec![member("b", "other"), member("c", "c"), member("d", "d")];
        let difference = told.compare(now());
        assert!(!difference.unsaid);
        assert_eq!(
            difference.changes,
            [
                PresenceChange::Joined(member("b", "other")),
                PresenceChange::Joined(member("d", "d")),
                PresenceChange::Left("a".into()),
            ]
        );
        assert!(told.compare(now()).changes.is_empty());
    }

    #[test]
    fn nobody_has_left_while_members_come_back() {
        let mut told = Told::default();
        told.watch();
        told.note(&[member("a", "a")]);
        told.lost();
        let difference = told.compare(Vec::new());
        assert!(difference.unsaid && difference.changes.is_empty());
        told.lost = Instant::now().checked_sub(RETURN_TIME);
        let difference = told.compare(Vec::new());
        assert_eq!(difference.changes, [PresenceChange::Left("a".into())]);
    }
}

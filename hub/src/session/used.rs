//! What a session's doings count for.
//!
//! Owns the choice of the project; sums are `usage`'s.

use std::sync::Arc;

use protocol::ChannelName;

use super::{Open, ROLES_REMEMBERED, State};
use crate::auth::Principal;
use crate::usage::only;

impl Open {
    /// The project that it is of, if its kind says one.
    fn project(&self) -> Option<&Arc<str>> {
        match self {
            Self::Channel(subscription) => match subscription.channel() {
                ChannelName::Room { project, .. } | ChannelName::Project(project) => Some(project),
                ChannelName::Feed(_) | ChannelName::Plan(_) | ChannelName::Doc(_) => None,
            },
            Self::Document(document) => Some(document.peer.project()),
            Self::Log(log) => Some(log.project()),
        }
    }
}

impl State {
    /// The session's time and bytes count for the one project that its channels and documents are of; for none while
    /// there are none or several. Called whenever they change.
    pub(super) fn belong(&self) {
        let projects = self.streams.iter().filter_map(Open::project);
        self.place.count_for(only(projects));
    }

    /// Counts a message to a room.
    pub(super) fn count_message(&mut self, channel: &ChannelName, who: &Principal) {
        let ChannelName::Room { project, .. } = channel else {
            return;
        };
        if let Some((_, tally)) = self.tallies.iter().find(|(id, _)| id == project) {
            return tally.message();
        }
        let tally = self.place.tally(&who.user, project);
        tally.message();
        if self.tallies.len() >= ROLES_REMEMBERED {
            self.tallies.clear();
        }
        // Most sessions never send to a second project.
        self.tallies.reserve_exact(1);
        self.tallies.push((Arc::clone(project), tally));
    }
}

//! Who of this node has joined which topic.
//!
//! A seat is taken before its subscription is asked for and given up under the same lock that ends the
//! subscription, so that the last one to leave never cuts off one who just came. Never awaits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Hearing;
use crate::mesh::MeshEvent;
use crate::redis::Link;

/// Members by channel.
#[derive(Default)]
pub(super) struct Seats(Mutex<State>);

#[derive(Default)]
struct State {
    by_channel: HashMap<Arc<str>, Vec<(u64, Inbox)>>,
    next: u64,
    /// The name of the node heard last: the next message is mostly from the same one.
    speaker: Option<Arc<str>>,
}

type Inbox = mpsc::UnboundedSender<MeshEvent>;

impl Seats {
    pub(super) fn message(&self, channel: &str, from: &str, payload: Bytes) {
        let mut state = self.lock();
        let from = match &state.speaker {
            Some(speaker) if **speaker == *from => Arc::clone(speaker),
            _ => Arc::clone(state.speaker.insert(from.into())),
        };
        for (_, inbox) in state.by_channel.get(channel).into_iter().flatten() {
            // A member whose inbox is closed is about to leave.
            let _ = inbox.send(MeshEvent::Message {
                from: Arc::clone(&from),
                payload: payload.clone(),
            });
        }
    }

    pub(super) fn all_restored(&self) {
        for (_, inbox) in self.lock().by_channel.values().flatten() {
            let _ = inbox.send(MeshEvent::Restored);
        }
    }

    pub(super) fn restored(&self, channel: &str, id: u64) {
        let state = self.lock();
        let members = state.by_channel.get(channel).into_iter().flatten();
        for (_, inbox) in members.filter(|(seat, _)| *seat == id) {
            let _ = inbox.send(MeshEvent::Restored);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member's place; given up when dropped.
pub(super) struct Seat {
    hearing: Arc<Hearing>,
    link: Weak<Link>,
    channel: Arc<str>,
    id: u64,
}

impl Seat {
    pub(super) fn take(
        hearing: &Arc<Hearing>,
        link: &Arc<Link>,
        channel: &str,
        inbox: Inbox,
    ) -> Self {
        let mut state = hearing.seats.lock();
        state.next += 1;
        let id = state.next;
        let channel: Arc<str> = channel.into();
        let members = state.by_channel.entry(Arc::clone(&channel)).or_default();
        members.push((id, inbox));
        Self {
            hearing: Arc::clone(hearing),
            link: Arc::downgrade(link),
            channel,
            id,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.hearing.seats.lock();
        let Some(members) = state.by_channel.get_mut(&self.channel) else {
            return;
        };
        members.retain(|(id, _)| *id != self.id);
        if members.is_empty() {
            state.by_channel.remove(&self.channel);
            if let Some(link) = self.link.upgrade() {
                link.unsubscribe(&self.channel);
            }
        }
    }
}

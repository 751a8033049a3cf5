//! A subscribed channel as this node has it: how far it was delivered, and what waits behind a gap.
//!
//! While all is well a push is delivered as it comes (`live`). When its place is not the next one, or the
//! connection was made anew, the channel is `filling`: pushes wait, bounded, until what lies before them was
//! read from the log. Calls [`Deliver`] under its lock, so in order; never does I/O.

#[cfg(test)]
mod tests;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::frame::Member;
use protocol::{ChannelName, DeliveryClass, Position};
use tokio::sync::{Notify, oneshot};

pub(super) use self::told::RETURN_TIME;
use self::told::Told;
use super::scripts::{LogPage, Values};
use super::wire::Push;
use crate::broker::{BrokerError, Deliver, PresenceChange};

/// Most pushes that wait behind a gap; beyond it they are read from Redis when the gap is filled.
const MAX_WAITING: usize = 1024;

/// Told how a subscription came about.
pub(super) type Opened = oneshot::Sender<Result<(), BrokerError>>;

/// A channel that somebody on this node is subscribed to.
pub(super) struct Local {
    pub(super) name: ChannelName,
    pub(super) topic: Arc<str>,
    state: Mutex<State>,
    /// Rings when something was delivered or a fill has ended.
    pub(super) changed: Notify,
}

struct State {
    /// Subscriptions of this node; at 0 the channel is retired and whoever holds it must let go.
    subscriptions: u32,
    /// How far the channel was delivered; unknown until the subscription stands.
    place: Option<Place>,
    /// A task reads what is missing.
    filling: Option<Filling>,
    /// Who waits for the subscription to stand.
    opening: Vec<Opened>,
    /// The members as they were told.
    told: Told,
}

struct Place {
    epoch: String,
    last: u64,
    version: u64,
}

#[derive(Default)]
struct Filling {
    waiting: Vec<Push>,
    /// Pushes were dropped, or the connection was made anew: nothing before now can be relied on.
    all: bool,
}

/// What a fill has to begin with.
pub(super) struct Task {
    /// Where to go on; `None`: the subscription does not stand yet.
    pub(super) since: Option<Position>,
    /// Presence too must be compared.
    pub(super) presence: bool,
    /// As many waiting pushes are older than what is read from now on.
    pub(super) waiting: usize,
}

/// How a channel stands after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is more to read.
    More,
    /// All of the log was delivered; values of class `latest` are as far as they were.
    Level,
    /// All of the log was delivered; values of class `latest` were missed.
    Values,
}

/// Whether something that was read has been delivered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// It has, or nobody is subscribed any more.
    Yes,
    /// Not yet: a fill may have to be begun.
    Behind,
    /// This node is in another epoch than what was read.
    Elsewhere,
    /// A fill is under way.
    Filling,
}

impl Local {
    /// A channel with nobody subscribed, about to be opened.
    pub(super) fn new(name: ChannelName, topic: Arc<str>) -> Self {
        Self {
            name,
            topic,
            state: Mutex::new(State {
                subscriptions: 0,
                place: None,
                filling: None,
                opening: Vec::new(),
                told: Told::default(),
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a subscription. The receiver hears when it stands, `None` if it does already; the flag says
    /// that the caller has to begin the fill that makes it stand.
    pub(super) fn add(&self) -> (Option<oneshot::Receiver<Result<(), BrokerError>>>, bool) {
        let mut state = self.lock();
        state.subscriptions += 1;
        if state.place.is_some() {
            return (None, false);
        }
        let (opened, hears) = oneshot::channel();
        state.opening.push(opened);
        let begins = state.filling.is_none();
        state.filling.get_or_insert_default();
        (Some(hears), begins)
    }

    /// Uncounts a subscription; `true` if it was the last.
    pub(super) fn remove(&self) -> bool {
        let mut state = self.lock();
        state.subscriptions = state.subscriptions.saturating_sub(1);
        state.subscriptions == 0
    }

    /// Does something that must not happen after the last subscription's end; `None` if that was before.
    pub(super) fn if_subscribed<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let state = self.lock();
        (state.subscriptions > 0).then(act)
    }

    /// Whether nobody is subscribed any more.
    pub(super) fn is_retired(&self) -> bool {
        self.lock().subscriptions == 0
    }

    /// Tells those who wait for the subscription that it failed this time.
    pub(super) fn not_opened(&self, error: &BrokerError) {
        for opened in self.lock().opening.drain(..) {
            // Whoever has gone no longer wants to know.
            let _ = opened.send(Err(error.clone()));
        }
    }

    /// Takes a push; `true` if the caller has to begin a fill.
    pub(super) fn push(&self, push: Push, deliver: &dyn Deliver) -> bool {
        let mut state = self.lock();
        if state.subscriptions == 0 {
            return false;
        }
        if let Some(filling) = state.filling.as_mut() {
            if filling.waiting.len() >= MAX_WAITING {
                filling.waiting.clear();
                filling.all = true;
            }
            filling.waiting.push(push);
            return false;
        }
        let left = state.apply(push, &self.name, deliver);
        let gap = left.is_some();
        if let Some(push) = left {
            state.filling = Some(Filling {
                waiting: vec![push],
                all: false,
            });
        }
        drop(state);
        self.changed.notify_waiters();
        gap
    }

    /// Marks the channel as filling; `true` if the caller has to begin the fill. `all`: nothing before
    /// now can be relied on.
    pub(super) fn begin_fill(&self, all: bool) -> bool {
        let mut state = self.lock();
        let begins = state.filling.is_none() && state.subscriptions > 0;
        if state.subscriptions > 0 {
            state.filling.get_or_insert_default().all |= all;
        }
        begins
    }

    /// What the fill under way has to do now.
    pub(super) fn task(&self) -> Task {
        let mut state = self.lock();
        let since = state.place.as_ref().map(|place| Position {
            epoch: place.epoch.clone(),
            offset: place.last,
        });
        let watched = state.told.is_watched();
        let filling = state.filling.get_or_insert_default();
        Task {
            since,
            presence: std::mem::take(&mut filling.all) && watched,
            waiting: filling.waiting.len(),
        }
    }

    /// Takes a page of the log that was read from where the channel stands.
    pub(super) fn take_page(&self, page: &LogPage, deliver: &dyn Deliver) -> Taken {
        let mut state = self.lock();
        let adopted = |version| Place {
            epoch: page.newest.epoch.clone(),
            last: page.newest.offset,
            version,
        };
        let Some(place) = state.place.as_mut() else {
            // What was before the subscription is no concern of its subscribers.
            state.place = Some(adopted(page.version));
            return Taken::Level;
        };
        let follows = page
            .messages
            .first()
            .is_none_or(|first| first.offset == place.last + 1);
        let same = place.epoch == page.newest.epoch;
        if page.reset.is_some() || !follows || !same {
            let last = place.last;
            // Values of another epoch are all new here.
            *place = adopted(if same { place.version } else { 0 });
            deliver.broken(&self.name, last);
            if !same {
                state.told.lost();
            }
        } else {
            for message in &page.messages {
                place.last = message.offset;
                deliver.message(&self.name, message);
            }
        }
        let Some(place) = state.place.as_ref() else {
            return Taken::Level;
        };
        let taken = if place.last < page.newest.offset {
            Taken::More
        } else if place.version < page.version {
            Taken::Values
        } else {
            Taken::Level
        };
        drop(state);
        self.changed.notify_waiters();
        taken
    }

    /// Takes the newest values of class `latest`.
    pub(super) fn take_values(&self, values: &Values, deliver: &dyn Deliver) {
        let mut state = self.lock();
        let Some(place) = state.place.as_mut() else {
            return;
        };
        if place.epoch != values.epoch {
            return;
        }
        for message in &values.messages {
            if message.version > place.version {
                deliver.message(&self.name, message);
            }
        }
        place.version = place.version.max(values.version);
    }

    /// From now on what members are told is remembered, so that it can be compared after an outage.
    pub(super) fn watch_presence(&self) {
        self.lock().told.watch();
    }

    /// Remembers members that a caller is about to be told.
    pub(super) fn note_members(&self, members: &[Member]) {
        self.lock().told.note(members);
    }

    /// Tells how the members differ from what was told. `true` if some are missing of whom it can't be said yet
    /// that they have left.
    pub(super) fn take_members(&self, members: Vec<Member>, deliver: &dyn Deliver) -> bool {
        let mut state = self.lock();
        let difference = state.told.compare(members);
        for change in difference.changes {
            deliver.presence(&self.name, change);
        }
        difference.unsaid
    }

    /// Ends a fill: delivers what waits. `false` if there is more to fill; then the fill goes on.
    /// The first `old` of what waits are older than what was read.
    pub(super) fn end_fill(&self, old: usize, deliver: &dyn Deliver) -> bool {
        let mut state = self.lock();
        let Some(filling) = state.filling.as_mut() else {
            return true;
        };
        if filling.all {
            return false;
        }
        let mut waiting = std::mem::take(&mut filling.waiting).into_iter().enumerate();
        let mut left = Vec::new();
        for (at, push) in waiting.by_ref() {
            // What is older than the page and yet not next is of an epoch that is over.
            if let Some(push) = state.apply(push, &self.name, deliver)
                && at >= old
            {
                left.push(push);
                break;
            }
        }
        left.extend(waiting.map(|(_, push)| push));
        let ended = left.is_empty();
        if ended {
            state.filling = None;
            for opened in state.opening.drain(..) {
                // Whoever has gone no longer wants to know.
                let _ = opened.send(Ok(()));
            }
        } else if let Some(filling) = state.filling.as_mut() {
            filling.waiting = left;
        }
        drop(state);
        self.changed.notify_waiters();
        ended
    }

    /// Whether everything up to `position` was delivered here.
    pub(super) fn reached(&self, position: &Position) -> Reached {
        let state = self.lock();
        let Some(place) = state.place.as_ref().filter(|_| state.subscriptions > 0) else {
            // Nobody's subscription stands: whoever subscribes starts behind what was read.
            return Reached::Yes;
        };
        if place.epoch == position.epoch && place.last >= position.offset {
            Reached::Yes
        } else if state.filling.is_some() {
            Reached::Filling
        } else if place.epoch == position.epoch {
            Reached::Behind
        } else {
            Reached::Elsewhere
        }
    }
}

impl State {
    /// Delivers a push if it is the next one; gives it back if something before it is missing.
    fn apply(&mut self, push: Push, name: &ChannelName, deliver: &dyn Deliver) -> Option<Push> {
        match push {
            Push::Message {
                epoch,
                newest,
                message,
            } => {
                let next = self.place.as_ref().is_some_and(|place| {
                    let taken = u64::from(message.class == DeliveryClass::Reliable);
                    place.epoch == epoch && newest <= place.last + taken
                });
                let Some(place) = self.place.as_mut().filter(|_| next) else {
                    return Some(Push::Message {
                        epoch,
                        newest,
                        message,
                    });
                };
                match message.class {
                    DeliveryClass::Reliable if newest <= place.last => return None,
                    DeliveryClass::Reliable => place.last = newest,
                    DeliveryClass::Latest if message.version <= place.version => return None,
                    DeliveryClass::Latest => place.version = message.version,
                    DeliveryClass::Lossy => {}
                }
                deliver.message(name, &message);
            }
            Push::Joined(member) => {
                if self.told.joined(&member) {
                    deliver.presence(name, PresenceChange::Joined(member));
                }
            }
            Push::Left(session) => {
                self.told.left(&session);
                deliver.presence(name, PresenceChange::Left(session));
            }
            Push::Vacated => deliver.presence(name, PresenceChange::Vacated),
        }
        None
    }
}

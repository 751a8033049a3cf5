//! Who is connected to this node: counted for admission, told when rights change, sent away on drain.
//!
//! Every WebSocket connection, whatever it speaks, holds one [`Place`]; dropping it leaves. What is
//! kept of a connection is its send queue and whose it is. Never reads the store: a connection that
//! is told to recheck does so itself.

pub mod orders;
mod used;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use protocol::{CloseCode, Encoding, ServerFrame};
use rand::Rng as _;

use crate::auth::{News, Principal, RightsChange};
use crate::limits::MemoryBudget;
use crate::sendq::SendQueue;
use crate::transport::frame::encode;
use crate::usage::Meter;
use orders::Order;

pub use used::keep_accounts;

/// All connections of this node.
pub struct Connections {
    entries: DashMap<u64, Entry>,
    users: DashMap<Arc<str>, usize>,
    next: AtomicU64,
    count: AtomicUsize,
    /// Those of them that speak session frames.
    sessions: AtomicUsize,
    most: usize,
    most_per_user: usize,
    memory: Arc<MemoryBudget>,
    draining: AtomicBool,
    /// What connections use.
    meter: Arc<Meter>,
    /// What times of connections are counted from.
    began: Instant,
}

struct Entry {
    queue: Arc<SendQueue>,
    user: Option<Arc<str>>,
    login: Option<Arc<str>>,
    /// It has spoken for more than one login: what concerns any of them concerns it.
    mixed: bool,
    /// Session frames are spoken on it, in this encoding.
    encoding: Option<Encoding>,
    /// What services want of the session, until it takes it up; `None`: it takes no orders.
    orders: Option<Vec<Order>>,
    /// Up to when its time is counted, milliseconds since `began`.
    counted: u64,
    /// The project that what it uses counts for.
    project: Option<Arc<str>>,
}

impl Entry {
    fn is_concerned(&self, change: &RightsChange) -> bool {
        let (user, login) = (self.user.as_deref(), self.login.as_deref());
        self.mixed
            || match change {
                RightsChange::Login { sid } => login == Some(sid),
                RightsChange::User { user: whose } | RightsChange::Member { user: whose, .. } => {
                    user == Some(whose)
                }
                RightsChange::Project { members, .. } => {
                    user.is_some_and(|user| members.iter().any(|member| member == user))
                }
                // Its own task sends off whoever is in it.
                RightsChange::Document { .. } => false,
            }
    }
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sessions on `/ws`.
    pub sessions: usize,
    /// Document sockets.
    pub sockets: usize,
    /// Users with at least one of them.
    pub users: usize,
}

/// There is no room for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The node's limit.
    #[error("this node has no room for another session")]
    Node,
    /// The user's limit.
    #[error("this user has too many sessions")]
    User,
}

/// A connection's place; dropping it leaves.
pub struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
        if let Some((_, mut entry)) = self.connections.entries.remove(&self.id) {
            self.connections.settle_entry(&mut entry);
            if entry.encoding.is_some() {
                self.connections.sessions.fetch_sub(1, Ordering::Relaxed);
            }
            if let Some(user) = entry.user {
                self.connections.release(&user);
            }
        }
    }
}

impl Connections {
    /// Room for `most` connections, `most_per_user` of one user (0: no limit).
    #[must_use]
    pub fn new(most: usize, most_per_user: usize, memory: Arc<MemoryBudget>) -> Arc<Self> {
        Arc::new(Self {
            entries: DashMap::new(),
            users: DashMap::new(),
            next: AtomicU64::new(1),
            count: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            most,
            most_per_user,
            memory,
            draining: AtomicBool::new(false),
            meter: Arc::default(),
            began: Instant::now(),
        })
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// [`Full::Node`].
    pub fn admit(
        self: &Arc<Self>,
        queue: &Arc<SendQueue>,
        encoding: Option<Encoding>,
    ) -> Result<Place, Full> {
        if !self.memory.has_room() {
            return Err(Full::Node);
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err(Full::Node);
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Node);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            queue: Arc::clone(queue),
            user: None,
            login: None,
            mixed: false,
            encoding,
            orders: None,
            counted: self.uptime_ms(),
            project: None,
        };
        if encoding.is_some() {
            self.sessions.fetch_add(1, Ordering::Relaxed);
        }
        self.entries.insert(id, entry);
        Ok(Place {
            connections: Arc::clone(self),
            id,
        })
    }

    fn release(&self, user: &Arc<str>) {
        self.users.remove_if_mut(user, |_, count| {
            *count -= 1;
            *count == 0
        });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there are of each kind, and of how many users.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let sessions = self.sessions.load(Ordering::Relaxed);
        Counts {
            sessions,
            sockets: self.len().saturating_sub(sessions),
            users: self.users.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the connections that a change concerns to check their rights again; all of them if changes
    /// were missed.
    pub fn rights_changed(&self, news: &News) {
        for entry in &self.entries {
            let concerned = match &news.change {
                Some(change) => entry.is_concerned(change),
                None => true,
            };
            if concerned {
                entry.queue.recheck_since(news.since);
            }
        }
    }

    /// Tells every connection to check its rights again: changes may have been missed.
    pub fn recheck_all(&self) {
        for entry in &self.entries {
            entry.queue.recheck();
        }
    }

    /// Sends everyone away, each with its own delay within `spread`, so that they don't all come back
    /// at once.
    pub fn drain(&self, spread: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        let most = spread.as_millis() as u64;
        for entry in &self.entries {
            if let Some(encoding) = entry.encoding {
                let frame = ServerFrame::Reconnect {
                    after_ms: rand::rng().random_range(0..=most),
                    reason: "this node is leaving".into(),
                };
                entry.queue.reply(encode(&frame, encoding));
            }
            entry.queue.close_with(CloseCode::Draining);
        }
    }
}

impl Place {
    /// A number that no other connection of this process has had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// States whose the connection is; again after a token refresh.
    ///
    /// # Errors
    /// [`Full::User`]: close it.
    pub fn identify(&self, principal: &Principal) -> Result<(), Full> {
        let Some(mut entry) = self.connections.entries.get_mut(&self.id) else {
            return Ok(());
        };
        if entry.user.as_ref() != Some(&principal.user) {
            // What was used up to now is the one before's.
            self.connections.settle_entry(&mut entry);
        }
        let before = entry.login.replace(Arc::clone(&principal.login_session));
        entry.mixed |= before.is_some_and(|login| login != principal.login_session);
        // A revocation between the token's check and this line found nobody to tell.
        entry.queue.recheck();
        if entry.user.as_ref() == Some(&principal.user) {
            return Ok(());
        }
        let most = self.connections.most_per_user;
        let mut count = self
            .connections
            .users
            .entry(Arc::clone(&principal.user))
            .or_default();
        if most > 0 && *count >= most {
            return Err(Full::User);
        }
        *count += 1;
        drop(count);
        if let Some(before) = entry.user.replace(Arc::clone(&principal.user)) {
            self.connections.release(&before);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(user: &str, login: &str) -> Principal {
        Principal {
            user: user.into(),
            name: user.into(),
            login_session: login.into(),
            expires_ms: u64::MAX,
        }
    }

    fn member(user: &str) -> Option<RightsChange> {
        Some(RightsChange::Member {
            project: "p1".into(),
            user: user.into(),
            role: None,
        })
    }

    #[test]
    fn a_change_reaches_whom_it_concerns_and_a_gap_everyone() {
        let connections = Connections::new(10, 10, Arc::new(MemoryBudget::new(0)));
        let enter = |user: &str, login: &str| {
            let queue = Arc::new(SendQueue::new(1024));
            let place = connections.admit(&queue, None).unwrap();
            place.identify(&principal(user, login)).unwrap();
            assert!(queue.take_recheck(), "whoever comes in checks once");
            (queue, place)
        };
        let (ann, bob) = (enter("ann", "l1"), enter("bob", "l2"));
        let rechecked = |change: Option<RightsChange>| {
            let since = Instant::now();
            connections.rights_changed(&News { change, since });
            (ann.0.take_recheck(), bob.0.take_recheck())
        };
        let login = |sid: &str| Some(RightsChange::Login { sid: sid.into() });
        assert_eq!(rechecked(member("ann")), (true, false));
        assert_eq!(rechecked(login("l2")), (false, true));
        assert_eq!(rechecked(login("l3")), (false, false));
        let user = Some(RightsChange::User { user: "bob".into() });
        assert_eq!(rechecked(user), (false, true));
        let project = Some(RightsChange::Project {
            project: "p1".into(),
            members: vec!["ann".into(), "bob".into()],
        });
        assert_eq!(rechecked(project), (true, true));
        assert_eq!(rechecked(None), (true, true));
    }

    #[test]
    fn a_check_is_as_overdue_as_its_oldest_reason() {
        let connections = Connections::new(10, 10, Arc::new(MemoryBudget::new(0)));
        let queue = Arc::new(SendQueue::new(1024));
        let place = connections.admit(&queue, None).unwrap();
        place.identify(&principal("ann", "l1")).unwrap();
        let now = Instant::now();
        let since = now.checked_sub(Duration::from_millis(700)).unwrap_or(now);
        let change = member("ann");
        connections.rights_changed(&News { change, since });
        connections.recheck_all();
        let overdue = queue.recheck_overdue().unwrap();
        assert!(overdue >= now - since, "{overdue:?}");
        assert!(queue.take_recheck());
        assert_eq!(queue.recheck_overdue(), None);
    }
}

//! Awareness: carets, names and colours of a document, ephemeral and owned.
//!
//! The state of the y-protocols awareness, kept on the server's terms: an id belongs to the connection
//! that first brought it; what others say of it are echoes (y-websocket clients send back every change
//! that they receive) and is dropped before its JSON is parsed. A connection that leaves takes its own
//! ids along, and only those. Pure: time comes in.
//!
//! A client that reconnects announces itself with the clock that it had, and its peers, having been
//! told of its leaving at that clock, would ignore it. So the clocks that are relayed run ahead of the
//! client's own by a shift that grows with each return.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::ysync::{AwarenessEntry, GONE, encode_awareness_update, parse_awareness};
use tokio::time::Instant;

use super::PeerId;

/// Bounds of what a connection may announce.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest state, bytes of JSON.
    pub entry_bytes: usize,
    /// Most ids of one connection.
    pub entries: usize,
    /// An id that is not renewed for this long is taken for gone.
    pub timeout: std::time::Duration,
}

/// Most entries in one update: a client that joins late echoes everyone.
const MAX_UPDATE_ENTRIES: usize = 65_536;
/// A connection may bring this many times as many ids over its life as it may have present at once.
const IDS_OVER_TIME: usize = 4;
/// Clocks are 32 bits wide with those who are told.
const MAX_CLOCK: u64 = u32::MAX as u64;

/// Why an awareness update was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not an awareness update.
    #[error("not an awareness update: {0}")]
    Malformed(String),
    /// A state is not JSON, which would break the clients that parse it.
    #[error("an awareness state is not JSON")]
    NotJson,
    /// A state is too long.
    #[error("an awareness state is over the limit")]
    TooLong,
    /// The connection has brought as many ids as it may.
    #[error("the connection has announced too many awareness ids")]
    TooMany,
}

/// Who speaks.
pub struct Speaker<'a> {
    /// The connection.
    pub peer: PeerId,
    /// Its user: only the same user may come back as an id.
    pub user: &'a Arc<str>,
    /// This is the connection's first awareness message: its own announcement, not an echo.
    pub first: bool,
    /// It is another node that speaks for its clients, whom it has held to the bounds.
    pub is_node: bool,
}

/// What an update brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Ids whose state changed.
    pub changed: Vec<u64>,
    /// Ids that have another owner and the same state.
    pub adopted: Vec<u64>,
}

struct Entry {
    clock: u64,
    shift: u64,
    state: Option<Arc<str>>,
    owner: PeerId,
    user: Arc<str>,
    renewed: Instant,
}

impl Entry {
    fn relayed(&self) -> u64 {
        self.clock + self.shift
    }
}

/// The awareness of one document.
pub struct Awareness {
    entries: HashMap<u64, Entry>,
    /// How many ids each connection has brought.
    brought: HashMap<PeerId, usize>,
    bounds: Bounds,
}

/// What to do with an entry of an update.
enum Verdict {
    Drop,
    /// The owner says something new, or somebody new speaks.
    Take {
        shift: u64,
    },
    /// The same state from the user's new connection: nothing to tell, but it owns the id now.
    Adopt,
}

impl Awareness {
    /// Nobody here.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            entries: HashMap::new(),
            brought: HashMap::new(),
            bounds,
        }
    }

    /// Takes in an update.
    ///
    /// # Errors
    /// [`Refused`]; entries before the refused one have been taken.
    pub fn receive(
        &mut self,
        speaker: &Speaker<'_>,
        update: &[u8],
        now: Instant,
    ) -> Result<News, Refused> {
        let entries = parse_awareness(update, MAX_UPDATE_ENTRIES)
            .map_err(|e| Refused::Malformed(e.to_string()))?;
        let mut news = News::default();
        for entry in entries {
            let shift = match self.judge(speaker, &entry) {
                Verdict::Drop => continue,
                Verdict::Adopt => {
                    self.adopt(speaker, entry.client, now);
                    news.adopted.push(entry.client);
                    continue;
                }
                Verdict::Take { shift } => shift,
            };
            if entry.clock.saturating_add(shift) > MAX_CLOCK {
                return Err(Refused::Malformed("a clock has run out".into()));
            }
            let state = self.check(speaker, &entry)?;
            self.entries.insert(
                entry.client,
                Entry {
                    clock: entry.clock,
                    shift,
                    state,
                    owner: speaker.peer,
                    user: Arc::clone(speaker.user),
                    renewed: now,
                },
            );
            news.changed.push(entry.client);
        }
        Ok(news)
    }

    /// Shows a state of the hub's own under an id, on a user's behalf, in place of what the user showed under it;
    /// `false` if the id is another user's, or the state may not be as long.
    pub fn show(
        &mut self,
        peer: PeerId,
        user: &Arc<str>,
        client: u64,
        state: Arc<str>,
        now: Instant,
    ) -> bool {
        let known = self.entries.get(&client);
        let is_taken = known.is_some_and(|known| known.state.is_some() && known.user != *user);
        let clock = known.map_or(0, Entry::relayed) + 1;
        if is_taken || clock > MAX_CLOCK || state.len() > self.bounds.entry_bytes {
            return false;
        }
        // What has been brought goes with its owner.
        self.brought.entry(peer).or_insert(1);
        self.entries.insert(
            client,
            Entry {
                clock,
                shift: 0,
                state: Some(state),
                owner: peer,
                user: Arc::clone(user),
                renewed: now,
            },
        );
        true
    }

    fn judge(&self, speaker: &Speaker<'_>, said: &AwarenessEntry<'_>) -> Verdict {
        let Some(known) = self.entries.get(&said.client) else {
            return if said.is_gone() {
                Verdict::Drop
            } else {
                Verdict::Take { shift: 0 }
            };
        };
        let present = known.state.is_some();
        if known.owner == speaker.peer {
            let newer = said.clock > known.clock;
            let leaves = said.clock == known.clock && said.is_gone() && present;
            return if newer || leaves {
                Verdict::Take { shift: known.shift }
            } else {
                Verdict::Drop
            };
        }
        let returns = speaker.first && *speaker.user == known.user && !said.is_gone();
        if present {
            let newer = said.clock > known.clock;
            return match (returns, newer) {
                (true, true) => Verdict::Take { shift: known.shift },
                (true, false) if said.clock == known.clock => Verdict::Adopt,
                _ => Verdict::Drop,
            };
        }
        if said.is_gone() || !(returns || said.clock > known.relayed()) {
            return Verdict::Drop;
        }
        let ahead = (known.relayed() + 1).saturating_sub(said.clock);
        Verdict::Take { shift: ahead }
    }

    fn adopt(&mut self, speaker: &Speaker<'_>, client: u64, now: Instant) {
        *self.brought.entry(speaker.peer).or_default() += 1;
        if let Some(entry) = self.entries.get_mut(&client) {
            entry.owner = speaker.peer;
            entry.renewed = now;
        }
    }

    fn check(
        &mut self,
        speaker: &Speaker<'_>,
        said: &AwarenessEntry<'_>,
    ) -> Result<Option<Arc<str>>, Refused> {
        if said.is_gone() {
            return Ok(None);
        }
        if said.state.len() > self.bounds.entry_bytes {
            return Err(Refused::TooLong);
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(said.state).is_err() {
            return Err(Refused::NotJson);
        }
        let known = self.entries.get(&said.client);
        if known.is_none_or(|known| known.owner != speaker.peer) {
            let brought = self.brought.entry(speaker.peer).or_default();
            *brought += 1;
            if speaker.is_node || *brought <= self.bounds.entries {
                return Ok(Some(said.state.into()));
            }
            if *brought > IDS_OVER_TIME * self.bounds.entries {
                return Err(Refused::TooMany);
            }
            let theirs = self
                .entries
                .values()
                .filter(|entry| entry.owner == speaker.peer && entry.state.is_some());
            if theirs.count() >= self.bounds.entries {
                return Err(Refused::TooMany);
            }
        }
        Ok(Some(said.state.into()))
    }

    /// A connection is gone: the ids that go with it.
    pub fn leave(&mut self, peer: PeerId, now: Instant) -> Vec<u64> {
        if self.brought.remove(&peer).is_none() {
            return Vec::new();
        }
        self.remove(now, |entry| entry.owner == peer)
    }

    /// Takes ids that were not renewed for gone, and forgets those gone for long; the ids that went.
    pub fn sweep(&mut self, now: Instant) -> Vec<u64> {
        let timeout = self.bounds.timeout;
        self.entries
            .retain(|_, entry| entry.state.is_some() || now < entry.renewed + 2 * timeout);
        self.remove(now, |entry| now >= entry.renewed + timeout)
    }

    fn remove(&mut self, now: Instant, which: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut gone = Vec::new();
        for (client, entry) in &mut self.entries {
            if entry.state.is_some() && which(entry) {
                entry.state = None;
                entry.renewed = now;
                gone.push(*client);
            }
        }
        gone.sort_unstable();
        gone
    }

    /// An update that tells these ids, gone ones included.
    #[must_use]
    pub fn encode(&self, clients: &[u64]) -> Vec<u8> {
        let told = clients
            .iter()
            .filter_map(|client| Some((*client, self.entries.get(client)?)));
        encode(told)
    }

    /// An update that tells everyone who is here.
    #[must_use]
    pub fn encode_all(&self) -> Vec<u8> {
        let here = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state.is_some());
        encode(here.map(|(client, entry)| (*client, entry)))
    }

    /// Updates that tell these ids, or everyone who is here, as far as `owned` says so of their owner: one per user.
    #[must_use]
    pub fn encode_by_user(
        &self,
        clients: Option<&[u64]>,
        owned: impl Fn(PeerId) -> bool,
    ) -> Vec<(Arc<str>, Vec<u8>)> {
        let mut users: HashMap<&Arc<str>, Vec<(u64, &Entry)>> = HashMap::new();
        for (client, entry) in &self.entries {
            let told = match clients {
                Some(clients) => clients.contains(client),
                None => entry.state.is_some(),
            };
            if told && owned(entry.owner) {
                users.entry(&entry.user).or_default().push((*client, entry));
            }
        }
        let parts = users.into_iter();
        parts
            .map(|(user, entries)| (Arc::clone(user), encode(entries.into_iter())))
            .collect()
    }

    /// The connection that all of these ids belong to, if it is one.
    #[must_use]
    pub fn sole_owner(&self, clients: &[u64]) -> Option<PeerId> {
        let mut owners = clients
            .iter()
            .filter_map(|client| Some(self.entries.get(client)?.owner));
        let first = owners.next()?;
        owners.all(|owner| owner == first).then_some(first)
    }

    /// Whether anyone is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn encode<'a>(entries: impl Iterator<Item = (u64, &'a Entry)>) -> Vec<u8> {
    let mut told: Vec<AwarenessEntry<'_>> = entries
        .map(|(client, entry)| AwarenessEntry {
            client,
            clock: entry.relayed(),
            state: entry.state.as_deref().unwrap_or(GONE),
        })
        .collect();
    told.sort_unstable_by_key(|entry| entry.client);
    encode_awareness_update(&told)
}

#[cfg(test)]
mod tests;

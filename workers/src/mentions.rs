//! Mentions: finds the members that documents name, and tells of each once.
//!
//! Owns when a document is searched, and what is told. A document is searched when nobody has written in it for a
//! moment, so that a half-written name tells nobody; in one that never rests, who is named in two looks one after the
//! other. Who is named is told by an event about that user, `mention.created`, which the store keeps with how far the
//! document was searched: of any number of nodes that search, one tells. Who was told is told again only after a search
//! that did not find them. Never writes into a document, and never knows who wrote in it: the log keeps no names.
//!
//! One node searches at a time, under a lease that only saves the others the work.
//!
//! Flow: all documents by id, a part each round → those that have moved since they were searched wait until they rest →
//! snapshot and tail from the store → [`names`] → members of those logins → the store.

mod names;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::now_ms;
use backplane::store::{Document, Loaded, Scan, Store, StoreError};
use protocol::event::{Event, kind};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use names::Place;

/// The lease, of which there is one per store.
pub const LEASE: &str = "mentions";
/// How often it is looked which documents have moved.
pub const EVERY: Duration = Duration::from_secs(1);
/// How long a document must rest.
pub const REST: Duration = Duration::from_secs(2);
/// How long the lease lasts: within that time another node takes over from one that died.
pub const TTL: Duration = Duration::from_secs(30);
/// Most members that one document names; further down they count once there is room.
pub const NAMED: usize = 50;
/// Largest document that is searched, bytes of its snapshot and tail.
pub const LARGEST: usize = 4 * 1024 * 1024;
/// Documents read at a time, and how often in a round.
const PAGE: u32 = 2000;
const PAGES: usize = 5;
/// Most documents that wait for their rest; further ones are found again.
const WAITING: usize = 10_000;
/// Most documents that are searched in a round.
const SEARCHES: usize = 64;
/// A document that has not rested for that many times its rest is looked at all the same.
const RESTLESS: u32 = 10;
/// The longest wait after a failure of the store.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// How long the store may take when the job ends.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The job.
pub struct Mentions {
    /// Where documents and members are.
    pub store: Arc<dyn Store>,
    /// The node's id, so that its lease is free when it departs.
    pub owner: String,
    /// How often it is looked: [`EVERY`].
    pub every: Duration,
    /// How long a document must rest: [`REST`].
    pub rest: Duration,
    /// How long the lease lasts: [`TTL`]. A renewal is a write.
    pub ttl: Duration,
}

/// A document that has moved.
struct Waiting {
    /// Up to where it was searched.
    scanned: u64,
    /// Its head when it was looked at last.
    head: u64,
    /// Since when that is its head, as far as is known.
    since: Instant,
    /// Since when it waits.
    first: Instant,
    /// What an earlier look at it found, and its head then.
    earlier: Option<(u64, HashSet<String>)>,
}

/// What the job knows from one round to the next.
#[derive(Default)]
struct State {
    /// Until when the lease is surely held.
    leased: Option<Instant>,
    /// Where in the list of documents the next round goes on.
    after: String,
    waiting: HashMap<String, Waiting>,
}

/// A user who is named.
struct Named {
    user: String,
    place: Place,
}

/// What a search found.
enum Found {
    /// The document as it was, and who is named in it.
    Read(Document, Vec<Named>),
    /// It is not searched.
    LeftOut(Document),
    /// It is not there.
    Gone,
}

impl Mentions {
    /// Runs until `stop`; a round that fails is logged and tried again.
    pub async fn run(self, stop: CancellationToken) {
        let mut state = State::default();
        let mut backoff = Backoff::new(self.every, RETRY_MOST);
        let mut wait = self.every;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            let round = tokio::select! {
                () = stop.cancelled() => break,
                round = self.round(&mut state) => round,
            };
            wait = match round {
                Ok(()) => {
                    backoff.reset();
                    self.every
                }
                Err(error) => {
                    tracing::warn!(%error, "documents could not be searched for names; it is tried again");
                    backoff.delay()
                }
            };
        }
        // Who comes next need not wait for its end; if this fails it does.
        let released = self.store.release(LEASE, &self.owner);
        if !matches!(
            tokio::time::timeout(STOP_WITHIN, released).await,
            Ok(Ok(()))
        ) {
            tracing::debug!("the lease of mentions was not given up; it ends by itself");
        }
    }

    async fn round(&self, state: &mut State) -> Result<(), StoreError> {
        if !self.leads(state).await? {
            state.waiting.clear();
            return Ok(());
        }
        self.look(state).await?;
        self.search(state).await
    }

    /// Whether this node is the one that searches.
    async fn leads(&self, state: &mut State) -> Result<bool, StoreError> {
        let asked = Instant::now();
        if state
            .leased
            .is_some_and(|until| asked + self.ttl / 2 < until)
        {
            return Ok(true);
        }
        state.leased = None;
        let fence = self.store.lease(LEASE, &self.owner, self.ttl).await?;
        state.leased = fence.map(|_| asked + self.ttl);
        Ok(state.leased.is_some())
    }

    /// Goes on through the list of documents, and notes those that have moved.
    async fn look(&self, state: &mut State) -> Result<(), StoreError> {
        for _ in 0..PAGES {
            let page = self.store.scanned(&state.after, PAGE).await?;
            let now = Instant::now();
            let full = page.len() == PAGE as usize;
            state.after = match page.last() {
                Some(last) if full => last.document_id.clone(),
                _ => String::new(),
            };
            for one in page {
                if one.head <= one.scanned {
                    state.waiting.remove(&one.document_id);
                    continue;
                }
                // Of one that waits already, the search itself looks whether it rests.
                let waits = state.waiting.contains_key(&one.document_id);
                if !waits && state.waiting.len() < WAITING {
                    let waiting = Waiting {
                        scanned: one.scanned,
                        head: one.head,
                        since: now,
                        first: now,
                        earlier: None,
                    };
                    state.waiting.insert(one.document_id, waiting);
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    /// Searches documents that rest, and those that never do.
    async fn search(&self, state: &mut State) -> Result<(), StoreError> {
        let mut due: Vec<(Instant, &String)> = state
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.since.elapsed() >= self.rest)
            .map(|(id, waiting)| (waiting.since, id))
            .collect();
        due.sort_unstable();
        let ids = due.into_iter().take(SEARCHES);
        let ids: Vec<String> = ids.map(|(_, id)| id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let heads: HashMap<String, u64> = self.store.heads(&ids).await?.into_iter().collect();
        for id in ids {
            let Some(mut waiting) = state.waiting.remove(&id) else {
                continue;
            };
            // One that is gone waits no more.
            let Some(head) = heads.get(&id) else {
                continue;
            };
            waiting.moved(*head, Instant::now());
            if self.search_one(&id, &mut waiting).await? {
                continue;
            }
            state.waiting.insert(id, waiting);
        }
        Ok(())
    }

    /// Whether the document is done with for now; else it waits on.
    async fn search_one(&self, id: &str, waiting: &mut Waiting) -> Result<bool, StoreError> {
        let restless = waiting.first.elapsed() >= self.rest * RESTLESS;
        if !restless && waiting.since.elapsed() < self.rest {
            return Ok(false);
        }
        let (document, named) = match self.read(id).await? {
            Found::Read(document, named) => (document, named),
            Found::LeftOut(document) => {
                let to = document.head;
                self.note(&document, waiting.scanned, to, None, |_| false)
                    .await?;
                return Ok(true);
            }
            Found::Gone => return Ok(true),
        };
        waiting.moved(document.head, Instant::now());
        let from = waiting.scanned;
        if waiting.since.elapsed() >= self.rest {
            let to = document.head;
            self.note(&document, from, to, Some(&named), |_| true)
                .await?;
            // Noted, or by another; it is found again if it has moved.
            return Ok(true);
        }
        if !restless {
            return Ok(false);
        }
        if let Some((seen, earlier)) = waiting.earlier.take() {
            let twice = |one: &Named| earlier.contains(&one.user);
            let noted = self.note(&document, from, seen, Some(&named), twice);
            if !noted.await? {
                return Ok(true);
            }
            waiting.scanned = seen;
        }
        let users = named.into_iter().map(|one| one.user);
        waiting.earlier = Some((document.head, users.collect()));
        Ok(false)
    }

    /// Reads a document and finds who is named in it.
    async fn read(&self, id: &str) -> Result<Found, StoreError> {
        let loaded = match self.store.load(id).await {
            Ok(loaded) => loaded,
            Err(StoreError::NotFound) => return Ok(Found::Gone),
            Err(error) => return Err(error),
        };
        let document = loaded.document.clone();
        let size = size(&loaded);
        if size > LARGEST {
            tracing::debug!(id, size, "a document is too large to be searched for names");
            return Ok(Found::LeftOut(document));
        }
        let text = tokio::task::spawn_blocking(move || {
            let text = Replica::from_loaded(&loaded)?.text(DEFAULT_ROOT);
            Ok::<_, StoreError>(names::places(&text))
        });
        let places = match text.await {
            Ok(Ok(places)) => places,
            Ok(Err(error)) => {
                tracing::warn!(id, %error, "a document can't be searched for names");
                return Ok(Found::LeftOut(document));
            }
            Err(error) => {
                tracing::warn!(id, %error, "a document can't be searched for names");
                return Ok(Found::LeftOut(document));
            }
        };
        let named = self.members(&document, places).await?;
        Ok(Found::Read(document, named))
    }

    /// Which members are named at these places, each once, the first of them.
    async fn members(
        &self,
        document: &Document,
        places: Vec<Place>,
    ) -> Result<Vec<Named>, StoreError> {
        let logins: HashSet<&String> = places.iter().flat_map(|place| &place.logins).collect();
        let logins: Vec<String> = logins.into_iter().cloned().collect();
        if logins.is_empty() {
            return Ok(Vec::new());
        }
        let members = self.store.members_named(&document.project_id, &logins);
        let members: HashMap<String, String> = members.await?.into_iter().collect();
        let (mut named, mut seen) = (Vec::new(), HashSet::new());
        for place in places {
            let mut found = place.logins.iter().filter_map(|login| members.get(login));
            let Some(user) = found.next() else {
                continue;
            };
            if !seen.insert(user) {
                continue;
            }
            if named.len() == NAMED {
                let id = &document.id;
                tracing::debug!(id, "a document names more members than are told");
                break;
            }
            let user = user.clone();
            named.push(Named { user, place });
        }
        Ok(named)
    }

    /// Notes a search up to an update, and tells those of the named who are to be told; `false` if another did.
    async fn note(
        &self,
        document: &Document,
        from: u64,
        to: u64,
        named: Option<&[Named]>,
        told: impl Fn(&Named) -> bool,
    ) -> Result<bool, StoreError> {
        let places = named.unwrap_or_default();
        let ids = |all: &mut dyn Iterator<Item = &Named>| -> Vec<String> {
            all.map(|one| one.user.clone()).collect()
        };
        let all = ids(&mut places.iter());
        let tell = ids(&mut places.iter().filter(|one| told(one)));
        let scan = Scan {
            document_id: &document.id,
            from,
            to,
            named: named.map(|_| &all[..]),
            tell: &tell,
        };
        let event = |user: &str| mentioned(document, user, places);
        self.store.note_scan(&scan, &event).await
    }
}

impl Waiting {
    fn moved(&mut self, head: u64, now: Instant) {
        if self.head != head {
            self.head = head;
            self.since = now;
        }
    }
}

fn size(loaded: &Loaded) -> usize {
    let snapshot = loaded.snapshot.iter().map(|one| one.state.len());
    let tail = loaded.tail.iter().flat_map(|frame| &frame.updates);
    snapshot.chain(tail.map(|update| update.len())).sum()
}

/// The event that tells a user that they are named. It is about them, so that whoever hears of it is they alone.
fn mentioned(document: &Document, user: &str, named: &[Named]) -> Event {
    let place = named.iter().find(|one| one.user == user);
    let place = place.map(|one| &one.place);
    let data = json!({
        "user": user,
        "document": document.id,
        "path": document.path,
        "line": place.map(|place| place.line),
        "excerpt": place.map(|place| &place.excerpt),
    });
    let subject = format!("user:{user}");
    Event::new(Uuid::now_v7(), kind::MENTION_CREATED, subject, now_ms())
        .in_project(&document.project_id)
        .with(data)
}

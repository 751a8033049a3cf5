//! Editors: each inserts and removes whole lines in a document, and knows which of its edits were
//! acknowledged.
//!
//! A faithful one keeps its replica over a reconnect and hands in what the hub lacks, as real clients
//! do. A forgetful one starts from nothing: what the hub has lost then stays lost, and is seen.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::crowd::{Crowd, Phase, Shown};
use super::model::Edit;
use crate::cluster::wire::{Wire, patiently};
use crate::error::{Error, Result};
use crate::trace::link::{Incoming, Link, Via};
use crate::trace::{Patch, Replica};

/// How often an editor edits.
const PACE: Duration = Duration::from_millis(150);
/// Updates that may wait for their acknowledgement.
const WINDOW: usize = 100;
/// Lines at which an editor begins to remove more than it inserts.
const LINES: usize = 400;
/// An update that says nothing.
const EMPTY: &[u8] = &[0, 0];

/// Which editor, and of what kind.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    /// Its number in the run.
    pub(super) number: usize,
    /// The document's number.
    pub(super) document: usize,
    /// The document's id.
    pub(super) id: String,
    /// How it reaches it.
    pub(super) via: Via,
    /// The hub that it starts at.
    pub(super) hub: usize,
    /// Whether it forgets everything when its connection breaks.
    pub(super) forgets: bool,
}

/// An editor with what it holds.
pub(super) struct Editor {
    profile: Profile,
    crowd: Arc<Crowd>,
    random: StdRng,
    hub: usize,
    life: u64,
    replica: Replica,
    /// Edits of this life, oldest first; those before `done` are acknowledged.
    edits: Vec<Edit>,
    done: usize,
    /// Of this connection: how many edits each unacknowledged update brings the total to.
    sent: VecDeque<usize>,
    acknowledged: u64,
}

fn replica(profile: &Profile, life: u64) -> Replica {
    // Unique in the run, and small enough for every Yjs client.
    Replica::new(life * 1000 + profile.number as u64 + 1, false)
}

impl Editor {
    /// An editor that has not connected yet.
    pub(super) fn new(profile: Profile, crowd: Arc<Crowd>, seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed ^ (profile.number as u64) << 32),
            hub: profile.hub,
            replica: replica(&profile, 0),
            profile,
            crowd,
            life: 0,
            edits: Vec::new(),
            done: 0,
            sent: VecDeque::new(),
            acknowledged: 0,
        }
    }

    /// Edits until the run is over.
    pub(super) async fn run(mut self) {
        let hubs = self.crowd.hubs.len();
        while self.crowd.now() != Phase::Over {
            let address = self.crowd.hubs[self.hub % hubs];
            // Why a connection ends is the faults' business; that it ends is expected.
            if self.connection(address).await.is_ok() {
                return;
            }
            if self.profile.forgets {
                self.forget();
            }
            self.show();
            self.hub += 1;
            if self.crowd.breathe(&mut self.random).await {
                return;
            }
        }
    }

    /// Starts a new life.
    fn forget(&mut self) {
        self.life += 1;
        self.replica = replica(&self.profile, self.life);
        self.edits.clear();
        self.done = 0;
    }

    /// One connection; ends well only with the run.
    async fn connection(&mut self, address: SocketAddr) -> Result<()> {
        self.sent.clear();
        self.acknowledged = 0;
        let token = self.crowd.login.token(address).await?;
        let link = Link::new(self.profile.via, &self.profile.id);
        let path = match self.profile.via {
            Via::YWebsocket => format!("{}?token={token}", link.path()),
            _ => link.path(),
        };
        let mut wire = Wire::open(address, &path, link.subprotocol(), &token).await?;
        for frame in link.hello(&token) {
            wire.send(frame).await?;
        }
        patiently("joining", self.join(&mut wire, &link)).await?;
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut phase = self.crowd.phase.clone();
        let mut shown = Instant::now();
        loop {
            tokio::select! {
                message = wire.next() => {
                    let incoming = link.read(&message?)?;
                    self.take(incoming, &mut wire, &link).await?;
                }
                _ = ticks.tick() => {
                    match self.crowd.now() {
                        Phase::Work => self.edit(&mut wire, &link).await?,
                        Phase::Settle => {}
                        Phase::Over => return Ok(()),
                    }
                    if shown.elapsed() > Duration::from_millis(400) {
                        shown = Instant::now();
                        self.show();
                    }
                }
                _ = phase.changed() => {}
            }
        }
    }

    /// Reads until the hub has told what it has.
    async fn join(&mut self, wire: &mut Wire, link: &Link) -> Result<()> {
        loop {
            let incoming = link.read(&wire.next().await?)?;
            let is_sync = matches!(incoming, Incoming::Sync(_));
            self.take(incoming, wire, link).await?;
            if is_sync {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, incoming: Incoming, wire: &mut Wire, link: &Link) -> Result<()> {
        match incoming {
            Incoming::Sync(update) | Incoming::Update(update) => self.replica.apply(&update)?,
            Incoming::State(vector) => {
                let beyond = self.replica.beyond(&vector)?;
                if let Some(answer) = link.answer_state(&beyond) {
                    // Of Hocuspocus even one that says nothing is answered.
                    self.sent.push_back(self.edits.len());
                    wire.send(answer).await?;
                } else if beyond != EMPTY {
                    self.sent.push_back(self.edits.len());
                    wire.send(link.update(&beyond)).await?;
                }
            }
            Incoming::Durable(count) => {
                while self.acknowledged < count {
                    self.acknowledge()?;
                }
            }
            Incoming::Saved => self.acknowledge()?,
            Incoming::Denied(reason) => return Err(Error::Protocol(reason)),
            Incoming::TokenWanted => return Err(Error::Protocol("the token expires".into())),
            Incoming::Other => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<()> {
        let Some(upto) = self.sent.pop_front() else {
            let what = format!(
                "editor {} was acknowledged more than it sent",
                self.profile.number
            );
            self.crowd.report(what.clone());
            return Err(Error::Protocol(what));
        };
        self.acknowledged += 1;
        let mut ledger = self.crowd.document(self.profile.document);
        for edit in self.edits.iter().take(upto).skip(self.done) {
            ledger.acknowledge(edit);
        }
        self.done = self.done.max(upto);
        Ok(())
    }

    /// Inserts a line at the start of some line, or removes one.
    async fn edit(&mut self, wire: &mut Wire, link: &Link) -> Result<()> {
        if link.acknowledges() && self.sent.len() >= WINDOW {
            return Ok(());
        }
        let text = self.replica.text();
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        let lines = starts.len() - 1;
        let removes = self.random.random_ratio(2, 5) || lines > LINES;
        let chosen = self.random.random_range(0..starts.len());
        let (edit, patch) = if removes && chosen < lines {
            let (from, to) = (starts[chosen], starts[chosen + 1]);
            let name = text[from..to - 1].to_owned();
            (Edit::Remove(name), Patch(from, to - from, String::new()))
        } else {
            let number = self.edits.len();
            let name = format!("e{}.{}.{number}", self.profile.number, self.life);
            let line = format!("{name}\n");
            (Edit::Insert(name), Patch(starts[chosen], 0, line))
        };
        let update = self.replica.edit(&[patch])?;
        self.crowd.document(self.profile.document).send(&edit);
        self.edits.push(edit);
        if link.acknowledges() {
            self.sent.push_back(self.edits.len());
        }
        wire.send(link.update(&update)).await
    }

    fn show(&self) {
        let waits = self.profile.via != Via::YWebsocket;
        let open = if waits {
            self.edits.len() - self.done
        } else {
            0
        };
        self.crowd.show(
            self.profile.number,
            Shown {
                document: self.profile.document,
                text: self.replica.text(),
                open,
            },
        );
    }
}

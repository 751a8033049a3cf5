//! Documents: edits at hub A with nobody else there, the same with a watcher of each at hub B, and documents
//! that are open at both while nobody edits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::lab::{Lab, PROJECT};
use super::meter::Costs;
use crate::cluster::wire::{Wire, patiently};
use crate::error::{Error, Result};
use crate::process;
use crate::trace::link::{Incoming, Link, Via};
use crate::trace::{Patch, Replica};

/// Documents with one editor each; as many again are watched.
const EDITORS: usize = 20;
/// Edits per second of each: in the time that they are measured a document is compacted once, as it is by
/// default after every thousand edits.
const PACE: f64 = 100.0;
/// Documents that are only open.
const OPEN: usize = 1000;
/// Of them, those on one socket.
const PER_SOCKET: usize = 50;
/// How long they are.
const STILL: Duration = Duration::from_secs(20);
/// How long an edit may take to be acknowledged and to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// What was found, per edit.
pub(super) struct Edits {
    /// In documents that are open at hub A only.
    pub(super) alone: Costs,
    pub(super) wal_bytes: f64,
    /// In documents that somebody watches at hub B.
    pub(super) watched: Costs,
}

impl Edits {
    pub(super) async fn measure(lab: &Lab) -> Result<Self> {
        let mut alone = Vec::new();
        let mut watched = Vec::new();
        let mut watchers = Vec::new();
        for number in 0..2 * EDITORS {
            let path = format!("edited-{number}.txt");
            let document = lab.rest.create_document(PROJECT, &path).await?;
            let editor = Editor::open(lab, &document, number as u64 + 1).await?;
            if number < EDITORS {
                alone.push(editor);
            } else {
                watched.push(editor);
                watchers.push(Watcher::open(lab, &document).await?);
            }
        }
        lab.checkpoint().await?;
        let (mut edits, before) = (0, lab.wal().await?);
        let mut edits_watched = 0;
        let [alone, watched] = lab
            .turns(
                ["edits alone", "edits watched"],
                async |length| {
                    let done = edit(&mut alone, length).await?;
                    edits += done;
                    Ok(done)
                },
                async |length| {
                    let done = edit(&mut watched, length).await?;
                    edits_watched += done;
                    for (editor, watcher) in watched.iter().zip(&watchers) {
                        watcher.wait_for(editor.length).await?;
                    }
                    Ok(done)
                },
            )
            .await?;
        let edits = edits + edits_watched;
        let wal_bytes = (lab.wal().await? - before) / edits.max(1) as f64;
        Ok(Self {
            alone,
            wal_bytes,
            watched,
        })
    }
}

/// All editors edit at their pace; how many edits were acknowledged: all that were made.
async fn edit(editors: &mut [Editor], length: Duration) -> Result<u64> {
    let until = Instant::now() + length;
    let edits = editors.iter_mut().map(|editor| editor.run(until));
    Ok(try_join_all(edits).await?.iter().sum())
}

/// Somebody who types at the end of a document at hub A.
struct Editor {
    wire: Wire,
    link: Link,
    replica: Replica,
    length: usize,
    sent: u64,
    durable: u64,
}

impl Editor {
    async fn open(lab: &Lab, document: &str, client: u64) -> Result<Self> {
        let link = Link::new(Via::Ws, document);
        let address = lab.a();
        let token = lab.rest.token();
        let mut wire = Wire::open(address, &link.path(), link.subprotocol(), token).await?;
        join(&mut wire, &link, token).await?;
        Ok(Self {
            wire,
            link,
            replica: Replica::new(client, false),
            length: 0,
            sent: 0,
            durable: 0,
        })
    }

    /// Types at its pace, and waits until everything is acknowledged.
    async fn run(&mut self, until: Instant) -> Result<u64> {
        let before = self.sent;
        let mut ticks = interval(Duration::from_secs_f64(1.0 / PACE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while Instant::now() < until {
            tokio::select! {
                message = self.wire.next() => self.take(&message?)?,
                _ = ticks.tick() => {
                    let update = self.replica.edit(&[Patch(self.length, 0, "e".to_owned())])?;
                    self.length += 1;
                    self.sent += 1;
                    self.wire.send(self.link.update(&update)).await?;
                }
            }
        }
        patiently("acknowledging", async {
            while self.durable < self.sent {
                let message = self.wire.next().await?;
                self.take(&message)?;
            }
            Ok(())
        })
        .await?;
        Ok(self.sent - before)
    }

    fn take(&mut self, message: &Bytes) -> Result<()> {
        match self.link.read(message)? {
            Incoming::Durable(count) => self.durable = count,
            Incoming::Denied(reason) => return Err(Error::Protocol(reason)),
            _ => {}
        }
        Ok(())
    }
}

/// Opens a document on a socket and waits until its content has come.
async fn join(wire: &mut Wire, link: &Link, token: &str) -> Result<Bytes> {
    for frame in link.hello(token) {
        wire.send(frame).await?;
    }
    patiently("joining", async {
        loop {
            match link.read(&wire.next().await?)? {
                Incoming::Sync(update) => return Ok(update),
                Incoming::Denied(reason) => return Err(Error::Protocol(reason)),
                _ => {}
            }
        }
    })
    .await
}

/// Somebody who has a document open at hub B.
struct Watcher {
    replica: Arc<Mutex<Replica>>,
    _reading: JoinSet<Result<()>>,
}

impl Watcher {
    async fn open(lab: &Lab, document: &str) -> Result<Self> {
        let link = Link::new(Via::Ws, document);
        let address = lab.b();
        let token = lab.rest.token();
        let mut wire = Wire::open(address, &link.path(), link.subprotocol(), token).await?;
        let mut replica = Replica::new(u64::from(u32::MAX), false);
        replica.apply(&join(&mut wire, &link, token).await?)?;
        let replica = Arc::new(Mutex::new(replica));
        let shared = Arc::clone(&replica);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            loop {
                let message = wire.next().await?;
                if let Incoming::Update(update) | Incoming::Sync(update) = link.read(&message)? {
                    shared.lock().await.apply(&update)?;
                }
            }
        });
        Ok(Self {
            replica,
            _reading: reading,
        })
    }

    /// Waits until the text is so long.
    async fn wait_for(&self, length: usize) -> Result<()> {
        let until = Instant::now() + ARRIVE;
        loop {
            let found = self.replica.lock().await.text().len();
            if found == length {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Error::Verdict(format!(
                    "{found} edits of {length} arrived at the other hub"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What was found, per document that is open at both hubs.
pub(super) struct Open {
    /// Per second.
    pub(super) cost: Costs,
    pub(super) kib: f64,
    /// Some of them.
    pub(super) documents: Vec<String>,
}

impl Open {
    pub(super) async fn measure(lab: &Lab) -> Result<Self> {
        let mut documents = Vec::with_capacity(OPEN);
        for number in 0..OPEN {
            let path = format!("open-{number}.txt");
            documents.push(lab.rest.create_document(PROJECT, &path).await?);
        }
        let before = process::memory(lab.pid_b())?.rss;
        let mut reading = JoinSet::new();
        for address in [lab.a(), lab.b()] {
            for some in documents.chunks(PER_SOCKET) {
                let token = lab.rest.token();
                let mut wire = Wire::session(address, token).await?;
                for document in some {
                    join(&mut wire, &Link::new(Via::Ws, document), token).await?;
                }
                reading.spawn(async move { while wire.next().await.is_ok() {} });
            }
        }
        tokio::time::sleep(ARRIVE).await;
        let after = process::memory(lab.pid_b())?.rss;
        let cost = lab
            .once("documents open at both hubs", async {
                tokio::time::sleep(STILL).await;
                Ok(OPEN as u64)
            })
            .await?
            * (1.0 / STILL.as_secs_f64());
        if reading.try_join_next().is_some() {
            return Err(Error::Verdict("a session with open documents ended".into()));
        }
        documents.truncate(PER_SOCKET);
        Ok(Self {
            cost,
            kib: (after as f64 - before as f64) / OPEN as f64,
            documents,
        })
    }
}

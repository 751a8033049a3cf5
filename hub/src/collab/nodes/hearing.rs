//! What a document's task does with what other nodes say.

use std::collections::HashSet;
use std::sync::Arc;

use backplane::document::{Applied, Refused};
use backplane::mesh::MeshEvent;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::doc::Actor;
use super::super::peers::Tell;
use super::super::words::{Origin, Word};
use super::{ASK, BEAT, EARLY, EARLY_BYTES, PATIENCE, SILENT, Taken};

impl Actor {
    /// Something came from the other nodes.
    pub(in super::super) async fn on_mesh(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Restored => {
                self.nodes.say(&Word::Hello);
                // What this node's clients did meanwhile was lost on the way.
                self.tell_nodes_awareness(None);
                // One look at all documents' heads says which of them have missed something.
                self.context.look.notify_one();
            }
            MeshEvent::Message { from, payload } => match Word::decode(&payload) {
                Ok(Some((run, word))) => self.on_word(&from, run, word).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(document = %self.key, %from, %error, "a node's message can't be read");
                }
            },
        }
    }

    async fn on_word(&mut self, from: &Arc<str>, run: u64, word: Word<'_>) {
        let (peer, replaced) = self.nodes.meet(from, run);
        if let Some(gone) = replaced {
            self.forget_awareness(gone);
        }
        match word {
            Word::Hello => {
                self.beat();
                self.tell_nodes_awareness(None);
            }
            Word::Update { n, update } => self.on_live(from, run, n, update).await,
            Word::Committed {
                n,
                first,
                last,
                covers,
                whole,
            } => {
                let own = Origin {
                    node: from.to_string(),
                    run,
                    n,
                };
                // Its own updates go to the log in their order; of others' it names each.
                self.nodes
                    .logged(|it| it.node == own.node && it.run == own.run && it.n <= own.n);
                let covers: HashSet<Origin> = covers.into_iter().collect();
                self.nodes.logged(|it| covers.contains(it));
                let all =
                    whole && self.nodes.has(&own) && covers.iter().all(|it| self.nodes.has(it));
                if all {
                    self.know_log(first, last);
                } else {
                    self.heard_of(last);
                }
            }
            Word::Beat { n, head, digest } => self.on_beat(from, n, head, digest),
            Word::Pull { to, vector } => {
                if *to == **self.nodes.mesh.node() {
                    self.answer_pull(from, vector);
                }
            }
            Word::Missing { to, n, update } => {
                if *to == **self.nodes.mesh.node() {
                    self.on_missing(from, run, n, update).await;
                }
            }
            Word::Awareness(parts) => self.on_nodes_awareness(peer, &parts),
            Word::Bye => {
                if let Some(other) = self.nodes.others.remove(from) {
                    self.forget_awareness(other.peer);
                }
            }
        }
    }

    async fn on_live(&mut self, from: &Arc<str>, run: u64, n: u64, update: &[u8]) {
        let upto = self.nodes.others.get(from).map_or(0, |other| other.upto);
        if n <= upto {
            return;
        }
        let gap = n > upto + 1;
        let update = Bytes::copy_from_slice(update);
        let taken = self.take_in(&update).await;
        match taken {
            Taken::New(change) => {
                let origin = Origin {
                    node: from.to_string(),
                    run,
                    n,
                };
                self.hold_foreign(Some(origin), change);
                self.retry_waiting().await;
            }
            Taken::Known => {}
            Taken::Early => self.keep_early(update),
            Taken::Refused => return,
        }
        if gap || !self.nodes.early.is_empty() {
            self.ask(from);
        } else if let Some(other) = self.nodes.others.get_mut(from) {
            other.upto = n;
        }
    }

    /// Applies what another node made or the log has; what is new goes to this node's clients.
    pub(in super::super) async fn take_in(&mut self, update: &Bytes) -> Taken {
        let change = match self.replica.apply(update) {
            Ok(Applied::Nothing) => return Taken::Known,
            Ok(Applied::Whole) => update.clone(),
            Ok(Applied::Part(change)) => change.into(),
            Err(Refused::NotReady) => return Taken::Early,
            Err(error) => {
                tracing::warn!(document = %self.key, %error, "another node's update was not applied");
                self.refused(error).await;
                return Taken::Refused;
            }
        };
        self.changed();
        self.upkeep.size += change.len();
        self.broadcast(None, Tell::Update(&change));
        Taken::New(change)
    }

    fn keep_early(&mut self, update: Bytes) {
        if self.nodes.early.len() >= EARLY || self.nodes.early_bytes + update.len() > EARLY_BYTES {
            self.nodes.early.clear();
            self.nodes.early_bytes = 0;
        }
        self.nodes.early_bytes += update.len();
        self.nodes.early.push_back(update);
    }

    /// After a change from outside: what waited for it, of other nodes and of clients.
    pub(in super::super) async fn retry_waiting(&mut self) {
        let mut moved = true;
        while moved && !self.is_over() {
            moved = false;
            for update in std::mem::take(&mut self.nodes.early) {
                match self.take_in(&update).await {
                    Taken::New(change) => {
                        self.hold_foreign(None, change);
                        moved = true;
                    }
                    Taken::Early => self.nodes.early.push_back(update),
                    Taken::Known | Taken::Refused => {}
                }
            }
        }
        self.nodes.early_bytes = self.nodes.early.iter().map(Bytes::len).sum();
        self.retry_held().await;
    }

    fn ask(&mut self, from: &Arc<str>) {
        let Some(other) = self.nodes.others.get_mut(from) else {
            return;
        };
        if other.asked.is_some_and(|at| at.elapsed() < ASK) {
            return;
        }
        other.asked = Some(Instant::now());
        let vector = self.replica.state_vector();
        self.nodes.say(&Word::Pull {
            to: from,
            vector: &vector,
        });
    }

    fn answer_pull(&mut self, from: &Arc<str>, vector: &[u8]) {
        let vector = Bytes::copy_from_slice(vector);
        match self.lacks(&vector) {
            Ok(update) => self.nodes.say(&Word::Missing {
                to: from,
                n: self.nodes.sent,
                update: &update,
            }),
            Err(error) => {
                tracing::warn!(document = %self.key, %from, %error, "a node's state vector can't be answered");
                self.renew_if_broken(&error);
            }
        }
    }

    async fn on_missing(&mut self, from: &Arc<str>, run: u64, n: u64, update: &[u8]) {
        let update = Bytes::copy_from_slice(update);
        match self.take_in(&update).await {
            Taken::New(change) => self.hold_foreign(None, change),
            Taken::Known => {
                let mine = self.digest();
                if let Some(other) = self.nodes.others.get_mut(from)
                    && let (Some(mine), Some((_, theirs))) = (mine, other.disputed)
                {
                    other.disputed = Some((mine, theirs));
                }
            }
            Taken::Early | Taken::Refused => return,
        }
        if let Some(other) = self.nodes.others.get_mut(from)
            && other.run == run
        {
            other.upto = other.upto.max(n);
        }
        self.retry_waiting().await;
    }

    pub(in super::super) fn digest(&mut self) -> Option<u64> {
        if self.nodes.digest.is_none() {
            match self.replica.digest() {
                Ok(digest) => self.nodes.digest = Some(digest),
                Err(error) => self.renew_if_broken(&error),
            }
        }
        self.nodes.digest
    }

    /// Says where this node stands.
    fn beat(&mut self) {
        self.nodes.beaten = Instant::now();
        let quiet = self.waiting.is_empty() && self.nodes.settled() && self.is_level();
        let digest = if quiet { self.digest() } else { None };
        self.nodes.say(&Word::Beat {
            n: self.nodes.sent,
            head: self.known_log(),
            digest,
        });
    }

    fn on_beat(&mut self, from: &Arc<str>, n: u64, head: u64, theirs: Option<u64>) {
        self.heard_of(head);
        let quiet = self.waiting.is_empty() && self.nodes.settled() && self.is_level();
        let level = quiet && head == self.known_log();
        let mine = if level && theirs.is_some() {
            self.digest()
        } else {
            None
        };
        let Some(other) = self.nodes.others.get_mut(from) else {
            return;
        };
        let mut ask = n > other.upto;
        if let (Some(mine), Some(theirs)) = (mine, theirs)
            && mine != theirs
            && other.disputed != Some((mine, theirs))
        {
            tracing::warn!(document = %self.key, %from, "two nodes differ with all of it in the log");
            other.disputed = Some((mine, theirs));
            ask = true;
        }
        if ask {
            self.ask(from);
        }
    }

    /// What is due between the nodes.
    pub(in super::super) fn on_nodes_time(&mut self, now: Instant) {
        if !self.nodes.any() {
            return;
        }
        let oldest = self.nodes.oldest_open().map(|foreign| foreign.since);
        if oldest.is_some_and(|since| now >= since + PATIENCE) {
            self.cover_foreign();
        }
        if now < self.nodes.beaten + BEAT {
            return;
        }
        self.beat();
        let silent: Vec<Arc<str>> = self
            .nodes
            .others
            .iter()
            .filter(|(_, other)| now >= other.heard + SILENT)
            .map(|(node, _)| Arc::clone(node))
            .collect();
        for node in silent {
            if let Some(other) = self.nodes.others.remove(&node) {
                self.forget_awareness(other.peer);
            }
        }
    }

    /// Asks the others where they stand, having just opened the document.
    pub(in super::super) fn greet_nodes(&self) {
        self.nodes.say(&Word::Hello);
    }

    pub(in super::super) fn leave_nodes(&self) {
        self.nodes.say(&Word::Bye);
    }
}

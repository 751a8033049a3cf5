//! Edits: from a client's bytes to a change of the document, or a refusal that harms nobody else.
//!
//! An update that rests on what is not here yet is held beside the document, not in it: its client is
//! asked for what is missing, and the update is tried again whenever the document changes.

use std::sync::Arc;

use backplane::document::{Applied, Refused, Replica};
use bytes::Bytes;
use protocol::{CloseCode, ErrorCode};

use super::PeerId;
use super::commit::Ack;
use super::doc::{Actor, Member};
use super::log::Entry;
use super::mailbox::{Control, UpdateKind};
use super::orders::RIGHTS_HOLD;
use super::peers::{Dialect, Tell};
use crate::auth::Auth;
use crate::error::ApiError;
use crate::metrics;

/// An update that waits for what it rests on.
pub(super) struct Held {
    pub(super) update: Bytes,
    pub(super) kind: UpdateKind,
    /// Its number among its client's updates.
    pub(super) number: u64,
}

fn may_write(member: &Member, auth: &Auth) -> bool {
    let overdue = member.spec.queue.recheck_overdue();
    member.standing.may_write()
        && overdue.is_none_or(|waits| waits < RIGHTS_HOLD)
        && auth.writes_allowed()
}

impl Actor {
    pub(super) async fn on_update(&mut self, peer: PeerId, update: Bytes, kind: UpdateKind) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        metrics::RECEIVED.document().add(1, update.len() as u64);
        member.handed_in += 1;
        let held = Held {
            number: member.handed_in,
            update,
            kind,
        };
        if !may_write(member, &self.context.auth) {
            return self.deny_reader(peer, &held);
        }
        let settings = &self.context.settings.collab;
        if held.update.len() > settings.update_bytes {
            return self.deny(peer, &held, "the update is over the limit of one update");
        }
        if self.upkeep.size + held.update.len() > settings.document_bytes {
            return self.deny(peer, &held, "the document has reached its size limit");
        }
        if self.try_update(peer, held).await {
            self.retry_waiting().await;
        }
    }

    /// Applies an update or puts it where it belongs; whether the document changed.
    async fn try_update(&mut self, peer: PeerId, held: Held) -> bool {
        match self.replica.apply(&held.update) {
            Ok(Applied::Nothing) => {
                self.acknowledge(Ack::update(peer, &held, true));
                false
            }
            Ok(Applied::Whole) => {
                let update = held.update.clone();
                self.commit_change(Some(peer), update);
                self.acknowledge(Ack::update(peer, &held, true));
                true
            }
            Ok(Applied::Part(change)) => {
                self.commit_change(Some(peer), change.into());
                self.acknowledge(Ack::update(peer, &held, true));
                true
            }
            Err(Refused::NotReady) => {
                self.hold(peer, held);
                false
            }
            Err(Refused::Broken) => {
                // Each one costs the document a reload: whoever sends it is sent off, session or not.
                let reason = self.refused(Refused::Broken).await.detail;
                self.end(
                    peer,
                    CloseCode::HostileUpdate,
                    &format!("update refused: {reason}"),
                );
                false
            }
            Err(error) => {
                self.expel(peer, &held, &format!("update refused: {error}"));
                false
            }
        }
    }

    /// Makes a change that is in the replica known: to the others at once, to the log beside it.
    pub(super) fn commit_change(&mut self, from: Option<PeerId>, change: Bytes) {
        // It may rest on what other nodes made: that goes to the log before it.
        self.cover_foreign();
        self.changed();
        if let Some(member) = from.and_then(|peer| self.members.get(&peer)) {
            member.spec.tally.edit();
        }
        self.upkeep.size += change.len();
        self.broadcast(from, Tell::Update(&change));
        let ticket = self.waiting.push(change.clone());
        self.context.log.append(Entry {
            document: Arc::clone(&self.key),
            update: change.clone(),
            ticket,
            done: self.control.clone(),
            logged: None,
            terms: None,
        });
        self.tell_nodes(&change, ticket);
    }

    fn hold(&mut self, peer: PeerId, held: Held) {
        let settings = &self.context.settings.collab;
        let (most, most_bytes) = (settings.held_updates, settings.held_bytes);
        let vector = self.replica.state_vector();
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        if member.held.len() >= most || member.held_bytes + held.update.len() > most_bytes {
            let reason = "too many updates rest on changes that the hub does not have";
            return self.end(peer, CloseCode::Failed, reason);
        }
        member.held_bytes += held.update.len();
        member.held.push_back(held);
        // Asked once for what is missing; the answer settles all that wait.
        let first = !std::mem::replace(&mut member.asked, true);
        if first && let Some(frame) = member.spec.dialect.say(Tell::Step1(&vector)) {
            member.spec.queue.reply(frame);
        }
    }

    /// Tries again what waits, until nothing more moves.
    pub(super) async fn retry_held(&mut self) {
        while !self.is_over() {
            let waiting = self
                .members
                .iter()
                .filter(|(_, member)| !member.held.is_empty());
            let peers: Vec<PeerId> = waiting.map(|(peer, _)| *peer).collect();
            let mut moved = false;
            for peer in peers {
                let Some(member) = self.members.get_mut(&peer) else {
                    continue;
                };
                member.held_bytes = 0;
                for held in std::mem::take(&mut member.held) {
                    moved |= self.try_held(peer, held).await;
                }
                if let Some(member) = self.members.get_mut(&peer) {
                    member.asked &= !member.held.is_empty();
                }
            }
            if !moved {
                return;
            }
        }
    }

    async fn try_held(&mut self, peer: PeerId, held: Held) -> bool {
        let Some(member) = self.members.get(&peer) else {
            return false;
        };
        if !may_write(member, &self.context.auth) {
            self.deny_reader(peer, &held);
            return false;
        }
        self.try_update(peer, held).await
    }

    fn deny_reader(&mut self, peer: PeerId, held: &Held) {
        if held.kind == UpdateKind::Step2 && self.replica.adds_nothing(&held.update) {
            return self.acknowledge(Ack::update(peer, held, true));
        }
        let reason = if self.context.auth.writes_allowed() {
            "you may read this document, not change it"
        } else {
            "rights can't be checked at the moment: send it again later"
        };
        self.deny(peer, held, reason);
    }

    /// Refuses one update; the client stays.
    fn deny(&mut self, peer: PeerId, held: &Held, reason: &str) {
        if let Some(member) = self.members.get(&peer)
            && let Some(frame) = member.spec.dialect.deny(held.number, reason)
        {
            member.spec.queue.reply(frame);
        }
        self.acknowledge(Ack::update(peer, held, false));
    }

    /// Sends off a client whose update is no update. A session stays: it serves other things too.
    fn expel(&mut self, peer: PeerId, held: &Held, reason: &str) {
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        if let Dialect::Session { .. } = member.spec.dialect {
            return self.deny(peer, held, reason);
        }
        self.end(peer, CloseCode::HostileUpdate, reason);
    }

    /// Turns what the replica refused into what its cause is told; a replica that broke is made anew
    /// from the log and what is on its way there.
    pub(super) async fn refused(&mut self, error: Refused) -> ApiError {
        if error != Refused::Broken {
            return ApiError::new(ErrorCode::Invalid, error.to_string());
        }
        tracing::error!(document = %self.key, "the replica broke: loading it again");
        self.renew().await;
        ApiError::new(ErrorCode::Invalid, error.to_string())
    }

    /// Sees to it that a replica which broke in the middle of something else is made anew.
    pub(super) fn renew_if_broken(&self, error: &Refused) {
        if *error == Refused::Broken {
            // The task itself listens.
            let _ = self.control.send(Control::Renew);
        }
    }

    /// Makes the replica anew, from the log and what is on its way there.
    pub(super) async fn renew(&mut self) {
        self.changed();
        match self.reload().await {
            Ok((replica, head)) => {
                self.replica = replica;
                self.mark.start_over(head);
            }
            Err(reason) => {
                tracing::error!(document = %self.key, %reason, "and it can't be loaded");
                self.end_all(CloseCode::Failed, "the document can't be loaded now");
            }
        }
    }

    async fn reload(&self) -> Result<(Replica, u64), String> {
        let loaded = self.context.store.load(&self.key).await;
        let loaded = loaded.map_err(|error| error.to_string())?;
        let loaded = super::commit::load_replica(loaded).await;
        let (loaded, mut replica) = loaded.map_err(|error| error.to_string())?;
        // In the order in which they were applied: what other nodes made stands before what rests on it.
        // What only the store may let in is not in the replica before it has.
        let waiting = self.waiting.updates_but(self.deferred.ticket());
        for update in waiting.chain(self.nodes.uncovered()) {
            replica.apply(update).map_err(|error| error.to_string())?;
        }
        Ok((replica, loaded.document.head))
    }
}

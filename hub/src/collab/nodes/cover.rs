//! The causal cut: nothing is acknowledged before what other nodes made and it may rest on is in the log.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::doc::Actor;
use super::super::log::Entry;
use super::super::words::{Origin, Word};
use super::{Foreign, Handed};

impl Actor {
    pub(in super::super) fn hold_foreign(&mut self, origin: Option<Origin>, update: Bytes) {
        self.nodes.foreign.push_back(Foreign {
            origin,
            update,
            since: Instant::now(),
            logged: Arc::new(AtomicBool::new(false)),
            ticket: None,
        });
    }

    /// Hands everything that other nodes made and that may not be in the log to the log: what is acknowledged next
    /// may rest on it.
    pub(in super::super) fn cover_foreign(&mut self) {
        let covered = self.nodes.foreign.partition_point(|it| it.ticket.is_some());
        for foreign in self.nodes.foreign.range_mut(covered..) {
            let ticket = self.waiting.push(foreign.update.clone());
            foreign.ticket = Some(ticket);
            let handed = Handed::Cover(foreign.origin.clone());
            self.nodes.handed.push_back((ticket, handed));
            self.context.log.append(Entry {
                document: Arc::clone(&self.key),
                update: foreign.update.clone(),
                ticket,
                done: self.control.clone(),
                logged: Some(Arc::clone(&foreign.logged)),
                terms: None,
            });
        }
    }

    /// Sends the live copy of a change that is on its way to the log under `ticket`.
    pub(in super::super) fn tell_nodes(&mut self, update: &Bytes, ticket: u64) {
        if !self.nodes.any() {
            return;
        }
        self.nodes.sent += 1;
        let n = self.nodes.sent;
        self.nodes.handed.push_back((ticket, Handed::Own(n)));
        self.nodes.say(&Word::Update { n, update });
    }

    /// Sends the live copy of a change that the log has got already, under `ticket`, before that is told.
    pub(in super::super) fn tell_nodes_landed(&mut self, update: &Bytes, ticket: u64) {
        if !self.nodes.any() {
            return;
        }
        self.nodes.sent += 1;
        let n = self.nodes.sent;
        self.nodes.say(&Word::Update { n, update });
        let issued = self.waiting.issued();
        if issued > ticket {
            // Counted behind changes that are not committed: the others can't be told yet that they have all
            // of this commit, and read it from the log if they lack it.
            self.nodes.handed.push_front((ticket, Handed::Cover(None)));
        }
        self.nodes.handed.push_back((issued, Handed::Own(n)));
    }

    /// The log has everything up to `ticket`, as `first..=last`.
    pub(in super::super) fn tell_nodes_committed(&mut self, ticket: u64, first: u64, last: u64) {
        if !self.nodes.any() {
            return;
        }
        let mut covers = Vec::new();
        let (mut n, mut whole) = (0, true);
        while let Some((_, handed)) = self.nodes.handed.pop_front_if(|(it, _)| *it <= ticket) {
            match handed {
                Handed::Own(own) => n = own,
                Handed::Cover(Some(origin)) => covers.push(origin),
                Handed::Cover(None) => whole = false,
            }
        }
        self.nodes
            .foreign
            .retain(|foreign| foreign.ticket.is_none_or(|it| it > ticket));
        if first > last {
            return;
        }
        self.nodes.say(&Word::Committed {
            n,
            first,
            last,
            covers,
            whole,
        });
    }
}

//! Orders in which the store has a say: that a request is carried out once, that the document is still what
//! the request says, on whatever node.
//!
//! The flow: the change is made in a fork of the replica → the log, with its terms → once it is committed, and not
//! before, it is applied here and told to everybody. Until then nobody has seen it, so that nobody can bring it
//! into the document by another way, and a change that the store refuses leaves nothing. One is under way at a
//! time; others of the document's edits go on beside it, as a CRDT allows.

use std::collections::VecDeque;
use std::sync::Arc;

use backplane::document::Refused;
use backplane::store::{StoreError, Terms};
use bytes::Bytes;
use protocol::ErrorCode;
use serde_json::Value;

use super::carets::Agent;
use super::commit::Ack;
use super::doc::Actor;
use super::log::Entry;
use super::orders::{Asked, Edited, OnlyIf, Order, Reply, Unmade, make};
use super::peers::Tell;
use super::unavailable;
use crate::error::ApiError;

/// Most orders that wait.
const MOST: usize = 1024;

/// Orders that wait for the store.
pub(super) struct Deferred {
    /// Under which the forks edit. One is enough, as what a fork made is in the replica before the next fork.
    client: u64,
    waiting: VecDeque<Asked>,
    flying: Option<Flying>,
}

/// A change that is on its way to the log and not in the replica.
struct Flying {
    ticket: u64,
    change: Bytes,
    reply: Reply,
    /// The tag of the content that it makes of what it was made on.
    tag: u64,
    /// The agent that makes it, and where its caret will stand.
    agent: Option<(Arc<Agent>, Option<Value>)>,
}

impl Deferred {
    pub(super) fn new() -> Self {
        Self {
            // 53 bits: what a number of JavaScript holds.
            client: rand::random::<u64>() >> 11,
            waiting: VecDeque::new(),
            flying: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_none()
    }

    /// The ticket of the change that is not in the replica.
    pub(super) fn ticket(&self) -> Option<u64> {
        self.flying.as_ref().map(|flying| flying.ticket)
    }
}

impl Actor {
    pub(super) fn defer(&mut self, asked: Asked) {
        if self.deferred.waiting.len() >= MOST {
            return asked.refuse(unavailable("too many edits of this document wait"));
        }
        self.deferred.waiting.push_back(asked);
        self.go_on_deferred();
    }

    /// Lets the next order go, if it can.
    pub(super) fn go_on_deferred(&mut self) {
        while self.deferred.flying.is_none()
            && let Some(asked) = self.deferred.waiting.pop_front()
        {
            let Some(asked) = self.admitted(asked) else {
                continue;
            };
            match self.stands(&asked.order) {
                Ok(true) => self.let_fly(asked),
                Ok(false) => {
                    // What other nodes made must be in the log before anybody knows on what this stands.
                    self.deferred.waiting.push_front(asked);
                    return self.cover_foreign();
                }
                Err(error) => asked.refuse(error),
            }
        }
    }

    /// Whether the document is as the order says, and its log too; `false`: not told yet.
    fn stands(&mut self, order: &Order) -> Result<bool, ApiError> {
        let Some(only_if) = &order.only_if else {
            return Ok(true);
        };
        let logged =
            self.waiting.updates().next().is_none() && self.nodes.settled() && self.is_level();
        let known = self.known_log();
        let holds = match only_if {
            OnlyIf::Tag(tags) => tags.contains(&self.tag()),
            OnlyIf::Seq(seq) => known == *seq || (known < *seq && !logged),
        };
        match holds {
            true => Ok(logged),
            false => Err(ApiError::new(ErrorCode::PreconditionFailed, "")),
        }
    }

    fn let_fly(&mut self, asked: Asked) {
        let limits = self.order_limits();
        let mut fork = match self.replica.fork(self.deferred.client) {
            Ok(fork) => fork,
            Err(error) => {
                self.renew_if_broken(&error);
                return asked.refuse(ApiError::internal(error.to_string()));
            }
        };
        let made = match make(&mut fork, &asked.order.work, limits) {
            Ok(made) => made,
            Err(Unmade::Refused(error)) => return asked.refuse(error),
            // The fork alone is broken.
            Err(Unmade::Broken) => {
                let error = ApiError::invalid("body", Refused::Broken.to_string());
                return asked.refuse(error);
            }
        };
        asked.begin();
        let Some(made) = made else {
            let tag = self.tag();
            return self.acknowledge(Ack::Edited {
                reply: asked.reply,
                tag,
                updates: 0,
            });
        };
        let tag = fork.digest().unwrap_or_default();
        let caret = asked.order.caret(&fork, made.at);
        let agent = asked.order.on_behalf.map(|agent| (agent, caret));
        let change = made.update;
        // It may rest on what other nodes made: that goes to the log before it.
        self.cover_foreign();
        let head = asked.order.only_if.is_some().then(|| self.known_log());
        let ticket = self.waiting.push(change.clone());
        self.context.log.append(Entry {
            document: Arc::clone(&self.key),
            update: change.clone(),
            ticket,
            done: self.control.clone(),
            logged: None,
            terms: Some(Terms {
                head,
                receipt: asked.order.receipt,
            }),
        });
        self.deferred.flying = Some(Flying {
            ticket,
            change,
            reply: asked.reply,
            tag,
            agent,
        });
    }

    /// The log has everything up to `ticket`, by `seq`: what was waiting for that is applied and told; whom to
    /// answer when all else of the commit has been seen to.
    pub(super) fn land(&mut self, ticket: u64, seq: u64) -> Option<(Reply, Edited)> {
        let flown = self.deferred.flying.take_if(|it| it.ticket <= ticket)?;
        if let Err(error) = self.replica.apply(&flown.change) {
            tracing::error!(document = %self.key, %error, "what the log has can't be applied: loading it again");
            self.renew_if_broken(&Refused::Broken);
        }
        self.changed();
        self.upkeep.size += flown.change.len();
        self.broadcast(None, Tell::Update(&flown.change));
        self.tell_nodes_landed(&flown.change, ticket);
        if let Some((agent, caret)) = &flown.agent {
            self.show_agent(agent, caret.as_ref());
        }
        let edited = Edited {
            seq,
            tag: flown.tag,
            updates: 1,
        };
        Some((flown.reply, edited))
    }

    /// The store did not take the change under `ticket`.
    pub(super) fn on_refused(&mut self, ticket: u64, error: &StoreError) {
        if let Some(flown) = self.deferred.flying.take_if(|it| it.ticket == ticket) {
            let error = match error {
                StoreError::Changed => ApiError::new(ErrorCode::PreconditionFailed, ""),
                _ => ApiError::new(
                    ErrorCode::Conflict,
                    "another request with this key has taken over",
                ),
            };
            // Whoever asked may have gone.
            let _ = flown.reply.send(Err(error));
        }
        // Nothing rests on it, and nothing else waits under its ticket.
        self.on_committed(ticket, 0, 0);
    }
}

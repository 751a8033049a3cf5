//! The log as this node knows it: up to where its replica has all of it, and reading what it lacks.
//!
//! Every commit, from whatever node, takes sequences of the log. Ranges that are known to be in the
//! replica close up to one mark; a hole that stays open is read from the log. That heals whatever
//! was lost on the way between nodes, as long as the store can be reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backplane::store::{Loaded, LogFrame, StoreError};
use bytes::Bytes;
use tokio::time::Instant;

use super::commit::Ack;
use super::doc::Actor;
use super::mailbox::{Control, Request};
use super::nodes::Taken;
use super::unavailable;
use crate::error::ApiError;

/// How long a hole may stay open before the log is read: live copies usually close it.
const HOLE: Duration = Duration::from_millis(50);
/// How long to wait after a failed read.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes of one read.
const CHUNK: usize = 4 << 20;

/// Most bytes of an update's length in a frame.
const LENGTH: usize = 5;

/// What a read of the log gave.
pub(super) enum Read {
    /// The updates after the mark.
    Frames(Vec<LogFrame>),
    /// The mark lies before the newest snapshot: all of it.
    Whole(Box<Loaded>),
}

/// Up to where the log is in the replica.
pub(super) struct Mark {
    /// All of the log up to here is in the replica.
    seq: u64,
    /// Ranges beyond it that are, by first sequence.
    ahead: BTreeMap<u64, u64>,
    /// The log is known to reach to here.
    head: u64,
    /// When to read the log.
    due: Option<Instant>,
    /// It is to be read even if nothing is known to be missing.
    wanted: bool,
    reading: bool,
    /// Something beyond was heard of while it was being read.
    raised: bool,
    /// Requests that want all of the log up to a sequence in the replica first.
    requests: Vec<(u64, Request)>,
}

impl Mark {
    pub(super) fn new(seq: u64) -> Self {
        Self {
            seq,
            ahead: BTreeMap::new(),
            head: seq,
            due: None,
            wanted: false,
            reading: false,
            raised: false,
            requests: Vec::new(),
        }
    }

    /// The replica was made anew, from the log up to `seq`.
    pub(super) fn start_over(&mut self, seq: u64) {
        self.seq = seq;
        self.ahead.clear();
        self.head = self.head.max(seq);
        self.due = None;
        self.expect(HOLE);
    }

    fn close_up(&mut self) {
        while let Some((&first, &last)) = self.ahead.first_key_value() {
            if first > self.seq + 1 {
                break;
            }
            self.ahead.pop_first();
            self.seq = self.seq.max(last);
        }
        self.head = self.head.max(self.seq);
        if self.seq >= self.head && !self.wanted {
            self.due = None;
        }
    }

    fn raise(&mut self, head: u64) {
        if head > self.head {
            self.head = head;
            self.raised = true;
        }
    }

    fn expect(&mut self, wait: Duration) {
        if self.seq < self.head && self.due.is_none() {
            self.due = Some(Instant::now() + wait);
        }
    }

    /// When to read the log, if it must be.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.due.filter(|_| !self.reading)
    }

    /// Whether nobody waits for a read.
    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && !self.reading
    }
}

impl Actor {
    /// `first..=last` of the log is in the replica.
    pub(super) fn know_log(&mut self, first: u64, last: u64) {
        if first > last || last <= self.mark.seq {
            return;
        }
        let reach = self.mark.ahead.entry(first).or_insert(last);
        *reach = (*reach).max(last);
        self.mark.raise(last);
        self.mark.close_up();
        self.mark.expect(HOLE);
        self.serve_requests();
    }

    /// The log reaches to `head`.
    pub(super) fn heard_of(&mut self, head: u64) {
        self.mark.raise(head);
        self.mark.expect(HOLE);
    }

    /// All of the log up to here is in the replica.
    pub(super) fn known_log(&self) -> u64 {
        self.mark.seq
    }

    /// Whether nothing of the log is known to be missing.
    pub(super) fn is_level(&self) -> bool {
        self.mark.seq >= self.mark.head
    }

    /// Reads the log as soon as possible, whether a hole is known or not.
    pub(super) fn look_at_log(&mut self) {
        self.mark.due = Some(Instant::now());
        self.mark.wanted = true;
    }

    pub(super) fn on_log_time(&mut self, now: Instant) {
        if self.mark.alarm().is_none_or(|due| now < due) {
            return;
        }
        self.mark.due = None;
        self.mark.wanted = false;
        self.mark.raised = false;
        self.mark.reading = true;
        let (store, control) = (self.context.store.clone(), self.control.clone());
        let (key, after) = (self.key.clone(), self.mark.seq);
        let context = Arc::clone(&self.context);
        tokio::spawn(async move {
            // Never closed. When many documents have a hole at once, the log's writer and the rights need connections too.
            let _turn = context.log_reads.acquire().await;
            let read = match store.log_after(&key, after, CHUNK).await {
                Ok(frames) => Ok(Read::Frames(frames)),
                // Deleted, or cut by a snapshot.
                Err(StoreError::NotFound) => store
                    .load(&key)
                    .await
                    .map(|loaded| Read::Whole(Box::new(loaded))),
                Err(error) => Err(error),
            };
            // The document may have been closed meanwhile.
            let _ = control.send(Control::LogRead(read));
        });
    }

    pub(super) async fn on_log_read(&mut self, read: Result<Read, StoreError>) {
        self.mark.reading = false;
        let read = match read {
            Ok(read) => read,
            Err(StoreError::Unavailable(reason)) => {
                tracing::debug!(document = %self.key, reason, "the log can't be read: trying again");
                self.mark.due = Some(Instant::now() + RETRY);
                self.mark.wanted = true;
                for (_, request) in std::mem::take(&mut self.mark.requests) {
                    request.refuse(unavailable("the document can't be brought up to date now"));
                }
                return;
            }
            Err(error) => return self.on_log_failed(&error),
        };
        let before = self.mark.seq;
        let full = match read {
            Read::Frames(frames) => {
                // A read ends after the first frame that passes the bound, in which each update stands behind its
                // length. To look once too often costs little.
                let updates = frames.iter().flat_map(|frame| &frame.updates);
                let bytes: usize = updates.map(|update| update.len() + LENGTH).sum();
                for frame in frames {
                    self.take_in_log(frame.updates.iter()).await;
                    let last = frame.first + frame.updates.len() as u64 - 1;
                    self.mark.seq = self.mark.seq.max(last);
                }
                bytes >= CHUNK
            }
            Read::Whole(loaded) => {
                let snapshot = loaded.snapshot.iter().map(|snapshot| &snapshot.state);
                let tail = loaded.tail.iter().flat_map(|frame| &frame.updates);
                self.take_in_log(snapshot.chain(tail)).await;
                self.mark.seq = self.mark.seq.max(loaded.document.head);
                false
            }
        };
        if self.is_over() {
            return;
        }
        if full {
            self.look_at_log();
        } else if !self.mark.raised {
            // There is no more, whatever somebody said.
            self.mark.head = self.mark.seq;
        }
        self.mark.close_up();
        self.mark.expect(HOLE);
        if self.mark.seq > before {
            self.retry_waiting().await;
        }
        self.serve_requests();
    }

    async fn take_in_log(&mut self, updates: impl Iterator<Item = &Bytes>) {
        for update in updates {
            if self.is_over() {
                return;
            }
            if self.take_in(update).await == Taken::Early {
                // The log is causally closed, so the replica is not what it should be.
                tracing::error!(document = %self.key, "the log rests on what the replica lacks: loading it again");
                self.renew().await;
                return;
            }
        }
    }

    /// A request of the hub itself: first the replica is brought up to what the log has by now, which
    /// other nodes may have written.
    pub(super) fn ask_first(&mut self, request: Request) {
        let (store, control) = (self.context.store.clone(), self.control.clone());
        let key = self.key.clone();
        tokio::spawn(async move {
            let heads = store.heads(&[key.to_string()]).await;
            let head = heads.map(|heads| heads.first().map_or(0, |(_, head)| *head));
            // Whoever asked hears of it by the request being dropped.
            let _ = control.send(Control::Fresh(head, request));
        });
    }

    pub(super) fn on_fresh(&mut self, head: Result<u64, StoreError>, request: Request) {
        match head {
            Ok(head) => {
                self.mark.raise(head);
                self.mark.requests.push((head, request));
                if !self.is_level() {
                    self.look_at_log();
                }
                self.serve_requests();
            }
            Err(error) => request.refuse(ApiError::from(error)),
        }
    }

    fn serve_requests(&mut self) {
        let seq = self.mark.seq;
        for (_, request) in self.mark.requests.extract_if(.., |(head, _)| *head <= seq) {
            // Behind what is in the lane already: an edit of a request must not stand within another change.
            let _ = self.control.send(Control::Serve(request));
        }
    }

    pub(super) async fn serve(&mut self, request: Request) {
        match request {
            Request::Capture(beyond, reply) => self.acknowledge(Ack::Capture(beyond, reply)),
            Request::Edit(asked) => self.on_order(*asked).await,
        }
    }
}

//! The bounded queue of one session's outgoing frames, and the handle that everyone else holds.
//!
//! Many producers push without ever waiting; one consumer, the session's own task, takes. The queue
//! is bounded in bytes, and what happens at the bound depends on the delivery class:
//! `lossy` frames are dropped; of a `latest` key only the newest value waits; the queued `reliable`
//! frames of a stream give way to one notice, on which the session replays them from history; so do a
//! document's frames, on which it is resynchronised. Only replies may pass the bound, and a session
//! that lets even those pile up is closed as too slow.
//!
//! Never does I/O, never blocks, never calls back into a producer. A wake-up can't be lost: the
//! waker stands under the same lock as the queue.

// Named, as the model in `tests/sendq_model.rs` takes this file in from elsewhere.
#[path = "sendq/state.rs"]
mod state;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::sync::Mutex;
use state::{Inner, Item, Lag, LatestValue, cost};

/// One or more complete, unmasked WebSocket frames, encoded once and shared.
pub type Frame = Arc<[u8]>;

/// A subscription or an open document, numbered within its session.
pub type StreamId = u32;

/// Replies may take this many times the byte limit before the session is closed as too slow.
const REPLY_FACTOR: usize = 8;
/// What the session's task is told in the place where frames were taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Frames of this stream were left out: bring it up to date.
    CatchUp(StreamId),
    /// Rights may have changed: check them again. Overtakes everything that is queued.
    Recheck,
    /// Somebody has orders for the session. Overtakes everything that is queued but a check of rights.
    Orders,
}

/// What the consumer finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Frames were appended to the caller's list.
    Frames,
    /// A notice stands at the front, everything before it has been taken.
    Notice(Notice),
    /// Everything has been taken, and the session is to be closed with this code and reason.
    Closed(u16, &'static str),
}

/// Whether a frame of a bounded class was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits in the queue.
    Queued,
    /// It was left out: the stream is behind and will be caught up, or the class allows the loss.
    LeftOut,
}

/// Which values of class `latest` of a stream were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// Any of them may have been: the stream is new.
    All,
    /// Those of these keys.
    Keys(Vec<Arc<str>>),
}

impl Missed {
    /// Whether the value of that key is among them.
    #[must_use]
    pub fn has(&self, key: &Arc<str>) -> bool {
        match self {
            Self::All => true,
            Self::Keys(keys) => keys.contains(key),
        }
    }
}

/// The queue; producers hold it in an `Arc`.
pub struct SendQueue {
    inner: Mutex<Inner>,
    limit: usize,
    /// Bytes that the peer sent, since they were last asked for.
    came: AtomicU64,
}

impl SendQueue {
    /// A queue that holds at most `limit` bytes of other people's frames, their places included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            limit,
            came: AtomicU64::new(0),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut inner)
    }

    /// As `with`, then wakes the consumer if it waits and there is something for it.
    fn with_wake<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        let (result, waker) = self.with(|inner| {
            let result = act(inner);
            let ready = !inner.items.is_empty()
                || inner.recheck.is_some()
                || inner.orders
                || inner.closed.is_some();
            (result, if ready { inner.waker.take() } else { None })
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Queues a reply or control frame, past the bound if need be.
    pub fn reply(&self, frame: Frame) {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return;
            }
            if inner.is_hopeless(self.limit) {
                let slow = protocol::CloseCode::Slow;
                inner.closed = Some((slow.code(), slow.reason()));
                inner.items = VecDeque::new();
                inner.latest = Vec::new();
                inner.missed = Vec::new();
                inner.bytes = 0;
                return;
            }
            inner.bytes += cost(&frame);
            inner.items.push_back(Item::Reply(frame));
        });
    }

    /// Queues a reliable message of a stream, or leaves it out for the catch-up.
    pub fn reliable(&self, stream: StreamId, offset: u64, frame: &Frame) -> Pushed {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return Pushed::LeftOut;
            }
            if let Some(lag) = inner.lags.iter_mut().find(|lag| lag.stream == stream) {
                lag.newest = lag.newest.max(offset);
                return Pushed::LeftOut;
            }
            if self.has_room(inner, cost(frame)) {
                inner.bytes += cost(frame);
                inner.items.push_back(Item::Reliable {
                    stream,
                    offset,
                    frame: Arc::clone(frame),
                });
                return Pushed::Queued;
            }
            let first = inner.take_out(stream).unwrap_or(offset);
            let seen = first.saturating_sub(1);
            inner.lags.push(Lag::new(stream, seen, offset));
            inner.items.push_back(Item::CatchUp(stream));
            Pushed::LeftOut
        })
    }

    /// Queues a document's frame; at the bound all queued frames of that document give way to one
    /// catch-up.
    pub fn document(&self, stream: StreamId, frame: &Frame) -> Pushed {
        self.with_wake(|inner| {
            if inner.closed.is_some() || inner.lags.iter().any(|lag| lag.stream == stream) {
                return Pushed::LeftOut;
            }
            if self.has_room(inner, cost(frame)) {
                inner.bytes += cost(frame);
                inner.items.push_back(Item::Document {
                    stream,
                    frame: Arc::clone(frame),
                });
                return Pushed::Queued;
            }
            inner.take_out(stream);
            inner.lags.push(Lag::new(stream, 0, 0));
            inner.items.push_back(Item::CatchUp(stream));
            Pushed::LeftOut
        })
    }

    /// Queues the newest value of a key: an older one that still waits is replaced where it stands, or
    /// gives way to a catch-up if the new one is too large for what room there is.
    pub fn latest(&self, stream: StreamId, key: &Arc<str>, version: u64, frame: &Frame) -> Pushed {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return Pushed::LeftOut;
            }
            let waiting = inner
                .latest
                .iter()
                .position(|value| value.stream == stream && value.key == *key);
            if let Some(at) = waiting {
                let value = &mut inner.latest[at];
                if value.version >= version {
                    return Pushed::Queued;
                }
                let others = inner.bytes - cost(&value.frame);
                if inner.items.len() == 1 || others + cost(frame) <= self.limit {
                    inner.bytes = others + cost(frame);
                    value.version = version;
                    value.frame = Arc::clone(frame);
                    return Pushed::Queued;
                }
                inner.drop_latest(|value| value.stream == stream && value.key == *key);
                inner.miss(stream, key);
                return Pushed::LeftOut;
            }
            if !self.has_room(inner, cost(frame)) {
                inner.miss(stream, key);
                return Pushed::LeftOut;
            }
            let ticket = inner.tickets;
            inner.tickets = inner.tickets.wrapping_add(1);
            inner.bytes += cost(frame);
            inner.latest.push(LatestValue {
                ticket,
                stream,
                key: Arc::clone(key),
                version,
                frame: Arc::clone(frame),
            });
            inner.items.push_back(Item::Latest(ticket));
            Pushed::Queued
        })
    }

    /// Queues a frame that may be lost.
    pub fn lossy(&self, frame: &Frame) -> Pushed {
        self.with_wake(|inner| {
            if inner.closed.is_some() || !self.has_room(inner, cost(frame)) {
                return Pushed::LeftOut;
            }
            inner.bytes += cost(frame);
            inner.items.push_back(Item::Lossy(Arc::clone(frame)));
            Pushed::Queued
        })
    }

    /// Leaves out the stream's reliable frames from now on: the session brings it up to date itself.
    /// Call it before the stream is registered with whoever pushes.
    pub fn hold(&self, stream: StreamId) {
        self.with(|inner| {
            inner.lags.push(Lag::new(stream, 0, 0));
            inner.missed.push((stream, Missed::All));
        });
    }

    /// States where a held stream stands, and asks for its catch-up behind what is queued.
    pub fn catch_up_from(&self, stream: StreamId, seen: u64) {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return;
            }
            if let Some(lag) = inner.lags.iter_mut().find(|lag| lag.stream == stream) {
                lag.seen = seen;
                inner.items.push_back(Item::CatchUp(stream));
            }
        });
    }

    /// The channel of a stream broke after `last`: it goes on from history, behind what is queued.
    /// Offsets left out before may be of an epoch that is over, so they say nothing any more.
    pub fn interrupt(&self, stream: StreamId, last: u64) {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return;
            }
            if let Some(lag) = inner.lags.iter_mut().find(|lag| lag.stream == stream) {
                lag.newest = 0;
                lag.interrupted = true;
                return;
            }
            let mut lag = Lag::new(stream, last, 0);
            lag.interrupted = true;
            inner.lags.push(lag);
            inner.items.push_back(Item::CatchUp(stream));
        });
    }

    /// Which values of class `latest` a catch-up has to replay; asking forgets them. A replay that finds
    /// no room again notes them anew, so that it goes on with them alone once there is.
    #[must_use]
    pub fn missed(&self, stream: StreamId) -> Option<Missed> {
        self.with(|inner| {
            let at = inner.missed.iter().position(|(id, _)| *id == stream)?;
            let (_, missed) = inner.missed.swap_remove(at);
            inner.free_unused();
            Some(missed)
        })
    }

    /// The last offset handed out before the stream fell behind; `None` if it did not, and a catch-up
    /// need only replay the kept values of class `latest`.
    #[must_use]
    pub fn behind(&self, stream: StreamId) -> Option<u64> {
        self.with(|inner| {
            let lag = inner.lags.iter_mut().find(|lag| lag.stream == stream)?;
            lag.interrupted = false;
            Some(lag.seen)
        })
    }

    /// Ends a catch-up that has queued everything up to `offset`. `false` if newer frames were left
    /// out meanwhile: then the stream stays behind, from `offset` on, and the catch-up goes on.
    #[must_use]
    pub fn caught_up(&self, stream: StreamId, offset: u64) -> bool {
        self.with(|inner| {
            let Some(at) = inner.lags.iter().position(|lag| lag.stream == stream) else {
                return true;
            };
            let lag = &mut inner.lags[at];
            if lag.newest > offset || lag.interrupted {
                lag.seen = offset;
                return false;
            }
            inner.lags.swap_remove(at);
            inner.free_unused();
            true
        })
    }

    /// Forgets a stream: its queued frames and its lag.
    pub fn forget(&self, stream: StreamId) {
        self.with(|inner| {
            inner.take_out(stream);
            inner.drop_latest(|value| value.stream == stream);
            inner.lags.retain(|lag| lag.stream != stream);
            inner.missed.retain(|(id, _)| *id != stream);
            inner.items.retain(|item| !item.is_catch_up_of(stream));
        });
    }

    /// Asks the session to check its rights again, ahead of everything queued.
    pub fn recheck(&self) {
        self.recheck_since(Instant::now());
    }

    /// [`SendQueue::recheck`] because of something that may have happened at `since` already.
    pub fn recheck_since(&self, since: Instant) {
        self.with_wake(|inner| {
            let before = inner.recheck.get_or_insert(since);
            *before = since.min(*before);
        });
    }

    /// Tells the session that there are orders for it.
    pub fn bring_orders(&self) {
        self.with_wake(|inner| inner.orders = true);
    }

    /// Whether rights are to be checked again now; asking takes the notice.
    #[must_use]
    pub fn take_recheck(&self) -> bool {
        self.with(|inner| inner.recheck.take().is_some())
    }

    /// For how long rights have been waiting to be checked again, from what may have changed them on:
    /// what they allowed before then is soon too old to go by.
    #[must_use]
    pub fn recheck_overdue(&self) -> Option<Duration> {
        self.with(|inner| inner.recheck.map(|since| since.elapsed()))
    }

    /// Whether a further request of the peer may be taken in: there is room for its answer, and its
    /// rights are not about to be checked.
    #[must_use]
    pub fn lets_in(&self) -> bool {
        self.with(|inner| inner.bytes <= self.limit && inner.recheck.is_none())
    }

    /// Closes the session once what is queued has been sent; the first code given stays.
    pub fn close(&self, code: u16, reason: &'static str) {
        self.with_wake(|inner| {
            if inner.closed.is_none() {
                inner.closed = Some((code, reason));
            }
        });
    }

    /// Closes the session with one of Tandem's codes.
    pub fn close_with(&self, code: protocol::CloseCode) {
        self.close(code.code(), code.reason());
    }

    /// Notes bytes that the peer has sent.
    pub fn note_came(&self, bytes: usize) {
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes that came from the peer, and those of the frames that were taken for it; asking begins anew.
    #[must_use]
    pub fn take_moved(&self) -> (u64, u64) {
        let went = self.with(|inner| std::mem::take(&mut inner.went));
        (self.came.swap(0, Ordering::Relaxed), went)
    }

    /// Bytes that wait, their places included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|inner| inner.bytes)
    }

    /// Whether everything that was pushed has been taken, and no stream is behind.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.with(|inner| {
            inner.items.is_empty() && inner.lags.is_empty() && inner.missed.is_empty()
        })
    }

    /// Whether a reader should stop asking for more until some of this has been sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Gives back memory that only a busy queue needs.
    pub fn shrink(&self) {
        self.with(|inner| {
            inner.items.shrink_to_fit();
            inner.latest.shrink_to_fit();
            inner.lags.shrink_to_fit();
            inner.missed.shrink_to_fit();
        });
    }

    /// The consumer's side: appends frames of up to `room` bytes to `out` (one larger frame goes
    /// alone), or says what stands at the front; registers the waker if there is nothing. Without
    /// `notices`, one at the front stays there and holds back what stands behind it.
    pub fn poll_take(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        notices: bool,
        out: &mut impl FnMut(Frame),
    ) -> Poll<Taken> {
        self.with(|inner| {
            if notices && inner.recheck.take().is_some() {
                return Poll::Ready(Taken::Notice(Notice::Recheck));
            }
            if notices && std::mem::take(&mut inner.orders) && inner.closed.is_none() {
                return Poll::Ready(Taken::Notice(Notice::Orders));
            }
            let (mut any, mut left) = (false, room);
            while let Some(front) = inner.items.front() {
                if let Item::CatchUp(stream) = *front {
                    if inner.closed.is_some() {
                        // Nothing that a catch-up would queue is sent any more.
                        inner.items.pop_front();
                        continue;
                    }
                    if any || !notices {
                        break;
                    }
                    inner.items.pop_front();
                    return Poll::Ready(Taken::Notice(Notice::CatchUp(stream)));
                }
                let bytes = inner.front_bytes();
                if any && bytes > left {
                    break;
                }
                if let Some(frame) = inner.pop_frame() {
                    (any, left) = (true, left.saturating_sub(bytes));
                    out(frame);
                }
            }
            if any {
                return Poll::Ready(Taken::Frames);
            }
            if let Some((code, reason)) = inner.closed {
                return Poll::Ready(Taken::Closed(code, reason));
            }
            let same = inner
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()));
            if !same {
                inner.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    fn has_room(&self, inner: &Inner, bytes: usize) -> bool {
        inner.items.is_empty() || inner.bytes + bytes <= self.limit
    }
}

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

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

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

enum Item {
    Reply(Frame),
    Reliable {
        stream: StreamId,
        offset: u64,
        frame: Frame,
    },
    Document {
        stream: StreamId,
        frame: Frame,
    },
    Lossy(Frame),
    /// A place in line for the newest value of a key; the value stands in `latest`.
    Latest(u32),
    CatchUp(StreamId),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Reply(frame)
            | Self::Lossy(frame)
            | Self::Reliable { frame, .. }
            | Self::Document { frame, .. } => frame.len(),
            Self::Latest(_) | Self::CatchUp(_) => 0,
        }
    }
}

struct LatestValue {
    ticket: u32,
    stream: StreamId,
    key: Arc<str>,
    version: u64,
    frame: Frame,
}

/// A stream of which frames are being left out.
struct Lag {
    stream: StreamId,
    /// The last offset handed out before frames were left out.
    seen: u64,
    /// The newest offset left out; 0 if none was.
    newest: u64,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    latest: Vec<LatestValue>,
    lags: Vec<Lag>,
    bytes: usize,
    tickets: u32,
    recheck: bool,
    closed: Option<(u16, &'static str)>,
    waker: Option<Waker>,
}

/// The queue; producers hold it in an `Arc`.
pub struct SendQueue {
    inner: Mutex<Inner>,
    limit: usize,
}

impl SendQueue {
    /// A queue that holds at most `limit` bytes of other people's frames.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            limit,
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
            let ready = !inner.items.is_empty() || inner.recheck || inner.closed.is_some();
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
            if inner.bytes > self.limit.saturating_mul(REPLY_FACTOR) {
                let slow = protocol::CloseCode::Slow;
                inner.closed = Some((slow.code(), slow.reason()));
                inner.items.clear();
                inner.latest.clear();
                inner.bytes = 0;
                return;
            }
            inner.bytes += frame.len();
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
            if self.has_room(inner, frame.len()) {
                inner.bytes += frame.len();
                inner.items.push_back(Item::Reliable {
                    stream,
                    offset,
                    frame: Arc::clone(frame),
                });
                return Pushed::Queued;
            }
            let first = inner.take_out(stream).unwrap_or(offset);
            inner.lags.push(Lag {
                stream,
                seen: first.saturating_sub(1),
                newest: offset,
            });
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
            if self.has_room(inner, frame.len()) {
                inner.bytes += frame.len();
                inner.items.push_back(Item::Document {
                    stream,
                    frame: Arc::clone(frame),
                });
                return Pushed::Queued;
            }
            inner.take_out(stream);
            inner.lags.push(Lag {
                stream,
                seen: 0,
                newest: 0,
            });
            inner.items.push_back(Item::CatchUp(stream));
            Pushed::LeftOut
        })
    }

    /// Queues the newest value of a key: an older one that still waits is replaced where it stands.
    pub fn latest(&self, stream: StreamId, key: &Arc<str>, version: u64, frame: &Frame) -> Pushed {
        self.with_wake(|inner| {
            if inner.closed.is_some() {
                return Pushed::LeftOut;
            }
            let waiting = inner
                .latest
                .iter_mut()
                .find(|value| value.stream == stream && value.key == *key);
            if let Some(value) = waiting {
                if value.version < version {
                    inner.bytes = inner.bytes - value.frame.len() + frame.len();
                    value.version = version;
                    value.frame = Arc::clone(frame);
                }
                return Pushed::Queued;
            }
            if !self.has_room(inner, frame.len()) {
                inner.miss(stream);
                return Pushed::LeftOut;
            }
            let ticket = inner.tickets;
            inner.tickets = inner.tickets.wrapping_add(1);
            inner.bytes += frame.len();
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
            if inner.closed.is_some() || !self.has_room(inner, frame.len()) {
                return Pushed::LeftOut;
            }
            inner.bytes += frame.len();
            inner.items.push_back(Item::Lossy(Arc::clone(frame)));
            Pushed::Queued
        })
    }

    /// Leaves out the stream's reliable frames from now on: the session brings it up to date itself.
    /// Call it before the stream is registered with whoever pushes.
    pub fn hold(&self, stream: StreamId) {
        self.with(|inner| {
            inner.lags.push(Lag {
                stream,
                seen: 0,
                newest: 0,
            });
        });
    }

    /// States where a held stream stands, and asks for its catch-up behind what is queued.
    pub fn catch_up_from(&self, stream: StreamId, seen: u64) {
        self.with_wake(|inner| {
            if let Some(lag) = inner.lags.iter_mut().find(|lag| lag.stream == stream) {
                lag.seen = seen;
                inner.items.push_back(Item::CatchUp(stream));
            }
        });
    }

    /// The last offset handed out before the stream fell behind; `None` if it did not, and a catch-up
    /// need only replay the kept values of class `latest`.
    #[must_use]
    pub fn behind(&self, stream: StreamId) -> Option<u64> {
        self.with(|inner| {
            let lag = inner.lags.iter().find(|lag| lag.stream == stream)?;
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
            if lag.newest > offset {
                lag.seen = offset;
                return false;
            }
            inner.lags.swap_remove(at);
            true
        })
    }

    /// Forgets a stream: its queued frames and its lag.
    pub fn forget(&self, stream: StreamId) {
        self.with(|inner| {
            inner.take_out(stream);
            inner.lags.retain(|lag| lag.stream != stream);
            let gone: Vec<u32> = inner
                .latest
                .iter()
                .filter(|value| value.stream == stream)
                .map(|value| value.ticket)
                .collect();
            if !gone.is_empty() {
                let freed: usize = inner
                    .latest
                    .iter()
                    .filter(|value| value.stream == stream)
                    .map(|value| value.frame.len())
                    .sum();
                inner.bytes -= freed;
                inner.latest.retain(|value| value.stream != stream);
                inner
                    .items
                    .retain(|item| !matches!(item, Item::Latest(ticket) if gone.contains(ticket)));
            }
            inner
                .items
                .retain(|item| !matches!(item, Item::CatchUp(id) if *id == stream));
        });
    }

    /// Asks the session to check its rights again, ahead of everything queued.
    pub fn recheck(&self) {
        self.with_wake(|inner| inner.recheck = true);
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

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|inner| inner.bytes)
    }

    /// Whether a reader should stop asking for more until some of this has been sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() > self.limit
    }

    /// Gives back memory that only a busy queue needs.
    pub fn shrink(&self) {
        self.with(|inner| {
            if inner.items.is_empty() {
                inner.items = VecDeque::new();
            }
            if inner.latest.is_empty() {
                inner.latest = Vec::new();
            }
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
            if notices && std::mem::take(&mut inner.recheck) {
                return Poll::Ready(Taken::Notice(Notice::Recheck));
            }
            let mut taken = 0usize;
            while let Some(front) = inner.items.front() {
                if let Item::CatchUp(stream) = *front {
                    if taken > 0 {
                        break;
                    }
                    if !notices {
                        return Poll::Pending;
                    }
                    inner.items.pop_front();
                    return Poll::Ready(Taken::Notice(Notice::CatchUp(stream)));
                }
                let bytes = inner.front_bytes();
                if taken > 0 && taken + bytes > room {
                    break;
                }
                if let Some(frame) = inner.pop_frame() {
                    taken += bytes;
                    out(frame);
                }
            }
            if taken > 0 {
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

impl Inner {
    /// Removes the queued reliable or document frames of a stream; the first offset removed.
    fn take_out(&mut self, stream: StreamId) -> Option<u64> {
        let mut first = None;
        let mut freed = 0;
        self.items.retain(|item| {
            let (theirs, offset) = match item {
                Item::Reliable {
                    stream: id, offset, ..
                } => (*id == stream, Some(*offset)),
                Item::Document { stream: id, .. } => (*id == stream, None),
                _ => (false, None),
            };
            if theirs {
                freed += item.bytes();
                first = first.or(offset);
            }
            !theirs
        });
        self.bytes -= freed;
        first
    }

    /// Asks for a catch-up of a stream that lost only a value of class `latest`.
    fn miss(&mut self, stream: StreamId) {
        let asked = |item: &Item| matches!(item, Item::CatchUp(id) if *id == stream);
        if !self.items.iter().any(asked) {
            self.items.push_back(Item::CatchUp(stream));
        }
    }

    fn front_bytes(&self) -> usize {
        match self.items.front() {
            Some(Item::Latest(ticket)) => self
                .latest
                .iter()
                .find(|value| value.ticket == *ticket)
                .map_or(0, |value| value.frame.len()),
            Some(item) => item.bytes(),
            None => 0,
        }
    }

    fn pop_frame(&mut self) -> Option<Frame> {
        let frame = match self.items.pop_front()? {
            Item::Reply(frame)
            | Item::Lossy(frame)
            | Item::Reliable { frame, .. }
            | Item::Document { frame, .. } => frame,
            Item::Latest(ticket) => {
                let at = self
                    .latest
                    .iter()
                    .position(|value| value.ticket == ticket)?;
                self.latest.swap_remove(at).frame
            }
            Item::CatchUp(_) => return None,
        };
        self.bytes -= frame.len();
        Some(frame)
    }
}

//! What stands in a send queue, and the moves within it; all of it under the queue's one lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::{Frame, Missed, REPLY_FACTOR, StreamId};

/// What a place in the queue costs beside the frame's bytes: else a flood of two-byte pongs would take
/// thirty times the memory that it is counted as.
const PLACE: usize = 64;

pub(super) enum Item {
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
    pub(super) fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Reply(frame)
            | Self::Lossy(frame)
            | Self::Reliable { frame, .. }
            | Self::Document { frame, .. } => Some(frame),
            Self::Latest(_) | Self::CatchUp(_) => None,
        }
    }

    pub(super) fn is_catch_up_of(&self, stream: StreamId) -> bool {
        matches!(self, Self::CatchUp(id) if *id == stream)
    }
}

/// What a waiting frame counts as.
pub(super) fn cost(frame: &Frame) -> usize {
    frame.len() + PLACE
}

pub(super) struct LatestValue {
    pub(super) ticket: u32,
    pub(super) stream: StreamId,
    pub(super) key: Arc<str>,
    pub(super) version: u64,
    pub(super) frame: Frame,
}

/// A stream of which frames are being left out.
pub(super) struct Lag {
    pub(super) stream: StreamId,
    /// The last offset handed out before frames were left out.
    pub(super) seen: u64,
    /// The newest offset left out; 0 if none was.
    pub(super) newest: u64,
    /// The channel broke since the catch-up last looked: what it has read may be of an epoch that is over.
    pub(super) interrupted: bool,
}

impl Lag {
    pub(super) fn new(stream: StreamId, seen: u64, newest: u64) -> Self {
        Self {
            stream,
            seen,
            newest,
            interrupted: false,
        }
    }
}

/// Beyond this many keys, all values of the stream are replayed.
const MISSED_KEYS: usize = 1024;

#[derive(Default)]
pub(super) struct Inner {
    pub(super) items: VecDeque<Item>,
    pub(super) latest: Vec<LatestValue>,
    pub(super) lags: Vec<Lag>,
    pub(super) missed: Vec<(StreamId, Missed)>,
    pub(super) bytes: usize,
    pub(super) tickets: u32,
    /// Bytes of frames that were taken to be sent, since they were last asked for.
    pub(super) went: u64,
    /// Since when rights are to be checked again.
    pub(super) recheck: Option<Instant>,
    /// Somebody has orders for the session.
    pub(super) orders: bool,
    pub(super) closed: Option<(u16, &'static str)>,
    pub(super) waker: Option<Waker>,
}

impl Inner {
    /// Removes the queued reliable or document frames of a stream; the first offset removed.
    pub(super) fn take_out(&mut self, stream: StreamId) -> Option<u64> {
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
                freed += item.frame().map_or(0, cost);
                first = first.or(offset);
            }
            !theirs
        });
        self.bytes -= freed;
        first
    }

    /// Gives back what only a stream that is behind needs: few ever are.
    pub(super) fn free_unused(&mut self) {
        if self.lags.is_empty() {
            self.lags = Vec::new();
        }
        if self.missed.is_empty() {
            self.missed = Vec::new();
        }
    }

    /// Removes waiting values of class `latest`, and their places in line.
    pub(super) fn drop_latest(&mut self, goes: impl Fn(&LatestValue) -> bool) {
        let mut gone = Vec::new();
        self.latest.retain(|value| {
            let stays = !goes(value);
            if !stays {
                gone.push(value.ticket);
                self.bytes -= cost(&value.frame);
            }
            stays
        });
        if !gone.is_empty() {
            self.items
                .retain(|item| !matches!(item, Item::Latest(ticket) if gone.contains(ticket)));
        }
    }

    /// Notes a value of class `latest` as left out, and asks for a catch-up of its stream.
    pub(super) fn miss(&mut self, stream: StreamId, key: &Arc<str>) {
        match self.missed.iter_mut().find(|(id, _)| *id == stream) {
            Some((_, Missed::All)) => {}
            Some((_, Missed::Keys(keys))) if keys.contains(key) => {}
            Some((_, missed)) => match missed {
                Missed::Keys(keys) if keys.len() < MISSED_KEYS => keys.push(Arc::clone(key)),
                _ => *missed = Missed::All,
            },
            None => {
                let keys = vec![Arc::clone(key)];
                self.missed.push((stream, Missed::Keys(keys)));
            }
        }
        // It stands far behind, if at all.
        if !self
            .items
            .iter()
            .rev()
            .any(|item| item.is_catch_up_of(stream))
        {
            self.items.push_back(Item::CatchUp(stream));
        }
    }

    /// Whether a client that lets replies pile up is to be given up. A frame over the limit counts as
    /// one limit: whoever loads a large document is not slow for that.
    pub(super) fn is_hopeless(&self, limit: usize) -> bool {
        let most = limit.saturating_mul(REPLY_FACTOR);
        if self.bytes <= most {
            return false;
        }
        let waiting = self.items.iter().filter_map(Item::frame);
        let values = self.latest.iter().map(|value| &value.frame);
        let weight = waiting.chain(values).map(|frame| cost(frame).min(limit));
        weight.sum::<usize>() > most
    }

    pub(super) fn front_bytes(&self) -> usize {
        match self.items.front() {
            Some(Item::Latest(ticket)) => self
                .latest
                .iter()
                .find(|value| value.ticket == *ticket)
                .map_or(0, |value| value.frame.len()),
            Some(item) => item.frame().map_or(0, |frame| frame.len()),
            None => 0,
        }
    }

    pub(super) fn pop_frame(&mut self) -> Option<Frame> {
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
        self.bytes -= cost(&frame);
        self.went += frame.len() as u64;
        Some(frame)
    }
}

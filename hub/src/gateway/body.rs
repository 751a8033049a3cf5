//! Bodies on their way through: counted, timed, and ended when the sender's rights are.
//!
//! Owns [`Upload`] (a request's) and [`Download`] (an answer's). Each hands on a piece when it is asked for
//! one, so that a slow reader slows its writer and nothing is gathered here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use protocol::CloseCode;
use tokio::time::{Instant, Sleep};

use super::pool::{Entry, Ticket};

/// What ends a stream before its time; the code tells why.
pub(super) type Lease = Pin<Box<dyn Future<Output = CloseCode> + Send>>;

/// How far a request's body is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// The upstream has yet to take what is there.
    Sending = 0,
    /// The caller has yet to send more.
    Waiting = 1,
    /// All of it has been taken.
    Done = 2,
    /// It was larger than allowed.
    TooLarge = 3,
    /// The caller went away in the middle.
    Broken = 4,
}

/// What is told of a body that is on its way.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// Milliseconds since `began`.
    moved: AtomicU64,
    stage: AtomicU8,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            stage: AtomicU8::new(Stage::Sending as u8),
        })
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn touch(&self) {
        let since = self.began.elapsed().as_millis() as u64;
        self.moved.store(since, Ordering::Relaxed);
    }

    /// How far it is.
    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Sending,
            1 => Stage::Waiting,
            2 => Stage::Done,
            3 => Stage::TooLarge,
            _ => Stage::Broken,
        }
    }

    /// When it last moved.
    pub(super) fn moved(&self) -> Instant {
        self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }
}

/// A request's body that is too large to be kept, or may be sent only once.
pub(super) struct Upload {
    inner: Body,
    left: u64,
    progress: Arc<Progress>,
}

impl Upload {
    /// A body of at most `most` bytes.
    pub(super) fn new(inner: Body, most: usize, progress: Arc<Progress>) -> Self {
        Self {
            inner,
            left: most as u64,
            progress,
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.progress.set(Stage::Waiting);
            return Poll::Pending;
        };
        self.progress.touch();
        let stage = match &frame {
            None => Stage::Done,
            Some(Err(_)) => Stage::Broken,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(bytes) {
                    Some(left) => self.left = left,
                    None => {
                        self.progress.set(Stage::TooLarge);
                        return Poll::Ready(Some(Err("the body is too large".into())));
                    }
                }
                // Whoever knows how long a body is never asks for what comes behind it.
                if self.inner.is_end_stream() {
                    Stage::Done
                } else {
                    Stage::Sending
                }
            }
        };
        self.progress.set(stage);
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body.
pub(super) struct Download {
    inner: Incoming,
    ticket: Ticket,
    _entry: Entry,
    lease: Lease,
    idle: Duration,
    /// When its last piece came.
    moved: Instant,
    /// Made when it first has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Download {
    /// A body whose pieces lie at most `idle` apart.
    pub(super) fn new(
        inner: Incoming,
        ticket: Ticket,
        entry: Entry,
        lease: Lease,
        idle: Duration,
    ) -> Self {
        Self {
            inner,
            ticket,
            _entry: entry,
            lease,
            idle,
            moved: Instant::now(),
            alarm: None,
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (moved, idle) = (self.moved, self.idle);
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(moved + idle)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= moved + idle {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(moved + idle);
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // First: a stream that never pauses must end with its rights too.
        if let Poll::Ready(code) = self.lease.as_mut().poll(cx) {
            tracing::debug!(reason = code.reason(), "a stream was ended");
            return Poll::Ready(Some(Err(code.reason().into())));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                self.ticket.failure();
                tracing::warn!(%error, upstream = %self.ticket.upstream().endpoint, "an answer was cut off");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(frame) => {
                self.moved = Instant::now();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.poll_alarm(cx));
                tracing::warn!(upstream = %self.ticket.upstream().endpoint, "an answer came to a standstill");
                Poll::Ready(Some(Err("the service came to a standstill".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! What a connection writes: what was not taken before, then what is queued, gathered; at its end the
//! close frame, and the end of the stream.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Handler;
use super::connection::{Connection, Gone, Phase, Progress, SCRATCH};
use crate::sendq::{Frame, Taken};

thread_local! {
    static WRITE_SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    pub(super) fn poll_output(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut progress = false;
        loop {
            if !self.unsent.is_empty() {
                if !self.poll_unsent(cx)? {
                    return Ok(progress);
                }
                progress = true;
                continue;
            }
            if self.unflushed && !self.poll_flush(cx)? {
                return Ok(progress);
            }
            if matches!(self.phase, Phase::Closing { .. } | Phase::Ended { .. }) {
                return Ok(self.poll_shut(cx)? || progress);
            }
            match self.gather(cx) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Taken::Frames) => {}
                Poll::Ready(Taken::Notice(notice)) => {
                    self.step(cx, |handler| handler.on_notice(notice));
                    progress = true;
                }
                Poll::Ready(Taken::Closed(code, reason)) => self.say_close(code, reason),
            }
        }
    }

    /// Passes on what the stream itself may hold back; `false` if the socket takes nothing.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Progress {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.unblock();
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Pending => {
                self.blocked.get_or_insert_with(Instant::now);
                Ok(false)
            }
        }
    }

    /// Shuts our side of the stream once both close frames are said.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Progress {
        let Phase::Ended { until, shut: false } = self.phase else {
            return Ok(false);
        };
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Ready(Ok(())) => {
                self.phase = Phase::Ended { until, shut: true };
                Ok(true)
            }
        }
    }

    /// Gathers what waits into one buffer and writes it; what the socket does not take is kept.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut scratch = WRITE_SCRATCH.take();
        scratch.clear();
        let mut large = None;
        let notices = self.is_ready();
        let taken = self
            .queue
            .poll_take(cx, SCRATCH, notices, &mut |frame: Frame| {
                // The queue hands out a frame of this size alone.
                if frame.len() >= SCRATCH {
                    large = Some(frame);
                } else {
                    scratch.extend_from_slice(&frame);
                }
            });
        if matches!(taken, Poll::Ready(Taken::Frames)) {
            self.unsent.frame = large;
            self.unsent.at = 0;
            if !scratch.is_empty() {
                let written = match Pin::new(&mut self.stream).poll_write(cx, &scratch) {
                    Poll::Ready(Ok(written)) => written,
                    // An error shows again at the next write.
                    Poll::Ready(Err(_)) | Poll::Pending => 0,
                };
                if written > 0 {
                    self.blocked = None;
                    self.unflushed = true;
                    self.said = Instant::now();
                }
                if written < scratch.len() {
                    self.unsent.bytes.extend_from_slice(&scratch[written..]);
                }
            }
        }
        WRITE_SCRATCH.set(scratch);
        taken
    }

    /// Writes on with what the socket had not taken; `false` if it still takes nothing.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Progress {
        let Some(rest) = self.unsent.rest() else {
            return Ok(true);
        };
        match Pin::new(&mut self.stream).poll_write(cx, rest) {
            Poll::Ready(Ok(0) | Err(_)) => Err(Gone),
            Poll::Ready(Ok(written)) => {
                self.unsent.advance(written);
                self.unflushed = true;
                self.said = Instant::now();
                self.unblock();
                Ok(true)
            }
            Poll::Pending => {
                self.blocked.get_or_insert_with(Instant::now);
                Ok(false)
            }
        }
    }

    /// The socket takes bytes. If it was full before, its peer has read: that may be slow, but it is not
    /// silent.
    fn unblock(&mut self) {
        if self.blocked.take().is_some() {
            self.heard = Instant::now();
        }
    }
}

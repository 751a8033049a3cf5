//! What a connection does by the clock: pings, the handler's deadline, and giving up on a peer that is
//! silent, takes nothing, or never ends its close handshake.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::connection::{Connection, Gone, Phase, Progress};
use super::frame::{self, Opcode};
use super::{Handler, Turn};

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    /// A ping is due when one side has been quiet for an interval, but not more often than that.
    fn next_ping(&self) -> Instant {
        self.heard.min(self.said).max(self.pinged) + self.limits.ping_interval
    }

    /// When the handler wants to be called, unless it was for that.
    fn deadline(&self) -> Option<Instant> {
        let Some(Turn::Ready(handler)) = &self.turn else {
            return None;
        };
        handler.deadline().filter(|at| Some(*at) != self.told)
    }

    /// The next time at which something is due.
    fn due(&self) -> Instant {
        let due = match self.phase {
            Phase::Open => {
                let ping = self.next_ping();
                self.deadline().map_or(ping, |at| ping.min(at))
            }
            Phase::Closing { until } | Phase::Ending { until } | Phase::Ended { until, .. } => {
                until
            }
        };
        let cut = self.blocked.map(|since| since + self.limits.write_timeout);
        cut.map_or(due, |at| due.min(at))
    }

    pub(super) fn poll_alarm(
        &mut self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
    ) -> Progress {
        let due = self.due();
        // Arming is dear and most deadlines only move away: the alarm is set only to ring earlier,
        // and when it rings too early it is set again.
        if due < self.alarm {
            self.alarm = due;
            sleep.as_mut().reset(due);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        let now = Instant::now();
        self.on_alarm(cx, now)?;
        self.alarm = self.due().max(now + Duration::from_millis(1));
        sleep.as_mut().reset(self.alarm);
        Ok(true)
    }

    fn on_alarm(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Gone> {
        if let Some(blocked) = self.blocked
            && now >= blocked + self.limits.write_timeout
        {
            return Err(Gone);
        }
        if self.phase != Phase::Open {
            // What is due of a connection that closes is its end.
            return if now >= self.due() { Err(Gone) } else { Ok(()) };
        }
        self.poll_deadline(cx, now);
        if now >= self.next_ping() {
            self.pinged = now;
            self.ping(now);
        }
        Ok(())
    }

    /// Calls the handler if it wanted to be called by now.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(at) = self.deadline().filter(|at| now >= *at) else {
            return false;
        };
        self.told = Some(at);
        self.step(cx, |handler| handler.on_deadline(now));
        true
    }

    fn ping(&mut self, now: Instant) {
        // While work is under way nothing is read, and through a full socket no ping comes: then
        // silence says nothing of the peer.
        let silent = now >= self.heard + 2 * self.limits.ping_interval;
        if silent && self.is_ready() && self.blocked.is_none() {
            self.queue.close_with(CloseCode::IdleTimeout);
            return;
        }
        self.queue.shrink();
        self.queue.reply(frame::message(Opcode::Ping, b""));
        if let Some(Turn::Ready(handler)) = &self.turn
            && let Some(frame) = handler.keepalive()
        {
            self.queue.reply(frame);
        }
    }
}

//! A handler without a socket: what its send queue holds is handed to whoever asks, by whatever means it then
//! leaves.
//!
//! Owns the turn of a handler whose client sends nothing: notices, deadlines, frames. Never encodes, never reads
//! a socket. All state stands in [`Pump`], so a call of [`Pump::next`] may be dropped at any time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::{Handler, Turn};
use crate::sendq::{Frame, SendQueue, Taken};

/// Bytes that one call gathers at most; one larger frame goes alone.
const ROOM: usize = 64 * 1024;

/// What a pump gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Frames, in order.
    Frames {
        /// The frames.
        frames: Vec<Frame>,
        /// Nothing more waited when they were taken, and nothing is left out that is yet to be replayed.
        drained: bool,
    },
    /// Nothing more comes: the code and reason that a socket would be closed with.
    Closed(u16, &'static str),
}

/// A handler and its queue. Dropping it ends whatever the handler holds.
pub struct Pump<H> {
    turn: Option<Turn<H>>,
    queue: Arc<SendQueue>,
    /// The handler's deadline that it was told of.
    told: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl<H: Handler> Pump<H> {
    /// Takes over a handler.
    #[must_use]
    pub fn new(handler: H, queue: Arc<SendQueue>) -> Self {
        Self {
            turn: Some(Turn::Ready(handler)),
            queue,
            told: None,
            alarm: Box::pin(tokio::time::sleep_until(Instant::now())),
        }
    }

    /// The next frames, or the end. Waits for them.
    pub async fn next(&mut self) -> Pumped {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Pumped> {
        loop {
            self.poll_work(cx);
            if self.poll_deadline(cx) {
                continue;
            }
            let notices = matches!(self.turn, Some(Turn::Ready(_)));
            let mut frames = Vec::new();
            let mut push = |frame: Frame| frames.push(frame);
            match self.queue.poll_take(cx, ROOM, notices, &mut push) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Taken::Frames) => {
                    // Work under way may be about to queue what was left out.
                    let drained = notices && self.queue.is_settled();
                    return Poll::Ready(Pumped::Frames { frames, drained });
                }
                Poll::Ready(Taken::Closed(code, reason)) => {
                    self.turn = None;
                    return Poll::Ready(Pumped::Closed(code, reason));
                }
                Poll::Ready(Taken::Notice(notice)) => {
                    self.step(|handler| handler.on_notice(notice));
                }
            }
        }
    }

    fn step(&mut self, act: impl FnOnce(H) -> Turn<H>) {
        self.turn = match self.turn.take() {
            Some(Turn::Ready(handler)) => Some(act(handler)),
            other => other,
        };
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) {
        if let Some(Turn::Busy(work)) = self.turn.as_mut()
            && let Poll::Ready(handler) = work.as_mut().poll(cx)
        {
            self.turn = Some(Turn::Ready(handler));
        }
    }

    /// Tells the handler of its deadline, or makes sure to be woken for it; `true` if it was told.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Turn::Ready(handler)) = &self.turn else {
            return false;
        };
        let Some(deadline) = handler.deadline().filter(|at| self.told != Some(*at)) else {
            return false;
        };
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        if self.alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.told = Some(deadline);
        self.step(|handler| handler.on_deadline(Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Message;
    use super::super::frame::{Opcode, message, payloads};
    use super::*;
    use crate::sendq::Notice;

    /// Says a word for each notice, after a while, and another at its deadline.
    struct Speaker(Arc<SendQueue>, Instant);

    impl Handler for Speaker {
        fn on_message(self, _: Message<'_>) -> Turn<Self> {
            Turn::Ready(self)
        }

        fn on_notice(self, _: Notice) -> Turn<Self> {
            Turn::Busy(Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.0.reply(message(Opcode::Text, b"noticed"));
                self
            }))
        }

        fn on_deadline(self, _: Instant) -> Turn<Self> {
            self.0.reply(message(Opcode::Text, b"late"));
            Turn::Ready(self)
        }

        fn deadline(&self) -> Option<Instant> {
            Some(self.1)
        }
    }

    async fn words(pump: &mut Pump<Speaker>) -> Vec<Vec<u8>> {
        match pump.next().await {
            Pumped::Frames { frames, .. } => {
                let all = frames.iter().flat_map(|frame| payloads(frame));
                all.map(<[u8]>::to_vec).collect()
            }
            Pumped::Closed(..) => Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_survives_a_dropped_call_and_deadlines_are_told_once() {
        let queue = Arc::new(SendQueue::new(1 << 20));
        let end = Instant::now() + Duration::from_secs(10);
        let mut pump = Pump::new(Speaker(Arc::clone(&queue), end), Arc::clone(&queue));
        queue.recheck();
        let cut = tokio::time::timeout(Duration::from_millis(20), pump.next()).await;
        assert!(cut.is_err());
        assert_eq!(words(&mut pump).await, [b"noticed"]);
        assert_eq!(words(&mut pump).await, [b"late"]);
        let more = tokio::time::timeout(Duration::from_secs(60), pump.next()).await;
        assert!(more.is_err(), "the deadline is told once");
        queue.reply(message(Opcode::Text, &vec![b'x'; 70_000]));
        queue.reply(message(Opcode::Text, &[b'y'; 300]));
        assert_eq!(words(&mut pump).await[0].len(), 70_000);
        assert_eq!(words(&mut pump).await[0].len(), 300);
        queue.close(1000, "bye");
        assert_eq!(pump.next().await, Pumped::Closed(1000, "bye"));
    }
}

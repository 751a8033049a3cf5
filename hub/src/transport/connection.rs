//! One connection: what it holds, and the turn that moves bytes and messages both ways.
//!
//! The walk of a turn: work under way → the socket's bytes → events → the handler; then `output`: the send
//! queue → the socket; then `clock`. A turn that did anything is followed by another, so that nothing which
//! became possible is left without a waker. Never looks into a message.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::frame::{self, Codec, Event, Opcode, Step};
use super::unsent::Unsent;
use super::{Handler, Limits, Message, Turn};
use crate::sendq::{Notice, SendQueue};

/// Bytes of scratch space per thread and direction, and the most that one turn reads or gathers.
pub(super) const SCRATCH: usize = 64 * 1024;
/// Turns of one poll before other tasks get theirs.
const TURNS: usize = 4;
/// How long a close handshake may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

thread_local! {
    static READ_SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How far the connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// We close: our close frame is queued to be written, the peer's is waited for.
    Closing {
        until: Instant,
    },
    /// Nothing that the peer says matters any more. What is queued is written, the answers to what it
    /// had said before among it, and then our close frame.
    Ending {
        until: Instant,
    },
    /// Our close frame is under way; behind it our side of the stream is shut, and the peer's bytes are
    /// thrown away until it ends its own. To drop the stream with bytes unread would reset it, and the
    /// reset could overtake our close frame.
    Ended {
        until: Instant,
        shut: bool,
    },
}

pub(super) struct Connection<S, H> {
    pub(super) stream: S,
    codec: Codec,
    pub(super) limits: Arc<Limits>,
    pub(super) queue: Arc<SendQueue>,
    pub(super) turn: Option<Turn<H>>,
    pub(super) inbox: Vec<u8>,
    pub(super) unsent: Unsent,
    pub(super) phase: Phase,
    pub(super) heard: Instant,
    pub(super) said: Instant,
    pub(super) pinged: Instant,
    pub(super) blocked: Option<Instant>,
    /// Bytes were written that the stream may still hold: TLS does.
    pub(super) unflushed: bool,
    /// The handler's deadline that it was told of.
    pub(super) told: Option<Instant>,
    pub(super) alarm: Instant,
}

/// The connection is over.
pub(super) struct Gone;

pub(super) type Progress = Result<bool, Gone>;

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    pub(super) fn new(
        stream: S,
        early: Vec<u8>,
        limits: Arc<Limits>,
        queue: Arc<SendQueue>,
        handler: H,
    ) -> Self {
        let now = Instant::now();
        queue.note_came(early.len());
        Self {
            stream,
            codec: Codec::new(limits.message_bytes),
            limits,
            queue,
            turn: Some(Turn::Ready(handler)),
            inbox: early,
            unsent: Unsent::default(),
            phase: Phase::Open,
            heard: now,
            said: now,
            pinged: now,
            blocked: None,
            unflushed: false,
            told: None,
            alarm: now,
        }
    }

    /// Starts the handler; when the first alarm is due.
    pub(super) fn start(&mut self) -> Instant {
        if let Some(Turn::Ready(handler)) = self.turn.take() {
            self.turn = Some(handler.on_start());
        }
        self.alarm = self.heard + self.limits.ping_interval;
        self.alarm
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<()> {
        for _ in 0..TURNS {
            match self.turn_once(cx, sleep.as_mut()) {
                Err(Gone) => return Poll::Ready(()),
                Ok(false) => return Poll::Pending,
                Ok(true) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn_once(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Progress {
        let worked = self.poll_work(cx) | self.poll_urgent(cx);
        let read = self.poll_input(cx)?;
        let was_deaf = !self.listens();
        let wrote = self.poll_output(cx)?;
        let rang = self.poll_alarm(cx, sleep)?;
        // The socket was not asked for bytes, so it wakes nobody: once it may be, it must be.
        let hears = was_deaf && self.listens();
        Ok(worked || read || wrote || rang || hears)
    }

    /// Whether a further message of the peer would be taken in.
    fn listens(&self) -> bool {
        self.phase != Phase::Open || (self.is_ready() && self.queue.lets_in())
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Turn::Busy(work)) = self.turn.as_mut() else {
            return false;
        };
        match work.as_mut().poll(cx) {
            Poll::Pending => false,
            Poll::Ready(handler) => {
                self.turn = Some(Turn::Ready(handler));
                true
            }
        }
    }

    /// What comes before whatever the peer still asks for: rights that changed, time that ran out.
    fn poll_urgent(&mut self, cx: &mut Context<'_>) -> bool {
        if self.phase != Phase::Open || !self.is_ready() {
            return false;
        }
        if self.queue.take_recheck() {
            self.step(cx, |handler| handler.on_notice(Notice::Recheck));
            return true;
        }
        self.poll_deadline(cx, Instant::now())
    }

    /// Hands the handler on, polling new work once: most of it is done at once.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, act: impl FnOnce(H) -> Turn<H>) {
        match self.turn.take() {
            Some(Turn::Ready(handler)) => {
                self.turn = Some(act(handler));
                self.poll_work(cx);
            }
            other => self.turn = other,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.turn, Some(Turn::Ready(_)))
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Progress {
        if !self.listens() {
            return Ok(false);
        }
        if !self.inbox.is_empty() {
            let mut held = std::mem::take(&mut self.inbox);
            let used = self.parse(cx, &mut held);
            self.keep(held, used);
            if used > 0 {
                return Ok(true);
            }
        }
        let mut scratch = READ_SCRATCH.take();
        scratch.resize(SCRATCH, 0);
        let read = self.read_into(cx, &mut scratch);
        READ_SCRATCH.set(scratch);
        read
    }

    fn read_into(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Progress {
        let mut buf = ReadBuf::new(scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(_)) => return Err(Gone),
            Poll::Ready(Ok(())) => {}
        }
        let read = buf.filled().len();
        if read == 0 {
            return Err(Gone);
        }
        self.heard = Instant::now();
        self.queue.note_came(read);
        let bytes = &mut scratch[..read];
        if self.is_ending() {
            return Ok(true);
        }
        if self.inbox.is_empty() {
            let used = self.parse(cx, bytes);
            self.inbox.extend_from_slice(&bytes[used..]);
        } else {
            let mut held = std::mem::take(&mut self.inbox);
            held.extend_from_slice(bytes);
            let used = self.parse(cx, &mut held);
            self.keep(held, used);
        }
        Ok(true)
    }

    /// Keeps what was not used, and no more memory than that is worth.
    fn keep(&mut self, mut held: Vec<u8>, used: usize) {
        if used < held.len() {
            held.drain(..used);
            if held.capacity() > SCRATCH.max(4 * held.len()) {
                held.shrink_to_fit();
            }
            self.inbox = held;
        }
    }

    /// Takes whole frames off `bytes` for as long as the connection listens; how many bytes were used.
    fn parse(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        // The codec lends out its own buffer with an event, so it stands apart while one is handled.
        let mut codec = std::mem::replace(&mut self.codec, Codec::new(0));
        while self.listens() {
            match codec.next(&mut bytes[used..]) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event(event, taken)) => {
                    used += taken;
                    self.on_event(cx, event);
                }
                Err(violation) => {
                    let (code, reason) = violation.close();
                    tracing::debug!(code, reason, "peer broke the protocol");
                    self.end(code, reason);
                }
            }
            if self.is_ending() {
                used = bytes.len();
                break;
            }
        }
        codec.release();
        self.codec = codec;
        used
    }

    fn on_event(&mut self, cx: &mut Context<'_>, event: Event<'_>) {
        if self.phase != Phase::Open {
            // Whatever else still comes is of no interest to a closing connection.
            if let Event::Close(_) = event {
                self.end(1000, "");
            }
            return;
        }
        match event {
            Event::Text(text) => self.step(cx, |handler| handler.on_message(Message::Text(text))),
            Event::Binary(bytes) => {
                self.step(cx, |handler| handler.on_message(Message::Binary(bytes)));
            }
            Event::Ping(payload) => {
                self.queue.reply(frame::message(Opcode::Pong, payload));
            }
            Event::Close(code) => self.end(code.unwrap_or(1000), ""),
            Event::Part | Event::Pong => {}
        }
    }

    /// The peer has closed, or can't be listened to any more.
    fn end(&mut self, code: u16, reason: &'static str) {
        self.phase = match self.phase {
            Phase::Open => {
                self.turn = None;
                self.queue.close(code, reason);
                let until = Instant::now() + CLOSE_WAIT;
                Phase::Ending { until }
            }
            Phase::Closing { until } => Phase::Ended { until, shut: false },
            ending => ending,
        };
    }

    /// Everything queued has been taken: puts our close frame behind it.
    pub(super) fn say_close(&mut self, code: u16, reason: &str) {
        self.turn = None;
        frame::append_close(self.unsent.tail(), code, reason);
        self.phase = match self.phase {
            Phase::Ending { until } => Phase::Ended { until, shut: false },
            _ => Phase::Closing {
                until: Instant::now() + CLOSE_WAIT,
            },
        };
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. } | Phase::Ended { .. })
    }
}

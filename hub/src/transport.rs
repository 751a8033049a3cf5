//! RFC 6455 over a socket: one task per connection that owns its buffers.
//!
//! The flow of one connection: `upgrade` hands over the stream → [`run`] polls, in this order, the work
//! under way, the socket's bytes (through `frame`) into the [`Handler`], the send queue into the
//! socket, and one timer. While a handler's work is under way no further message is read: a session's
//! requests are served in order, and one that asks for more than it reads is made to wait.
//!
//! An idle connection holds no buffer: bytes are read into and written from scratch space of the
//! thread; only what is incomplete is kept. Never looks into a message, never knows a user.

pub mod frame;
pub mod upgrade;

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::sendq::{Frame, Notice, SendQueue, Taken};
use frame::{Codec, Event, Opcode, Step};
use protocol::CloseCode;

/// Bytes of scratch space per thread and direction, and the most that one turn reads or gathers.
const SCRATCH: usize = 64 * 1024;
/// Turns of one poll before other tasks get theirs.
const TURNS: usize = 4;
/// How long a close handshake may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

thread_local! {
    static READ_SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE_SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A whole message from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// A handler, or the work under way that gives it back.
pub enum Turn<H> {
    /// Ready for the next message.
    Ready(H),
    /// No message is read until this completes.
    Busy(Pin<Box<dyn Future<Output = H> + Send>>),
}

/// What a connection is for: a session, a Yjs socket, an echo. Dropping it ends whatever it holds.
pub trait Handler: Sized + Send + 'static {
    /// The connection is up.
    fn on_start(self) -> Turn<Self> {
        Turn::Ready(self)
    }
    /// A whole message came.
    fn on_message(self, message: Message<'_>) -> Turn<Self>;
    /// The send queue has something to be done.
    fn on_notice(self, notice: Notice) -> Turn<Self>;
    /// The deadline passed.
    fn on_deadline(self, now: Instant) -> Turn<Self>;
    /// When it wants to be called next, if at all.
    fn deadline(&self) -> Option<Instant>;
    /// A frame to send when the connection has been quiet for a ping interval, beside the ping: some
    /// clients count only data messages as a sign of life.
    fn keepalive(&self) -> Option<Frame> {
        None
    }
}

/// Limits and intervals of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest message, bytes.
    pub message_bytes: usize,
    /// A ping goes out when nothing came for this long; twice as long without a sign of life ends it.
    pub ping_interval: Duration,
    /// A peer that takes nothing for this long is cut off.
    pub write_timeout: Duration,
}

/// Serves one connection until it ends. `early` are bytes that came with the upgrade.
pub async fn run<S, H>(
    stream: S,
    early: Vec<u8>,
    limits: Arc<Limits>,
    queue: Arc<SendQueue>,
    handler: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let now = Instant::now();
    let mut connection = Connection {
        stream,
        codec: Codec::new(limits.message_bytes),
        limits,
        queue,
        turn: Some(handler.on_start()),
        inbox: early,
        unsent: Unsent::default(),
        phase: Phase::Open,
        heard: now,
        said: now,
        pinged: now,
        blocked: None,
        alarm: now,
    };
    let mut sleep = pin!(tokio::time::sleep_until(
        now + connection.limits.ping_interval
    ));
    connection.alarm = sleep.deadline();
    std::future::poll_fn(|cx| connection.poll(cx, sleep.as_mut())).await;
}

/// How far the connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Our close frame is queued to be written; then, unless the peer's came first, we wait for it.
    Closing {
        answered: bool,
        until: Instant,
    },
}

/// What the socket has not taken yet.
#[derive(Default)]
struct Unsent {
    /// Gathered bytes, from `at` on.
    bytes: Vec<u8>,
    /// A large frame that goes out by itself after `bytes`, from `at` on once those are gone.
    frame: Option<Frame>,
    at: usize,
}

struct Connection<S, H> {
    stream: S,
    codec: Codec,
    limits: Arc<Limits>,
    queue: Arc<SendQueue>,
    turn: Option<Turn<H>>,
    inbox: Vec<u8>,
    unsent: Unsent,
    phase: Phase,
    heard: Instant,
    said: Instant,
    pinged: Instant,
    blocked: Option<Instant>,
    alarm: Instant,
}

/// The connection is over.
struct Gone;

type Progress = Result<bool, Gone>;

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Connection<S, H> {
    fn poll(&mut self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<()> {
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
        let worked = self.poll_work(cx);
        let read = self.poll_input(cx)?;
        let wrote = self.poll_output(cx)?;
        let rang = self.poll_alarm(cx, sleep)?;
        Ok(worked || read || wrote || rang)
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

    /// Hands the handler on, polling new work once: most of it is done at once.
    fn step(&mut self, cx: &mut Context<'_>, act: impl FnOnce(H) -> Turn<H>) {
        match self.turn.take() {
            Some(Turn::Ready(handler)) => {
                self.turn = Some(act(handler));
                self.poll_work(cx);
            }
            other => self.turn = other,
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.turn, Some(Turn::Ready(_)))
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Progress {
        let open = self.phase == Phase::Open;
        if open && (!self.is_ready() || self.queue.is_full()) {
            return Ok(false);
        }
        if open && !self.inbox.is_empty() {
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
        let bytes = &mut scratch[..read];
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

    /// Keeps what was not used; an empty inbox holds no memory.
    fn keep(&mut self, mut held: Vec<u8>, used: usize) {
        if used < held.len() {
            held.drain(..used);
            self.inbox = held;
        }
    }

    /// Takes whole frames off `bytes` for as long as the handler is ready; how many bytes were used.
    fn parse(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        // The codec lends out its own buffer with an event, so it stands apart while one is handled.
        let mut codec = std::mem::replace(&mut self.codec, Codec::new(0));
        while self.phase != Phase::Open || self.is_ready() {
            match codec.next(&mut bytes[used..]) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event(event, taken)) => {
                    used += taken;
                    self.on_event(cx, event);
                }
                Err(violation) => {
                    let (code, reason) = violation.close();
                    if self.phase == Phase::Open {
                        tracing::debug!(code, reason, "peer broke the protocol");
                        self.start_close(code, reason, false);
                    }
                    used = bytes.len();
                    break;
                }
            }
            if matches!(self.phase, Phase::Closing { answered: true, .. }) {
                used = bytes.len();
                break;
            }
        }
        self.codec = codec;
        used
    }

    fn on_event(&mut self, cx: &mut Context<'_>, event: Event<'_>) {
        if let Phase::Closing { until, .. } = self.phase {
            // Whatever else still comes is of no interest to a closing connection.
            if let Event::Close(_) = event {
                self.phase = Phase::Closing {
                    answered: true,
                    until,
                };
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
            Event::Close(code) => self.start_close(code.unwrap_or(1000), "", true),
            Event::Part | Event::Pong => {}
        }
    }

    /// Puts our close frame behind what is unsent, and ends the handler.
    fn start_close(&mut self, code: u16, reason: &str, answered: bool) {
        self.turn = None;
        frame::append_close(&mut self.unsent.tail(), code, reason);
        self.phase = Phase::Closing {
            answered,
            until: Instant::now() + CLOSE_WAIT,
        };
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut progress = false;
        loop {
            if !self.unsent.is_empty() {
                if !self.poll_unsent(cx)? {
                    return Ok(progress);
                }
                progress = true;
                continue;
            }
            if let Phase::Closing { answered, .. } = self.phase {
                // Unless it came first, the peer's close frame, or its end, comes by reading.
                if answered && Pin::new(&mut self.stream).poll_shutdown(cx).is_ready() {
                    return Err(Gone);
                }
                return Ok(progress);
            }
            match self.gather(cx) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Taken::Frames) => {}
                Poll::Ready(Taken::Notice(notice)) => {
                    self.step(cx, |handler| handler.on_notice(notice));
                    progress = true;
                }
                Poll::Ready(Taken::Closed(code, reason)) => self.start_close(code, reason, false),
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
                self.blocked = None;
                self.said = Instant::now();
                Ok(true)
            }
            Poll::Pending => {
                if self.blocked.is_none() {
                    self.blocked = Some(Instant::now());
                }
                Ok(false)
            }
        }
    }

    /// A ping is due when one side has been quiet for an interval, but not more often than that.
    fn next_ping(&self) -> Instant {
        self.heard.min(self.said).max(self.pinged) + self.limits.ping_interval
    }

    /// The next time at which something is due.
    fn due(&self) -> Instant {
        let mut due = self.next_ping();
        if let Some(blocked) = self.blocked {
            due = due.min(blocked + self.limits.write_timeout);
        }
        match self.phase {
            Phase::Closing { until, .. } => due.min(until),
            Phase::Open => match &self.turn {
                Some(Turn::Ready(handler)) => handler.deadline().map_or(due, |at| due.min(at)),
                _ => due,
            },
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Progress {
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
        if let Phase::Closing { until, .. } = self.phase
            && now >= until
        {
            return Err(Gone);
        }
        if let Some(blocked) = self.blocked
            && now >= blocked + self.limits.write_timeout
        {
            return Err(Gone);
        }
        if self.phase != Phase::Open {
            return Ok(());
        }
        if let Some(Turn::Ready(handler)) = &self.turn
            && handler.deadline().is_some_and(|at| now >= at)
        {
            self.step(cx, |handler| handler.on_deadline(now));
        }
        let interval = self.limits.ping_interval;
        // While work is under way nothing is read, so silence says nothing of the peer.
        if self.is_ready() && now >= self.heard + 2 * interval && !self.queue.is_full() {
            self.queue.close_with(CloseCode::IdleTimeout);
            return Ok(());
        }
        if now >= self.next_ping() {
            self.pinged = now;
            self.queue.reply(frame::message(Opcode::Ping, b""));
            if let Some(Turn::Ready(handler)) = &self.turn
                && let Some(frame) = handler.keepalive()
            {
                self.queue.reply(frame);
            }
            self.queue.shrink();
        }
        Ok(())
    }
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.frame.is_none()
    }

    fn rest(&self) -> Option<&[u8]> {
        if !self.bytes.is_empty() {
            return Some(&self.bytes[self.at..]);
        }
        self.frame.as_deref().map(|frame| &frame[self.at..])
    }

    fn advance(&mut self, written: usize) {
        self.at += written;
        if !self.bytes.is_empty() {
            if self.at == self.bytes.len() {
                self.bytes = Vec::new();
                self.at = 0;
            }
        } else if self
            .frame
            .as_deref()
            .is_some_and(|frame| self.at == frame.len())
        {
            self.frame = None;
            self.at = 0;
        }
    }

    /// A buffer behind everything unsent.
    fn tail(&mut self) -> &mut Vec<u8> {
        if let Some(frame) = self.frame.take() {
            if self.bytes.is_empty() {
                self.bytes.extend_from_slice(&frame[self.at..]);
                self.at = 0;
            } else {
                self.bytes.extend_from_slice(&frame);
            }
        }
        &mut self.bytes
    }
}

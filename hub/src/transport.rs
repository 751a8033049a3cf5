//! RFC 6455 over a socket: one task per connection that owns its buffers.
//!
//! The flow of one connection: `upgrade` hands over the stream → [`run`] polls (`connection`), in this order, the work
//! under way, the socket's bytes (through `frame`) into the [`Handler`], the send queue into the
//! socket, and one timer. While a handler's work is under way no further message is read: a session's
//! requests are served in order, and one that asks for more than it reads is made to wait.
//!
//! An idle connection holds no buffer: bytes are read into and written from scratch space of the
//! thread; only what is incomplete is kept. Never looks into a message, never knows a user.

mod clock;
mod connection;
pub mod frame;
mod output;
pub mod pump;
mod unsent;
pub mod upgrade;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::sendq::{Frame, Notice, SendQueue};
use connection::Connection;

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
    /// The deadline passed. Called once for each: one that stays where it is has been told.
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
///
/// Not an `async fn`: that would keep room for its arguments beside the connection made of them.
pub fn run<S, H>(
    stream: S,
    early: Vec<u8>,
    limits: Arc<Limits>,
    queue: Arc<SendQueue>,
    handler: H,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let mut connection = Connection::new(stream, early, limits, queue, handler);
    async move {
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(connection.start()));
        std::future::poll_fn(|cx| connection.poll(cx, sleep.as_mut())).await;
    }
}

#[cfg(test)]
mod tests;

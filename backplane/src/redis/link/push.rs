//! What Redis sends unasked: from the connection's own task straight to the sink.
//!
//! No queue lies between, so that a slow sink slows the socket down instead of filling memory, and
//! whoever has a reply knows that everything sent before it was handed over.
//! The gate lets one thread through at a time, and nothing of a connection that was given up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio_util::sync::CancellationToken;

use super::LinkSink;

/// Whether a connection is over, and why. The first report counts.
#[derive(Default)]
pub(super) struct Fault {
    reason: OnceLock<String>,
    happened: CancellationToken,
}

impl Fault {
    pub(super) fn report(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            self.happened.cancel();
        }
    }

    pub(super) fn happened(&self) -> bool {
        self.happened.is_cancelled()
    }

    /// Waits for the end of the connection.
    pub(super) async fn wait(&self) -> &str {
        self.happened.cancelled().await;
        self.reason.get().map_or("", String::as_str)
    }
}

/// The sink, and which connection may reach it now.
pub(super) struct Gate {
    sink: Arc<dyn LinkSink>,
    /// The prefix with its colon.
    prefix: String,
    /// Number of the connection that may pass.
    open_for: Mutex<u64>,
}

impl Gate {
    pub(super) fn new(sink: Arc<dyn LinkSink>, prefix: &str) -> Self {
        Self {
            sink,
            prefix: format!("{prefix}:"),
            open_for: Mutex::new(0),
        }
    }

    /// Shuts out every connection so far; the number of the next one.
    pub(super) fn next(&self) -> u64 {
        let mut open_for = self.open_for.lock().unwrap_or_else(PoisonError::into_inner);
        *open_for += 1;
        *open_for
    }

    pub(super) fn connected(&self) {
        let _one_at_a_time = self.open_for.lock().unwrap_or_else(PoisonError::into_inner);
        self.sink.connected();
    }

    /// Shuts the connection out, then says so.
    pub(super) fn lost(&self) {
        let mut open_for = self.open_for.lock().unwrap_or_else(PoisonError::into_inner);
        *open_for += 1;
        self.sink.lost();
    }

    fn message(&self, number: u64, channel: &[u8], payload: Bytes) {
        let topic = channel
            .strip_prefix(self.prefix.as_bytes())
            .and_then(|topic| std::str::from_utf8(topic).ok());
        let Some(topic) = topic else { return };
        let open_for = self.open_for.lock().unwrap_or_else(PoisonError::into_inner);
        if *open_for == number {
            self.sink.message(topic, payload);
        }
    }
}

/// The pushes of one connection.
pub(super) struct Pushes {
    gate: Arc<Gate>,
    number: u64,
    pub(super) fault: Fault,
    /// Something arrived since the watchdog last looked.
    pub(super) heard: AtomicBool,
    /// Full names of the channels that this link is leaving: the server confirms each.
    leaving: Mutex<HashSet<String>>,
}

impl Pushes {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self {
            number: gate.next(),
            gate,
            fault: Fault::default(),
            heard: AtomicBool::new(false),
            leaving: Mutex::default(),
        }
    }

    /// Announces that the server will confirm the end of these subscriptions.
    pub(super) fn leaving(&self, channels: impl Iterator<Item = String>) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.extend(channels);
    }

    /// Takes what the connection received.
    pub(super) fn take(&self, push: PushInfo) {
        self.heard.store(true, Ordering::Relaxed);
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                    (data.next(), data.next())
                {
                    self.gate.message(self.number, &channel, payload.into());
                }
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => self.left(push.data.first()),
            PushKind::Disconnection => self.fault.report("the connection was closed"),
            _ => {}
        }
    }

    /// A cluster ends a subscription unasked when its slot moves away. The subscription must be made elsewhere, and
    /// the unasked message would be taken for some command's reply, so the connection is given up.
    fn left(&self, channel: Option<&Value>) {
        let Some(Value::BulkString(channel)) = channel else {
            return;
        };
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = std::str::from_utf8(channel).is_ok_and(|channel| leaving.remove(channel));
        if !asked {
            self.fault
                .report("the server ended a subscription by itself");
        }
    }
}

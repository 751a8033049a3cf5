//! One server with its subscribers and its publisher, and one timed run of messages through it.
//!
//! The same code drives the hub and the bare loop: only the frame that publishes differs. Checks
//! that every subscriber gets every message once and in order.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use protocol::{Blob, ClientFrame, DeliveryClass, ServerFrame};

use super::ledger::Ledger;
use super::probe::{Finder, HEAD, Probe};
use crate::bare;
use crate::client::{self, BINARY, Socket};
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::process;
use crate::report::{self, progress};
use crate::server::{Kind, Server};
use crate::session;

/// The channel that everybody follows.
const CHANNEL: &str = "room:demo/fanout";
/// Connections opened at a time: paced, as the server has one core.
const RAMP_WIDTH: usize = 2;
/// Nothing arriving for this long, with messages under way, ends the run.
const STALLED: Duration = Duration::from_secs(10);
/// For classes that may drop: what has not come after this long does not come.
const DROPPED: Duration = Duration::from_millis(300);
/// Longest wait for input before the clock is looked at again.
const WAIT: Duration = Duration::from_millis(2);

/// How messages are paced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As fast as the slowest subscriber takes them, with at most this many under way.
    Window(u64),
    /// This many per second.
    Rate(f64),
}

/// What one run found.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Messages that arrived, all subscribers together.
    pub(super) deliveries: u64,
    /// Messages published.
    pub(super) published: u64,
    /// Messages that a class which may drop has dropped.
    pub(super) dropped: u64,
    /// From the first publish to the last arrival.
    pub(super) seconds: f64,
    /// The server's share of its core, if its process is known.
    pub(super) server_cpu: Option<f64>,
    /// The load generator's share of its core.
    pub(super) generator_cpu: f64,
    /// From publish to arrival, microseconds.
    pub(super) latency: Histogram<u64>,
}

/// How to wrap a payload so that the server passes it on.
enum Wrap {
    Hub {
        class: DeliveryClass,
    },
    /// A message as the hub sends it, and where its payload starts: the bare loop copies it as it is.
    Bare {
        message: Vec<u8>,
        start: usize,
    },
}

/// A server under load.
pub(super) struct Arena {
    /// Which server.
    pub(super) kind: Kind,
    pid: Option<u32>,
    fleet: Fleet,
    wrap: Wrap,
    payload: Vec<u8>,
    clock: Instant,
    published: u64,
    inbox: Inbox,
}

/// What arrives.
struct Inbox {
    publisher: usize,
    ledger: Ledger,
    finder: Finder,
    latency: Histogram<u64>,
    acknowledged: u64,
    /// The subscriber whose input is being read, and when that began: one look at the clock serves
    /// all messages of one read.
    reading: (usize, u64),
    /// The last message that the first subscriber got.
    sample: Vec<u8>,
}

impl Arena {
    /// Connects subscribers and a publisher to a hub.
    pub(super) fn hub(
        server: &Server,
        token: &str,
        subscribers: usize,
        bytes: usize,
        class: DeliveryClass,
    ) -> Result<Self> {
        let bar = progress(subscribers as u64, server.kind.label());
        let mut sockets = session::ramp(subscribers, RAMP_WIDTH, &bar, |_| {
            session::subscribe(server.address, token, CHANNEL)
        })?;
        sockets.push(session::connect(server.address, token)?);
        bar.finish_and_clear();
        Self::new(server.kind, server.pid, sockets, bytes, Wrap::Hub { class })
    }

    /// Connects to a bare loop at an address, to have it copy messages of the size and shape of `message`.
    pub(super) fn bare(
        kind: Kind,
        (address, pid): (std::net::SocketAddr, Option<u32>),
        subscribers: usize,
        bytes: usize,
        message: Vec<u8>,
    ) -> Result<Self> {
        let mut finder = Finder::default();
        if finder.find(&message).is_none() {
            return Err(Error::Protocol(
                "a message without the payload that was published".into(),
            ));
        }
        let start = message.len() - finder.distance();
        let bar = progress(subscribers as u64, kind.label());
        let mut sockets = session::ramp(subscribers, RAMP_WIDTH, &bar, |_| {
            Socket::connect(address, "/sub", &[])
        })?;
        sockets.push(Socket::connect(address, bare::PUBLISHER_PATH, &[])?);
        bar.finish_and_clear();
        Self::new(kind, pid, sockets, bytes, Wrap::Bare { message, start })
    }

    fn new(
        kind: Kind,
        pid: Option<u32>,
        sockets: Vec<Socket>,
        bytes: usize,
        wrap: Wrap,
    ) -> Result<Self> {
        let publisher = sockets.len() - 1;
        let gaps_allowed = !matches!(
            wrap,
            Wrap::Bare { .. }
                | Wrap::Hub {
                    class: DeliveryClass::Reliable
                }
        );
        Ok(Self {
            kind,
            pid,
            fleet: Fleet::new(sockets)?,
            wrap,
            payload: vec![b'.'; bytes.max(HEAD)],
            clock: Instant::now(),
            published: 0,
            inbox: Inbox {
                publisher,
                ledger: Ledger::new(publisher, gaps_allowed),
                finder: Finder::default(),
                latency: report::histogram(),
                acknowledged: 0,
                reading: (usize::MAX, 0),
                sample: Vec::new(),
            },
        })
    }

    /// A message as subscribers get it, once a run has been made.
    pub(super) fn sample(&self) -> Vec<u8> {
        self.inbox.sample.clone()
    }

    /// Publishes for `length`, then waits until everything has arrived.
    pub(super) fn run(&mut self, pace: Pace, length: Duration) -> Result<Outcome> {
        let own = std::process::id();
        let cpu = |pid: Option<u32>| pid.map(process::cpu_time).transpose();
        let (server_before, own_before) = (cpu(self.pid)?, process::cpu_time(own)?);
        let (first, delivered, dropped) = (
            self.published,
            self.inbox.ledger.deliveries(),
            self.inbox.ledger.missing(),
        );
        self.inbox.latency.reset();
        let started = Instant::now();
        let mut moved = (started, self.inbox.ledger.deliveries());
        loop {
            let now = Instant::now();
            let elapsed = now - started;
            if elapsed < length {
                let due = self.due(pace, elapsed, first);
                self.publish(due)?;
            } else if self.is_done() {
                break;
            }
            self.inbox.reading.0 = usize::MAX;
            self.fleet.poll(WAIT, |index, message| {
                self.inbox.take(index, message, self.clock)
            })?;
            let deliveries = self.inbox.ledger.deliveries();
            if deliveries != moved.1 || self.is_done() {
                moved = (Instant::now(), deliveries);
            } else {
                self.when_still(moved.0.elapsed())?;
            }
        }
        let wall = started.elapsed();
        let share = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() / wall.as_secs_f64()
        };
        let server_cpu = server_before
            .zip(cpu(self.pid)?)
            .map(|(before, after)| share(before, after));
        Ok(Outcome {
            deliveries: self.inbox.ledger.deliveries() - delivered,
            published: self.published - first,
            dropped: self.inbox.ledger.missing() - dropped,
            seconds: wall.as_secs_f64(),
            server_cpu,
            generator_cpu: share(own_before, process::cpu_time(own)?),
            latency: self.inbox.latency.clone(),
        })
    }

    /// How many messages to publish now.
    fn due(&self, pace: Pace, elapsed: Duration, first: u64) -> u64 {
        match pace {
            Pace::Window(window) => {
                let under_way = self.published - self.inbox.ledger.lowest();
                window.saturating_sub(under_way)
            }
            Pace::Rate(rate) => {
                let total = (elapsed.as_secs_f64() * rate) as u64 + 1;
                total.saturating_sub(self.published - first)
            }
        }
    }

    fn is_done(&self) -> bool {
        let acknowledged = match self.wrap {
            Wrap::Hub { .. } => self.inbox.acknowledged == self.published,
            Wrap::Bare { .. } => true,
        };
        acknowledged && self.inbox.ledger.lowest() == self.published
    }

    fn publish(&mut self, count: u64) -> Result<()> {
        let mut frames = Vec::new();
        for _ in 0..count {
            self.published += 1;
            let probe = Probe {
                number: self.published,
                micros: self.clock.elapsed().as_micros() as u64,
            };
            match &mut self.wrap {
                Wrap::Hub { class } => {
                    probe.write(&mut self.payload);
                    let frame = publish_frame(self.published, &self.payload, *class);
                    client::encode_masked(BINARY, &session::encode(&frame), &mut frames);
                }
                Wrap::Bare { message, start } => {
                    probe.write(&mut message[*start..]);
                    client::encode_masked(BINARY, message, &mut frames);
                }
            }
        }
        if frames.is_empty() {
            return Ok(());
        }
        self.fleet.send(self.inbox.publisher, &frames)
    }

    /// Nothing has arrived for a while although something is under way.
    fn when_still(&mut self, still: Duration) -> Result<()> {
        let lossy = !matches!(
            self.wrap,
            Wrap::Bare { .. }
                | Wrap::Hub {
                    class: DeliveryClass::Reliable
                }
        );
        if lossy && still > DROPPED && self.inbox.acknowledged == self.published {
            self.inbox.ledger.forgive(self.published);
            return Ok(());
        }
        if still < STALLED {
            return Ok(());
        }
        Err(Error::Verdict(format!(
            "the {} stands still: {} published, {} acknowledged, subscriber {:?} got only {}",
            self.kind.label(),
            self.published,
            self.inbox.acknowledged,
            self.inbox.ledger.slowest(),
            self.inbox.ledger.lowest(),
        )))
    }
}

fn publish_frame(number: u64, payload: &[u8], class: DeliveryClass) -> ClientFrame {
    ClientFrame::Publish {
        id: number as u32,
        channel: CHANNEL.to_owned(),
        data: None,
        bytes: Some(Blob::from(payload.to_vec())),
        class: Some(class),
        key: (class == DeliveryClass::Latest).then(|| "fanout".to_owned()),
        idempotency_key: None,
    }
}

impl Inbox {
    fn take(&mut self, index: usize, message: &[u8], clock: Instant) -> Result<()> {
        if index == self.publisher {
            return self.take_answer(message);
        }
        let Some(probe) = self.finder.find(message) else {
            return match session::decode(message)? {
                ServerFrame::Reset { reason, .. } => Err(Error::Verdict(format!(
                    "subscriber {index} was told reset ({reason:?}): messages were lost to it"
                ))),
                ServerFrame::Error { code, message, .. } => Err(Error::Refused {
                    what: "following a channel".into(),
                    answer: format!("{}: {message}", code.as_str()),
                }),
                _ => Ok(()),
            };
        };
        self.ledger
            .take(index, probe.number)
            .map_err(|e| Error::Verdict(e.to_string()))?;
        if self.reading.0 != index {
            self.reading = (index, clock.elapsed().as_micros() as u64);
        }
        let micros = self.reading.1.saturating_sub(probe.micros);
        self.latency.saturating_record(micros.max(1));
        if index == 0 {
            self.sample.clear();
            self.sample.extend_from_slice(message);
        }
        Ok(())
    }

    fn take_answer(&mut self, message: &[u8]) -> Result<()> {
        match session::decode(message)? {
            ServerFrame::Ack { .. } => self.acknowledged += 1,
            ServerFrame::Error { code, message, .. } => {
                return Err(Error::Refused {
                    what: "publishing".into(),
                    answer: format!("{}: {message}", code.as_str()),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

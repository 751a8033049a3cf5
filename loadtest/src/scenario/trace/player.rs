//! One participant's connection: carries its edits out and the others' in, and takes the times.
//!
//! A task of its own reads the socket, so that the server never waits for a client that writes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use crate::error::{Error, Result};
use crate::report;
use crate::rest::Rest;
use crate::trace::Participant;
use crate::trace::link::{Incoming, Link};

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Most updates of one client that are not acknowledged.
const IN_FLIGHT: usize = 512;
/// Edits made before the input is looked at again.
const BURST: usize = 32;
/// Nothing happening for this long ends the replay.
const STALLED: Duration = Duration::from_secs(30);
/// How long joining the document may take.
const JOIN: Duration = Duration::from_secs(20);
/// Longest nap before looking closer at what has arrived.
const NAP: Duration = Duration::from_millis(50);

/// When transactions are due.
pub(super) struct Pacing {
    /// Milliseconds after the start, by transaction; none to go as fast as possible.
    pub(super) due: Option<Vec<f64>>,
    /// The start.
    pub(super) start: Instant,
}

/// See the module.
pub(super) struct Player {
    /// Which participant it is.
    pub(super) number: usize,
    link: Link,
    rest: Rest,
    participant: Participant,
    sink: SplitSink<WebSocket, Message>,
    incoming: mpsc::UnboundedReceiver<Result<Incoming>>,
    joined: bool,
    /// What was sent and is to be acknowledged, oldest first; no time for what is no edit.
    unacknowledged: VecDeque<Option<Instant>>,
    acknowledged: u64,
    /// From edit to remote apply, microseconds.
    pub(super) applied: Histogram<u64>,
    /// From edit to durable acknowledgement, microseconds.
    pub(super) durable: Histogram<u64>,
}

impl Player {
    /// Connects and joins the document.
    pub(super) async fn join(
        number: usize,
        base: &str,
        link: Link,
        rest: Rest,
        participant: Participant,
    ) -> Result<Self> {
        let url = format!("{}{}", base.replacen("http", "ws", 1), link.path());
        let mut request = url.into_client_request()?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", rest.token()))
            .map_err(|e| Error::Protocol(format!("the token is odd: {e}")))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        if let Some(subprotocol) = link.subprotocol() {
            let value = HeaderValue::from_static(subprotocol);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let (socket, _) = connect_async_with_config(request, None, true).await?;
        let (sink, stream) = socket.split();
        let (tell, incoming) = mpsc::unbounded_channel();
        tokio::spawn(read(stream, link.clone(), tell));
        let mut player = Self {
            number,
            link,
            rest,
            participant,
            sink,
            incoming,
            joined: false,
            unacknowledged: VecDeque::new(),
            acknowledged: 0,
            applied: report::histogram(),
            durable: report::histogram(),
        };
        for frame in player.link.hello(player.rest.token()) {
            player.sink.send(Message::binary(frame)).await?;
        }
        tokio::time::timeout(JOIN, player.wait_for_sync())
            .await
            .map_err(|_| player.error("got no sync in time"))??;
        Ok(player)
    }

    async fn wait_for_sync(&mut self) -> Result<()> {
        while !self.joined {
            let came = self.incoming.recv().await;
            self.take(came).await?;
        }
        Ok(())
    }

    /// Plays its part until everything has arrived and is acknowledged.
    pub(super) async fn play(mut self, pacing: &Pacing, bar: &ProgressBar) -> Result<Self> {
        let mut moved = Instant::now();
        loop {
            let mut active = false;
            while let Ok(came) = self.incoming.try_recv() {
                self.take(Some(came)).await?;
                active = true;
            }
            if self.edit(pacing, bar).await? > 0 {
                active = true;
            } else if self.participant.is_complete() && self.is_acknowledged() {
                return Ok(self);
            }
            if active {
                moved = Instant::now();
                // Turns are short, so that several players share a core fairly.
                tokio::task::yield_now().await;
                continue;
            }
            let nap = self.until_due(pacing);
            if nap > Duration::ZERO && self.participant.next().is_some() && !self.is_blocked() {
                // Waiting for the clock is no standstill.
                moved = Instant::now();
            }
            if moved.elapsed() > STALLED {
                let waits = self.participant.waits_for();
                let open = self.unacknowledged.len();
                return Err(self.error(&format!(
                    "stands still: waits for {waits}; {open} of its updates are not acknowledged"
                )));
            }
            let nap = nap.clamp(Duration::from_millis(1), NAP);
            match tokio::time::timeout(nap, self.incoming.recv()).await {
                Ok(came) => {
                    self.take(came).await?;
                    moved = Instant::now();
                }
                Err(_) => {
                    // Whoever repeats others' deletions is told to nobody: no time to take.
                    self.participant.look_closer()?;
                }
            }
        }
    }

    /// Makes and sends what can be made now; returns how much that was.
    async fn edit(&mut self, pacing: &Pacing, bar: &ProgressBar) -> Result<usize> {
        let now = pacing.start.elapsed().as_secs_f64() * 1000.0;
        let is_due = |index: u32| match &pacing.due {
            Some(due) => due[index as usize] <= now,
            None => true,
        };
        let mut made = 0;
        while made < BURST && !self.is_blocked() {
            let Some(edit) = self.participant.produce(is_due)? else {
                break;
            };
            if let Some(update) = edit.update {
                self.sent(Some(Instant::now()));
                let frame = self.link.update(&update);
                self.sink.feed(Message::binary(frame)).await?;
            }
            made += 1;
        }
        if made > 0 {
            self.sink.flush().await?;
            bar.inc(made as u64);
        }
        Ok(made)
    }

    fn is_blocked(&self) -> bool {
        self.unacknowledged.len() >= IN_FLIGHT
    }

    fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    fn sent(&mut self, edit: Option<Instant>) {
        if self.link.acknowledges() {
            self.unacknowledged.push_back(edit);
        }
    }

    fn until_due(&self, pacing: &Pacing) -> Duration {
        let (Some(due), Some(next)) = (&pacing.due, self.participant.next()) else {
            return Duration::ZERO;
        };
        let wait = due[next as usize] - pacing.start.elapsed().as_secs_f64() * 1000.0;
        Duration::from_secs_f64(wait.max(0.0) / 1000.0)
    }

    async fn take(&mut self, came: Option<Result<Incoming>>) -> Result<()> {
        let came = came.ok_or_else(|| self.error("lost its connection"))?;
        match came.map_err(|e| self.error(&e.to_string()))? {
            Incoming::Sync(update) => {
                self.joined = true;
                self.apply(&update)?;
            }
            Incoming::Update(update) => self.apply(&update)?,
            Incoming::Durable(count) => {
                while self.acknowledged < count {
                    self.acknowledge()?;
                }
            }
            Incoming::Saved => self.acknowledge()?,
            Incoming::State(state) => {
                let beyond = self.participant.beyond(&state)?;
                if let Some(frame) = self.link.answer_state(&beyond) {
                    self.sent(None);
                    self.sink.send(Message::binary(frame)).await?;
                }
            }
            Incoming::TokenWanted => {
                let token = self.rest.fresh_token().await?;
                let frame = self.link.token(&token);
                self.sink.send(Message::binary(frame)).await?;
            }
            Incoming::Denied(reason) => return Err(self.error(&format!("was refused: {reason}"))),
            Incoming::Other => {}
        }
        Ok(())
    }

    fn apply(&mut self, update: &[u8]) -> Result<()> {
        for made in self.participant.receive(update)? {
            self.applied.saturating_record(micros(made));
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<()> {
        let Some(edit) = self.unacknowledged.pop_front() else {
            return Err(self.error("got an acknowledgement of what it never sent"));
        };
        self.acknowledged += 1;
        if let Some(made) = edit {
            self.durable.saturating_record(micros(made));
        }
        Ok(())
    }

    /// The text that it ended with.
    pub(super) fn text(&self) -> String {
        self.participant.text()
    }

    fn error(&self, what: &str) -> Error {
        Error::Verdict(format!("client {} {what}", self.number))
    }
}

fn micros(since: Instant) -> u64 {
    (since.elapsed().as_micros() as u64).max(1)
}

/// Reads messages until the connection ends, and hands over what they say.
async fn read(
    mut stream: SplitStream<WebSocket>,
    link: Link,
    tell: mpsc::UnboundedSender<Result<Incoming>>,
) {
    while let Some(message) = stream.next().await {
        let came = match message {
            Ok(Message::Binary(bytes)) => link.read(&bytes),
            Ok(Message::Close(frame)) => Err(Error::Protocol(match frame {
                Some(frame) => format!(
                    "closed by the server: {} {}",
                    u16::from(frame.code),
                    frame.reason
                ),
                None => "closed by the server without a code".to_owned(),
            })),
            Ok(_) => continue,
            Err(e) => Err(e.into()),
        };
        let ends = came.is_err();
        if tell.send(came).is_err() || ends {
            return;
        }
    }
}

//! One watcher: a session that follows the plans it is told of, and when each token came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use loadtest::llm::Llm;
use protocol::{ClientFrame, ServerFrame};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::Ledger;
use crate::cluster::wire::Wire;
use crate::error::{Error, Result};
use crate::report::histogram;

/// A plan to watch.
pub(super) struct Watch {
    /// Its channel.
    pub(super) channel: String,
    /// Hears of its end.
    pub(super) over: oneshot::Sender<()>,
}

/// What a watcher has seen.
pub(super) struct Watcher {
    llm: Arc<Llm>,
    /// From a token's writing to its arrival, microseconds.
    pub(super) times: Histogram<u64>,
    /// Messages that showed a step under way.
    pub(super) messages: u64,
    /// By channel.
    pub(super) ledgers: BTreeMap<String, Ledger>,
    waiting: BTreeMap<String, oneshot::Sender<()>>,
    requests: u32,
}

impl Watcher {
    pub(super) fn new(llm: Arc<Llm>) -> Self {
        Self {
            llm,
            times: histogram(),
            messages: 0,
            ledgers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Watches until there is nobody who names plans.
    pub(super) async fn run(
        mut self,
        mut wire: Wire,
        mut told: mpsc::Receiver<Watch>,
    ) -> Result<Self> {
        loop {
            tokio::select! {
                watch = told.recv() => match watch {
                    Some(watch) => self.follow(&mut wire, watch).await?,
                    None => return Ok(self),
                },
                frame = wire.frame() => {
                    let came = Instant::now();
                    if let Some(request) = self.take(frame?, came)? {
                        wire.request(&request).await?;
                    }
                }
            }
        }
    }

    fn request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }

    async fn follow(&mut self, wire: &mut Wire, watch: Watch) -> Result<()> {
        let subscribe = ClientFrame::Subscribe {
            id: self.request(),
            channel: watch.channel.clone(),
            position: None,
            presence: false,
        };
        self.ledgers
            .insert(watch.channel.clone(), Ledger::default());
        self.waiting.insert(watch.channel, watch.over);
        wire.request(&subscribe).await
    }

    /// Takes in a frame; what is to be asked because of it.
    fn take(&mut self, frame: ServerFrame, came: Instant) -> Result<Option<ClientFrame>> {
        match frame {
            ServerFrame::Subscribed {
                channel, offset, ..
            } => {
                let id = self.request();
                if let Some(ledger) = self.ledgers.get_mut(&channel) {
                    ledger.subscribed(offset);
                }
                // The worker may have begun before anybody could watch.
                return Ok(Some(ClientFrame::History {
                    id,
                    channel,
                    since: None,
                    limit: None,
                }));
            }
            ServerFrame::History {
                channel,
                messages,
                more,
                ..
            } => {
                if let Some(ledger) = self.ledgers.get_mut(&channel) {
                    for message in messages {
                        ledger.before(message.offset, message.data.unwrap_or_default());
                    }
                    ledger.caught_up(more);
                }
                self.maybe_over(&channel);
            }
            ServerFrame::Message {
                channel,
                offset,
                key,
                data,
                ..
            } => self.message(
                &channel,
                offset,
                key.as_deref(),
                data.unwrap_or_default(),
                came,
            ),
            ServerFrame::Reset { channel, .. } => {
                if let Some(ledger) = self.ledgers.get_mut(&channel) {
                    ledger.fault("a reset: something was lost");
                }
            }
            ServerFrame::Error { code, message, .. } => {
                return Err(Error::Refused {
                    what: "watching a plan".to_owned(),
                    answer: format!("{}: {message}", code.as_str()),
                });
            }
            _ => {}
        }
        Ok(None)
    }

    fn message(
        &mut self,
        channel: &str,
        offset: Option<u64>,
        key: Option<&str>,
        data: Value,
        came: Instant,
    ) {
        let Some(ledger) = self.ledgers.get_mut(channel) else {
            return;
        };
        if let Some(offset) = offset {
            ledger.live(offset, data);
            self.maybe_over(channel);
            return;
        }
        if !key.is_some_and(|key| key.starts_with("step:")) {
            return;
        }
        self.messages += 1;
        for mark in ledger.marks(data["detail"].as_str().unwrap_or_default()) {
            if let Some(written) = self.llm.written(mark) {
                let micros = came.saturating_duration_since(written).as_micros() as u64;
                self.times.saturating_record(micros);
            }
        }
    }

    fn maybe_over(&mut self, channel: &str) {
        if self.ledgers.get(channel).is_some_and(Ledger::is_over)
            && let Some(over) = self.waiting.remove(channel)
        {
            // Who asked may have given up.
            let _ = over.send(());
        }
    }
}

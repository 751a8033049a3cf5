//! A session without a socket, as events with the cursor behind each.
//!
//! Owns how frames move the cursor. A value of class `latest` moves it only once everything that waited with it
//! has been told: values of several keys are not told in the order of their versions.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{CloseCode, Position};
use serde::Deserialize;
use serde_json::json;

use super::cursor::Cursor;
use super::{Asked, CURSOR_BYTES, too_many};
use crate::app::App;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::sendq::Frame;
use crate::session::{Session, handshake};
use crate::transport::frame::payloads;
use crate::transport::pump::{Pump, Pumped};

/// One frame on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The frame.
    pub(super) json: String,
    /// Where the client stands once it has this one, if that is elsewhere than before.
    pub(super) cursor: Option<String>,
    /// When to come back, if the node sends its clients away.
    pub(super) retry_ms: Option<u64>,
    /// It is something that was waited for, rather than an answer to what was asked.
    pub(super) matters: bool,
}

/// What a line gives.
pub(super) enum Heard {
    /// Events, in order.
    Events(Vec<Event>),
    /// The end, and why.
    Closed(Event),
}

/// A session without a socket, and where its client stands.
pub(super) struct Line {
    pump: Pump<Session>,
    cursor: Cursor,
    /// Where the client stood at the beginning.
    before: Cursor,
    /// The newest version of each channel that is told and not yet in the cursor.
    told: BTreeMap<String, u64>,
    /// Documents that nothing has come of yet.
    silent: BTreeSet<String>,
}

/// What of a frame moves the cursor.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    epoch: Option<Cow<'a, str>>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    recovered: Option<bool>,
    #[serde(default)]
    position: Option<Position>,
    #[serde(borrow, default)]
    doc: Option<Cow<'a, str>>,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    after_ms: Option<u64>,
}

impl Line {
    /// Follows what was asked for.
    ///
    /// # Errors
    /// As [`Session::follow`]; the node is full; the cursor would grow too long.
    pub(super) async fn open(
        app: &Arc<App>,
        who: Principal,
        asked: Asked,
    ) -> Result<Self, ApiError> {
        let services = &app.sessions;
        let queue = handshake::send_queue(services);
        let place = app
            .connections
            .admit(&queue, Some(protocol::Encoding::Json))?;
        let Asked {
            channels,
            documents,
            cursor,
        } = asked;
        let session = Session::follow(
            Arc::clone(services),
            Arc::clone(&queue),
            place,
            who,
            &channels,
            &documents,
        );
        let session = session.await?;
        // As long as it will get: each channel has an epoch, each document a sequence.
        let mut longest = cursor.clone();
        for one in &channels {
            longest.start(&one.channel, &"x".repeat(24), u64::from(u32::MAX));
            longest.reach_version(&one.channel, u64::MAX);
        }
        for one in &documents {
            longest.reach_seq(&one.document, u64::from(u32::MAX));
        }
        if longest.encode().len() > CURSOR_BYTES {
            return Err(too_many());
        }
        Ok(Self {
            pump: Pump::new(session, queue),
            before: cursor.clone(),
            cursor,
            told: BTreeMap::new(),
            silent: documents.into_iter().map(|one| one.document).collect(),
        })
    }

    /// Whether a document's state is still to come, which it is at once where the client has nothing of it.
    pub(super) fn owes_state(&self) -> bool {
        let mut silent = self.silent.iter();
        silent.any(|document| self.before.seq(document).is_none())
    }

    /// Whether nothing was heard yet of a document, of which there may be nothing new.
    pub(super) fn is_reading(&self) -> bool {
        !self.silent.is_empty()
    }

    /// The next events; waits for them. A call may be dropped at any time.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            match self.pump.next().await {
                Pumped::Frames { frames, drained } => {
                    let events = self.events(&frames, drained);
                    if !events.is_empty() {
                        return Heard::Events(events);
                    }
                }
                Pumped::Closed(code, reason) => return Heard::Closed(self.closed(code, reason)),
            }
        }
    }

    /// Where the client stands now.
    pub(super) fn cursor(&self) -> String {
        self.cursor.encode()
    }

    fn events(&mut self, frames: &[Frame], drained: bool) -> Vec<Event> {
        let payloads = frames.iter().flat_map(|frame| payloads(frame));
        let texts = payloads.filter_map(|payload| std::str::from_utf8(payload).ok());
        let mut events: Vec<Event> = texts.filter_map(|json| self.event(json)).collect();
        if drained && !self.told.is_empty() {
            for (channel, version) in std::mem::take(&mut self.told) {
                self.cursor.reach_version(&channel, version);
            }
            if let Some(last) = events.last_mut() {
                last.cursor = Some(self.cursor.encode());
            }
        }
        events
    }

    /// A frame as an event; `None` for one that its client has already.
    fn event(&mut self, json: &str) -> Option<Event> {
        let head: Head<'_> = serde_json::from_str(json).ok()?;
        let (moves, matters) = match (&*head.kind, &head.channel, &head.doc) {
            ("subscribed", Some(channel), _) => {
                let epoch = head.epoch.as_deref().unwrap_or_default();
                self.cursor.start(channel, epoch, head.offset.unwrap_or(0));
                (true, head.recovered != Some(true))
            }
            ("message", Some(channel), _) => match (head.offset, head.version) {
                (Some(offset), _) => {
                    self.cursor.reach(channel, offset);
                    (true, true)
                }
                (None, Some(version)) => {
                    if self.has_seen(channel, version) {
                        return None;
                    }
                    let told = self.told.entry(channel.to_string()).or_default();
                    *told = version.max(*told);
                    (false, true)
                }
                (None, None) => (false, true),
            },
            ("reset", Some(channel), _) => {
                // Versions of the epoch before say nothing of this one.
                self.told.remove(&**channel);
                if let Some(position) = &head.position {
                    self.cursor.start(channel, &position.epoch, position.offset);
                }
                (true, true)
            }
            ("revoked", Some(channel), _) => {
                self.cursor.forget(channel);
                (true, true)
            }
            ("doc", _, Some(document)) => {
                self.silent.remove(&**document);
                if let Some(seq) = head.n {
                    self.cursor.reach_seq(document, seq);
                }
                (head.n.is_some(), true)
            }
            ("connected" | "expiring", ..) => (false, false),
            _ => (false, true),
        };
        Some(Event {
            json: json.to_owned(),
            cursor: moves.then(|| self.cursor.encode()),
            retry_ms: head.after_ms,
            matters,
        })
    }

    /// Whether the client had that value, or a newer one, before this line began.
    fn has_seen(&self, channel: &str, version: u64) -> bool {
        let same = |cursor: &Cursor| cursor.position(channel).map(|position| position.epoch);
        same(&self.before) == same(&self.cursor) && version <= self.before.version(channel)
    }

    fn closed(&self, code: u16, reason: &str) -> Event {
        let again = |close: &&CloseCode| close.code() == code && close.should_reconnect();
        let reconnect = CloseCode::ALL.iter().any(|close| again(&close));
        let frame =
            json!({ "type": "closed", "code": code, "reason": reason, "reconnect": reconnect });
        Event {
            json: frame.to_string(),
            cursor: Some(self.cursor.encode()),
            retry_ms: None,
            matters: true,
        }
    }
}

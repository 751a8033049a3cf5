//! The client of the events: a session that follows every subject and comes back whenever its hub goes.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use protocol::{ClientFrame, Position, ServerFrame};
use tokio::time::Instant;

use super::{KIND, SILENCE};
use crate::cluster::World;
use crate::cluster::wire::{Login, Wire};
use crate::error::{Error, Result};

/// A subscriber of all the subjects' channels that comes back whenever its hub goes.
pub(super) struct Client {
    login: Login,
    wire: Option<Wire>,
    hub: usize,
    /// What it follows, and where it is in each.
    channels: BTreeMap<String, Option<Position>>,
    /// Events seen.
    pub(super) ids: HashSet<String>,
    /// Events seen again.
    pub(super) twice: u64,
    /// How often it was told that something was lost to it.
    pub(super) resets: u64,
    /// When the broker took the first and the last one, milliseconds since the Unix epoch.
    pub(super) first: u64,
    /// See `first`.
    pub(super) last: u64,
}

impl Client {
    pub(super) fn new(login: Login, channels: Vec<String>) -> Self {
        Self {
            login,
            wire: None,
            hub: 0,
            channels: channels.into_iter().map(|name| (name, None)).collect(),
            ids: HashSet::new(),
            twice: 0,
            resets: 0,
            first: u64::MAX,
            last: 0,
        }
    }

    /// Takes in the next frame; comes back at the next hub if this one has gone.
    pub(super) async fn hear(&mut self, world: &World) -> Result<()> {
        let Some(wire) = &mut self.wire else {
            return self.come_back(world).await;
        };
        match tokio::time::timeout(SILENCE, wire.frame()).await {
            Ok(Ok(frame)) => self.take(frame),
            Ok(Err(_)) => self.wire = None,
            Err(_) => {
                return Err(Error::Verdict(format!(
                    "nothing arrived for {SILENCE:?}; {} had",
                    self.ids.len()
                )));
            }
        }
        Ok(())
    }

    async fn come_back(&mut self, world: &World) -> Result<()> {
        let since = Instant::now();
        while self.wire.is_none() {
            self.hub += 1;
            if let Err(error) = self.follow(world, self.hub).await {
                if since.elapsed() > SILENCE {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Asks a hub for every channel, from where it was; the replies come among the messages.
    async fn follow(&mut self, world: &World, hub: usize) -> Result<()> {
        let addresses = world.addresses();
        let address = addresses[hub % addresses.len()];
        let token = self.login.token(address).await?;
        let mut wire = Wire::session(address, &token).await?;
        for (number, (channel, position)) in self.channels.iter().enumerate() {
            let subscribe = ClientFrame::Subscribe {
                id: number as u32 + 1,
                channel: channel.clone(),
                position: position.clone(),
                presence: false,
            };
            wire.request(&subscribe).await?;
        }
        self.hub = hub;
        self.wire = Some(wire);
        Ok(())
    }

    /// Waits until it has been let in everywhere once.
    pub(super) async fn let_in(&mut self, world: &World) -> Result<()> {
        while self.channels.values().any(Option::is_none) {
            self.hear(world).await?;
        }
        Ok(())
    }

    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message {
                channel,
                offset: Some(offset),
                event: Some(event),
                data,
                time,
                ..
            } => {
                if let Some(Some(position)) = self.channels.get_mut(&channel) {
                    position.offset = offset;
                }
                // Documents have events of their own: that they were made.
                if data.is_none_or(|data| data["type"] != KIND) {
                    return;
                }
                self.first = self.first.min(time);
                self.last = self.last.max(time);
                self.twice += u64::from(!self.ids.insert(event));
            }
            ServerFrame::Subscribed {
                channel,
                epoch,
                offset,
                reset,
                ..
            } => {
                self.resets += u64::from(reset.is_some());
                self.channels
                    .insert(channel, Some(Position { epoch, offset }));
            }
            ServerFrame::Reset {
                channel, position, ..
            } => {
                self.resets += 1;
                self.channels.insert(channel, Some(position));
            }
            // It can't be served here now.
            ServerFrame::Error { .. } => self.wire = None,
            _ => {}
        }
    }
}

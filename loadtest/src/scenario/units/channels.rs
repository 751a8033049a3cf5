//! Messages: published at hub A to nobody, to one subscriber at hub B, to many there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use protocol::{ClientFrame, ServerFrame};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::lab::{Lab, PROJECT};
use super::meter::Costs;
use crate::cluster::wire::{Wire, patiently};
use crate::error::{Error, Result};

/// Subscribers of the room that has many.
pub(super) const CROWD: usize = 1000;
/// Rooms with one publisher each.
const ROOMS: usize = 20;
/// Messages per second of each.
const PACE: f64 = 50.0;
/// Messages per second to the crowd.
const CROWD_PACE: f64 = 20.0;
/// Bytes of a message: about what an event has as a message.
const BYTES: usize = 200;
/// How long what was published may take to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// What was found, per message.
pub(super) struct Channels {
    pub(super) publish: Costs,
    pub(super) redis_bytes: f64,
    /// To one subscriber.
    pub(super) arrive: Costs,
    /// To the crowd.
    many: Costs,
}

impl Channels {
    pub(super) async fn measure(lab: &Lab) -> Result<Self> {
        let rooms = |kind: &str| -> Vec<String> {
            let name = |number| format!("room:{PROJECT}/{kind}-{number}");
            (0..ROOMS).map(name).collect()
        };
        let (silent, heard) = (rooms("silent"), rooms("heard"));
        let crowded = format!("room:{PROJECT}/crowded");
        let mut to_nobody = Publishers::gather(lab, &silent, PACE).await?;
        let mut to_one = Publishers::gather(lab, &heard, PACE).await?;
        let audience = Audience::gather(lab, heard.iter().map(|room| vec![room.clone()])).await?;
        let (mut sent, mut arrived) = (0, 0);
        let before = lab.redis_bytes().await?;
        let [publish, arrive] = lab
            .turns(
                ["messages to nobody", "messages to one"],
                async |length| {
                    let done = to_nobody.run(length).await?;
                    sent += done;
                    Ok(done)
                },
                async |length| {
                    let done = to_one.run(length).await?;
                    arrived += done;
                    audience.wait_for(arrived).await?;
                    Ok(done)
                },
            )
            .await?;
        let redis_bytes = (lab.redis_bytes().await? - before) / (sent + arrived).max(1) as f64;
        drop(audience);

        let mut publishers =
            Publishers::gather(lab, std::slice::from_ref(&crowded), CROWD_PACE).await?;
        let audience = Audience::gather(lab, (0..CROWD).map(|_| vec![crowded.clone()])).await?;
        let many = lab
            .each("messages to many", async |length| {
                let before = audience.heard();
                let done = publishers.run(length).await?;
                audience.wait_for(before + done * CROWD as u64).await?;
                Ok(done)
            })
            .await?;
        Ok(Self {
            publish,
            redis_bytes,
            arrive,
            many,
        })
    }

    /// One delivery to one more session.
    pub(super) fn deliver_us(&self) -> f64 {
        (self.many.hub_b - self.arrive.hub_b) / (CROWD - 1) as f64
    }

    /// What a node spends on a message once, to however many it goes.
    pub(super) fn receive_us(&self) -> f64 {
        self.arrive.hub_b - self.deliver_us()
    }
}

/// Publishers at hub A, each of a room of its own.
struct Publishers {
    members: Vec<(Wire, String, u32)>,
    pace: f64,
}

impl Publishers {
    async fn gather(lab: &Lab, rooms: &[String], pace: f64) -> Result<Self> {
        let mut members = Vec::new();
        for room in rooms {
            let wire = Wire::session(lab.a(), lab.rest.token()).await?;
            members.push((wire, room.clone(), 0));
        }
        Ok(Self { members, pace })
    }

    /// Each publishes at its pace, one message after the other; how many there were.
    async fn run(&mut self, length: Duration) -> Result<u64> {
        let pace = self.pace;
        let until = Instant::now() + length;
        let text = "m".repeat(BYTES);
        let working = self.members.iter_mut().map(async |(wire, room, id)| {
            let mut ticks = interval(Duration::from_secs_f64(1.0 / pace));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut done = 0;
            loop {
                ticks.tick().await;
                if Instant::now() >= until {
                    return Ok::<u64, Error>(done);
                }
                *id += 1;
                let frame = ClientFrame::Publish {
                    id: *id,
                    channel: room.clone(),
                    data: Some(json!(text)),
                    bytes: None,
                    class: None,
                    key: None,
                    idempotency_key: None,
                };
                wire.request(&frame).await?;
                patiently("a publication", accepted(wire, *id)).await?;
                done += 1;
            }
        });
        Ok(try_join_all(working).await?.iter().sum())
    }
}

async fn accepted(wire: &mut Wire, request: u32) -> Result<()> {
    loop {
        match wire.frame().await? {
            ServerFrame::Ack { id, .. } if id == request => return Ok(()),
            ServerFrame::Error { code, message, .. } => {
                return Err(refused(code.as_str(), &message));
            }
            _ => {}
        }
    }
}

fn refused(code: &str, message: &str) -> Error {
    Error::Refused {
        what: "a request".into(),
        answer: format!("{code}: {message}"),
    }
}

/// Sessions at hub B that count what they hear; they leave when it is dropped.
pub(super) struct Audience {
    heard: Arc<AtomicU64>,
    members: JoinSet<Result<()>>,
}

impl Audience {
    /// One session for each list of channels.
    pub(super) async fn gather(
        lab: &Lab,
        channels: impl Iterator<Item = Vec<String>>,
    ) -> Result<Self> {
        let heard = Arc::new(AtomicU64::new(0));
        let mut members = JoinSet::new();
        for channels in channels {
            let mut wire = Wire::session(lab.b(), lab.rest.token()).await?;
            for (id, channel) in (1..).zip(channels) {
                let frame = ClientFrame::Subscribe {
                    id,
                    channel,
                    position: None,
                    presence: false,
                };
                wire.request(&frame).await?;
                patiently("subscribing", subscribed(&mut wire)).await?;
            }
            let heard = Arc::clone(&heard);
            members.spawn(async move {
                loop {
                    if matches!(wire.frame().await?, ServerFrame::Message { .. }) {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Ok(Self { heard, members })
    }

    /// How many messages have arrived, of all members together.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived.
    pub(super) async fn wait_for(&self, count: u64) -> Result<()> {
        let until = Instant::now() + ARRIVE;
        while self.heard() < count {
            if Instant::now() > until {
                let heard = self.heard();
                return Err(Error::Verdict(format!(
                    "{heard} messages of {count} arrived at {} sessions",
                    self.members.len()
                )));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn subscribed(wire: &mut Wire) -> Result<()> {
    loop {
        match wire.frame().await? {
            ServerFrame::Subscribed { .. } => return Ok(()),
            ServerFrame::Error { code, message, .. } => {
                return Err(refused(code.as_str(), &message));
            }
            _ => {}
        }
    }
}

//! Publishers and subscribers of channels.
//!
//! A publisher sends each message until it is accepted, with the same key every time, at whichever
//! hub answers. A subscriber goes from hub to hub and resumes where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::frame::ResetReason;
use protocol::{ClientFrame, Position, ServerFrame};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::crowd::{Crowd, Phase};
use super::model::Reader;
use crate::cluster::wire::{Wire, patiently};
use crate::error::{Error, Result};

/// Pause of a publisher between two messages, milliseconds.
const PACE: std::ops::Range<u64> = 50..250;
/// How long a subscriber stays at one hub, milliseconds, unless it is thrown out.
const STAY: std::ops::Range<u64> = 4_000..20_000;

/// Publishes to a channel until the run settles, and then until its last message is accepted.
pub(super) async fn publish(crowd: Arc<Crowd>, channel: String, number: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ 0x9_0000 ^ number as u64);
    let mut message = 0_u64;
    let mut hub = number;
    let mut first_sent = None;
    while crowd.now() == Phase::Work || first_sent.is_some() {
        let address = crowd.hubs[hub % crowd.hubs.len()];
        let sending = publish_at(
            &crowd,
            &channel,
            address,
            number,
            &mut message,
            &mut first_sent,
            &mut random,
        );
        if sending.await.is_ok() {
            return;
        }
        hub += 1;
        if crowd.breathe(&mut random).await {
            return;
        }
    }
}

/// Publishes at one hub until it fails, or until nothing more is to be published.
async fn publish_at(
    crowd: &Crowd,
    channel: &str,
    address: SocketAddr,
    number: usize,
    message: &mut u64,
    first_sent: &mut Option<Instant>,
    random: &mut StdRng,
) -> Result<()> {
    let token = crowd.login.token(address).await?;
    let mut wire = Wire::session(address, &token).await?;
    let mut request = 0;
    while crowd.now() == Phase::Work || first_sent.is_some() {
        let id = format!("p{number}.{message}");
        let since = *first_sent.get_or_insert_with(Instant::now);
        request += 1;
        let frame = ClientFrame::Publish {
            id: request,
            channel: channel.to_owned(),
            data: Some(json!(id)),
            bytes: None,
            class: None,
            key: None,
            idempotency_key: Some(id.clone()),
        };
        wire.request(&frame).await?;
        let position = patiently("a publication", accepted(&mut wire, request)).await?;
        crowd.channel(channel).accepted_at(&id, &position, since);
        *first_sent = None;
        *message += 1;
        let pause = Duration::from_millis(random.random_range(PACE));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn accepted(wire: &mut Wire, request: u32) -> Result<Position> {
    loop {
        match wire.frame().await? {
            ServerFrame::Ack {
                id,
                position: Some(position),
                ..
            } if id == request => return Ok(position),
            ServerFrame::Error { code, message, .. } => {
                return Err(Error::Refused {
                    what: "a message".into(),
                    answer: format!("{}: {message}", code.as_str()),
                });
            }
            _ => {}
        }
    }
}

/// Follows a channel until the run is over.
pub(super) async fn follow(crowd: Arc<Crowd>, channel: String, number: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5_0000 ^ number as u64);
    let reader = Reader(number);
    let mut hub = number;
    while crowd.now() != Phase::Over {
        let address = crowd.hubs[hub % crowd.hubs.len()];
        let stay = Duration::from_millis(random.random_range(STAY));
        if follow_at(&crowd, &channel, reader, address, stay)
            .await
            .is_err()
            && crowd.breathe(&mut random).await
        {
            return;
        }
        hub += random.random_range(1..3_usize);
    }
}

/// Follows a channel at one hub for that long; an error if it is thrown out before.
async fn follow_at(
    crowd: &Crowd,
    channel: &str,
    reader: Reader,
    address: SocketAddr,
    stay: Duration,
) -> Result<()> {
    let token = crowd.login.token(address).await?;
    let mut wire = Wire::session(address, &token).await?;
    let asked = crowd.channel(channel).position(reader);
    let subscribe = ClientFrame::Subscribe {
        id: 1,
        channel: channel.to_owned(),
        position: asked.clone(),
        presence: false,
    };
    wire.request(&subscribe).await?;
    patiently("subscribing", async {
        loop {
            match wire.frame().await? {
                ServerFrame::Subscribed {
                    epoch,
                    offset,
                    recovered,
                    reset,
                    ..
                } => {
                    let told = Position { epoch, offset };
                    refuse(crowd, channel, reader, reset);
                    let mut ledger = crowd.channel(channel);
                    ledger.subscribed(reader, asked.as_ref(), &told, recovered);
                    return Ok(());
                }
                ServerFrame::Error { code, message, .. } => {
                    return Err(Error::Refused {
                        what: "a subscription".into(),
                        answer: format!("{}: {message}", code.as_str()),
                    });
                }
                _ => {}
            }
        }
    })
    .await?;
    let mut phase = crowd.phase.clone();
    let leave = tokio::time::sleep(stay);
    tokio::pin!(leave);
    loop {
        tokio::select! {
            frame = wire.frame() => take(crowd, channel, reader, frame?),
            // While a run settles everyone stays where it is.
            () = &mut leave, if crowd.now() == Phase::Work => return Ok(()),
            _ = phase.changed() => if crowd.now() == Phase::Over { return Ok(()) },
        }
    }
}

fn take(crowd: &Crowd, channel: &str, reader: Reader, frame: ServerFrame) {
    match frame {
        ServerFrame::Message {
            offset: Some(offset),
            data,
            event,
            ..
        } => {
            let id = event.or_else(|| data.as_ref().and_then(Value::as_str).map(str::to_owned));
            let id = id.unwrap_or_else(|| format!("{data:?}"));
            crowd.channel(channel).heard(reader, offset, &id);
        }
        ServerFrame::Reset {
            position, reason, ..
        } => {
            refuse(crowd, channel, reader, Some(reason));
            crowd.channel(channel).reset(reader, &position);
        }
        _ => {}
    }
}

/// Histories are longer than any run: nobody may be told that theirs has expired.
fn refuse(crowd: &Crowd, channel: &str, reader: Reader, reason: Option<ResetReason>) {
    if let Some(reason @ (ResetReason::Expired | ResetReason::Ahead)) = reason {
        crowd.report(format!("{reader:?} of {channel} was told {reason:?}"));
    }
}

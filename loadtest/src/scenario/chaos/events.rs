//! A foreign producer of domain events: nothing but an AMQP client that publishes each event until it
//! is confirmed, with the same id every time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use super::crowd::{Crowd, Phase};
use crate::cluster::amqp::{EXCHANGE, connect, envelope, publish};
use crate::cluster::wire::patiently;
use crate::error::Result;

/// Pause between two events, milliseconds.
const PACE: std::ops::Range<u64> = 20..150;

/// Where events of a run go.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// What they are about.
    pub(super) subject: String,
    /// Their type.
    pub(super) kind: &'static str,
    /// The channel that they reach, as its readers write it.
    pub(super) channel: String,
}

/// An event on its way.
struct Pending {
    id: String,
    subject: usize,
    first_sent: Instant,
}

/// Publishes events about the subjects until the run settles, and then until the last is confirmed.
pub(super) async fn produce(crowd: Arc<Crowd>, url: String, subjects: Vec<Subject>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ 0xE_0000);
    let mut pending = None;
    while crowd.now() == Phase::Work || pending.is_some() {
        let sending = produce_over(&crowd, &url, &subjects, &mut pending, &mut random);
        if sending.await.is_ok() || crowd.breathe(&mut random).await {
            return;
        }
    }
}

/// Publishes over one connection until it fails, or until nothing more is to be published.
async fn produce_over(
    crowd: &Crowd,
    url: &str,
    subjects: &[Subject],
    pending: &mut Option<Pending>,
    random: &mut StdRng,
) -> Result<()> {
    let (_connection, channel) = patiently("connecting to RabbitMQ", connect(url)).await?;
    while crowd.now() == Phase::Work || pending.is_some() {
        let event = pending.get_or_insert_with(|| Pending {
            id: Uuid::now_v7().to_string(),
            subject: random.random_range(0..subjects.len()),
            first_sent: Instant::now(),
        });
        let subject = &subjects[event.subject];
        let body = envelope(&event.id, subject.kind, &subject.subject);
        let taken = async {
            publish(&channel, EXCHANGE, subject.kind, &event.id, &body)
                .await?
                .await
        };
        patiently("a confirm", taken).await?;
        crowd
            .channel(&subject.channel)
            .accepted(&event.id, event.first_sent);
        *pending = None;
        let pause = Duration::from_millis(random.random_range(PACE));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

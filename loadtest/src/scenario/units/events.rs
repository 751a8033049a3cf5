//! Domain events: from the outbox to a subscriber at a moderate rate, and as many as relay and bridge take.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::channels::Audience;
use super::lab::{Lab, sql};
use super::meter::Costs;
use super::{LENGTH, WARM_UP};
use crate::cluster::amqp::{EXCHANGE, connect, envelope, publish};
use crate::error::Result;

/// The type of the events.
const KIND: &str = "document.touched";
/// Transactions per second that put events into the outbox.
const PACE: f64 = 20.0;
/// Events of one such transaction: what its commit costs is the change's, not the event's.
const BATCH: u64 = 15;
/// Events that are under way at most in a flood, enough for every queue on the way.
const UNDER_WAY: u64 = 4_000;
/// Events of one transaction in a flood.
const FLOOD_BATCH: u64 = 200;
/// Publications that wait for their confirmation.
const UNCONFIRMED: usize = 500;

/// What was found.
pub(super) struct Events {
    /// Per event from the outbox, delivered to one session.
    pub(super) cost: Costs,
    pub(super) redis_bytes: f64,
    pub(super) wal_bytes: f64,
    pub(super) bridge_per_second: f64,
    pub(super) relay_per_second: f64,
}

impl Events {
    /// The events are about `documents`, each in an order of its own.
    pub(super) async fn measure(lab: &Lab, documents: &[String]) -> Result<Self> {
        let subjects: Vec<String> = documents.iter().map(|id| format!("doc:{id}")).collect();
        let audience = Audience::gather(lab, std::iter::once(subjects.clone())).await?;
        let mut outbox = Outbox {
            database: lab.database().await?,
            subjects: subjects.clone(),
        };
        lab.checkpoint().await?;
        let mut put = 0;
        let bytes = lab.redis_bytes().await?;
        let wal = lab.wal().await?;
        let cost = lab
            .each("events from the outbox", async |length| {
                let done = outbox.pace(length, &audience).await?;
                put += done;
                Ok(done)
            })
            .await?;
        let events = put.max(1) as f64;
        let redis_bytes = (lab.redis_bytes().await? - bytes) / events;
        let wal_bytes = (lab.wal().await? - wal) / events;
        outbox.flood(WARM_UP, &audience).await?;
        let relay_per_second = outbox.flood(LENGTH, &audience).await?;
        println!("events from a full outbox: {relay_per_second:.0}/s");
        let amqp = lab.amqp();
        flood(&amqp, &subjects, WARM_UP, &audience).await?;
        let bridge_per_second = flood(&amqp, &subjects, LENGTH, &audience).await?;
        println!("events from RabbitMQ: {bridge_per_second:.0}/s");
        Ok(Self {
            cost,
            redis_bytes,
            wal_bytes,
            bridge_per_second,
            relay_per_second,
        })
    }
}

/// The store's outbox, written as a change writes it.
struct Outbox {
    database: PgConnection,
    subjects: Vec<String>,
}

impl Outbox {
    /// Puts events in at their pace; returns when the last has arrived.
    async fn pace(&mut self, length: Duration, audience: &Audience) -> Result<u64> {
        let (before, until) = (audience.heard(), Instant::now() + length);
        let mut ticks = interval(Duration::from_secs_f64(1.0 / PACE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut done = 0;
        while Instant::now() < until {
            ticks.tick().await;
            self.put(done, BATCH).await?;
            done += BATCH;
        }
        audience.wait_for(before + done).await?;
        Ok(done)
    }

    /// Puts in as many as arrive; how many arrived per second.
    async fn flood(&mut self, length: Duration, audience: &Audience) -> Result<f64> {
        let (before, start) = (audience.heard(), Instant::now());
        let mut done = 0;
        while start.elapsed() < length {
            if before + done < audience.heard() + UNDER_WAY {
                self.put(done, FLOOD_BATCH).await?;
                done += FLOOD_BATCH;
            } else {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let arrived = audience.heard() - before;
        let seconds = start.elapsed().as_secs_f64();
        audience.wait_for(before + done).await?;
        Ok(arrived as f64 / seconds)
    }

    async fn put(&mut self, from: u64, count: u64) -> Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        let (mut ids, mut subjects, mut envelopes) = (Vec::new(), Vec::new(), Vec::new());
        for number in from..from + count {
            let subject = &self.subjects[number as usize % self.subjects.len()];
            let id = Uuid::now_v7().to_string();
            let event = envelope(&id, KIND, subject);
            envelopes.push(String::from_utf8_lossy(&event).into_owned());
            subjects.push(subject.clone());
            ids.push(id);
        }
        sqlx::query(
            "INSERT INTO events_outbox (event_id, type, subject, envelope, created_at) \
             SELECT id, $1, subject, envelope::json, $2 \
             FROM unnest($3::text[], $4::text[], $5::text[]) AS events (id, subject, envelope)",
        )
        .bind(KIND)
        .bind(now)
        .bind(ids)
        .bind(subjects)
        .bind(envelopes)
        .execute(&mut self.database)
        .await
        .map_err(sql)?;
        Ok(())
    }
}

/// Publishes as a foreign producer what arrives; how many arrived per second.
async fn flood(
    url: &str,
    subjects: &[String],
    length: Duration,
    audience: &Audience,
) -> Result<f64> {
    let (_connection, channel) = connect(url).await?;
    let (before, start) = (audience.heard(), Instant::now());
    let mut confirms = VecDeque::new();
    let mut done = 0;
    while start.elapsed() < length {
        if before + done >= audience.heard() + UNDER_WAY {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let subject = &subjects[done as usize % subjects.len()];
        let id = Uuid::now_v7().to_string();
        let body = envelope(&id, KIND, subject);
        confirms.push_back(publish(&channel, EXCHANGE, KIND, &id, &body).await?);
        done += 1;
        if confirms.len() >= UNCONFIRMED
            && let Some(oldest) = confirms.pop_front()
        {
            oldest.await?;
        }
    }
    let arrived = audience.heard() - before;
    let seconds = start.elapsed().as_secs_f64();
    for confirmed in confirms {
        confirmed.await?;
    }
    audience.wait_for(before + done).await?;
    Ok(arrived as f64 / seconds)
}

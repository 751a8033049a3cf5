//! Domain events in PostgreSQL: outbox, inbox, log, and what was given up.
//!
//! Owns the one way into the outbox, [`put_events`], which every change uses inside its own
//! transaction, and with it the order of a subject's events. Never publishes: that is the relay's.

use std::borrow::Cow;

use async_trait::async_trait;
use protocol::Event;
use sqlx::{query, query_as};

use super::nodes::check_fence;
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::rows::END;
use crate::store::{Buried, EventFilter, Events, Fence, Outgoing, StoreError};

type BuriedRow = (String, String, Option<String>, String, Vec<u8>, i64);

fn encode(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(event)
        .map_err(|error| StoreError::Corrupt(format!("event {}: {error}", event.id)))
}

fn decode(envelope: &str) -> Result<Event, StoreError> {
    serde_json::from_str(envelope).map_err(|error| StoreError::Corrupt(format!("event: {error}")))
}

/// Adds events to the outbox, in order, in the transaction of the change that they tell of.
pub(super) async fn put_events(tx: &mut Tx, events: &[Event]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let subjects: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    let envelopes: Vec<String> = events.iter().map(encode).collect::<Result<_, _>>()?;
    let times: Vec<i64> = events.iter().map(|event| int(event.time)).collect();
    let put = query(sql::PUT_EVENTS)
        .bind(ids)
        .bind(kinds)
        .bind(subjects)
        .bind(envelopes)
        .bind(times);
    tx.run(put).await.map(drop)
}

/// What a foreign message says of itself, fit to be kept.
fn without_nul(text: &str) -> Cow<'_, str> {
    if may_be_stored(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    }
}

#[async_trait]
impl Events for PostgresStore {
    async fn emit(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        put_events(&mut tx, events).await?;
        tx.commit().await
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<Outgoing>, StoreError> {
        let rows = query_as(sql::OUTBOX).bind(i64::from(limit));
        let rows: Vec<(i64, String)> = self.all(rows).await?;
        rows.into_iter()
            .map(|(position, envelope)| {
                Ok(Outgoing {
                    position: number(position)?,
                    event: decode(&envelope)?,
                })
            })
            .collect()
    }

    async fn confirm(&self, positions: &[u64], fence: &Fence) -> Result<(), StoreError> {
        let positions: Vec<i64> = positions.iter().copied().map(int).collect();
        let mut tx = self.write().await?;
        check_fence(&mut tx, fence).await?;
        tx.run(query(sql::CONFIRM).bind(positions)).await?;
        tx.commit().await
    }

    async fn log_event(&self, consumer: &str, event: &Event, now: u64) -> Result<bool, StoreError> {
        let log = query_as(sql::LOG_EVENT)
            .bind(consumer)
            .bind(event.id.to_string())
            .bind(int(now))
            .bind(&event.kind)
            .bind(&event.project)
            .bind(&event.actor)
            .bind(&event.subject)
            .bind(int(event.time))
            .bind(encode(event)?);
        let taken: Option<(i64,)> = self.first(log).await?;
        self.wrote();
        Ok(taken == Some((1,)))
    }

    async fn logged(&self, filter: &EventFilter, limit: u32) -> Result<Vec<Event>, StoreError> {
        let (time, id) = match &filter.before {
            Some((time, id)) => (int(*time), id.as_str()),
            None => (i64::MAX, END),
        };
        let texts = [&filter.subject, &filter.project, &filter.kind];
        let mut texts = texts.into_iter().flatten().map(String::as_str);
        if !texts.all(may_be_stored) || !may_be_stored(id) {
            return Ok(Vec::new());
        }
        let since = int(filter.since.unwrap_or(0));
        // The narrowest of what is asked for leads; the rest is looked at row by row.
        let list = || {
            let rows = |statement| {
                query_as(statement)
                    .bind(time)
                    .bind(id)
                    .bind(i64::from(limit))
                    .bind(since)
            };
            match (&filter.subject, &filter.project, &filter.kind) {
                (Some(subject), project, kind) => rows(sql::LOGGED_OF_SUBJECT)
                    .bind(subject)
                    .bind(project)
                    .bind(kind),
                (None, Some(project), kind) => {
                    rows(sql::LOGGED_OF_PROJECT).bind(project).bind(kind)
                }
                (None, None, Some(kind)) => rows(sql::LOGGED_OF_KIND).bind(kind),
                (None, None, None) => rows(sql::LOGGED),
            }
        };
        let rows: Vec<(String,)> = self.list(list).await?;
        rows.iter().map(|(envelope,)| decode(envelope)).collect()
    }

    async fn logged_after(
        &self,
        filter: &EventFilter,
        after: Option<&(u64, String)>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (from, behind) = after.map_or((-1, ""), |(time, id)| (int(*time), id.as_str()));
        let (to, before) = match &filter.before {
            Some((time, id)) => (int(*time), id.as_str()),
            None => (i64::MAX, END),
        };
        let texts = [&filter.subject, &filter.project, &filter.kind];
        let mut texts = texts.into_iter().flatten().map(String::as_str);
        if !texts.all(may_be_stored) || !may_be_stored(behind) || !may_be_stored(before) {
            return Ok(Vec::new());
        }
        let rows = query_as(sql::LOGGED_AFTER)
            .bind(from)
            .bind(behind)
            .bind(i64::from(limit))
            .bind(to)
            .bind(before)
            .bind(int(filter.since.unwrap_or(0)))
            .bind(&filter.subject)
            .bind(&filter.project)
            .bind(&filter.kind);
        let rows: Vec<(String,)> = self.all(rows).await?;
        rows.iter().map(|(envelope,)| decode(envelope)).collect()
    }

    async fn replay(&self, events: &[Event], consumer: Option<&str>) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let mut forgotten = 0;
        if let Some(consumer) = consumer.filter(|name| may_be_stored(name)) {
            let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
            let forget = query(sql::FORGET_TAKEN).bind(consumer).bind(ids);
            forgotten = tx.run(forget).await?;
        }
        put_events(&mut tx, events).await?;
        self.commit(tx).await?;
        Ok(forgotten)
    }

    async fn bury(&self, message: &Buried) -> Result<(), StoreError> {
        let bury = query(sql::BURY)
            .bind(without_nul(&message.consumer))
            .bind(without_nul(&message.kind))
            .bind(message.event_id.as_deref().map(without_nul))
            .bind(without_nul(&message.reason))
            .bind(&message.body)
            .bind(int(message.at));
        self.run(bury).await.map(drop)
    }

    async fn buried(&self, limit: u32) -> Result<Vec<Buried>, StoreError> {
        let rows = query_as(sql::BURIED).bind(i64::from(limit));
        let rows: Vec<BuriedRow> = self.all(rows).await?;
        rows.into_iter()
            .map(|(consumer, kind, event_id, reason, body, at)| {
                Ok(Buried {
                    consumer,
                    kind,
                    event_id,
                    reason,
                    body,
                    at: number(at)?,
                })
            })
            .collect()
    }
}

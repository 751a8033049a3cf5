//! Domain events in SQLite: outbox, inbox, log, and what was given up.
//!
//! Owns the one way into the outbox, [`put_events`], which every change uses inside its own
//! transaction. Never publishes: that is the relay's.

use async_trait::async_trait;
use protocol::Event;
use sqlx::{Sqlite, Transaction};

use super::{SqliteStore, int, nodes, sql, store_error};
use crate::store::rows::END;
use crate::store::{Buried, EventFilter, Events, Fence, Outgoing, StoreError};

type BuriedRow = (String, String, Option<String>, String, Vec<u8>, u64);

fn encode(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(event)
        .map_err(|error| StoreError::Corrupt(format!("event {}: {error}", event.id)))
}

fn decode(envelope: &str) -> Result<Event, StoreError> {
    serde_json::from_str(envelope).map_err(|error| StoreError::Corrupt(format!("event: {error}")))
}

/// Adds events to the outbox, in order, in the transaction of the change that they tell of.
pub(super) async fn put_events(
    tx: &mut Transaction<'static, Sqlite>,
    events: &[Event],
) -> Result<(), StoreError> {
    for event in events {
        sqlx::query(sql::PUT_EVENT)
            .bind(event.id.to_string())
            .bind(&event.kind)
            .bind(&event.subject)
            .bind(encode(event)?)
            .bind(int(event.time))
            .execute(&mut **tx)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}

/// Rows of the log that one transaction deletes: other writers get in between.
const BATCH: u32 = 2_000;

impl SqliteStore {
    /// Deletes the events of the log that happened before then.
    pub(super) async fn drop_logged(&self, before: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let mut tx = self.write().await?;
            let dropped = sqlx::query(sql::DROP_LOGGED)
                .bind(int(before))
                .bind(BATCH)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
            tx.commit().await.map_err(store_error)?;
            gone += dropped.rows_affected();
            if dropped.rows_affected() < u64::from(BATCH) {
                return Ok(gone);
            }
        }
    }
}

#[async_trait]
impl Events for SqliteStore {
    async fn emit(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn outbox(&self, limit: u32) -> Result<Vec<Outgoing>, StoreError> {
        let rows: Vec<(u64, String)> = sqlx::query_as(sql::OUTBOX)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter()
            .map(|(position, envelope)| {
                Ok(Outgoing {
                    position,
                    event: decode(&envelope)?,
                })
            })
            .collect()
    }

    async fn confirm(&self, positions: &[u64], fence: &Fence) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        nodes::check_fence(&mut tx, fence).await?;
        sqlx::query(sql::CONFIRM)
            .bind(serde_json::Value::from(positions).to_string())
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn log_event(&self, consumer: &str, event: &Event, now: u64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let id = event.id.to_string();
        let taken = sqlx::query(sql::TAKE_EVENT)
            .bind(consumer)
            .bind(&id)
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(sql::LOG_EVENT)
            .bind(&id)
            .bind(&event.kind)
            .bind(&event.project)
            .bind(&event.actor)
            .bind(&event.subject)
            .bind(int(event.time))
            .bind(encode(event)?)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn logged(&self, filter: &EventFilter, limit: u32) -> Result<Vec<Event>, StoreError> {
        let (time, id) = match &filter.before {
            Some((time, id)) => (int(*time), id.as_str()),
            None => (i64::MAX, END),
        };
        // The narrowest of what is asked for leads; the rest is looked at row by row.
        let statement = match filter {
            EventFilter {
                subject: Some(_), ..
            } => sql::LOGGED_OF_SUBJECT,
            EventFilter {
                project: Some(_), ..
            } => sql::LOGGED_OF_PROJECT,
            EventFilter { kind: Some(_), .. } => sql::LOGGED_OF_KIND,
            _ => sql::LOGGED,
        };
        let rows: Vec<String> = sqlx::query_scalar(statement)
            .bind(time)
            .bind(id)
            .bind(limit)
            .bind(int(filter.since.unwrap_or(0)))
            .bind(&filter.subject)
            .bind(&filter.project)
            .bind(&filter.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.iter().map(|envelope| decode(envelope)).collect()
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
        let rows: Vec<String> = sqlx::query_scalar(sql::LOGGED_AFTER)
            .bind(from)
            .bind(behind)
            .bind(limit)
            .bind(to)
            .bind(before)
            .bind(int(filter.since.unwrap_or(0)))
            .bind(&filter.subject)
            .bind(&filter.project)
            .bind(&filter.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.iter().map(|envelope| decode(envelope)).collect()
    }

    async fn replay(&self, events: &[Event], consumer: Option<&str>) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let mut forgotten = 0;
        if let Some(consumer) = consumer {
            let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
            let forget = sqlx::query(sql::FORGET_TAKEN)
                .bind(consumer)
                .bind(serde_json::Value::from(ids).to_string());
            let forgot = forget.execute(&mut *tx).await.map_err(store_error)?;
            forgotten = forgot.rows_affected();
        }
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(forgotten)
    }

    async fn bury(&self, message: &Buried) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::BURY)
            .bind(&message.consumer)
            .bind(&message.kind)
            .bind(&message.event_id)
            .bind(&message.reason)
            .bind(&message.body)
            .bind(int(message.at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn buried(&self, limit: u32) -> Result<Vec<Buried>, StoreError> {
        let rows: Vec<BuriedRow> = sqlx::query_as(sql::BURIED)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        let buried = |(consumer, kind, event_id, reason, body, at)| Buried {
            consumer,
            kind,
            event_id,
            reason,
            body,
            at,
        };
        Ok(rows.into_iter().map(buried).collect())
    }
}

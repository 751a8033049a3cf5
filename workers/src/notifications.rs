//! The notification manager: from domain events to what users are told, by the table of [`rules`].
//!
//! Owns who is told at once, who later, and the event that brings a notification to its user's devices. The store
//! notes that an event was taken in the transaction that makes its notifications, so that one that is delivered twice
//! tells nobody twice. Never shows anything to anybody: that is the bridge's, and the list's in the hub.
//!
//! Flow: event → `rules` (who, of what) → preferences (at once, held for a digest, not at all) → one transaction:
//! inbox, notifications, `notification.created` for each user who is told at once. What is held, [`crate::Digest`]
//! releases.

pub mod rules;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backplane::backoff::Backoff;
use backplane::bus::{ConsumerSpec, Delivery, Handler, Outcome};
use backplane::now_ms;
use backplane::store::notifications::{CONSUMER, Mode, Notified};
use backplane::store::{NewNotification, Store, StoreError};
use protocol::event::{Event, kind};
use serde_json::json;
use uuid::Uuid;

use rules::Notice;

/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// The consumer.
pub struct Notifier {
    /// Where notifications, preferences, and what events are about are.
    pub store: Arc<dyn Store>,
    /// How long notifications of one kind and group are gathered for users who want a digest.
    pub digest: Duration,
}

impl Notifier {
    /// The events that anybody is told of, on every node that consumes.
    #[must_use]
    pub fn spec(prefetch: u16, attempts: u32) -> ConsumerSpec {
        ConsumerSpec {
            name: CONSUMER.to_owned(),
            patterns: rules::KINDS
                .iter()
                .map(|(kind, _)| (*kind).to_owned())
                .collect(),
            single_active: false,
            prefetch,
            attempts,
        }
    }

    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        let notices = rules::notices(&*self.store, event).await?;
        if notices.is_empty() {
            return Ok(());
        }
        let now = now_ms();
        let mut new = Vec::with_capacity(notices.len());
        for notice in notices {
            new.extend(self.wanted(notice, now).await?);
        }
        // Also if nobody wants it: a later delivery must find that it was taken, whatever they want by then.
        let id = event.id.to_string();
        let tell = |notified: &Notified| Event {
            traceparent: event.traceparent.clone(),
            ..created(notified)
        };
        self.store.notify(&id, &new, now, &tell).await?;
        Ok(())
    }

    /// The notification as its user wants it; none if not at all.
    async fn wanted(
        &self,
        notice: Notice,
        now: u64,
    ) -> Result<Option<NewNotification>, StoreError> {
        let chosen = self.store.preferences(&notice.user).await?;
        let held_until = match chosen.get(&notice.kind).copied().unwrap_or(Mode::Live) {
            Mode::Off => return Ok(None),
            Mode::Live => None,
            Mode::Digest => Some(now.saturating_add(self.digest.as_millis() as u64)),
        };
        Ok(Some(NewNotification {
            id: Uuid::now_v7().to_string(),
            user_id: notice.user,
            project_id: Some(notice.project),
            kind: notice.kind,
            group_key: Some(notice.group),
            data: notice.data,
            held_until,
        }))
    }
}

/// The event that brings a notification to its user's devices. It names no project: it is the user's alone.
pub(crate) fn created(notified: &Notified) -> Event {
    let one = &notified.notification;
    let subject = format!("user:{}", one.user_id);
    // The notification as the REST surface shows it.
    let data = json!({
        "notification": {
            "id": one.id,
            "kind": one.kind,
            "project": one.project_id,
            "event": one.event_id,
            "count": one.grouped,
            "data": one.data,
            "created_at": one.created_at,
            "read_at": one.read_at,
        },
        "replaced": notified.replaced,
        "unread": notified.unread,
    });
    Event::new(
        Uuid::now_v7(),
        kind::NOTIFICATION_CREATED,
        subject,
        now_ms(),
    )
    .with(data)
}

#[async_trait]
impl Handler for Notifier {
    fn order_key(&self, delivery: &Delivery) -> String {
        match delivery.event() {
            Ok((event, _)) => event.subject,
            Err(_) => String::new(),
        }
    }

    /// Waits for a store that is away for as long as it takes.
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let event = match delivery.event() {
            Ok((event, _)) => event,
            Err(unreadable) => return Outcome::Poison(unreadable.to_string()),
        };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            match self.tell(&event).await {
                Ok(()) => return Outcome::Done,
                Err(StoreError::Unavailable(reason)) => {
                    tracing::debug!(id = %event.id, reason, "an event waits for the store");
                    tokio::time::sleep(backoff.delay()).await;
                }
                // A value that the store can't hold will not fit later either.
                Err(error @ StoreError::Conflict(_)) => return Outcome::Poison(error.to_string()),
                Err(error) => return Outcome::Retry(error.to_string()),
            }
        }
    }
}

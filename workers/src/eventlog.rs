//! The event log: a consumer that keeps every event, whoever published it.
//!
//! Owns nothing but the decision what is no event. The store adds an event to the log and notes that it
//! was taken in one transaction, so that one that is delivered twice is logged once. Never acts on an event.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backplane::backoff::Backoff;
use backplane::bus::{ConsumerSpec, Delivery, Handler, Outcome};
use backplane::now_ms;
use backplane::store::{Store, StoreError};

/// The consumer's name.
pub const CONSUMER: &str = "eventlog";
/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// The consumer.
pub struct EventLog {
    /// Where the log is.
    pub store: Arc<dyn Store>,
}

impl EventLog {
    /// All events, on every node that consumes.
    #[must_use]
    pub fn spec(prefetch: u16, attempts: u32) -> ConsumerSpec {
        ConsumerSpec {
            name: CONSUMER.to_owned(),
            patterns: vec!["#".to_owned()],
            single_active: false,
            prefetch,
            attempts,
        }
    }
}

#[async_trait]
impl Handler for EventLog {
    /// Each event stands alone: the log is ordered by what is in them.
    fn order_key(&self, delivery: &Delivery) -> String {
        let id = delivery.message_id.as_ref();
        id.unwrap_or(&delivery.kind).clone()
    }

    /// Waits for a store that is away for as long as it takes.
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let event = match delivery.event() {
            Ok((event, _)) => event,
            Err(unreadable) => return Outcome::Poison(unreadable.to_string()),
        };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            match self.store.log_event(CONSUMER, &event, now_ms()).await {
                Ok(_) => return Outcome::Done,
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

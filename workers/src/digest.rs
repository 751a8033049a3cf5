//! Digests: tells users of what was held for them once it is due.
//!
//! Owns nothing but its schedule: what is held and until when, the notification manager decides. The store tells of
//! each in one transaction that takes it from what is held, so that of any number of nodes one does. What is held is
//! in no feed and not unread until then.

use std::sync::Arc;
use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::now_ms;
use backplane::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::notifications::created;

/// How often it is looked whether something is due.
pub const EVERY: Duration = Duration::from_secs(1);
/// How many are read at a time.
const BATCH: u32 = 100;
/// The longest wait after a failure of the store.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// The job.
pub struct Digest {
    /// Where notifications are.
    pub store: Arc<dyn Store>,
    /// How often it is looked: [`EVERY`].
    pub every: Duration,
}

impl Digest {
    /// Runs until `stop`; a round that fails is logged and tried again.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.every, RETRY_MOST);
        let mut wait = self.every;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = match self.round(&stop).await {
                Ok(()) => {
                    backoff.reset();
                    self.every
                }
                Err(error) => {
                    tracing::warn!(%error, "what is due could not be told; it is tried again");
                    backoff.delay()
                }
            };
        }
    }

    /// Tells all that is due, or stops between two.
    async fn round(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        loop {
            let now = now_ms();
            let due = self.store.due_notifications(now, BATCH).await?;
            let full = due.len() == BATCH as usize;
            for (user, id) in due {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let new = Uuid::now_v7().to_string();
                self.store
                    .release_notification(&user, &id, &new, now, &created)
                    .await?;
            }
            if !full {
                return Ok(());
            }
        }
    }
}

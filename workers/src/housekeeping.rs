//! Housekeeping: deletes what is past its time from the store, now and then.
//!
//! Owns nothing but its schedule; what may go is decided by the store's contract. Safe on any number
//! of nodes at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backplane::store::Store;
use tokio_util::sync::CancellationToken;

/// The job.
pub struct Housekeeping {
    /// The store to keep.
    pub store: Arc<dyn Store>,
    /// How long between rounds.
    pub every: Duration,
    /// Login sessions and refresh tokens that ended longer ago than this go.
    pub keep_ended: Duration,
    /// Automatic versions kept of each document.
    pub keep_auto_versions: u32,
}

impl Housekeeping {
    /// Runs until `stop`; a round that fails is logged and tried again at the next.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let ended_before = now.saturating_sub(self.keep_ended).as_millis() as u64;
            match self
                .store
                .housekeep(ended_before, self.keep_auto_versions)
                .await
            {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "housekeeping deleted what was past its time"),
                Err(error) => tracing::warn!(%error, "housekeeping failed; it is tried again"),
            }
        }
    }
}

//! Housekeeping: deletes what is past its time from the store, now and then.
//!
//! Owns nothing but its schedule; what may go is decided by the store's contract. Safe on any number
//! of nodes at once.

use std::sync::Arc;
use std::time::Duration;

use backplane::now_ms;
use backplane::store::{Keep, Store};
use tokio_util::sync::CancellationToken;

/// How long a consumer remembers at least which events it took: longer than a message can wait to be
/// delivered a second time. It remembers those of the log for as long as they can be replayed.
const KEEP_TAKEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long changes of rights are kept. Nodes read them within a second; one that was away for longer
/// checks everything anew.
const KEEP_CHANGES: Duration = Duration::from_secs(24 * 3600);

/// The job.
pub struct Housekeeping {
    /// The store to keep.
    pub store: Arc<dyn Store>,
    /// How long between rounds.
    pub every: Duration,
    /// Login sessions and refresh tokens that ended longer ago than this go.
    pub keep_ended: Duration,
    /// How long notifications are kept, by when they were made.
    pub keep_notifications: Duration,
    /// Automatic versions kept of each document.
    pub keep_auto_versions: u32,
    /// Events of the log that happened longer ago than this go.
    pub keep_events: Duration,
}

impl Housekeeping {
    /// Runs until `stop`; a round that fails is logged and tried again at the next.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let now = now_ms();
            let ago = |time: Duration| now.saturating_sub(time.as_millis() as u64);
            let keep = Keep {
                ended_since: ago(self.keep_ended),
                auto_versions: self.keep_auto_versions,
                inbox_since: ago(KEEP_TAKEN.max(self.keep_events)),
                changes_since: ago(KEEP_CHANGES),
                notified_since: ago(self.keep_notifications),
                logged_since: ago(self.keep_events),
            };
            match self.store.housekeep(&keep).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "housekeeping deleted what was past its time"),
                Err(error) => tracing::warn!(%error, "housekeeping failed; it is tried again"),
            }
        }
    }
}

//! Reading what a subscribed channel has missed: on its first subscription, after a gap, after an outage.
//!
//! One task per channel that is filling; all of them together bounded by permits. A task ends when the
//! channel is level, or nobody is subscribed any more, and never gives up before.

use std::sync::Arc;
use std::time::Duration;

use protocol::Position;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::channel::{Local, RETURN_TIME, Reached, Taken};
use crate::broker::BrokerError;

/// Most messages that are read at once.
const PAGE: usize = 256;
/// How long a task waits after a failure, doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long nothing may arrive before what is awaited is fetched. Deliveries are usually ahead of answers.
const ARRIVAL: Duration = Duration::from_millis(200);
/// How long deliveries may lag behind an answer before the caller is refused.
const LAG: Duration = Duration::from_secs(5);

impl Shared {
    /// Fills a channel unless that is under way. `all`: nothing before now can be relied on.
    pub(super) fn refill(self: &Arc<Self>, local: &Arc<Local>, all: bool) {
        if local.begin_fill(all) {
            self.spawn_fill(Arc::clone(local));
        }
    }

    /// Begins to fill a channel that was just marked as filling.
    pub(super) fn spawn_fill(self: &Arc<Self>, local: Arc<Local>) {
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            let stop = shared.stop.clone();
            stop.run_until_cancelled(shared.fill(&local)).await;
        });
    }

    async fn fill(self: &Arc<Self>, local: &Arc<Local>) {
        let mut pause = PAUSE;
        while !local.is_retired() {
            let filled = {
                let Ok(_permit) = self.fills.acquire().await else {
                    return;
                };
                self.fill_once(local).await
            };
            match filled {
                Ok(true) => break,
                Ok(false) => pause = PAUSE,
                Err(error) => {
                    local.not_opened(&error);
                    local.begin_fill(true);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        // Nobody waits unless the last subscription ended meanwhile.
        local.not_opened(&BrokerError::Unavailable(
            "the subscription has ended".into(),
        ));
    }

    /// Reads what is missing and delivers it; `false` if more came to be missing meanwhile.
    async fn fill_once(self: &Arc<Self>, local: &Arc<Local>) -> Result<bool, BrokerError> {
        let deliver = &*self.deliver;
        let task = local.task();
        let mut since = task.since;
        if since.is_none() {
            let link = &self.scripts.link;
            match local.if_subscribed(|| link.subscribe(&local.topic)) {
                Some(stands) => stands.await?,
                None => return Ok(true),
            }
        }
        loop {
            // A first subscription only has to know where it begins.
            let limit = if since.is_some() { PAGE } else { 0 };
            let page = self
                .scripts
                .history(&local.name, since.as_ref(), limit)
                .await?;
            let taken = local.take_page(&page, deliver);
            if taken == Taken::Values {
                let values = self.scripts.latest(&local.name).await?;
                local.take_values(&values, deliver);
            }
            if taken != Taken::More {
                break;
            }
            let last = page.messages.last().map(|last| last.offset);
            since = Some(Position {
                offset: last.unwrap_or(page.newest.offset),
                epoch: page.newest.epoch,
            });
        }
        if task.presence {
            self.compare_members(local).await?;
        }
        Ok(local.end_fill(task.waiting, deliver))
    }

    /// Tells how a channel's members differ from what was told; later again if that could not be said yet.
    async fn compare_members(self: &Arc<Self>, local: &Arc<Local>) -> Result<(), BrokerError> {
        let members = self.read_members(&local.topic).await?;
        if local.take_members(members, &*self.deliver) {
            let (shared, local) = (Arc::downgrade(self), Arc::clone(local));
            let stop = self.stop.clone();
            self.runtime.spawn(async move {
                let waited = stop.run_until_cancelled(sleep(RETURN_TIME)).await;
                if waited.is_some()
                    && let Some(shared) = shared.upgrade()
                {
                    shared.refill(&local, true);
                }
            });
        }
        Ok(())
    }

    /// Waits until everything up to `position` was delivered to this node. `false`: this node has gone over to
    /// another epoch, so what was read is out of date.
    ///
    /// # Errors
    /// `Unavailable` if that does not come about within five seconds.
    pub(super) async fn arrived(
        self: &Arc<Self>,
        local: &Arc<Local>,
        position: &Position,
    ) -> Result<bool, BrokerError> {
        let wait = async {
            let mut filled = false;
            loop {
                let changed = local.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match local.reached(position) {
                    Reached::Yes => return true,
                    Reached::Elsewhere if filled => return false,
                    Reached::Elsewhere => {
                        filled = true;
                        self.refill(local, false);
                    }
                    Reached::Behind | Reached::Filling => {}
                }
                if timeout(ARRIVAL, changed).await.is_err() {
                    self.refill(local, false);
                }
            }
        };
        let lags = |_| BrokerError::Unavailable("deliveries lag behind".into());
        timeout(LAG, wait).await.map_err(lags)
    }
}

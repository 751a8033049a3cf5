//! What connections use: their time and bytes, handed to the meter now and then, when they end, and when they begin to
//! count for somebody else.
//!
//! Owns up to when each connection is counted. An idle connection costs nothing between two looks.

use std::sync::Arc;
use std::time::Duration;

use backplane::store::Store;
use tokio_util::sync::CancellationToken;

use super::{Connections, Entry, Place};
use crate::now_ms;
use crate::usage::{Meter, Tally, left_of_hour};

impl Connections {
    /// Where what is used is gathered.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Milliseconds since the first connection could be made.
    pub(super) fn uptime_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Hands over what a connection has used since the last time; that of one whose user is not known yet waits.
    pub(super) fn settle_entry(&self, entry: &mut Entry) {
        let Some(user) = &entry.user else {
            return;
        };
        let until = self.uptime_ms();
        let elapsed = until.saturating_sub(entry.counted);
        entry.counted = until;
        let moved = entry.queue.take_moved();
        let project = entry.project.as_ref();
        self.meter
            .connected(user, project, (elapsed, now_ms()), moved);
    }

    /// The same of all connections.
    pub fn settle(&self) {
        for mut entry in self.entries.iter_mut() {
            self.settle_entry(&mut entry);
        }
    }
}

impl Place {
    /// Where the user's messages and edits in a project are counted.
    #[must_use]
    pub fn tally(&self, user: &Arc<str>, project: &str) -> Arc<Tally> {
        self.connections.meter.tally(user, project)
    }

    /// States the project that the connection's time and bytes count for from now on; `None`: for its user alone.
    pub fn count_for(&self, project: Option<&Arc<str>>) {
        let Some(mut entry) = self.connections.entries.get_mut(&self.id) else {
            return;
        };
        if entry.project.as_ref() != project {
            self.connections.settle_entry(&mut entry);
            entry.project = project.map(Arc::clone);
        }
    }
}

/// Writes what is used into the store: each time that `every` has passed, when an hour ends, and once more at `stop`.
pub async fn keep_accounts(
    connections: Arc<Connections>,
    store: Arc<dyn Store>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut failing = false;
    loop {
        let wait = every.min(Duration::from_millis(left_of_hour(now_ms())));
        let last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(wait) => false,
        };
        connections.settle();
        match connections.meter.write(&*store, now_ms()).await {
            Ok(()) => failing = false,
            Err(error) if last => {
                tracing::error!(%error, "the last of what was used is not written");
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "usage can't be written now; it waits");
            }
            Err(_) => {}
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use backplane::store::sqlite::SqliteStore;
    use backplane::store::usage::Granularity;
    use backplane::store::{Amounts, Project, UsageOf, User};

    use super::*;
    use crate::auth::Principal;
    use crate::limits::MemoryBudget;
    use crate::sendq::SendQueue;

    async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let user = User {
            id: "ann".into(),
            login: "ann".into(),
            name: "Ann".into(),
            password_hash: "x".into(),
            created_at: 1,
        };
        store.add_user(&user).await.unwrap();
        let project = Project {
            id: "p1".into(),
            name: "One".into(),
            created_at: 1,
        };
        store.add_project(&project, "ann", &[]).await.unwrap();
        store
    }

    async fn used(store: &dyn Store, of: UsageOf<'_>) -> Amounts {
        let read = store.usage(of, 0, u64::MAX / 2, Granularity::Total);
        let read = read.await.unwrap();
        read.first().map(|all| all.amounts).unwrap_or_default()
    }

    fn take(queue: &SendQueue) {
        // Whoever comes in is asked to check rights once.
        let _ = queue.take_recheck();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = queue.poll_take(&mut context, 1000, true, &mut drop);
    }

    /// Bytes and time go to the project that the connection is for at the time, and to its user in any case; the last
    /// of it comes with its end and with the end of the job.
    #[tokio::test]
    async fn a_connection_is_counted_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let connections = Connections::new(10, 10, Arc::new(MemoryBudget::new(0)));
        let queue = Arc::new(SendQueue::new(1024));
        let place = connections.admit(&queue, None).unwrap();
        queue.note_came(5);
        let principal = Principal {
            user: "ann".into(),
            name: "Ann".into(),
            login_session: "l".into(),
            expires_ms: u64::MAX,
        };
        place.identify(&principal).unwrap();
        let stop = CancellationToken::new();
        let every = Duration::from_millis(20);
        let job = keep_accounts(
            Arc::clone(&connections),
            Arc::clone(&store),
            every,
            stop.clone(),
        );
        let job = tokio::spawn(job);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let project: Arc<str> = "p1".into();
        place.count_for(Some(&project));
        place.tally(&principal.user, "p1").message();
        queue.note_came(7);
        queue.reply(Arc::from(&b"eleven byte"[..]));
        take(&queue);
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(place);
        stop.cancel();
        job.await.unwrap();
        let (all, ours) = (
            used(&*store, UsageOf::User("ann")).await,
            used(&*store, UsageOf::Project("p1")).await,
        );
        assert_eq!((all.bytes_in, all.bytes_out, all.messages), (12, 11, 1));
        assert_eq!((ours.bytes_in, ours.bytes_out, ours.messages), (7, 11, 1));
        assert!(all.connected_ms >= 390, "{all:?}");
        assert!(
            (190..all.connected_ms).contains(&ours.connected_ms),
            "{ours:?}"
        );
    }
}

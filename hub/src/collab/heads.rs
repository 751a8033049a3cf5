//! How far the logs of documents have come, for those who follow a document by its log.
//!
//! What this node commits is told at once; what other nodes commit is found by a look at the heads, of all
//! watched documents in one question. Never opens a document.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backplane::store::Store;
use dashmap::DashMap;
use tokio::sync::watch;

/// How often the store is asked while other nodes may write.
const OFTEN: Duration = Duration::from_millis(250);
/// And while none can: only a deletion is found so.
const NOW_AND_THEN: Duration = Duration::from_secs(2);
/// Documents in one question.
const PAGE: usize = 500;
/// The head of a document that is gone.
const GONE: u64 = u64::MAX;

/// The watched documents of this node.
#[derive(Default)]
pub(super) struct Heads(DashMap<Arc<str>, watch::Sender<u64>>);

/// One document being watched; dropping it ends that.
pub(super) struct Watched {
    heads: Arc<Heads>,
    id: Arc<str>,
    seen: watch::Receiver<u64>,
}

/// What became of a watched document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Its log may reach further than before.
    On,
    /// It is gone.
    Gone,
}

impl Heads {
    pub(super) fn watch(self: &Arc<Self>, id: &Arc<str>) -> Watched {
        let entry = self.0.entry(Arc::clone(id));
        let seen = entry.or_insert_with(|| watch::Sender::new(0)).subscribe();
        Watched {
            heads: Arc::clone(self),
            id: Arc::clone(id),
            seen,
        }
    }

    /// The log of a document reaches to `seq`.
    pub(super) fn tell(&self, id: &str, seq: u64) {
        if let Some(head) = self.0.get(id) {
            head.send_if_modified(|head| {
                let further = *head < seq;
                *head = seq.max(*head);
                further
            });
        }
    }

    /// Asks the store for as long as somebody keeps this.
    pub(super) async fn look(this: Weak<Self>, store: Arc<dyn Store>, has_peers: bool) {
        let every = if has_peers { OFTEN } else { NOW_AND_THEN };
        loop {
            tokio::time::sleep(every).await;
            let Some(heads) = this.upgrade() else { return };
            let ids: Vec<String> = heads
                .0
                .iter()
                .map(|entry| entry.key().to_string())
                .collect();
            for page in ids.chunks(PAGE) {
                let Ok(found) = store.heads(page).await else {
                    break;
                };
                let found: HashMap<String, u64> = found.into_iter().collect();
                for id in page {
                    heads.tell(id, found.get(id).copied().unwrap_or(GONE));
                }
            }
        }
    }
}

impl Watched {
    /// Waits until the log reaches further than it was known to.
    pub(super) async fn moved(&mut self) -> Moved {
        // The sender stands in the map for as long as this does.
        let _ = self.seen.changed().await;
        match *self.seen.borrow_and_update() {
            GONE => Moved::Gone,
            _ => Moved::On,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Gone before it is counted: two that leave at once must not each count the other.
        let (_, unwatched) = watch::channel(0);
        drop(std::mem::replace(&mut self.seen, unwatched));
        let last = |_: &Arc<str>, head: &watch::Sender<u64>| head.receiver_count() == 0;
        self.heads.0.remove_if(&self.id, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_is_told_and_nobody_is_remembered() {
        let heads = Arc::new(Heads::default());
        let id: Arc<str> = "d1".into();
        heads.tell("d1", 5);
        let (mut one, other) = (heads.watch(&id), heads.watch(&id));
        heads.tell("d1", 7);
        assert_eq!(one.moved().await, Moved::On);
        heads.tell("d1", 6);
        let quiet = tokio::time::timeout(Duration::from_millis(20), one.moved()).await;
        assert!(quiet.is_err(), "an older head is no news");
        heads.tell("d1", GONE);
        assert_eq!(one.moved().await, Moved::Gone);
        drop(one);
        assert_eq!(heads.0.len(), 1);
        drop(other);
        assert!(heads.0.is_empty());
    }
}

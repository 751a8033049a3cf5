//! Snapshots and versions: made from what the store has, never from what is in memory.
//!
//! With several nodes a replica may lack what the log has already, so a snapshot of it could cut off what it
//! never saw. Both are made by loading and encoding again, by the one node that holds the document's lease;
//! the snapshot is saved under its fence.

use std::sync::Arc;
use std::time::Duration;

use backplane::store::{Fence, Loaded, Snapshot, StoreError, Version, VersionKind};
use bytes::Bytes;
use tokio::time::Instant;

use super::Context;
use super::commit::load_replica;
use super::doc::Actor;
use super::mailbox::Control;
use crate::now_ms;

/// How long the lease of a document's upkeep lasts; who takes longer is fenced off.
const LEASE: Duration = Duration::from_secs(60);
/// Updates in the log's tail that make a snapshot worth it when the document is closed.
const WORTH_IT: u64 = 64;

/// When to compact and to keep a version.
pub(super) struct Upkeep {
    /// Bytes of the document, by estimate: its snapshot and what came after.
    pub(super) size: usize,
    snapshot_seq: u64,
    pub(super) tail_bytes: usize,
    under_way: bool,
    version_seq: u64,
    version_at: Instant,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    snapshot: bool,
    version: bool,
    version_edits: u64,
    version_interval: Duration,
}

/// What was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tended {
    /// The log was cut up to here.
    snapshot: Option<u64>,
    /// Bytes of the state.
    size: usize,
}

impl Upkeep {
    pub(super) fn new(loaded: &Loaded) -> Self {
        let snapshot = loaded.snapshot.as_ref();
        let updates = loaded.tail.iter().flat_map(|frame| &frame.updates);
        let tail_bytes: usize = updates.map(Bytes::len).sum();
        Self {
            size: snapshot.map_or(0, |snapshot| snapshot.state.len()) + tail_bytes,
            snapshot_seq: snapshot.map_or(0, |snapshot| snapshot.seq),
            tail_bytes,
            under_way: false,
            version_seq: loaded.document.head,
            version_at: Instant::now(),
        }
    }
}

impl Actor {
    fn snapshot_due(&self) -> bool {
        let settings = &self.context.settings.collab;
        let updates = self.known_log().saturating_sub(self.upkeep.snapshot_seq);
        updates >= settings.compact_updates || self.upkeep.tail_bytes >= settings.compact_bytes
    }

    /// A version is due when there were many edits, or some and much time.
    fn version_due(&self) -> bool {
        let settings = &self.context.settings.collab;
        let edits = self.known_log().saturating_sub(self.upkeep.version_seq);
        edits >= settings.version_edits
            || (edits > 0 && self.upkeep.version_at.elapsed() >= settings.version_interval)
    }

    /// Starts what is due, beside the edits.
    pub(super) fn tend_if_due(&mut self) {
        if self.upkeep.under_way {
            return;
        }
        let wanted = self.wanted(self.snapshot_due(), self.version_due());
        if !wanted.snapshot && !wanted.version {
            return;
        }
        // Whether this node or another does it: it is not due again before as much has come again.
        self.upkeep.under_way = true;
        if wanted.snapshot {
            self.upkeep.snapshot_seq = self.known_log();
            self.upkeep.tail_bytes = 0;
        }
        if wanted.version {
            self.upkeep.version_seq = self.known_log();
            self.upkeep.version_at = Instant::now();
        }
        let (context, control) = (Arc::clone(&self.context), self.control.clone());
        let key = Arc::clone(&self.key);
        tokio::spawn(async move {
            let tended = tend(&context, &key, wanted).await;
            // The document may be gone by now.
            let _ = control.send(Control::Tended(tended));
        });
    }

    fn wanted(&self, snapshot: bool, version: bool) -> Wanted {
        let settings = &self.context.settings.collab;
        Wanted {
            snapshot,
            version,
            version_edits: settings.version_edits,
            version_interval: settings.version_interval,
        }
    }

    pub(super) fn on_tended(&mut self, result: Result<Option<Tended>, StoreError>) {
        self.upkeep.under_way = false;
        match result {
            Ok(Some(tended)) => {
                if let Some(seq) = tended.snapshot {
                    self.upkeep.snapshot_seq = self.upkeep.snapshot_seq.max(seq);
                    self.upkeep.size = tended.size;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(document = %self.key, %error, "no snapshot or version was made; the log has it all");
            }
        }
    }

    /// Before the document is closed: a snapshot if the tail has grown, so that it opens fast again.
    pub(super) async fn tidy_up(&mut self) {
        let updates = self.known_log().saturating_sub(self.upkeep.snapshot_seq);
        if self.upkeep.under_way || updates < WORTH_IT {
            return;
        }
        let wanted = self.wanted(true, false);
        if let Err(error) = tend(&self.context, &self.key, wanted).await {
            tracing::warn!(document = %self.key, %error, "a snapshot was not saved; the log has it all");
        }
    }
}

/// Makes a snapshot or a version, unless another node is at it.
async fn tend(context: &Context, key: &str, wanted: Wanted) -> Result<Option<Tended>, StoreError> {
    let lease = format!("document:{key}");
    let owner = &**context.mesh.node();
    let Some(fence) = context.store.lease(&lease, owner, LEASE).await? else {
        return Ok(None);
    };
    let tended = tend_alone(context, key, wanted, &fence).await;
    // A lease that is not given up runs out by itself.
    if let Err(error) = context.store.release(&lease, owner).await {
        tracing::debug!(%lease, %error, "a lease was not given up");
    }
    tended.map(Some)
}

async fn tend_alone(
    context: &Context,
    key: &str,
    wanted: Wanted,
    fence: &Fence,
) -> Result<Tended, StoreError> {
    let (loaded, replica) = load_replica(context.store.load(key).await?).await?;
    let seq = loaded.document.head;
    drop(loaded);
    let state = tokio::task::spawn_blocking(move || replica.state())
        .await
        .map_err(|error| StoreError::Corrupt(error.to_string()))?
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let state = Bytes::from(state);
    let mut tended = Tended {
        snapshot: None,
        size: state.len(),
    };
    if wanted.version && version_missing(context, key, seq, wanted).await? {
        let version = Version {
            id: uuid::Uuid::now_v7().to_string(),
            document_id: key.to_owned(),
            seq,
            kind: VersionKind::Auto,
            name: String::new(),
            author_id: None,
            created_at: now_ms(),
        };
        context.store.add_version(&version, &state).await?;
    }
    if wanted.snapshot {
        let snapshot = Snapshot { seq, state };
        context
            .store
            .save_snapshot(key, &snapshot, Some(fence), now_ms())
            .await?;
        tended.snapshot = Some(seq);
    }
    Ok(tended)
}

/// Whether no other node has kept a version of this lately.
async fn version_missing(
    context: &Context,
    key: &str,
    seq: u64,
    wanted: Wanted,
) -> Result<bool, StoreError> {
    let newest = context.store.versions(key, None, 10).await?;
    Ok(newest
        .iter()
        .find(|version| version.kind == VersionKind::Auto)
        .is_none_or(|version| {
            let age = now_ms().saturating_sub(version.created_at);
            let edits = seq.saturating_sub(version.seq);
            edits >= wanted.version_edits
                || (edits > 0 && age >= wanted.version_interval.as_millis() as u64)
        }))
}

//! Vectors: made for texts that have none, dropped when no chunk has their text any more.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use backplane::store::StoreError;
use backplane::store::context::{Hash, Vectorless};
use tokio::time::{Instant, sleep};

use super::lease::{Lease, VECTORS};
use super::{Indexer, failed, tell_used};
use crate::embeddings::Embedder;

/// Chunks that are looked at in one statement.
const PAGE: u32 = 256;
/// How often all chunks are walked again: one whose number was taken before that of a chunk which was there
/// first is found then.
const ANEW: Duration = Duration::from_secs(300);
/// How often vectors that nobody uses are looked for.
const TIDY: Duration = Duration::from_secs(3600);
/// Vectors that are looked at in one statement then.
const TIDY_PAGE: u32 = 1000;
/// How long a model that failed is left alone.
const REST: Duration = Duration::from_secs(30);

/// Never ends.
pub(super) async fn keep(job: &Indexer) {
    let mut lease = Lease::new(VECTORS);
    let mut after = 0;
    let (mut anew_at, mut tidy_at) = (Instant::now() + ANEW, Instant::now() + TIDY);
    loop {
        let now = Instant::now();
        if now >= anew_at {
            (after, anew_at) = (0, now + ANEW);
        }
        match round(job, &mut lease, &mut after, now >= tidy_at).await {
            Ok(true) if now >= tidy_at => tidy_at = now + TIDY,
            Ok(_) => {}
            Err(error) => failed("vectors can't be kept", &error).await,
        }
        sleep(job.every).await;
    }
}

/// Makes what is missing; whether this node has the lease.
async fn round(
    job: &Indexer,
    lease: &mut Lease,
    after: &mut u64,
    tidy: bool,
) -> Result<bool, StoreError> {
    if job.embedder.is_none() && !tidy {
        return Ok(true);
    }
    if !lease.is_held(&*job.store, &job.owner).await? {
        return Ok(false);
    }
    if tidy {
        let mut from = Some(0);
        while let Some(at) = from {
            (_, from) = job.store.drop_unused_vectors(at, TIDY_PAGE).await?;
        }
    }
    let Some(embedder) = &job.embedder else {
        return Ok(true);
    };
    loop {
        let walked = job
            .store
            .missing_vectors(embedder.model(), *after, PAGE)
            .await?;
        if !embed(job, &**embedder, walked.found).await? {
            sleep(REST).await;
            return Ok(true);
        }
        // The last page is read again until it is full: chunks come behind its end.
        let Some(next) = walked.next else {
            return Ok(true);
        };
        *after = next;
        if !lease.is_held(&*job.store, &job.owner).await? {
            return Ok(false);
        }
    }
}

/// Makes vectors of texts, by project; `false` if the model failed.
async fn embed(
    job: &Indexer,
    embedder: &dyn Embedder,
    missing: Vec<Vectorless>,
) -> Result<bool, StoreError> {
    let mut by_project: BTreeMap<String, (Vec<Hash>, Vec<String>)> = BTreeMap::new();
    let mut seen = HashSet::new();
    for one in missing {
        if seen.insert(one.hash) {
            let (hashes, texts) = by_project.entry(one.project_id).or_default();
            hashes.push(one.hash);
            texts.push(one.text);
        }
    }
    for (project, (hashes, texts)) in by_project {
        let embedded = match embedder.embed(&texts).await {
            Ok(embedded) if embedded.vectors.len() == texts.len() => embedded,
            Ok(_) => {
                tracing::warn!("an embedding model gave another number of vectors than asked for");
                return Ok(false);
            }
            Err(error) => {
                tracing::warn!(%error, "vectors can't be made; it is tried again");
                return Ok(false);
            }
        };
        let vectors: Vec<(Hash, Vec<f32>)> = hashes.into_iter().zip(embedded.vectors).collect();
        job.store.put_vectors(embedder.model(), &vectors).await?;
        tell_used(&*job.store, &project, embedder, embedded.tokens, "index").await;
    }
    Ok(true)
}

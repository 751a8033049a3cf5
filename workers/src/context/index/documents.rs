//! Documents: their heads are walked, and who is not indexed as it is is read and cut.

use std::collections::HashMap;
use std::time::Duration;

use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::store::context::{ContextFile, FileSource, NewChunk, Stale};
use backplane::store::{Loaded, StoreError};
use futures::StreamExt;
use tokio::time::{Instant, sleep};

use super::lease::{DOCUMENTS, Lease};
use super::{Indexer, failed};
use crate::context::chunk;

/// Documents that are looked at in one statement.
const PAGE: u32 = 2000;
/// Documents that are read and cut at once.
const AT_ONCE: usize = 2;
/// A document is left alone for so many times as long as its indexing took: one that costs much is not indexed at
/// each keystroke.
const REST: u32 = 10;
/// How long one that could not be indexed is left alone.
const FAILED: Duration = Duration::from_secs(60);

/// Never ends.
pub(super) async fn keep(job: &Indexer) {
    let mut lease = Lease::new(DOCUMENTS);
    let mut resting: HashMap<String, Instant> = HashMap::new();
    loop {
        if let Err(error) = round(job, &mut lease, &mut resting).await {
            failed("documents can't be indexed", &error).await;
        }
        sleep(job.every).await;
    }
}

/// Looks at every document once.
async fn round(
    job: &Indexer,
    lease: &mut Lease,
    resting: &mut HashMap<String, Instant>,
) -> Result<(), StoreError> {
    let now = Instant::now();
    resting.retain(|_, until| *until > now);
    let mut after = Some(String::new());
    while let Some(from) = after {
        if !lease.is_held(&*job.store, &job.owner).await? {
            return Ok(());
        }
        let walked = job.store.stale_documents(&from, PAGE).await?;
        let due: Vec<Stale> = walked
            .found
            .into_iter()
            .filter(|stale| !resting.contains_key(&stale.document_id))
            .collect();
        let mut done = futures::stream::iter(due)
            .map(|stale| timed(job, stale))
            .buffer_unordered(AT_ONCE);
        while let Some((id, rest)) = done.next().await {
            if rest > job.every {
                resting.insert(id, Instant::now() + rest);
            }
        }
        after = walked.next;
    }
    Ok(())
}

/// Indexes a document; how long it is to be left alone then.
async fn timed(job: &Indexer, stale: Stale) -> (String, Duration) {
    let began = Instant::now();
    match index(job, &stale.document_id).await {
        Ok(()) => (stale.document_id, began.elapsed() * REST),
        Err(error) => {
            let id = &stale.document_id;
            tracing::warn!(%error, id, "a document can't be indexed; it is tried again");
            (stale.document_id, FAILED)
        }
    }
}

async fn index(job: &Indexer, id: &str) -> Result<(), StoreError> {
    let loaded = match job.store.load(id).await {
        Ok(loaded) => loaded,
        // It went meanwhile.
        Err(StoreError::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    let bytes = job.file_bytes;
    let made = tokio::task::spawn_blocking(move || made(&loaded, bytes)).await;
    let made = made.unwrap_or_else(|error| Err(StoreError::Corrupt(error.to_string())));
    let (file, chunks) = made?;
    job.store.put_file(&file, &chunks).await.map(drop)
}

/// A document as it is indexed.
fn made(loaded: &Loaded, file_bytes: usize) -> Result<(ContextFile, Vec<NewChunk>), StoreError> {
    let document = &loaded.document;
    let text = Replica::from_loaded(loaded)?.text(DEFAULT_ROOT);
    let file = ContextFile {
        project_id: document.project_id.clone(),
        source: FileSource::Document(document.id.clone()),
        path: document.path.clone(),
        hash: chunk::fingerprint(&document.path, &text),
        seq: document.head,
    };
    let chunks = match text.len() <= file_bytes {
        true => chunk::cut(&document.path, &text),
        false => Vec::new(),
    };
    Ok((file, chunks))
}

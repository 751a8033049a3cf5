//! Repositories: each is walked at intervals, what changed is put, what is gone is removed.

use std::collections::HashMap;

use backplane::now_ms;
use backplane::store::StoreError;
use backplane::store::context::{ContextFile, FileSource, Hash, NewChunk};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::lease::{Lease, of_repository};
use super::{Indexer, failed};
use crate::context::chunk;
use crate::context::repository::{self, Repository};

/// Files that were read and wait to be put.
const AHEAD: usize = 4;
/// Files that are listed or removed in one statement.
const PAGE: u32 = 1000;

/// Never ends.
pub(super) async fn keep(job: &Indexer) {
    let mut leases: Vec<Lease> = job
        .repositories
        .iter()
        .map(|one| Lease::new(of_repository(&one.project)))
        .collect();
    loop {
        for (one, lease) in job.repositories.iter().zip(&mut leases) {
            if let Err(error) = look_at(job, one, lease).await {
                failed("a repository can't be indexed", &error).await;
            }
        }
        sleep(job.interval).await;
    }
}

/// A file that is to be put: its path, what it is made of, and its chunks unless they are known.
type Read = (String, Hash, Option<Vec<NewChunk>>);

async fn look_at(job: &Indexer, one: &Repository, lease: &mut Lease) -> Result<(), StoreError> {
    if !lease.is_held(&*job.store, &job.owner).await? {
        return Ok(());
    }
    let seq = now_ms();
    let mut known = known(job, &one.project).await?;
    let (folder, bytes, hashes) = (one.folder.clone(), job.file_bytes, known.clone());
    let (hand, mut read) = mpsc::channel::<Read>(AHEAD);
    let walk = tokio::task::spawn_blocking(move || {
        repository::walk(&folder, bytes, |path, text| {
            let hash = chunk::fingerprint(&path, &text);
            let is_new = hashes.get(&path) != Some(&hash);
            let chunks = is_new.then(|| chunk::cut(&path, &text));
            hand.blocking_send((path, hash, chunks)).is_ok()
        })
    });
    while let Some((path, hash, chunks)) = read.recv().await {
        known.remove(&path);
        let Some(chunks) = chunks else { continue };
        let file = ContextFile {
            project_id: one.project.clone(),
            source: FileSource::Repository,
            path,
            hash,
            seq,
        };
        if !job.store.put_file(&file, &chunks).await? {
            // The project is gone, or somebody else walked later.
            return Ok(());
        }
        if !lease.is_held(&*job.store, &job.owner).await? {
            return Ok(());
        }
    }
    let folder = one.folder.display();
    match walk.await {
        Ok(Ok(())) => {}
        // What was not seen may still be there.
        Ok(Err(error)) => {
            tracing::warn!(%error, %folder, "a repository can't be read whole");
            return Ok(());
        }
        Err(error) => {
            tracing::warn!(%error, %folder, "a repository can't be walked");
            return Ok(());
        }
    }
    let gone: Vec<String> = known.into_keys().collect();
    for paths in gone.chunks(PAGE as usize) {
        job.store.remove_files(&one.project, paths, seq).await?;
    }
    Ok(())
}

/// The files that the index has of a repository.
async fn known(job: &Indexer, project: &str) -> Result<HashMap<String, Hash>, StoreError> {
    let mut known = HashMap::new();
    let mut after = String::new();
    loop {
        let page = job.store.repository_files(project, &after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        if let Some((path, _)) = page.last() {
            after.clone_from(path);
        }
        known.extend(page);
        if is_last {
            return Ok(known);
        }
    }
}

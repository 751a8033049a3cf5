//! The job that keeps the index current: documents, repositories, vectors.
//!
//! Owns when what is looked at. Of all nodes on a store one at a time indexes documents, one makes vectors and one walks a
//! project's repository, by leases; two at once would only do the same twice, as the store takes no older state over a
//! newer. Nothing tells the job of an edit: it walks the documents' heads, so that nothing can be missed.

mod documents;
mod folders;
mod lease;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use backplane::now_ms;
use backplane::store::{Store, StoreError};
use protocol::Event;
use protocol::event::kind;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::repository::Repository;
use crate::ai::Tokens;
use crate::embeddings::Embedder;

/// How often documents are looked at: one that is being written in is indexed at most that often.
pub const EVERY: Duration = Duration::from_secs(1);
/// How long the job waits after the store has failed.
const RETRY: Duration = Duration::from_secs(5);

/// The job.
pub struct Indexer {
    /// Where documents and the index are.
    pub store: Arc<dyn Store>,
    /// The node's id, so that its leases are free when it departs.
    pub owner: String,
    /// How often documents are looked at: [`EVERY`].
    pub every: Duration,
    /// Largest text that is indexed, bytes. A larger document is known, and nothing of it is found.
    pub file_bytes: usize,
    /// Repositories of projects, on this node's disk.
    pub repositories: Vec<Repository>,
    /// How often they are looked at.
    pub interval: Duration,
    /// Makes vectors, if a model is set.
    pub embedder: Option<Arc<dyn Embedder>>,
}

impl Indexer {
    /// Runs until `stop`; survives outages of the store and of the model of any length.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            tokio::join!(
                Box::pin(documents::keep(&self)),
                Box::pin(folders::keep(&self)),
                Box::pin(vectors::keep(&self)),
            )
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
        lease::give_up(&*self.store, &self.owner, &self.repositories).await;
    }
}

/// Says that the store failed, and waits.
async fn failed(what: &str, error: &StoreError) {
    tracing::warn!(%error, "{what}; it is tried again");
    sleep(RETRY).await;
}

/// Tells what a model was asked for. If that can't be told the work stands all the same.
pub(super) async fn tell_used(
    store: &dyn Store,
    project: &str,
    embedder: &dyn Embedder,
    tokens: Tokens,
    what_for: &str,
) {
    let data = json!({
        "model": embedder.model(),
        "tokens_in": tokens.input,
        "tokens_out": tokens.output,
        "estimated": tokens.estimated,
        "for": what_for,
    });
    let subject = format!("project:{project}");
    let event = Event::new(Uuid::now_v7(), kind::AI_USED, subject, now_ms());
    let event = event.in_project(project).with(data);
    if let Err(error) = store.emit(&[event]).await {
        tracing::warn!(%error, "what an embedding model took is not counted");
    }
}

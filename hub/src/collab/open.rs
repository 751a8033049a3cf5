//! Opening a document: joining the other nodes, loading, and what becomes of those who wait meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backplane::mesh::MeshEvent;
use backplane::store::StoreError;
use protocol::ErrorCode;
use tokio::sync::mpsc;

use super::commit;
use super::doc::Actor;
use super::mailbox::{Control, Edit};
use super::nodes::Nodes;
use super::{Context, unavailable};
use crate::error::ApiError;

/// A document that is being opened.
pub(super) struct Open {
    pub(super) context: Arc<Context>,
    pub(super) key: Arc<str>,
    pub(super) control: mpsc::UnboundedSender<Control>,
}

/// However a document's task ends, its place is free afterwards.
impl Drop for Open {
    fn drop(&mut self) {
        self.context.closed(&self.key, &self.control);
    }
}

impl Open {
    async fn nodes(&self, words: mpsc::UnboundedSender<MeshEvent>) -> Nodes {
        let mesh = &self.context.mesh;
        let topic = format!("doc:{}", self.key);
        let membership = match mesh.has_peers() {
            true => Some(mesh.join(&topic, words).await),
            false => None,
        };
        Nodes::new(Arc::clone(mesh), topic, membership)
    }

    pub(super) async fn run(
        self,
        mut control: mpsc::UnboundedReceiver<Control>,
        edits: mpsc::Receiver<Edit>,
    ) {
        // Before it is loaded, so that what other nodes make from here on is in one or the other.
        let (words, mesh) = mpsc::unbounded_channel();
        let nodes = self.nodes(words).await;
        let loaded = match self.context.store.load(&self.key).await {
            Ok(loaded) => commit::load_replica(loaded).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok((loaded, replica)) => {
                let context = Arc::clone(&self.context);
                let actor = Actor::new(context, &loaded, replica, self.control.clone(), nodes);
                // The loaded frames are as large as the document: they must not live as long.
                drop(loaded);
                actor.run(control, edits, mesh).await;
            }
            Err(error) => {
                tracing::warn!(document = %self.key, %error, "a document could not be loaded");
                self.context.closed(&self.key, &self.control);
                control.close();
                while let Some(message) = control.recv().await {
                    refuse(message, &error);
                }
            }
        }
    }
}

/// Looks now and then how far the logs of the open documents have come, and often while the mesh is silent: then
/// the store alone tells what other nodes do.
pub(super) async fn watch_heads(context: Weak<Context>) {
    const NOW_AND_THEN: Duration = Duration::from_secs(3);
    const OFTEN: Duration = Duration::from_millis(500);
    const SILENT: Duration = Duration::from_secs(1);
    const PAGE: usize = 500;
    let mut looked = tokio::time::Instant::now();
    loop {
        let Some(context) = context.upgrade() else {
            return;
        };
        // A task of its own must not keep the documents alive, hence the short turns.
        let asked = tokio::time::timeout(OFTEN, context.look.notified()).await;
        if asked.is_err() && looked.elapsed() < NOW_AND_THEN && context.mesh.silence() < SILENT {
            continue;
        }
        looked = tokio::time::Instant::now();
        let open = context.open.iter().map(|entry| entry.key().to_string());
        let ids: Vec<String> = open.collect();
        for page in ids.chunks(PAGE) {
            match context.store.heads(page).await {
                Ok(heads) => {
                    let heads: HashMap<String, u64> = heads.into_iter().collect();
                    for id in page {
                        if let Some(handle) = context.open.get(id.as_str()) {
                            let word = match heads.get(id) {
                                Some(head) => Control::Head(*head),
                                // Deleted, and the news of that was missed.
                                None => Control::LogFailed(StoreError::NotFound),
                            };
                            // One whose task has ended needs no word.
                            let _ = handle.control.send(word);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the heads of the open documents can't be read");
                    // Again at the next turn: somebody may have asked.
                    tokio::time::sleep(OFTEN).await;
                    context.look.notify_one();
                    break;
                }
            }
        }
    }
}

/// Answers what waited for a document that can't be loaded.
fn refuse(message: Control, error: &StoreError) {
    let error = match error {
        StoreError::NotFound => ApiError::new(ErrorCode::NotFound, "there is no such document"),
        StoreError::Corrupt(_) => ApiError::new(
            ErrorCode::Internal,
            "the document can't be read; the hub's log says why",
        ),
        _ => unavailable("the document can't be loaded now"),
    };
    // Whoever asked may have gone.
    match message {
        Control::Join { joined, .. } => drop(joined.send(Err(error))),
        Control::Ask(request) | Control::Serve(request) | Control::Fresh(_, request) => {
            request.refuse(error);
        }
        Control::Stop(done) => drop(done.send(())),
        Control::Committed { .. }
        | Control::LogFailed(_)
        | Control::Refused { .. }
        | Control::LogRead(_)
        | Control::Head(_)
        | Control::Tended(_)
        | Control::Renew
        | Control::Close(..) => {}
    }
}

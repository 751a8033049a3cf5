//! The mesh inside one process.
//!
//! [`LocalMesh::alone`] is the embedded mode's: nobody to talk to. Several nodes of one process, as tests
//! have them, share topics through [`LocalMesh::peer`]. Never loses a message, so nobody is ever told
//! [`MeshEvent::Restored`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Membership, Mesh, MeshEvent};

/// A node of the mesh inside one process.
pub struct LocalMesh {
    node: Arc<str>,
    /// What it shares with its peers; `None` if it can have none.
    topics: Option<Arc<Topics>>,
}

#[derive(Default)]
struct Topics(Mutex<Members>);

#[derive(Default)]
struct Members {
    by_topic: HashMap<String, Vec<Member>>,
    next: u64,
}

struct Member {
    id: u64,
    node: Arc<str>,
    inbox: mpsc::UnboundedSender<MeshEvent>,
}

impl LocalMesh {
    /// The only node there is.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            node: name(),
            topics: None,
        }
    }

    /// The first node of a mesh.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each one is a mesh of its own")]
    pub fn new() -> Self {
        Self {
            node: name(),
            topics: Some(Arc::default()),
        }
    }

    /// Another node of the same mesh. A node that is [`LocalMesh::alone`] gets another that is alone.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self {
            node: name(),
            topics: self.topics.clone(),
        }
    }
}

fn name() -> Arc<str> {
    Uuid::now_v7().to_string().into()
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mesh for LocalMesh {
    fn node(&self) -> &Arc<str> {
        &self.node
    }

    fn has_peers(&self) -> bool {
        self.topics.is_some()
    }

    fn send(&self, topic: &str, payload: Bytes) {
        let Some(topics) = &self.topics else { return };
        let members = topics.lock();
        let members = members.by_topic.get(topic).into_iter().flatten();
        for member in members.filter(|member| member.node != self.node) {
            // A member whose inbox is closed is about to leave.
            let _ = member.inbox.send(MeshEvent::Message {
                from: Arc::clone(&self.node),
                payload: payload.clone(),
            });
        }
    }

    async fn join(&self, topic: &str, inbox: mpsc::UnboundedSender<MeshEvent>) -> Membership {
        let Some(topics) = &self.topics else {
            return Membership::new(());
        };
        let mut members = topics.lock();
        members.next += 1;
        let id = members.next;
        let node = Arc::clone(&self.node);
        let of_topic = members.by_topic.entry(topic.to_owned()).or_default();
        of_topic.push(Member { id, node, inbox });
        Membership::new(Seat {
            topics: Arc::clone(topics),
            topic: topic.to_owned(),
            id,
        })
    }

    fn silence(&self) -> Duration {
        Duration::ZERO
    }
}

/// Leaves when dropped.
struct Seat {
    topics: Arc<Topics>,
    topic: String,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut members = self.topics.lock();
        if let Some(of_topic) = members.by_topic.get_mut(&self.topic) {
            of_topic.retain(|member| member.id != self.id);
            if of_topic.is_empty() {
                members.by_topic.remove(&self.topic);
            }
        }
    }
}

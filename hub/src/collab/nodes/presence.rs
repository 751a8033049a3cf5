//! Awareness between nodes: each speaks for its own clients, and they go with it.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::PeerId;
use super::super::awareness::Speaker;
use super::super::doc::Actor;
use super::super::words::Word;
use super::NODE_PEERS;

impl Actor {
    pub(in super::super) fn on_nodes_awareness(&mut self, peer: PeerId, parts: &[(&str, &[u8])]) {
        for (user, update) in parts {
            let user: Arc<str> = (*user).into();
            let speaker = Speaker {
                peer,
                user: &user,
                // Nodes say only what is their own clients', so nothing that they say is an echo.
                first: true,
                is_node: true,
            };
            match self.awareness.receive(&speaker, update, Instant::now()) {
                Ok(news) => self.stirred.extend(news.changed),
                Err(error) => {
                    tracing::warn!(document = %self.key, %error, "a node's awareness was refused");
                }
            }
        }
    }

    pub(in super::super) fn forget_awareness(&mut self, peer: PeerId) {
        let gone = self.awareness.leave(peer, Instant::now());
        self.stirred.extend(gone);
    }

    /// Tells the other nodes of these ids, or of all, as far as this node's own clients own them.
    pub(in super::super) fn tell_nodes_awareness(&self, ids: Option<&[u64]>) {
        if !self.nodes.any() {
            return;
        }
        let parts = self
            .awareness
            .encode_by_user(ids, |owner| owner < NODE_PEERS);
        if parts.is_empty() {
            return;
        }
        let parts: Vec<(&str, &[u8])> = parts
            .iter()
            .map(|(user, update)| (&**user, &update[..]))
            .collect();
        self.nodes.say(&Word::Awareness(parts));
    }
}

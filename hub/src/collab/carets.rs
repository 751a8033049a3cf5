//! Who is shown in a document: its clients, as they say it themselves, and agents that edit on a user's behalf.
//!
//! Owns who is told of whom, and the entry of an agent: it has no connection, so the document shows it while it
//! edits and for a few seconds more. Never judges what a client says: that is `awareness`'.

use std::sync::Arc;
use std::time::Duration;

use protocol::CloseCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::PeerId;
use super::awareness::Speaker;
use super::doc::Actor;
use super::peers::Tell;

/// How long an agent is shown after its last edit.
const SHOWN: Duration = Duration::from_secs(5);
/// Most agents that are shown at once in one document; others edit unseen.
const MOST: usize = 32;
/// Each reads well under white text, as the workspace's own do.
const COLOURS: [&str; 8] = [
    "#4f46e5", "#7e22ce", "#047857", "#be185d", "#0369a1", "#b45309", "#b91c1c", "#4d7c0f",
];

/// Who edits on a user's behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The user's id.
    pub user: Arc<str>,
    /// What people see: `Claude (Ada)`.
    pub name: String,
}

impl Agent {
    /// Its id in the awareness of any document, and its colour: the same on every node.
    fn look(&self) -> (u64, &'static str) {
        let digest = Sha256::new()
            .chain_update(self.user.as_bytes())
            .chain_update([0])
            .chain_update(self.name.as_bytes())
            .finalize();
        // Yjs makes ids of 32 bits.
        let id = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
        (
            u64::from(id),
            COLOURS[usize::from(digest[4]) % COLOURS.len()],
        )
    }

    /// What awareness says of it, as editors expect it of a person.
    fn state(&self, colour: &str, caret: Option<&Value>) -> Value {
        json!({
            "user": { "name": self.name, "color": colour, "colorLight": format!("{colour}33") },
            "cursor": caret.map(|caret| json!({ "anchor": caret, "head": caret })),
            "agent": true,
        })
    }
}

struct Shown {
    agent: Agent,
    /// Its name among the owners of awareness.
    peer: PeerId,
    until: Instant,
}

/// Agents that are shown.
#[derive(Default)]
pub(super) struct Agents(Vec<Shown>);

impl Agents {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next is to go.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.0.iter().map(|shown| shown.until).min()
    }
}

impl Actor {
    /// Shows an agent that has just changed something, its caret where it did.
    pub(super) fn show_agent(&mut self, agent: &Agent, caret: Option<&Value>) {
        let now = Instant::now();
        let known = self.agents.0.iter().position(|shown| shown.agent == *agent);
        let at = match known {
            Some(at) => at,
            None if self.agents.0.len() >= MOST => return,
            None => {
                self.next_peer += 1;
                self.agents.0.push(Shown {
                    agent: agent.clone(),
                    peer: self.next_peer,
                    until: now,
                });
                self.agents.0.len() - 1
            }
        };
        let Some(shown) = self.agents.0.get_mut(at) else {
            return;
        };
        shown.until = now + SHOWN;
        let peer = shown.peer;
        let (client, colour) = agent.look();
        let state = agent.state(colour, caret).to_string();
        if self
            .awareness
            .show(peer, &agent.user, client, state.into(), now)
        {
            self.stirred.push(client);
        }
    }

    /// Takes those away that have done nothing for a while.
    pub(super) fn retire_agents(&mut self, now: Instant) {
        let gone: Vec<Shown> = self
            .agents
            .0
            .extract_if(.., |shown| now >= shown.until)
            .collect();
        for shown in gone {
            let ids = self.awareness.leave(shown.peer, now);
            self.stirred.extend(ids);
        }
    }

    pub(super) fn on_awareness(&mut self, peer: PeerId, update: &[u8]) {
        let Some(member) = self.members.get_mut(&peer) else {
            return;
        };
        let speaker = Speaker {
            peer,
            user: &member.spec.user,
            first: !std::mem::replace(&mut member.spoke, true),
            is_node: false,
        };
        match self.awareness.receive(&speaker, update, Instant::now()) {
            Ok(news) => {
                self.stirred.extend(news.changed);
                self.nodes.adopted.extend(news.adopted);
            }
            Err(refused) => {
                let reason = refused.to_string();
                self.end(peer, CloseCode::BadFrame, &reason);
            }
        }
    }

    pub(super) fn tell_awareness(&self, peer: PeerId) {
        let Some(member) = self.members.get(&peer) else {
            return;
        };
        if self.awareness.is_empty() {
            return;
        }
        let all = self.awareness.encode_all();
        if let Some(frame) = member.spec.dialect.say(Tell::Awareness(&all)) {
            member.spec.queue.document(member.spec.stream, &frame);
        }
    }

    pub(super) fn flush_awareness(&mut self, now: Instant) {
        let mut stirred = std::mem::take(&mut self.stirred);
        stirred.sort_unstable();
        stirred.dedup();
        // Its owner knows; everyone else is told.
        let owner = self.awareness.sole_owner(&stirred);
        let update = self.awareness.encode(&stirred);
        self.broadcast(owner, Tell::Awareness(&update));
        stirred.append(&mut self.nodes.adopted);
        self.tell_nodes_awareness(Some(&stirred));
        self.flushed = now;
    }

    pub(super) fn is_stirred(&self) -> bool {
        !self.stirred.is_empty() || !self.nodes.adopted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_looks_the_same_everywhere_and_unlike_others() {
        let agent = |user: &str, name: &str| Agent {
            user: user.into(),
            name: name.to_owned(),
        };
        let one = agent("u1", "Claude (Ada)");
        assert_eq!(one.look(), agent("u1", "Claude (Ada)").look());
        assert_ne!(one.look().0, agent("u2", "Claude (Ada)").look().0);
        assert_ne!(one.look().0, agent("u1", "Claude (Bob)").look().0);
        assert!(one.look().0 <= u64::from(u32::MAX));
        let caret = json!({ "tname": "text", "assoc": 0 });
        let state = one.state("#4f46e5", Some(&caret));
        assert_eq!(state["user"]["name"], "Claude (Ada)");
        assert_eq!(state["user"]["colorLight"], "#4f46e533");
        assert_eq!(state["cursor"]["head"], caret);
        assert_eq!(one.state("#4f46e5", None)["cursor"], Value::Null);
    }
}

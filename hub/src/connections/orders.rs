//! What services have done to a user's live sockets, on every node.
//!
//! Owns [`Order`] and its way: carried out here, sent over the mesh to the other nodes, whose answers are gathered for
//! a bounded time. At most once: a node that does not hear it does nothing, and the answer says that not all nodes
//! were reached. What must hold is durable elsewhere (a revoked login in the store). A session carries out what
//! concerns its subscriptions itself, as work of its own, under its own rights.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backplane::mesh::{Membership, Mesh, MeshEvent};
use backplane::store::Store;
use bytes::Bytes;
use dashmap::DashMap;
use protocol::CloseCode;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::{Connections, Entry, Place};

/// The topic of the orders.
const TOPIC: &str = "orders";
/// How long the other nodes' answers are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Orders that may wait for one session; more are not taken.
const MOST_WAITING: usize = 256;

/// Something to be done to the live sockets of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Nothing: they are counted.
    Count,
    /// Its sessions follow a channel, if the user may.
    Subscribe {
        /// The channel's name.
        channel: String,
    },
    /// Its sessions follow a channel no longer.
    Unsubscribe {
        /// The channel's name.
        channel: String,
    },
    /// All its sockets are closed.
    Disconnect {
        /// Whether they are asked to come back.
        reconnect: bool,
    },
}

/// Whom an order has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Sockets of the user that it concerns.
    pub sessions: u64,
    /// Whether every node that was alive has answered.
    pub complete: bool,
}

/// What nodes say to each other about orders.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
enum Word {
    Order { id: u64, user: String, order: Order },
    Done { id: u64, sessions: u64 },
}

impl Word {
    fn bytes(&self) -> Bytes {
        // Serialising names and numbers can't fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Connections {
    /// Carries an order out on this node; how many sockets it concerns. Subscriptions are of sessions on `/ws` alone.
    pub fn carry_out(&self, user: &str, order: &Order) -> u64 {
        let mut concerned = 0;
        for mut entry in self.entries.iter_mut() {
            if entry.user.as_deref() == Some(user) && entry.take(order) {
                concerned += 1;
            }
        }
        concerned
    }
}

impl Entry {
    fn take(&mut self, order: &Order) -> bool {
        match order {
            Order::Count => true,
            Order::Disconnect { reconnect } => {
                self.queue.close_with(match reconnect {
                    true => CloseCode::SentBack,
                    false => CloseCode::SentAway,
                });
                true
            }
            Order::Subscribe { .. } | Order::Unsubscribe { .. } => {
                let waiting = self.orders.as_mut();
                let Some(waiting) = waiting.filter(|orders| orders.len() < MOST_WAITING) else {
                    return false;
                };
                waiting.push(order.clone());
                self.queue.bring_orders();
                true
            }
        }
    }
}

impl Place {
    /// States that this is a session that follows what services say. Others follow what their clients asked for
    /// at the beginning, and nothing else.
    pub fn accept_orders(&self) {
        if let Some(mut entry) = self.connections.entries.get_mut(&self.id) {
            entry.orders.get_or_insert_default();
        }
    }

    /// The orders that wait for this session, oldest first; taking them leaves none.
    #[must_use]
    pub fn take_orders(&self) -> Vec<Order> {
        let mut entry = self.connections.entries.get_mut(&self.id);
        let waiting = entry.as_mut().and_then(|entry| entry.orders.as_mut());
        waiting.map(std::mem::take).unwrap_or_default()
    }
}

type Answer = (Arc<str>, u64);

/// The way of orders to all nodes; one per node.
pub struct Orders {
    connections: Arc<Connections>,
    mesh: Arc<dyn Mesh>,
    store: Arc<dyn Store>,
    next: AtomicU64,
    waiting: DashMap<u64, UnboundedSender<Answer>>,
}

/// What a node hears of the others' orders, from when it joined.
pub struct Ear {
    inbox: UnboundedReceiver<MeshEvent>,
    _memberships: [Membership; 2],
}

/// Ends the wait for answers when it is dropped.
struct Wait<'a> {
    orders: &'a Orders,
    id: u64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.orders.waiting.remove(&self.id);
    }
}

/// Where the answers to a node's orders go.
fn answers_of(node: &str) -> String {
    format!("{TOPIC}.{node}")
}

impl Orders {
    /// Orders to these connections and, over the mesh, to those of the other nodes on the store.
    #[must_use]
    pub fn new(
        connections: Arc<Connections>,
        mesh: Arc<dyn Mesh>,
        store: Arc<dyn Store>,
    ) -> Arc<Self> {
        Arc::new(Self {
            connections,
            mesh,
            store,
            next: AtomicU64::new(1),
            waiting: DashMap::new(),
        })
    }

    /// Hears other nodes from now on; hand it to [`Orders::obey`].
    pub async fn listen(&self) -> Ear {
        let (outbox, inbox) = unbounded_channel();
        let own = answers_of(self.mesh.node());
        let orders = self.mesh.join(TOPIC, outbox.clone()).await;
        let answers = self.mesh.join(&own, outbox).await;
        Ear {
            inbox,
            _memberships: [orders, answers],
        }
    }

    /// Carries out what other nodes order, until `stop`.
    pub async fn obey(self: Arc<Self>, mut ear: Ear, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = ear.inbox.recv() => event,
            };
            let Some(event) = event else {
                // A mesh without peers keeps no inbox.
                return;
            };
            if let MeshEvent::Message { from, payload } = event {
                self.hear(from, &payload);
            }
        }
    }

    fn hear(&self, from: Arc<str>, payload: &[u8]) {
        match serde_json::from_slice(payload) {
            Ok(Word::Order { id, user, order }) => {
                let sessions = self.connections.carry_out(&user, &order);
                let done = Word::Done { id, sessions };
                self.mesh.send(&answers_of(&from), done.bytes());
            }
            Ok(Word::Done { id, sessions }) => {
                let asker = self.waiting.get(&id).map(|asker| asker.clone());
                if let Some(asker) = asker {
                    // It may have given up a moment ago.
                    let _ = asker.send((from, sessions));
                }
            }
            Err(error) => {
                tracing::debug!(%error, %from, "an order that this version does not know")
            }
        }
    }

    /// Carries an order out on every node, and gathers how many sockets it concerns.
    pub async fn give(&self, user: &str, order: Order) -> Reached {
        let own = self.connections.carry_out(user, &order);
        if !self.mesh.has_peers() {
            return Reached {
                sessions: own,
                complete: true,
            };
        }
        let (answers, mut inbox) = unbounded_channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.insert(id, answers);
        let _wait = Wait { orders: self, id };
        let word = Word::Order {
            id,
            user: user.to_owned(),
            order,
        };
        self.mesh.send(TOPIC, word.bytes());
        let mut sessions = own;
        let mut heard: HashSet<Arc<str>> = HashSet::new();
        let gathered = async {
            // Who has to answer; those that have started since can't have anybody whom this concerns for long.
            let nodes = self.store.nodes().await;
            let nodes = nodes.map(|nodes| nodes.into_iter().map(|node| node.id));
            let mut missing: HashSet<String> = match nodes {
                Ok(nodes) => nodes.filter(|node| *node != **self.mesh.node()).collect(),
                // All answers are gathered until time is up; whether they are all is not known.
                Err(_) => HashSet::from([String::new()]),
            };
            while !missing.is_empty() {
                let Some((node, count)) = inbox.recv().await else {
                    return;
                };
                missing.remove(&*node);
                if heard.insert(node) {
                    sessions += count;
                }
            }
        };
        let complete = tokio::time::timeout(PATIENCE, gathered).await.is_ok();
        Reached { sessions, complete }
    }
}

#[cfg(test)]
mod tests;

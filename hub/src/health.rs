//! Whether this node takes new work, and what is down if it does not.
//!
//! Owns what `/readyz` answers. Asks each service when it is asked itself; never keeps an old answer,
//! never takes longer than a few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backplane::bus::Bus;
use backplane::mesh::Mesh;
use backplane::store::Store;
use serde::Serialize;

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// After this long without its own heartbeat a node counts as cut off from the broker.
const SILENCE: Duration = Duration::from_secs(2);

/// How something is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers.
    Ok,
    /// It does not.
    Down,
    /// The node is being stopped.
    Leaving,
    /// The other nodes don't count this one among them any more.
    Expelled,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// `ready` or `unready`.
    pub status: &'static str,
    /// The node itself.
    pub node: State,
    /// The store.
    pub store: State,
    /// What carries channels and documents between nodes.
    pub broker: State,
    /// What carries domain events. While it is down they wait in the store: the node stays ready.
    pub bus: State,
}

impl Readiness {
    /// Whether new work may come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// Asks whether the connection of a part stands.
pub type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// What a node's readiness depends on.
pub struct Health {
    store: Arc<dyn Store>,
    mesh: Arc<dyn Mesh>,
    bus: Arc<dyn Bus>,
    broker: Probe,
    leaving: AtomicBool,
    expelled: AtomicBool,
}

impl Health {
    /// A node that is there; `broker` says whether the broker's own connection stands.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        mesh: Arc<dyn Mesh>,
        bus: Arc<dyn Bus>,
        broker: Probe,
    ) -> Self {
        Self {
            store,
            mesh,
            bus,
            broker,
            leaving: AtomicBool::new(false),
            expelled: AtomicBool::new(false),
        }
    }

    /// The node is being stopped: from now on it is not ready.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the other nodes count this one among them.
    pub fn set_admitted(&self, admitted: bool) {
        self.expelled.store(!admitted, Ordering::Relaxed);
    }

    /// How everything is now.
    pub async fn check(&self) -> Readiness {
        let (store, bus) = tokio::join!(
            tokio::time::timeout(PATIENCE, self.store.ping()),
            tokio::time::timeout(PATIENCE, self.bus.ping()),
        );
        let is = |up: bool| if up { State::Ok } else { State::Down };
        let store = is(matches!(store, Ok(Ok(()))));
        let broker = is((self.broker)() && self.mesh.silence() < SILENCE);
        let node = if self.leaving.load(Ordering::Relaxed) {
            State::Leaving
        } else if self.expelled.load(Ordering::Relaxed) {
            State::Expelled
        } else {
            State::Ok
        };
        let is_ready = [node, store, broker]
            .iter()
            .all(|state| *state == State::Ok);
        Readiness {
            status: if is_ready { "ready" } else { "unready" },
            node,
            store,
            broker,
            bus: is(matches!(bus, Ok(Ok(())))),
        }
    }
}

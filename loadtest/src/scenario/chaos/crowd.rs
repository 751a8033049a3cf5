//! What the clients of a run share: where the hubs are, the login, the phase of the run, and the
//! ledgers that they write.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::model::{ChannelLedger, DocumentLedger};
use crate::cluster::wire::Login;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Clients work, faults happen.
    Work,
    /// Nothing new begins; what is under way comes to its end.
    Settle,
    /// Clients go home.
    Over,
}

/// A replica as its editor last showed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// The document.
    pub(super) document: usize,
    /// Its text.
    pub(super) text: String,
    /// Edits that the hub has not acknowledged, where it says so.
    pub(super) open: usize,
}

/// See the module.
pub(super) struct Crowd {
    /// Where the hubs are.
    pub(super) hubs: Vec<SocketAddr>,
    /// The login of all.
    pub(super) login: Login,
    /// The phase of the run.
    pub(super) phase: watch::Receiver<Phase>,
    documents: Vec<Mutex<DocumentLedger>>,
    channels: BTreeMap<String, Mutex<ChannelLedger>>,
    shown: Mutex<BTreeMap<usize, Shown>>,
    strange: Mutex<Vec<String>>,
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    /// Nobody has done anything yet.
    pub(super) fn new(
        hubs: Vec<SocketAddr>,
        login: Login,
        phase: watch::Receiver<Phase>,
        documents: usize,
        channels: &[String],
    ) -> Self {
        let channels = channels.iter().map(|name| (name.clone(), Mutex::default()));
        Self {
            hubs,
            login,
            phase,
            documents: (0..documents).map(|_| Mutex::default()).collect(),
            channels: channels.collect(),
            shown: Mutex::default(),
            strange: Mutex::default(),
        }
    }

    /// The phase now.
    pub(super) fn now(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A document's ledger.
    pub(super) fn document(&self, number: usize) -> MutexGuard<'_, DocumentLedger> {
        open(&self.documents[number])
    }

    /// A channel's ledger.
    pub(super) fn channel(&self, name: &str) -> MutexGuard<'_, ChannelLedger> {
        match self.channels.get(name) {
            Some(ledger) => open(ledger),
            None => unreachable!("{name} is none of the run's channels"),
        }
    }

    /// The names of all channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = &String> {
        self.channels.keys()
    }

    /// An editor shows its replica.
    pub(super) fn show(&self, editor: usize, shown: Shown) {
        open(&self.shown).insert(editor, shown);
    }

    /// What the editors last showed.
    pub(super) fn shown(&self) -> BTreeMap<usize, Shown> {
        open(&self.shown).clone()
    }

    /// Something happened that must not happen.
    pub(super) fn report(&self, what: String) {
        open(&self.strange).push(what);
    }

    /// All that was reported.
    pub(super) fn reported(&self) -> Vec<String> {
        open(&self.strange).clone()
    }

    /// Waits a little before the next try, unless the run is over; whether it is.
    pub(super) async fn breathe(&self, random: &mut StdRng) -> bool {
        let pause = Duration::from_millis(random.random_range(50..400));
        tokio::time::sleep(pause).await;
        self.now() == Phase::Over
    }
}

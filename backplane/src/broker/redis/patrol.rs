//! A slow round over the subscribed channels, in case a push was lost without anyone hearing of it.
//!
//! A connection that breaks tells itself, and a later push shows a gap; but a subscription that the server dropped
//! alone (a slot that moved to another master, an operator's hand) leaves a quiet channel deaf. Each position
//! that is read also renews the channel's keys while somebody is subscribed. Costs a read of 50
//! positions a second at most, so it is done whatever the number of channels: 3,000 of them take a minute.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::Position;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::channel::{Local, Reached};
use crate::broker::BrokerError;

/// How many channels are looked at in a step.
const STEP: usize = 50;
/// How often a step is made.
const EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two rounds.
const ROUND: Duration = Duration::from_secs(5);
/// How long a push may take to come.
const PUSH_TIME: Duration = Duration::from_secs(2);

/// Starts the rounds; they end with the broker.
pub(super) fn start(shared: &Arc<Shared>) {
    let (shared, stop) = (Arc::downgrade(shared), shared.stop.clone());
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            sleep(ROUND).await;
            let Some(topics) = shared.upgrade().map(|shared| {
                let topics = shared.locals.iter().map(|entry| Arc::clone(entry.key()));
                topics.collect::<Vec<_>>()
            }) else {
                return;
            };
            for step in topics.chunks(STEP) {
                sleep(EVERY).await;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                join_all(step.iter().map(|topic| shared.look(topic))).await;
            }
        }
    }));
}

impl Shared {
    /// Compares a channel's position with what was delivered. What is missing is read; a connection that did not bring
    /// it in time is given up, as its subscription may be gone.
    async fn look(self: &Arc<Self>, topic: &str) {
        let Some(local) = self.local(topic) else {
            return;
        };
        let looked = match self.scripts.history(&local.name, None, 0).await {
            Ok(page) => self.compare(&local, &page.newest).await,
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            // An outage: whoever finds the connection again looks at every channel.
            tracing::debug!(topic, %error, "a channel could not be looked at");
        }
    }

    async fn compare(
        self: &Arc<Self>,
        local: &Arc<Local>,
        newest: &Position,
    ) -> Result<(), BrokerError> {
        let arrives = async {
            while local.reached(newest) == Reached::Behind {
                local.changed.notified().await;
            }
        };
        let late = timeout(PUSH_TIME, arrives).await.is_err();
        let deaf = late && local.reached(newest) == Reached::Behind;
        self.arrived(local, newest).await?;
        if deaf {
            self.scripts
                .link
                .reset("a channel's messages do not arrive on it");
        }
        Ok(())
    }
}

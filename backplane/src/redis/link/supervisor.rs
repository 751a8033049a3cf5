//! The life of a link: connect, subscribe again, serve, and once more from the start when that ends.
//!
//! One task. An outage is logged when it begins and when it is over, not per try.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::connection::{Connection, publish_command};
use super::push::Pushes;
use super::topics::{Batch, Change, Made};
use super::{LinkError, Shared};
use crate::backoff::Backoff;

/// The pause before the first try, and the longest one between two.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// How many subscriptions change in one round trip.
const CHANGES: usize = 512;

/// A connection in use, and the changes that arrive for it.
pub(super) struct Standing {
    connection: Arc<Connection>,
    changes: UnboundedReceiver<Change>,
}

/// Makes the first connection, and tries what the user must be allowed to do.
pub(super) async fn first(shared: &Shared) -> Result<Standing, LinkError> {
    let connection = open(shared).await?;
    let denied = |error| match error {
        LinkError::Refused(reason) => LinkError::Refused(format!(
            "{} denies this user pub/sub on {}:*: {reason}",
            shared.target.address(),
            shared.options.prefix,
        )),
        other => other,
    };
    let topic: Arc<str> = "link".into();
    for subscribe in [true, false] {
        let made = connection
            .change(&[(Arc::clone(&topic), subscribe)])
            .await?;
        made.into_iter().collect::<Made>().map_err(denied)?;
    }
    let mut publish = redis::cmd(publish_command(connection.sharded()));
    publish
        .arg(format!("{}:{topic}", shared.options.prefix))
        .arg("");
    connection.run(&publish).await.map_err(denied)?;
    establish(shared, connection).await
}

/// Serves connection after connection until the link is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut standing: Standing) {
    loop {
        let reason = serve(&mut standing, shared.options.watchdog).await;
        shared.topics.close();
        shared.set_current(None);
        shared.gate.lost();
        drop(standing);
        let address = shared.target.address();
        warn!(
            address,
            reason, "the connection to Redis broke; trying until it is back"
        );
        let since = Instant::now();
        standing = again(&shared).await;
        let seconds = since.elapsed().as_secs_f64();
        info!(address, seconds, "the connection to Redis is back");
    }
}

/// Tries for ever.
async fn again(shared: &Shared) -> Standing {
    let mut backoff = Backoff::new(AGAIN_FIRST, AGAIN_MOST);
    loop {
        tokio::time::sleep(backoff.delay()).await;
        let Ok(connection) = open(shared).await else {
            continue;
        };
        match establish(shared, connection).await {
            Ok(standing) => return standing,
            Err(_) => shared.topics.close(),
        }
    }
}

async fn open(shared: &Shared) -> Result<Connection, LinkError> {
    let pushes = Arc::new(Pushes::new(Arc::clone(&shared.gate)));
    let opening = Connection::open(&shared.target, &shared.options.prefix, pushes);
    // Each step has its own limit; a cluster takes several.
    let limit = shared.options.command_timeout * 5;
    let opened = tokio::time::timeout(limit, opening).await;
    opened.unwrap_or_else(|_| {
        let reason = format!("{} does not answer in time", shared.target.address());
        Err(LinkError::Unavailable(reason))
    })
}

/// Makes all subscriptions again and opens the connection to everyone.
async fn establish(shared: &Shared, connection: Connection) -> Result<Standing, LinkError> {
    let (wanted, changes) = shared.topics.open();
    for topics in wanted.chunks(CHANGES) {
        let topics: Vec<_> = topics
            .iter()
            .map(|topic| (Arc::clone(topic), true))
            .collect();
        let made = connection.change(&topics).await?;
        for (made, (topic, _)) in made.into_iter().zip(&topics) {
            match made {
                Err(LinkError::Refused(reason)) => {
                    warn!(%topic, reason, "Redis denies a subscription that it had granted");
                }
                other => other?,
            }
        }
    }
    let connection = Arc::new(connection);
    shared
        .sharded
        .store(connection.sharded(), Ordering::Relaxed);
    shared.set_current(Some(Arc::clone(&connection)));
    shared.gate.connected();
    Ok(Standing {
        connection,
        changes,
    })
}

/// Carries changes to Redis and watches the connection; why it ended.
async fn serve(standing: &mut Standing, watchdog: Duration) -> String {
    let Standing {
        connection,
        changes,
    } = standing;
    let mut watch = tokio::time::interval(watchdog);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut arrived = Vec::new();
    loop {
        tokio::select! {
            biased;
            reason = connection.fault().wait() => return reason.to_owned(),
            _ = changes.recv_many(&mut arrived, CHANGES) => {
                apply(connection, Batch::new(arrived.drain(..))).await;
            }
            _ = watch.tick() => {
                if connection.was_silent() {
                    connection.ping().await;
                }
            }
        }
    }
}

/// Carries one batch out. What was not done is done by the next connection, so this one is given up then.
async fn apply(connection: &Connection, batch: Batch) {
    match connection.change(&batch.topics).await {
        Ok(made) => {
            if let Some(Err(LinkError::Unavailable(reason))) = made
                .iter()
                .find(|made| matches!(made, Err(LinkError::Unavailable(_))))
            {
                connection.fault().report(reason);
            }
            batch.answer(made);
        }
        Err(error) => connection.fault().report(&error.to_string()),
    }
}

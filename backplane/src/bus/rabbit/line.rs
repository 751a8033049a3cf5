//! A line to RabbitMQ: one connection at a time, made anew for ever.
//!
//! The bus has two of them. The server holds up every connection that has published while its memory or disk
//! is short, and lapin writes nothing on a connection that is held up: acknowledgements, which make room, must not
//! share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use lapin::Connection;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Socket, Target, failure};
use crate::backoff::Backoff;
use crate::bus::BusError;

/// The wait after a first failed connection, and the longest one.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(2);
/// How often a connection is looked at, should lapin not have told of its end.
const LOOK: Duration = Duration::from_millis(500);
/// How long it may take to set a connection up.
const SET_UP_WITHIN: Duration = Duration::from_secs(10);

/// A connection that was set up.
pub(super) struct Link<T> {
    pub(super) connection: Connection,
    /// What was set up on it.
    pub(super) open: T,
    /// The connection has ended. Cancelling it ends the connection.
    pub(super) gone: CancellationToken,
}

/// How a connection is set up.
pub(super) type SetUp<T> =
    Box<dyn for<'a> Fn(&'a Connection) -> BoxFuture<'a, Result<T, BusError>> + Send + Sync>;

type Current<T> = Option<Arc<Link<T>>>;

/// Keeps a connection up.
pub(super) struct Line<T> {
    current: watch::Receiver<Current<T>>,
    supervisor: AbortHandle,
}

impl<T> Drop for Line<T> {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl<T: Send + Sync + 'static> Line<T> {
    /// Connects, and keeps on doing so whenever the connection ends. Returns after the first try.
    ///
    /// # Errors
    /// [`BusError::Refused`] if the server, at the first try, said what waiting can't mend.
    pub(super) async fn start(
        target: Arc<Target>,
        purpose: &'static str,
        set_up: SetUp<T>,
    ) -> Result<Self, BusError> {
        let (sender, current) = watch::channel(None);
        let supervisor = Supervisor {
            target,
            purpose,
            set_up,
            sender,
        };
        let first = supervisor.connect().await;
        if let Err(BusError::Refused(reason)) = first {
            return Err(BusError::Refused(reason));
        }
        let task = tokio::spawn(supervisor.run(first));
        Ok(Self {
            current,
            supervisor: task.abort_handle(),
        })
    }

    /// The connection, if there is one now.
    pub(super) fn link(&self) -> Result<Arc<Link<T>>, BusError> {
        let link = self.current.borrow().clone();
        let link = link.filter(|link| !link.gone.is_cancelled());
        link.ok_or_else(|| BusError::Unavailable("there is no connection".to_owned()))
    }

    /// Waits for a connection.
    pub(super) async fn wait(&self) -> Arc<Link<T>> {
        let mut current = self.current.clone();
        loop {
            if let Ok(link) = self.link() {
                return link;
            }
            if current.changed().await.is_err() {
                // The line is being dropped, and with it whoever waits.
                return std::future::pending().await;
            }
        }
    }
}

struct Supervisor<T> {
    target: Arc<Target>,
    purpose: &'static str,
    set_up: SetUp<T>,
    sender: watch::Sender<Current<T>>,
}

impl<T: Send + Sync + 'static> Supervisor<T> {
    async fn run(self, first: Result<(Arc<Link<T>>, Socket), BusError>) {
        let (purpose, server) = (self.purpose, self.target.address());
        let mut connected = match first {
            Ok(connected) => connected,
            Err(error) => {
                tracing::warn!(%server, purpose, %error, "RabbitMQ can't be reached; it is tried for ever");
                self.reconnect().await
            }
        };
        loop {
            let (link, socket) = connected;
            self.sender.send_replace(Some(Arc::clone(&link)));
            ended(&link).await;
            link.gone.cancel();
            socket.cut();
            self.sender.send_replace(None);
            drop(link);
            tracing::warn!(%server, purpose, "the connection to RabbitMQ was lost; it is made anew");
            connected = self.reconnect().await;
        }
    }

    async fn reconnect(&self) -> (Arc<Link<T>>, Socket) {
        let (purpose, server) = (self.purpose, self.target.address());
        let since = Instant::now();
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MOST);
        let mut told = false;
        loop {
            tokio::time::sleep(backoff.delay()).await;
            match self.connect().await {
                Ok(connected) => {
                    let outage_ms = since.elapsed().as_millis() as u64;
                    tracing::info!(%server, purpose, outage_ms, "connected to RabbitMQ");
                    return connected;
                }
                Err(BusError::Refused(reason)) if !told => {
                    told = true;
                    tracing::error!(%server, purpose, reason, "RabbitMQ refuses the connection");
                }
                Err(error) => {
                    tracing::debug!(%server, purpose, %error, "no connection to RabbitMQ")
                }
            }
        }
    }

    async fn connect(&self) -> Result<(Arc<Link<T>>, Socket), BusError> {
        let opened = connection::open(&self.target, self.purpose).await;
        let (connection, socket) = opened.map_err(|error| failure(&error))?;
        let set_up = tokio::time::timeout(SET_UP_WITHIN, (self.set_up)(&connection)).await;
        let open = match set_up {
            Ok(Ok(open)) => open,
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                socket.cut();
                return Err(BusError::Unavailable(
                    "the server does not answer".to_owned(),
                ));
            }
        };
        let link = Link {
            connection,
            open,
            gone: CancellationToken::new(),
        };
        Ok((Arc::new(link), socket))
    }
}

/// Waits until a connection has ended, or was given up.
async fn ended<T>(link: &Link<T>) {
    let mut events = link.connection.events_listener().boxed();
    while link.connection.status().connected() {
        tokio::select! {
            () = link.gone.cancelled() => return,
            event = events.next() => {
                if event.is_none() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

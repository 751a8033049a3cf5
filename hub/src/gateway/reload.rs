//! The services' file while the hub runs: read again when it changes or on SIGHUP.
//!
//! Owns when. What has not changed keeps its connections, counts and breakers; requests and sockets under
//! way end as they began. A file that is wrong changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::pool::Pool;
use super::{Gateway, Table};
use crate::config::services;
use crate::metrics::table;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A file that was changed a moment ago may not be whole yet.
const SETTLE: Duration = Duration::from_millis(100);

/// How often that is waited for a file that goes on changing.
const SETTLES: u32 = 20;

/// What tells a file from what it was.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let known = std::fs::metadata(path).ok()?;
    Some((known.modified().ok()?, known.len()))
}

impl Gateway {
    /// Reads the file, and puts what it says into use if all of it is right.
    ///
    /// # Errors
    /// Everything that is wrong, in words.
    pub(super) fn load(&self) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let of = stamp(file);
        let read = services::read(file, &self.audience).map_err(|problems| {
            let said = problems
                .iter()
                .map(|one| format!("{}: {}", one.at, one.why));
            said.collect::<Vec<_>>().join("\n  ")
        })?;
        if stamp(file) != of {
            // Half of what somebody writes may be right by itself: an empty file is.
            return Err("it changed while it was read: it will be read again".to_owned());
        }
        let before = self.table.load();
        let mut table = Table::new();
        for (name, service) in read {
            let same = before.get(&name).filter(|pool| *pool.service() == service);
            let pool = match same {
                Some(pool) => Arc::clone(pool),
                None => {
                    let made = Pool::new(Arc::clone(&name), service);
                    Arc::new(made.map_err(|why| format!("services.{name}: {why}"))?)
                }
            };
            table.insert(name, pool);
        }
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Reads the file again whenever it has changed, and on SIGHUP, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP can't be caught: the services' file is read when it changes");
                None
            }
        };
        let mut seen = stamp(&file);
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = hung_up => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let mut now = stamp(&file);
            if !asked && now == seen {
                continue;
            }
            for _ in 0..SETTLES {
                tokio::time::sleep(SETTLE).await;
                let before = std::mem::replace(&mut now, stamp(&file));
                if before == now {
                    break;
                }
            }
            // What changes from here on is seen at the next look.
            seen = now;
            self.reload().await;
        }
    }

    async fn reload(self: &Arc<Self>) {
        let gateway = Arc::clone(self);
        let runtime = tokio::runtime::Handle::current();
        // Files are read, certificates too; health checks begin on the runtime.
        let loaded = tokio::task::spawn_blocking(move || {
            let _runtime = runtime.enter();
            gateway.load()
        });
        let (outcome, failed) = match loaded.await {
            Ok(Ok(())) => ("loaded", None),
            Ok(Err(why)) => ("refused", Some(why)),
            Err(error) => ("refused", Some(error.to_string())),
        };
        metrics::counter!(table::GATEWAY_RELOADS, "outcome" => outcome).increment(1);
        match failed {
            None => {
                let services = self.table.load().len();
                tracing::info!(services, "the services' file was read again");
            }
            Some(why) => {
                tracing::error!("the services' file is wrong, what it said before stays:\n  {why}");
            }
        }
    }
}

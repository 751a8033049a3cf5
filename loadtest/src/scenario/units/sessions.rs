//! Sessions at hub B: what opening one costs, and what it costs while nothing happens in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::lab::{Lab, PROJECT};
use super::meter::Costs;
use crate::client::Socket;
use crate::error::{Error, Result};
use crate::fleet::Fleet;
use crate::process;
use crate::session;

/// Sessions that are opened and measured.
pub(super) const COUNT: usize = 5_000;
/// Sessions opened per second.
const PACE: f64 = 500.0;
/// Sessions opened side by side.
const WIDTH: usize = 4;
/// Sessions opened first, so that what the hub allocates once is not counted.
const WARM_UP: usize = 200;
/// How long the sessions idle: every one is pinged at least once.
const IDLE: Duration = Duration::from_secs(40);

/// What was found, per session.
pub(super) struct Sessions {
    pub(super) connect: Costs,
    pub(super) kib: f64,
    pub(super) us_per_s: f64,
}

impl Sessions {
    pub(super) async fn measure(lab: &Lab) -> Result<Self> {
        let (address, pid) = (lab.b(), lab.pid_b());
        let open = |which: std::ops::Range<usize>| {
            let token = lab.rest.token().to_owned();
            blocking(move || open(address, &token, &which))
        };
        let warm = Held::new(open(COUNT..COUNT + WARM_UP).await?);
        let before = settled(pid).await?;
        let mut sockets = Vec::new();
        let connect = lab
            .once("sessions opened", async {
                sockets = open(0..COUNT).await?;
                Ok(COUNT as u64)
            })
            .await?;
        let held = Held::new(sockets);
        let after = settled(pid).await?;
        let idle = lab
            .once("sessions idling", async {
                tokio::time::sleep(IDLE).await;
                Ok((COUNT + WARM_UP) as u64)
            })
            .await?;
        held.end()?;
        warm.end()?;
        Ok(Self {
            connect,
            kib: (after as f64 - before as f64) / COUNT as f64,
            us_per_s: idle.hub_b / IDLE.as_secs_f64(),
        })
    }
}

/// Opens sessions at their pace, each subscribed to a room of its own.
fn open(address: SocketAddr, token: &str, which: &std::ops::Range<usize>) -> Result<Vec<Socket>> {
    let start = Instant::now();
    session::ramp(which.len(), WIDTH, &ProgressBar::hidden(), |index| {
        let due = start + Duration::from_secs_f64(index as f64 / PACE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let room = format!("room:{PROJECT}/idle-{}", which.start + index);
        session::subscribe(address, token, &room)
    })
}

/// Sessions that a thread of its own keeps alive until they are closed.
struct Held {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Held {
    fn new(sockets: Vec<Socket>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut fleet = Fleet::new(sockets)?;
            while !seen.load(Ordering::Relaxed) {
                fleet.poll(Duration::from_millis(50), |_, _| Ok(()))?;
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Closes them; an error if one had been closed before: it would have been counted as cheap.
    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(Error::Server("a thread failed".into())))
    }
}

/// Resident memory once it has stopped moving, KiB.
async fn settled(pid: u32) -> Result<u64> {
    Ok(blocking(move || process::settled_memory(pid)).await?.rss)
}

/// Runs what blocks beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Server(format!("a task failed: {e}")))?
}

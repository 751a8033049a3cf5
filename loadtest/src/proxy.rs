//! A TCP proxy before one server, which misbehaves when told to: as networks do, and servers behind
//! them.
//!
//! Moves bytes and counts them; never looks at them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks under way in one direction: with the kernel's own buffers all that a stalled peer can send.
const CHUNKS: usize = 64;

/// What a proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Pass,
    /// Connections stay and no byte moves; they may be opened too.
    Stall,
    /// No byte reaches the server; its own still reach the clients.
    StallToServer,
    /// No byte reaches the clients; theirs still reach the server.
    StallToClient,
    /// Every connection is reset, and every new one at once.
    Cut,
    /// Each byte comes that much later.
    Delay(Duration),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Mode {
    fn holds(self, way: Way) -> bool {
        match self {
            Self::Stall | Self::Cut => true,
            Self::StallToServer => way == Way::ToServer,
            Self::StallToClient => way == Way::ToClient,
            Self::Pass | Self::Delay(_) => false,
        }
    }

    fn delay(self) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            _ => Duration::ZERO,
        }
    }
}

/// What connections look at.
#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often connections were reset: those of before are over, also where the mode is back already.
    cuts: u64,
}

#[derive(Debug, Default)]
struct Counters {
    to_server: AtomicU64,
    to_client: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    fn count(&self, way: Way, bytes: usize) {
        let counter = match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A running proxy. Dropping it resets its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of this machine and passes everything on to `target`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (state, _) = watch::channel(State {
            mode: Mode::Pass,
            cuts: 0,
        });
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            target,
            state.clone(),
            Arc::clone(&counters),
        ));
        Ok(Self {
            address,
            state,
            counters,
            _tasks: tasks,
        })
    }

    /// Where it listens, in every mode.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.state.borrow().mode
    }

    /// Changes what it does, for connections that stand as well.
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.cuts += u64::from(mode == Mode::Cut);
        });
    }

    /// Resets every connection that stands; new ones may come, unless the mode forbids it.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Bytes that have reached the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.counters.to_server.load(Ordering::Relaxed)
    }

    /// Bytes that have reached the clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.counters.to_client.load(Ordering::Relaxed)
    }

    /// Connections that were opened to it so far, those reset at once included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else {
                    // Out of descriptors, most likely: some will be given back.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                counters.connections.fetch_add(1, Ordering::Relaxed);
                let state = state.subscribe();
                connections.spawn(serve(client, target, state, Arc::clone(&counters)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, from its beginning to its end or reset.
async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    // Whatever ends it here resets it: a peer must not take the end of the proxy for a farewell.
    let _ = client.set_zero_linger();
    let birth = *state.borrow_and_update();
    if birth.mode == Mode::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = server.set_zero_linger();
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pass(
        from_client,
        to_server,
        Way::ToServer,
        state.clone(),
        &counters,
    );
    let down = pass(
        from_server,
        to_client,
        Way::ToClient,
        state.clone(),
        &counters,
    );
    let both = async {
        tokio::join!(up, down);
    };
    let cut = state.wait_for(|state| state.cuts > birth.cuts);
    tokio::select! {
        () = both => {}
        _ = cut => {}
    }
}

/// One direction: reads as long as there is room, writes when the mode lets it. The end of what is
/// read is passed on in its turn; an error ends this direction alone, and the other one soon after.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut state: watch::Receiver<State>,
    counters: &Counters,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(CHUNKS);
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let chunk = (Instant::now(), buffer.split().freeze());
                    if queue.send(chunk).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let write = async move {
        while let Some((arrived, chunk)) = queued.recv().await {
            if !due(&mut state, way, arrived).await || to.write_all(&chunk).await.is_err() {
                return;
            }
            counters.count(way, chunk.len());
        }
        // The peer has said all that it had to say; the other may not have.
        if due(&mut state, way, Instant::now()).await {
            let _ = to.shutdown().await;
        }
    };
    tokio::join!(read, write);
}

/// Waits until a chunk that arrived then may go on; `false` if the proxy is gone.
async fn due(state: &mut watch::Receiver<State>, way: Way, arrived: Instant) -> bool {
    loop {
        let mode = state.borrow_and_update().mode;
        let at = arrived + mode.delay();
        if !mode.holds(way) && at <= Instant::now() {
            return true;
        }
        let changed = if mode.holds(way) {
            state.changed().await
        } else {
            tokio::select! {
                changed = state.changed() => changed,
                () = tokio::time::sleep_until(at) => Ok(()),
            }
        };
        if changed.is_err() {
            return false;
        }
    }
}

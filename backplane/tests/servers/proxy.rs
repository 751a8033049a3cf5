//! A TCP proxy that can stall, where connections stay open and nothing passes either way, and cut what is open.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Listens until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    stalled: Arc<watch::Sender<bool>>,
    accepted: Arc<AtomicUsize>,
    cut: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

/// Text that the server says, and what the client shall read instead.
pub type Rewrite = (&'static str, &'static str);

impl Proxy {
    /// Starts one before a local port. Only the first connection is rewritten.
    pub async fn start(target: u16, rewrite: Option<Rewrite>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let stalled = Arc::new(watch::Sender::new(false));
        let valve = Arc::clone(&stalled);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let cut = Arc::new(Notify::new());
        let cutting = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let client = tokio::select! {
                    () = cutting.notified() => {
                        connections.shutdown().await;
                        continue;
                    }
                    accepted = listener.accept() => match accepted {
                        Ok((client, _)) => client,
                        Err(_) => return,
                    },
                };
                let nth = count.fetch_add(1, Ordering::Relaxed);
                let rewrite = rewrite.filter(|_| nth == 0);
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(pass(from_client, to_server, valve.subscribe(), None));
                connections.spawn(pass(from_server, to_client, valve.subscribe(), rewrite));
            }
        });
        Self {
            address,
            stalled,
            accepted,
            cut,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens on this machine.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Cuts every open connection; new ones are let through.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Holds everything back, or lets it go on.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut stalled: watch::Receiver<bool>,
    rewrite: Option<Rewrite>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        if let Some((text, instead)) = rewrite {
            assert_eq!(text.len(), instead.len(), "lengths stand before texts");
            let found = buffer[..length]
                .windows(text.len())
                .position(|at| at == text.as_bytes());
            if let Some(at) = found {
                buffer[at..at + text.len()].copy_from_slice(instead.as_bytes());
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

//! A language model's provider of a run's own: it speaks the OpenAI-compatible protocol over plain HTTP, answers
//! at once, at a pace, or as badly as a script says, and remembers what it was asked.
//!
//! Owns the listener and what was recorded. Its answers are made of the request and of nothing else, so that they
//! can be foretold; it understands no language.

mod chat;
mod http;
mod script;
mod vectors;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub use self::chat::plan;
pub use self::http::Asked;
pub use self::script::{Behaviour, Break, Finish, Flaw, Refusal};
pub use self::vectors::{DIMENSIONS, vector};

use self::http::Connection;

/// Requests that are remembered; older ones are forgotten.
const REMEMBERED: usize = 10_000;

/// What connections share.
#[derive(Debug, Default)]
struct Shared {
    usual: Mutex<Behaviour>,
    script: Mutex<VecDeque<Behaviour>>,
    asked: Mutex<VecDeque<Asked>>,
    marks: AtomicU64,
    written: Mutex<HashMap<u64, Instant>>,
    left: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Nothing that can fail is done under these locks.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running provider; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Llm {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Llm {
    /// Starts one on a port of its own of this machine.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The API's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How every request is answered for which the script has nothing.
    pub fn always(&self, behaviour: Behaviour) {
        *lock(&self.shared.usual) = behaviour;
    }

    /// How the next requests are answered, one each, after those that are in the script already.
    pub fn then(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.shared.script).extend(behaviours);
    }

    /// The requests so far, oldest first; the newest 10,000.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).iter().cloned().collect()
    }

    /// When the token with that mark was handed to the network; none if it was not yet.
    #[must_use]
    pub fn written(&self, mark: u64) -> Option<Instant> {
        lock(&self.shared.written).get(&mark).copied()
    }

    /// How many tokens with a mark were handed to the network.
    #[must_use]
    pub fn marks(&self) -> usize {
        lock(&self.shared.written).len()
    }

    /// How many clients went away before their answer was whole.
    #[must_use]
    pub fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// The most requests that were being answered at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Llm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, most likely.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Tokens are small and are to leave at once; without it they only come later.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    while let Ok(Some(asked)) = connection.request().await {
        {
            let mut all = lock(&shared.asked);
            if all.len() == REMEMBERED {
                all.pop_front();
            }
            all.push_back(asked.clone());
        }
        let now = shared.now.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        let answered = answer(&mut connection, &asked, &shared).await;
        shared.now.fetch_sub(1, Ordering::SeqCst);
        match answered {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                shared.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// Answers a request; whether the connection may be used again. An error: the client is gone.
async fn answer(connection: &mut Connection, asked: &Asked, shared: &Shared) -> io::Result<bool> {
    let next = lock(&shared.script).pop_front();
    let behaviour = next.unwrap_or_else(|| lock(&shared.usual).clone());
    connection.pause(behaviour.delay).await?;
    if let Some(refusal) = behaviour.refusal_of(asked) {
        connection.refuse(&refusal).await?;
        return Ok(true);
    }
    let body: Value = match serde_json::from_slice(&asked.body) {
        Ok(body) => body,
        Err(error) => {
            let refusal = Refusal::new(400, &format!("the body is no JSON: {error}"));
            connection.refuse(&refusal).await?;
            return Ok(true);
        }
    };
    match asked.path.as_str() {
        "/v1/chat/completions" => chat::answer(connection, &body, &behaviour, shared).await,
        "/v1/embeddings" => vectors::answer(connection, &body, &behaviour).await,
        _ => {
            let refusal = Refusal::new(404, "there is no such path");
            connection.refuse(&refusal).await?;
            Ok(true)
        }
    }
}

//! Connected clients.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// One client that is connected.
pub struct Session {
    pub user: String,
    last_seen: Instant,
    queue: Vec<Vec<u8>>,
}

impl Session {
    /// Marks the client as alive.
    pub fn heartbeat(&mut self) {
        self.last_seen = Instant::now();
    }

    /// Whether nothing was heard for longer than the limit.
    pub fn is_idle(&self, limit: Duration) -> bool {
        self.last_seen.elapsed() > limit
    }

    /// Puts a message into the outgoing queue; drops the oldest when full.
    pub fn enqueue(&mut self, message: Vec<u8>) {
        if self.queue.len() > 100 {
            self.queue.remove(0);
        }
        self.queue.push(message);
    }
}

/// Disconnects everyone who was silent for too long.
pub fn evict_idle(sessions: &mut HashMap<u64, Session>, limit: Duration) -> usize {
    let before = sessions.len();
    sessions.retain(|_, session| !session.is_idle(limit));
    before - sessions.len()
}

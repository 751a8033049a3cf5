//! What all participants know of the updates made: which bytes are which transaction, and when it
//! was sent. The server passes updates on unchanged, so the bytes identify them.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;

/// The updates of one replay.
#[derive(Debug)]
pub(crate) struct Book {
    entries: Vec<OnceLock<Entry>>,
    by_bytes: Mutex<HashMap<Bytes, u32>>,
}

/// One transaction's update.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The bytes.
    pub(super) update: Bytes,
    /// The first transaction with the same bytes: two authors may delete the same characters.
    pub(super) content: u32,
    /// When it was made.
    pub(super) made: Instant,
}

/// A Yjs update that says nothing.
pub(super) const EMPTY: &[u8] = &[0, 0];

impl Book {
    /// An empty book for a session of `transactions`.
    pub(crate) fn new(transactions: usize) -> Self {
        Self {
            entries: (0..transactions).map(|_| OnceLock::new()).collect(),
            by_bytes: Mutex::default(),
        }
    }

    /// Enters the update of a transaction, before it is sent.
    pub(super) fn enter(&self, transaction: u32, update: Bytes) {
        let mut by_bytes = self.by_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let content = *by_bytes.entry(update.clone()).or_insert(transaction);
        let entry = Entry {
            update,
            content,
            made: Instant::now(),
        };
        // Each transaction is made once, by the participant that hosts its author.
        let _ = self.entries[transaction as usize].set(entry);
    }

    /// The entry of a transaction, once it has been made.
    pub(super) fn entry(&self, transaction: u32) -> Option<&Entry> {
        self.entries[transaction as usize].get()
    }

    /// The first transaction that an update is of.
    pub(super) fn find(&self, update: &[u8]) -> Option<u32> {
        let by_bytes = self.by_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        by_bytes.get(update).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_one_content() {
        let book = Book::new(3);
        book.enter(1, Bytes::from_static(b"x"));
        book.enter(2, Bytes::from_static(b"x"));
        assert_eq!(book.find(b"x"), Some(1));
        assert_eq!(book.entry(2).unwrap().content, 1);
        assert!(book.entry(0).is_none() && book.find(b"y").is_none());
    }
}

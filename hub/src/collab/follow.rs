//! A document as a stream of its log: the state or what came after a sequence, then each update as it is
//! committed.
//!
//! For those who can't hold a document socket. What is told is durable; an update may be told twice, which
//! does no harm. Never joins the document: no awareness, no edit of a client that waits for its commit.

use std::sync::Arc;

use backplane::store::{LogFrame, StoreError};
use bytes::Bytes;
use protocol::ErrorCode;

use super::Documents;
use super::heads::{Moved, Watched};
use crate::error::ApiError;

/// Bytes of the log that one step reads, about.
const STEP_BYTES: usize = 256 * 1024;

/// What a follower is told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStep {
    /// Everything up to `seq` as one update: the beginning, or where the log was cut.
    State {
        /// A Yjs v1 update that makes it from nothing.
        state: Bytes,
        /// Sequence.
        seq: u64,
    },
    /// One update.
    Update {
        /// A Yjs v1 update.
        update: Bytes,
        /// Its sequence.
        seq: u64,
    },
    /// The document was deleted.
    Gone,
}

/// One who follows a document.
pub struct LogFollower {
    documents: Arc<Documents>,
    id: Arc<str>,
    seq: Option<u64>,
    watched: Watched,
    /// There may be more to read without waiting.
    more: bool,
}

impl Documents {
    /// Follows a document by its log, from after `seq`, or from its state. Who may, the caller checks.
    #[must_use]
    pub fn follow(self: &Arc<Self>, id: &str, seq: Option<u64>) -> LogFollower {
        let id: Arc<str> = id.into();
        LogFollower {
            // Watched before anything is read, so that nothing falls in between.
            watched: self.context.heads.watch(&id),
            documents: Arc::clone(self),
            id,
            seq,
            more: true,
        }
    }
}

impl LogFollower {
    /// The next steps, in order; waits for them. A call may be dropped at any time.
    ///
    /// # Errors
    /// The store or the document can't be read now: call again.
    pub async fn next(&mut self) -> Result<Vec<LogStep>, ApiError> {
        loop {
            if !self.more && self.watched.moved().await == Moved::Gone {
                return Ok(vec![LogStep::Gone]);
            }
            self.more = true;
            let steps = self.read().await?;
            if !steps.is_empty() {
                return Ok(steps);
            }
            self.more = false;
        }
    }

    async fn read(&mut self) -> Result<Vec<LogStep>, ApiError> {
        let Some(seq) = self.seq else {
            return self.state().await;
        };
        let store = &self.documents.context.store;
        match store.log_after(&self.id, seq, STEP_BYTES).await {
            Ok(frames) if frames.is_empty() => {
                let document = store.document(&self.id).await?;
                match document {
                    None => Ok(vec![LogStep::Gone]),
                    // A sequence that was never given: from another life of the database.
                    Some(document) if document.head < seq => self.state().await,
                    Some(_) => Ok(Vec::new()),
                }
            }
            Ok(frames) => {
                let steps = steps(frames);
                if let Some(LogStep::Update { seq, .. }) = steps.last() {
                    self.seq = Some(*seq);
                }
                Ok(steps)
            }
            // Gone, or its log was cut behind where we are.
            Err(StoreError::NotFound) => self.state().await,
            Err(error) => Err(error.into()),
        }
    }

    async fn state(&mut self) -> Result<Vec<LogStep>, ApiError> {
        match self.documents.capture(&self.id).await {
            Ok(captured) => {
                self.seq = Some(captured.seq);
                Ok(vec![LogStep::State {
                    state: captured.state,
                    seq: captured.seq,
                }])
            }
            Err(error) if error.code == ErrorCode::NotFound => Ok(vec![LogStep::Gone]),
            Err(error) => Err(error),
        }
    }
}

fn steps(frames: Vec<LogFrame>) -> Vec<LogStep> {
    let numbered = frames
        .into_iter()
        .flat_map(|frame| (frame.first..).zip(frame.updates));
    numbered
        .map(|(seq, update)| LogStep::Update { update, seq })
        .collect()
}

//! What reaches a document's task: edits from clients, on a bounded lane, and what the hub itself wants
//! of the document, on another, so that a document that takes no more edits still commits those it has.
//!
//! Owns these messages and nothing that acts on them.

use std::sync::Arc;

use backplane::store::StoreError;
use bytes::Bytes;
use protocol::CloseCode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::peers::{PeerSpec, Standing};
use super::{Joined, PeerId};
use crate::error::ApiError;

/// Which of a client's messages an update came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpdateKind {
    Update,
    /// The answer to the hub's own Step1.
    Step2,
}

/// What a client hands in; bounded.
pub(super) enum Edit {
    Update {
        peer: PeerId,
        update: Bytes,
        kind: UpdateKind,
        /// Its share of the room for waiting bytes, given back when it is dropped.
        permit: OwnedSemaphorePermit,
    },
    Sync {
        peer: PeerId,
        state_vector: Bytes,
        answered: oneshot::Sender<Result<(), ApiError>>,
    },
    Awareness {
        peer: PeerId,
        update: Bytes,
    },
    QueryAwareness {
        peer: PeerId,
    },
    Resync {
        peer: PeerId,
    },
    Leave {
        peer: PeerId,
    },
}

/// A document's state, and up to where the log has it.
pub struct Captured {
    /// The state as one update.
    pub state: Bytes,
    /// The newest committed sequence.
    pub seq: u64,
}

/// What the hub itself wants of a document.
pub(super) enum Control {
    Join {
        spec: PeerSpec,
        standing: Arc<Standing>,
        joined: oneshot::Sender<Result<(PeerId, Joined), ApiError>>,
    },
    /// The log has everything up to `ticket`; the document's sequence is `seq` now.
    Committed {
        ticket: u64,
        seq: u64,
    },
    LogFailed(StoreError),
    /// Reads the state, once all that was in it when it was asked for is durable.
    Capture(oneshot::Sender<Result<Captured, ApiError>>),
    /// Makes a text equal to another, as one edit; answered once it is durable.
    Replace {
        root: String,
        text: String,
        done: oneshot::Sender<Result<(), ApiError>>,
    },
    /// A snapshot was saved, or was not.
    Compacted(Result<bool, StoreError>),
    /// Ends the document for everyone.
    Close(CloseCode, &'static str),
    /// Ends when what has been handed in is durable.
    Stop(oneshot::Sender<()>),
}

//! What reaches a document's task: edits from clients, on a bounded lane, and what the hub itself wants
//! of the document, on another, so that a document that takes no more edits still commits those it has.
//!
//! Owns these messages and nothing that acts on them.

use std::sync::Arc;

use backplane::store::StoreError;
use bytes::Bytes;
use protocol::CloseCode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::catchup::Read;
use super::orders::Asked;
use super::peers::{PeerSpec, Standing};
use super::upkeep::Tended;
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
    /// The state, or what lies beyond a state vector, as one update.
    pub state: Bytes,
    /// The newest committed sequence.
    pub seq: u64,
    /// The tag of the content: equal content has an equal one, on any node and at any time.
    pub tag: u64,
}

/// What is asked of a document as a whole.
pub(super) enum Request {
    /// Reads what lies beyond a state vector, once all that was there when it was asked for is durable.
    Capture(Bytes, oneshot::Sender<Result<Captured, ApiError>>),
    /// An edit; answered once it is durable.
    Edit(Box<Asked>),
}

impl Request {
    pub(super) fn refuse(self, error: ApiError) {
        // Whoever asked may have gone.
        match self {
            Self::Capture(_, reply) => drop(reply.send(Err(error))),
            Self::Edit(asked) => asked.refuse(error),
        }
    }
}

/// What the hub itself wants of a document.
pub(super) enum Control {
    Join {
        spec: PeerSpec,
        standing: Arc<Standing>,
        joined: oneshot::Sender<Result<(PeerId, Joined), ApiError>>,
    },
    /// The log has everything up to `ticket`: its last `count` updates up to `seq`; with a count of 0
    /// other nodes had logged all of it.
    Committed {
        ticket: u64,
        seq: u64,
        count: u64,
    },
    LogFailed(StoreError),
    /// The update under this ticket was not written, as its terms did not hold; all others are.
    Refused {
        ticket: u64,
        error: StoreError,
    },
    /// Somebody wants something of the whole document.
    Ask(Request),
    /// The log reached to here when somebody asked.
    Fresh(Result<u64, StoreError>, Request),
    /// The replica has what the log had when somebody asked.
    Serve(Request),
    /// The log was read.
    LogRead(Result<Read, StoreError>),
    /// The log reaches to here, as the store says.
    Head(u64),
    /// The replica broke: it is to be made anew.
    Renew,
    /// A snapshot or a version was made, or was not.
    Tended(Result<Option<Tended>, StoreError>),
    /// Ends the document for everyone.
    Close(CloseCode, &'static str),
    /// Ends when what has been handed in is durable.
    Stop(oneshot::Sender<()>),
}

//! The clients in a document: what each is told in its own dialect, and the handle that each holds.
//!
//! One update is encoded once per dialect and spelling, and its bytes are shared. A [`Peer`] is the
//! only way for a connection to reach the document's task; dropping it leaves the document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use protocol::frame::ServerDocOp;
use protocol::hocuspocus::{self, encode_close, encode_sync_status};
use protocol::ysync::{self, Sync};
use protocol::{Blob, CloseCode, Encoding, ErrorCode, ServerFrame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::PeerId;
use super::mailbox::{Edit, UpdateKind};
use crate::error::ApiError;
use crate::now_ms;
use crate::sendq::{Frame, SendQueue, StreamId};
use crate::transport::frame::{binary, encode};
use crate::usage::Tally;

/// What a client speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialect {
    /// y-websocket: one document per socket.
    YWebsocket,
    /// Hocuspocus: `address` is what the client's frames begin with.
    Hocuspocus {
        /// Name, or name and session id.
        address: Arc<str>,
    },
    /// `doc` frames of a session.
    Session {
        /// Encoding of the session.
        encoding: Encoding,
        /// The document as the client spells it.
        name: Arc<str>,
    },
}

/// Something to tell the clients of a document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tell<'a> {
    /// The hub's state vector.
    Step1(&'a [u8]),
    /// What the client lacked.
    Step2(&'a [u8]),
    /// Somebody's edit.
    Update(&'a [u8]),
    /// Awareness entries.
    Awareness(&'a [u8]),
}

impl Dialect {
    /// The frame that says it; `None` where the dialect has no word for it.
    pub(super) fn say(&self, tell: Tell<'_>) -> Option<Frame> {
        match self {
            Self::YWebsocket => Some(binary(&match tell {
                Tell::Step1(vector) => ysync::encode_step1(vector),
                Tell::Step2(update) => ysync::encode_step2(update),
                Tell::Update(update) => ysync::encode_update(update),
                Tell::Awareness(update) => ysync::encode_awareness(update),
            })),
            Self::Hocuspocus { address } => Some(binary(&match tell {
                Tell::Step1(vector) => hocuspocus::encode_sync(address, Sync::Step1(vector)),
                Tell::Step2(update) => hocuspocus::encode_sync(address, Sync::Step2(update)),
                Tell::Update(update) => hocuspocus::encode_sync(address, Sync::Update(update)),
                Tell::Awareness(update) => hocuspocus::encode_awareness(address, update),
            })),
            Self::Session { encoding, name } => {
                let (op, data) = match tell {
                    // A session is told the vector when it opens the document.
                    Tell::Step1(_) => return None,
                    Tell::Step2(update) => (ServerDocOp::Sync, update),
                    Tell::Update(update) => (ServerDocOp::Update, update),
                    Tell::Awareness(update) => (ServerDocOp::Awareness, update),
                };
                let data = Some(Blob(Bytes::copy_from_slice(data)));
                Some(encode(&doc_frame(name, op, data, None, None), *encoding))
            }
        }
    }

    /// Updates up to `n` of this client's are committed; `refused` says that the last was not taken.
    pub(super) fn acknowledge(&self, n: u64, saved: bool) -> Option<Frame> {
        match self {
            Self::YWebsocket => None,
            Self::Hocuspocus { address } => Some(binary(&encode_sync_status(address, saved))),
            Self::Session { encoding, name } => {
                let frame = doc_frame(name, ServerDocOp::Durable, None, Some(n), None);
                saved.then(|| encode(&frame, *encoding))
            }
        }
    }

    /// The client's update `n` was not taken.
    pub(super) fn deny(&self, n: u64, reason: &str) -> Option<Frame> {
        match self {
            Self::YWebsocket => Some(binary(&ysync::encode_permission_denied(reason))),
            // The status that is due for the update says it.
            Self::Hocuspocus { .. } => None,
            Self::Session { encoding, name } => {
                let frame = doc_frame(name, ServerDocOp::Denied, None, Some(n), Some(reason));
                Some(encode(&frame, *encoding))
            }
        }
    }

    /// Ends the document for this client: by a word where the socket serves others too, else by its
    /// close code.
    pub(super) fn end(&self, queue: &SendQueue, code: CloseCode, reason: &str) {
        match self {
            Self::YWebsocket => {
                if !code.should_reconnect() {
                    queue.reply(binary(&ysync::encode_permission_denied(reason)));
                }
                queue.close_with(code);
            }
            Self::Hocuspocus { address } => queue.reply(binary(&encode_close(address, reason))),
            Self::Session { encoding, name } => {
                let frame = doc_frame(name, ServerDocOp::Closed, None, None, Some(reason));
                queue.reply(encode(&frame, *encoding));
            }
        }
    }
}

fn doc_frame(
    name: &Arc<str>,
    op: ServerDocOp,
    data: Option<Blob>,
    n: Option<u64>,
    reason: Option<&str>,
) -> ServerFrame {
    ServerFrame::Doc {
        id: None,
        doc: name.to_string(),
        op,
        data,
        n,
        document: None,
        writable: None,
        reason: reason.map(str::to_owned),
    }
}

/// Frames of one thing to tell, made once per dialect that is met.
pub(super) struct Told<'a> {
    tell: Tell<'a>,
    made: Vec<(Dialect, Option<Frame>)>,
}

/// Beyond this many spellings a frame is made anew: looking for it would cost more.
const SPELLINGS: usize = 8;

impl<'a> Told<'a> {
    pub(super) fn new(tell: Tell<'a>) -> Self {
        Self {
            tell,
            made: Vec::new(),
        }
    }

    pub(super) fn to(&mut self, dialect: &Dialect) -> Option<Frame> {
        if let Some((_, frame)) = self.made.iter().find(|(made, _)| made == dialect) {
            return frame.clone();
        }
        let frame = dialect.say(self.tell);
        if self.made.len() < SPELLINGS {
            self.made.push((dialect.clone(), frame.clone()));
        }
        frame
    }
}

/// What connection and document both know of a client at any moment.
pub(super) struct Standing {
    pub(super) writable: AtomicBool,
    /// The connection has left, or the document has sent it off: nothing more is told.
    pub(super) gone: AtomicBool,
    pub(super) expires_ms: AtomicU64,
}

impl Standing {
    pub(super) fn new(spec: &PeerSpec) -> Arc<Self> {
        Arc::new(Self {
            writable: AtomicBool::new(spec.writable),
            gone: AtomicBool::new(false),
            expires_ms: AtomicU64::new(spec.expires_ms),
        })
    }

    pub(super) fn may_write(&self) -> bool {
        self.writable.load(Ordering::Acquire) && now_ms() < self.expires_ms.load(Ordering::Acquire)
    }
}

/// Who joins a document.
#[derive(Clone)]
pub struct PeerSpec {
    /// What it speaks.
    pub dialect: Dialect,
    /// Where its frames go.
    pub queue: Arc<SendQueue>,
    /// The document's number within the connection.
    pub stream: StreamId,
    /// Whose it is.
    pub user: Arc<str>,
    /// Where its edits are counted.
    pub tally: Arc<Tally>,
    /// Whether its updates are taken.
    pub writable: bool,
    /// Until when, milliseconds since the Unix epoch: its token's expiry.
    pub expires_ms: u64,
}

/// A connection's hold on a document.
pub struct Peer {
    pub(super) id: PeerId,
    pub(super) stream: StreamId,
    pub(super) project: Arc<str>,
    pub(super) document: Arc<str>,
    pub(super) standing: Arc<Standing>,
    pub(super) edits: mpsc::Sender<Edit>,
    /// Bytes of updates that may wait in the mailbox.
    pub(super) room: Arc<Semaphore>,
    pub(super) room_bytes: usize,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.standing.gone.store(true, Ordering::Release);
        let leave = Edit::Leave { peer: self.id };
        if let Err(mpsc::error::TrySendError::Full(leave)) = self.edits.try_send(leave) {
            let edits = self.edits.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { edits.send(leave).await });
            }
        }
    }
}

fn closed() -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        "the document was closed: open it again",
    )
}

impl Peer {
    /// The document's number within the connection.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The project that the document belongs to.
    #[must_use]
    pub fn project(&self) -> &Arc<str> {
        &self.project
    }

    /// The document's id.
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// Sets whether updates are taken, from this moment on, those that wait included; how it was.
    pub fn set_writable(&self, writable: bool) -> bool {
        self.standing.writable.swap(writable, Ordering::AcqRel)
    }

    /// Takes the right to write away, from what waits too: the user lost it. (A client that merely
    /// leaves has its last edits taken.)
    pub fn revoke(&self) {
        self.standing.writable.store(false, Ordering::Release);
    }

    /// Whether the document has sent this client off: open it again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.standing.gone.load(Ordering::Acquire)
    }

    /// States until when updates are taken, milliseconds since the Unix epoch: the token's expiry.
    pub fn set_expiry(&self, expires_ms: u64) {
        self.standing
            .expires_ms
            .store(expires_ms, Ordering::Release);
    }

    async fn send(&self, edit: Edit) -> Result<(), ApiError> {
        self.edits.send(edit).await.map_err(|_| closed())
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = bytes.clamp(1, self.room_bytes) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        room.map_err(|_| closed())
    }

    /// Hands in an edit; waits while the document has as much waiting as it may.
    ///
    /// # Errors
    /// `unavailable` if the document was closed.
    pub async fn update(&mut self, update: Bytes) -> Result<(), ApiError> {
        self.hand_in(update, UpdateKind::Update).await
    }

    /// Hands in the answer to the hub's own Step1.
    ///
    /// # Errors
    /// `unavailable` if the document was closed.
    pub async fn step2(&mut self, update: Bytes) -> Result<(), ApiError> {
        self.hand_in(update, UpdateKind::Step2).await
    }

    async fn hand_in(&mut self, update: Bytes, kind: UpdateKind) -> Result<(), ApiError> {
        let permit = self.reserve(update.len()).await?;
        self.send(Edit::Update {
            peer: self.id,
            update,
            kind,
            permit,
        })
        .await
    }

    /// Asks for what lies beyond a state vector; returns when the answer is queued, so that a client
    /// can't ask faster than it reads.
    ///
    /// # Errors
    /// `invalid` if it is no state vector; `unavailable` if the document was closed.
    pub async fn sync(&mut self, state_vector: Bytes) -> Result<(), ApiError> {
        let (answered, answer) = oneshot::channel();
        self.send(Edit::Sync {
            peer: self.id,
            state_vector,
            answered,
        })
        .await?;
        answer.await.map_err(|_| closed())?
    }

    /// Hands in an awareness update.
    ///
    /// # Errors
    /// `unavailable` if the document was closed.
    pub async fn awareness(&mut self, update: Bytes) -> Result<(), ApiError> {
        self.send(Edit::Awareness {
            peer: self.id,
            update,
        })
        .await
    }

    /// Asks for everyone's awareness.
    ///
    /// # Errors
    /// `unavailable` if the document was closed.
    pub async fn query_awareness(&mut self) -> Result<(), ApiError> {
        self.send(Edit::QueryAwareness { peer: self.id }).await
    }

    /// Brings a client up to date that was left out for a while.
    ///
    /// # Errors
    /// `unavailable` if the document was closed.
    pub async fn resync(&mut self) -> Result<(), ApiError> {
        self.send(Edit::Resync { peer: self.id }).await
    }
}

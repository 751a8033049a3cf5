//! `/collab/{document}`: the y-websocket protocol, for its clients as they are.
//!
//! The flow: upgrade → token and document (in the socket's first work, so that what is wrong can be
//! said on it) → join → each binary message is one step of the sync or awareness protocol. Access that
//! is refused is told by a `permission denied` message and a final close code, at which y-websocket 3
//! stops trying.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ysync::{self, EMPTY_AWARENESS, Message as Step};
use protocol::{CloseCode, ErrorCode};
use tokio::time::Instant;

use super::{Dialect, Documents, Peer, PeerSpec};
use crate::auth::rbac::{Operation, allows};
use crate::auth::{Auth, AuthError, Principal, Verdict};
use crate::connections::Place;
use crate::error::ApiError;
use crate::now_ms;
use crate::sendq::{Frame, Notice, SendQueue};
use crate::transport::frame::binary;
use crate::transport::{Handler, Message, Turn};

/// What a socket needs of the node.
pub struct Services {
    /// Tokens and rights.
    pub auth: Arc<Auth>,
    /// Documents.
    pub documents: Arc<Documents>,
}

/// A y-websocket client's socket.
pub struct Socket(Box<State>);

struct State {
    services: Arc<Services>,
    queue: Arc<SendQueue>,
    place: Place,
    /// As the client spells it.
    document: String,
    entry: Entry,
}

/// How far the client has come.
enum Entry {
    /// Its token is checked when the first message is due.
    Waiting(Option<String>),
    In {
        principal: Principal,
        expires: Instant,
        peer: Peer,
    },
    Refused,
}

impl Socket {
    /// A socket for a document that the client named, with the token that it brought.
    #[must_use]
    pub fn new(
        services: Arc<Services>,
        queue: Arc<SendQueue>,
        place: Place,
        document: String,
        token: Option<String>,
    ) -> Self {
        Self(Box::new(State {
            services,
            queue,
            place,
            document,
            entry: Entry::Waiting(token),
        }))
    }
}

/// The close code that tells a client of one document why it is refused.
fn close_code(error: &ApiError) -> CloseCode {
    match error.code {
        ErrorCode::Unauthorized => CloseCode::Unauthorized,
        ErrorCode::Forbidden => CloseCode::Forbidden,
        ErrorCode::NotFound | ErrorCode::Invalid => CloseCode::NotFound,
        ErrorCode::LimitReached => CloseCode::OverCapacity,
        _ => CloseCode::Failed,
    }
}

impl State {
    fn refuse(&mut self, code: CloseCode, reason: &str) {
        if let Entry::In { peer, .. } = &self.entry {
            peer.revoke();
        }
        self.entry = Entry::Refused;
        if !code.should_reconnect() {
            self.queue
                .reply(binary(&ysync::encode_permission_denied(reason)));
        }
        self.queue.close_with(code);
    }

    /// Checks the token and joins the document.
    async fn enter(&mut self) {
        let Entry::Waiting(token) = std::mem::replace(&mut self.entry, Entry::Refused) else {
            return;
        };
        let Some(token) = token else {
            return self.refuse(CloseCode::Unauthorized, "a token is needed");
        };
        let principal = match self.services.auth.authenticate(&token).await {
            Ok(principal) => principal,
            Err(AuthError::Expired) => {
                return self.refuse(CloseCode::TokenExpired, "the token has expired");
            }
            Err(error) => {
                let error = ApiError::from(error);
                return self.refuse(close_code(&error), &error.detail);
            }
        };
        if let Err(full) = self.place.identify(&principal) {
            return self.refuse(CloseCode::OverCapacity, &full.to_string());
        }
        match self.join(&principal).await {
            Ok(peer) => {
                let left = Duration::from_millis(principal.expires_ms.saturating_sub(now_ms()));
                self.entry = Entry::In {
                    principal,
                    expires: Instant::now() + left,
                    peer,
                };
            }
            Err(error) => self.refuse(close_code(&error), &error.detail),
        }
    }

    async fn join(&self, principal: &Principal) -> Result<Peer, ApiError> {
        let documents = &self.services.documents;
        let found = documents.resolve(&principal.user, &self.document).await?;
        let spec = PeerSpec {
            dialect: Dialect::YWebsocket,
            queue: Arc::clone(&self.queue),
            stream: 1,
            user: Arc::clone(&principal.user),
            tally: self
                .place
                .tally(&principal.user, &found.document.project_id),
            writable: allows(found.role, Operation::EditDocument),
            expires_ms: principal.expires_ms,
        };
        let (peer, _) = documents.join(&found.document, spec).await?;
        self.place.count_for(Some(peer.project()));
        Ok(peer)
    }

    async fn serve(&mut self, bytes: Bytes) {
        if let Entry::Waiting(_) = self.entry {
            self.enter().await;
        }
        let Entry::In { peer, .. } = &mut self.entry else {
            return;
        };
        let step = match Step::parse(&bytes) {
            Ok(step) => step,
            Err(error) => {
                tracing::debug!(%error, "not a y-websocket message");
                return self.refuse(CloseCode::BadFrame, "not a y-websocket message");
            }
        };
        let slice = |part: &[u8]| bytes.slice_ref(part);
        let done = match step {
            Step::Step1(vector) => peer.sync(slice(vector)).await,
            Step::Step2(update) => peer.step2(slice(update)).await,
            Step::Update(update) => peer.update(slice(update)).await,
            Step::Awareness(update) => peer.awareness(slice(update)).await,
            Step::QueryAwareness => peer.query_awareness().await,
            // Only a server has reason to say it.
            Step::PermissionDenied(_) => Ok(()),
        };
        if let Err(error) = done {
            self.refuse(close_code(&error), &error.detail);
        }
    }

    async fn recheck(&mut self) {
        let Entry::In {
            principal, peer, ..
        } = &self.entry
        else {
            return;
        };
        match self.services.auth.recheck(principal, peer.project()).await {
            Ok(Verdict::Gone(reason)) => self.refuse(CloseCode::Revoked, reason),
            Ok(verdict) => {
                peer.set_writable(verdict == Verdict::Allowed);
            }
            Err(_) => self.refuse(CloseCode::Failed, "rights could not be checked"),
        }
    }
}

impl Handler for Socket {
    fn on_start(mut self) -> Turn<Self> {
        Turn::Busy(Box::pin(async move {
            self.0.enter().await;
            self
        }))
    }

    fn on_message(mut self, message: Message<'_>) -> Turn<Self> {
        let Message::Binary(bytes) = message else {
            self.0.refuse(
                CloseCode::Unsupported,
                "only binary messages are spoken here",
            );
            return Turn::Ready(self);
        };
        let bytes = Bytes::copy_from_slice(bytes);
        Turn::Busy(Box::pin(async move {
            self.0.serve(bytes).await;
            self
        }))
    }

    fn on_notice(mut self, notice: Notice) -> Turn<Self> {
        Turn::Busy(Box::pin(async move {
            match (notice, &mut self.0.entry) {
                (Notice::CatchUp(_), Entry::In { peer, .. }) => {
                    if let Err(error) = peer.resync().await {
                        self.0.refuse(CloseCode::Failed, &error.detail);
                    }
                }
                (Notice::Recheck, _) => self.0.recheck().await,
                // Orders are for sessions alone.
                (Notice::CatchUp(_) | Notice::Orders, _) => {}
            }
            self
        }))
    }

    fn on_deadline(mut self, now: Instant) -> Turn<Self> {
        if let Entry::In { expires, .. } = &self.0.entry
            && now >= *expires
        {
            self.0
                .refuse(CloseCode::TokenExpired, "the token has expired");
        }
        Turn::Ready(self)
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.0.entry {
            Entry::In { expires, .. } => Some(*expires),
            _ => None,
        }
    }

    /// Its client reconnects after 30 s without a data message.
    fn keepalive(&self) -> Option<Frame> {
        Some(binary(&EMPTY_AWARENESS))
    }
}

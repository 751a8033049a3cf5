//! `/hocuspocus`: the Hocuspocus protocol, for its providers as they are; many documents on one socket.
//!
//! The flow: upgrade → every frame names a document → what comes before its Auth message waits,
//! bounded → Auth: token, rights, `Authenticated`, join → from then on each frame is one step. A
//! document is refused in band, with a reason that starts with the error's code, and may be asked for
//! again with another token: its providers look at no close code.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::hocuspocus::{self, ClientMessage, Frame as Parsed, Incoming, PONG_FRAME, Scope};
use protocol::ysync::Sync;
use protocol::{CloseCode, ErrorCode};
use tokio::time::Instant;

use super::yws::Services;
use super::{Dialect, Peer, PeerSpec};
use crate::auth::rbac::{Operation, allows};
use crate::auth::{Principal, Verdict};
use crate::config::Settings;
use crate::connections::Place;
use crate::error::ApiError;
use crate::now_ms;
use crate::sendq::{Frame, Notice, SendQueue, StreamId};
use crate::transport::frame::binary;
use crate::transport::{Handler, Message, Turn};
use crate::usage::only;

/// Most frames of a document that wait for its token.
const WAITING_FRAMES: usize = 64;
/// Most bytes that wait on one socket.
const WAITING_BYTES: usize = 1024 * 1024;
/// How many times the time for one token a socket may stay without anybody's.
const ANONYMOUS_PATIENCE: u32 = 6;
/// Longest address, bytes.
const ADDRESS_BYTES: usize = 1024;

/// A Hocuspocus provider's socket.
pub struct Socket(Box<State>);

struct State {
    services: Arc<Services>,
    settings: Arc<Settings>,
    queue: Arc<SendQueue>,
    place: Place,
    /// By address.
    documents: HashMap<Arc<str>, Entry>,
    next_stream: StreamId,
    waiting_bytes: usize,
    /// A socket that nobody has identified himself on by then is closed.
    anonymous_until: Option<Instant>,
}

/// How far a document has come.
enum Entry {
    /// Its token is to come by then.
    Waiting {
        until: Instant,
        frames: Vec<Bytes>,
    },
    Open(Box<Open>),
    /// Refused; frames are dropped until another token comes.
    Denied,
}

struct Open {
    principal: Principal,
    expires: Instant,
    peer: Peer,
    writable: bool,
}

impl Socket {
    /// A socket with no document yet.
    #[must_use]
    pub fn new(
        services: Arc<Services>,
        settings: Arc<Settings>,
        queue: Arc<SendQueue>,
        place: Place,
    ) -> Self {
        let patience = settings.collab.auth_timeout * ANONYMOUS_PATIENCE;
        Self(Box::new(State {
            anonymous_until: Some(Instant::now() + patience),
            services,
            settings,
            queue,
            place,
            documents: HashMap::new(),
            next_stream: 0,
            waiting_bytes: 0,
        }))
    }
}

/// A reason as providers read it: the code first.
fn reason(error: &ApiError) -> String {
    let detail = if error.detail.is_empty() {
        error.code.meaning()
    } else {
        &error.detail
    };
    format!("{}: {detail}", error.code.as_str())
}

fn expiry(principal: &Principal) -> Instant {
    Instant::now() + Duration::from_millis(principal.expires_ms.saturating_sub(now_ms()))
}

impl State {
    fn reply(&self, bytes: &[u8]) {
        self.queue.reply(binary(bytes));
    }

    fn bad_frame(&self, why: &str) {
        tracing::debug!(why, "not a Hocuspocus frame");
        self.queue.close_with(CloseCode::BadFrame);
    }

    async fn serve(&mut self, bytes: Bytes) {
        let frame = match Incoming::parse(&bytes) {
            Ok(Incoming::Ping) => return self.reply(&PONG_FRAME),
            Ok(Incoming::Pong) => return,
            Ok(Incoming::Frame(frame)) => frame,
            Err(error) => return self.bad_frame(&error.to_string()),
        };
        if frame.address.len() > ADDRESS_BYTES {
            return self.bad_frame("the address is too long");
        }
        let address: Arc<str> = match self.documents.get_key_value(frame.address) {
            Some((address, _)) => Arc::clone(address),
            None => frame.address.into(),
        };
        match frame.message {
            ClientMessage::Auth { token, .. } => {
                let (token, document) = (token.to_owned(), frame.document.to_owned());
                self.authenticate(&address, &document, &token).await;
            }
            ClientMessage::Close => {
                if let Some(Entry::Waiting { frames, .. }) = self.documents.remove(&address) {
                    self.forget_waiting(&frames);
                }
            }
            _ => self.about(&address, &bytes, frame).await,
        }
    }

    /// A frame about a document, or to wait for its token.
    async fn about(&mut self, address: &Arc<str>, bytes: &Bytes, frame: Parsed<'_>) {
        let is_full = self.documents.len() >= self.settings.collab.documents_per_socket;
        match self.documents.get_mut(address) {
            Some(Entry::Open(open)) => {
                let answer = step(&mut open.peer, bytes, frame.message).await;
                if let Err(error) = answer {
                    self.close(address, &reason(&error));
                }
            }
            Some(Entry::Denied) => {}
            Some(Entry::Waiting { frames, .. }) => {
                self.waiting_bytes += bytes.len();
                if frames.len() >= WAITING_FRAMES || self.waiting_bytes > WAITING_BYTES {
                    return self.bad_frame("too much before the token");
                }
                frames.push(bytes.clone());
            }
            None if is_full => {
                let text = "limit_reached: the socket has as many documents as it may";
                self.reply(&hocuspocus::encode_denied(address, text));
            }
            None => {
                self.waiting_bytes += bytes.len();
                let entry = Entry::Waiting {
                    until: Instant::now() + self.settings.collab.auth_timeout,
                    frames: vec![bytes.clone()],
                };
                self.documents.insert(Arc::clone(address), entry);
            }
        }
    }

    async fn authenticate(&mut self, address: &Arc<str>, document: &str, token: &str) {
        let entered = match self.services.auth.authenticate(token).await {
            Ok(principal) => self.enter(address, document, principal).await,
            Err(error) => Err(error.into()),
        };
        match entered {
            Ok(frames) => {
                for bytes in frames {
                    if let Ok(Incoming::Frame(frame)) = Incoming::parse(&bytes) {
                        self.about(address, &bytes, frame).await;
                    }
                }
            }
            Err(error) => self.deny(address, &reason(&error)),
        }
    }

    /// Lets a document in, or renews its token; the frames that waited.
    async fn enter(
        &mut self,
        address: &Arc<str>,
        document: &str,
        principal: Principal,
    ) -> Result<Vec<Bytes>, ApiError> {
        self.place
            .identify(&principal)
            .map_err(|full| ApiError::new(ErrorCode::LimitReached, full.to_string()))?;
        self.anonymous_until = None;
        if let Some(Entry::Open(open)) = self.documents.get_mut(address)
            && open.principal.user == principal.user
            && !open.peer.is_gone()
        {
            open.peer.set_expiry(principal.expires_ms);
            open.expires = expiry(&principal);
            open.principal = principal;
            return Ok(Vec::new());
        }
        let known = self.documents.contains_key(address);
        if !known && self.documents.len() >= self.settings.collab.documents_per_socket {
            return Err(ApiError::new(
                ErrorCode::LimitReached,
                "the socket has as many documents as it may",
            ));
        }
        let documents = Arc::clone(&self.services.documents);
        let found = documents.resolve(&principal.user, document).await?;
        let writable = allows(found.role, Operation::EditDocument);
        self.next_stream += 1;
        let spec = PeerSpec {
            dialect: Dialect::Hocuspocus {
                address: Arc::clone(address),
            },
            queue: Arc::clone(&self.queue),
            stream: self.next_stream,
            user: Arc::clone(&principal.user),
            tally: self
                .place
                .tally(&principal.user, &found.document.project_id),
            writable,
            expires_ms: principal.expires_ms,
        };
        // The greeting that the join queues must come after it.
        self.reply(&hocuspocus::encode_authenticated(address, scope(writable)));
        let (peer, _) = documents.join(&found.document, spec).await?;
        let open = Open {
            expires: expiry(&principal),
            principal,
            peer,
            writable,
        };
        let before = self
            .documents
            .insert(Arc::clone(address), Entry::Open(Box::new(open)));
        self.belong();
        Ok(match before {
            Some(Entry::Waiting { frames, .. }) => {
                self.forget_waiting(&frames);
                frames
            }
            _ => Vec::new(),
        })
    }

    fn forget_waiting(&mut self, frames: &[Bytes]) {
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }

    fn deny(&mut self, address: &Arc<str>, reason: &str) {
        self.reply(&hocuspocus::encode_denied(address, reason));
        let is_full = self.documents.len() >= self.settings.collab.documents_per_socket;
        if is_full && !self.documents.contains_key(address) {
            return;
        }
        let before = self.documents.insert(Arc::clone(address), Entry::Denied);
        if let Some(Entry::Waiting { frames, .. }) = before {
            self.forget_waiting(&frames);
        }
    }

    fn close(&mut self, address: &Arc<str>, reason: &str) {
        if let Some(Entry::Open(open)) = self.documents.get(address) {
            open.peer.revoke();
        }
        self.reply(&hocuspocus::encode_close(address, reason));
        self.documents.insert(Arc::clone(address), Entry::Denied);
        self.belong();
    }

    /// What the socket uses counts for the project that all its documents are of.
    fn belong(&self) {
        let projects = self.documents.values().filter_map(|entry| match entry {
            Entry::Open(open) => Some(open.peer.project()),
            Entry::Waiting { .. } | Entry::Denied => None,
        });
        self.place.count_for(only(projects));
    }

    async fn catch_up(&mut self, stream: StreamId) {
        let open = self
            .documents
            .iter_mut()
            .find_map(|(address, entry)| match entry {
                Entry::Open(open) if open.peer.stream() == stream => {
                    Some((Arc::clone(address), open))
                }
                _ => None,
            });
        if let Some((address, open)) = open
            && let Err(error) = open.peer.resync().await
        {
            self.close(&address, &reason(&error));
        }
    }

    /// Checks every document's rights again.
    async fn recheck(&mut self) {
        let addresses: Vec<Arc<str>> = self.documents.keys().cloned().collect();
        for address in addresses {
            let Some(Entry::Open(open)) = self.documents.get_mut(&address) else {
                continue;
            };
            let auth = &self.services.auth;
            let verdict = auth.recheck(&open.principal, open.peer.project()).await;
            match verdict {
                Ok(Verdict::Gone(reason)) => self.close(&address, &format!("revoked: {reason}")),
                Ok(verdict) => {
                    let writable = verdict == Verdict::Allowed;
                    open.peer.set_writable(writable);
                    if open.writable != writable {
                        open.writable = writable;
                        self.reply(&hocuspocus::encode_authenticated(&address, scope(writable)));
                    }
                }
                Err(error) => self.close(&address, &reason(&error)),
            }
        }
    }
}

fn scope(writable: bool) -> Scope {
    if writable {
        Scope::ReadWrite
    } else {
        Scope::ReadOnly
    }
}

async fn step(peer: &mut Peer, bytes: &Bytes, message: ClientMessage<'_>) -> Result<(), ApiError> {
    let slice = |part: &[u8]| bytes.slice_ref(part);
    match message {
        ClientMessage::Sync(Sync::Step1(vector)) => peer.sync(slice(vector)).await,
        ClientMessage::Sync(Sync::Step2(update)) => peer.step2(slice(update)).await,
        ClientMessage::Sync(Sync::Update(update)) => peer.update(slice(update)).await,
        ClientMessage::Awareness(update) => peer.awareness(slice(update)).await,
        ClientMessage::QueryAwareness => peer.query_awareness().await,
        // There is no application behind the hub that would answer; the others are not to be reached
        // past the rights on channels.
        ClientMessage::Stateless(_)
        | ClientMessage::BroadcastStateless(_)
        | ClientMessage::Auth { .. }
        | ClientMessage::Close => Ok(()),
    }
}

impl Handler for Socket {
    fn on_message(mut self, message: Message<'_>) -> Turn<Self> {
        let Message::Binary(bytes) = message else {
            self.0.queue.close_with(CloseCode::Unsupported);
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
            match notice {
                Notice::CatchUp(stream) => self.0.catch_up(stream).await,
                Notice::Recheck => self.0.recheck().await,
                // They are for sessions alone.
                Notice::Orders => {}
            }
            self
        }))
    }

    fn on_deadline(mut self, now: Instant) -> Turn<Self> {
        let state = &mut *self.0;
        if state.anonymous_until.is_some_and(|until| now >= until) {
            state.queue.close_with(CloseCode::ConnectTimeout);
            return Turn::Ready(self);
        }
        let due: Vec<(Arc<str>, &str)> = state
            .documents
            .iter()
            .filter_map(|(address, entry)| match entry {
                Entry::Open(open) if now >= open.expires => {
                    Some((Arc::clone(address), "unauthorized: the token has expired"))
                }
                Entry::Waiting { until, .. } if now >= *until => {
                    Some((Arc::clone(address), "unauthorized: no token came"))
                }
                _ => None,
            })
            .collect();
        for (address, reason) in due {
            match state.documents.get(&address) {
                Some(Entry::Open(_)) => state.close(&address, reason),
                _ => state.deny(&address, reason),
            }
        }
        Turn::Ready(self)
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = self.0.documents.values().filter_map(|entry| match entry {
            Entry::Open(open) => Some(open.expires),
            Entry::Waiting { until, .. } => Some(*until),
            Entry::Denied => None,
        });
        deadlines.chain(self.0.anonymous_until).min()
    }

    /// Its provider reconnects after 30 s without a data message, and older ones may not know a bare
    /// ping: an awareness message that tells of nobody serves both.
    fn keepalive(&self) -> Option<Frame> {
        let mut open = self
            .0
            .documents
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Open(_)));
        let (address, _) = open.next()?;
        Some(binary(&hocuspocus::encode_awareness(address, &[0])))
    }
}

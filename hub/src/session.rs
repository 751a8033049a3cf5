//! A session on `/ws`: one socket, many channels and documents.
//!
//! The flow: `handshake` upgrades and finds the token → this loop, driven by `transport`, decodes a
//! frame → `dispatch` has one arm per frame → a room below answers → the reply goes to the send queue.
//! Requests are served one after the other, in order; while one is under way nothing more is read.
//! Whatever a session holds (its place, subscriptions, documents) ends when it is dropped.

mod dispatch;
mod documents;
pub mod follow;
pub mod handshake;
mod orders;
mod rate;
mod rights;
mod used;

use std::sync::Arc;
use std::time::Duration;

use protocol::codec::DecodeError;
use protocol::frame::Limits;
use protocol::{CloseCode, Encoding, ErrorCode, Role, ServerFrame};
use tokio::time::Instant;

use crate::auth::{Auth, Principal};
use crate::cached::{LastSeen, Visit};
use crate::channels::{Channels, Subscription};
use crate::collab::{Documents, Peer};
use crate::config::Settings;
use crate::connections::{Connections, Place};
use crate::error::ApiError;
use crate::now_ms;
use crate::sendq::{Notice, SendQueue, StreamId};
use crate::transport::frame::encode;
use crate::transport::{Handler, Message, Turn};
use crate::usage::Tally;
use rate::Bucket;

/// Most roles remembered between changes of rights.
const ROLES_REMEMBERED: usize = 32;

/// What sessions are made of; one per node.
pub struct Services {
    /// Settings.
    pub settings: Arc<Settings>,
    /// Tokens and rights.
    pub auth: Arc<Auth>,
    /// Channels.
    pub channels: Arc<Channels>,
    /// Documents.
    pub documents: Arc<Documents>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// When login sessions were last seen.
    pub seen: Arc<LastSeen>,
    /// This node's id.
    pub node: String,
}

/// A session, ready for its next frame.
pub struct Session(Box<State>);

struct State {
    services: Arc<Services>,
    queue: Arc<SendQueue>,
    encoding: Encoding,
    place: Place,
    who: Who,
    streams: Vec<Open>,
    next_stream: StreamId,
    frames: Bucket,
    publishes: Bucket,
    /// Roles read since rights last changed, by project.
    roles: Vec<(Arc<str>, Role)>,
    /// Where its messages are counted, by project.
    tallies: Vec<(Arc<str>, Arc<Tally>)>,
}

/// Who the session is.
enum Who {
    /// The token is to come by then.
    Unknown {
        until: Instant,
        /// Noted of the login once it is known; none if its door has noted it already.
        visit: Option<Box<Visit>>,
    },
    Known {
        principal: Arc<Principal>,
        expires: Instant,
        warned: bool,
    },
}

/// What a stream of the session is.
enum Open {
    Channel(Box<Subscription>),
    Document(Box<OpenDocument>),
    Log(Box<follow::OpenLog>),
}

struct OpenDocument {
    /// As the client spelled it.
    name: Arc<str>,
    peer: Peer,
}

impl Open {
    fn stream(&self) -> StreamId {
        match self {
            Self::Channel(subscription) => subscription.stream(),
            Self::Document(document) => document.peer.stream(),
            Self::Log(log) => log.stream(),
        }
    }
}

impl Session {
    fn new(
        services: Arc<Services>,
        queue: Arc<SendQueue>,
        encoding: Encoding,
        place: Place,
        visit: Option<Visit>,
    ) -> Self {
        let settings = &services.settings.session;
        Self(Box::new(State {
            who: Who::Unknown {
                until: Instant::now() + settings.connect_timeout,
                visit: visit.map(Box::new),
            },
            frames: Bucket::new(settings.frame_rate),
            publishes: Bucket::new(settings.publish_rate),
            services,
            queue,
            encoding,
            place,
            streams: Vec::new(),
            next_stream: 0,
            roles: Vec::new(),
            tallies: Vec::new(),
        }))
    }
}

impl Handler for Session {
    fn on_message(mut self, message: Message<'_>) -> Turn<Self> {
        let state = &mut self.0;
        let bytes = match (message, state.encoding) {
            (Message::Text(text), Encoding::Json) => text.as_bytes(),
            (Message::Binary(bytes), Encoding::MsgPack) => bytes,
            _ => {
                state.queue.close_with(CloseCode::Unsupported);
                return Turn::Ready(self);
            }
        };
        let frame = match state.encoding.decode_client(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                state.refuse(error);
                return Turn::Ready(self);
            }
        };
        let wait = state.frames.take();
        Turn::Busy(Box::pin(async move {
            if let Some(wait) = wait {
                // Not reading is the gentlest limit: TCP passes it on to the client.
                tokio::time::sleep(wait).await;
            }
            self.0.dispatch(frame).await;
            self
        }))
    }

    fn on_notice(mut self, notice: Notice) -> Turn<Self> {
        Turn::Busy(Box::pin(async move {
            match notice {
                Notice::CatchUp(stream) => self.0.catch_up(stream).await,
                Notice::Recheck => self.0.recheck().await,
                Notice::Orders => self.0.obey().await,
            }
            self
        }))
    }

    fn on_deadline(mut self, now: Instant) -> Turn<Self> {
        let state = &mut *self.0;
        let notice = state.services.settings.session.expiring_notice;
        match &mut state.who {
            Who::Unknown { .. } => state.queue.close_with(CloseCode::ConnectTimeout),
            Who::Known { expires, .. } if now >= *expires => {
                state.queue.close_with(CloseCode::TokenExpired);
                // Nothing more is served, whatever still arrives.
                state.drop_streams();
            }
            Who::Known {
                expires, warned, ..
            } if !*warned && now + notice >= *expires => {
                *warned = true;
                let in_ms = expires.duration_since(now).as_millis() as u64;
                state.send(&ServerFrame::Expiring { in_ms });
            }
            Who::Known { .. } => {}
        }
        Turn::Ready(self)
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.0.who {
            Who::Unknown { until, .. } => Some(*until),
            Who::Known {
                expires, warned, ..
            } if *warned => Some(*expires),
            Who::Known { expires, .. } => {
                let notice = self.0.services.settings.session.expiring_notice;
                expires.checked_sub(notice).or(Some(*expires))
            }
        }
    }
}

impl State {
    fn send(&self, frame: &ServerFrame) {
        self.queue.reply(encode(frame, self.encoding));
    }

    fn ack(&self, id: u32) {
        self.send(&ServerFrame::Ack {
            id,
            position: None,
            duplicate: false,
            expires: None,
        });
    }

    fn error(&self, id: Option<u32>, error: &ApiError) {
        let retry = error.retry_after.map(|after| after.as_millis() as u64);
        if let Some(cause) = &error.cause {
            tracing::warn!(code = error.code.as_str(), %cause, "a session's request failed");
        }
        let detail = if error.detail.is_empty() {
            error.code.meaning()
        } else {
            &error.detail
        };
        self.send(&ServerFrame::Error {
            id,
            code: error.code,
            message: detail.to_owned(),
            retry_after_ms: retry,
        });
    }

    /// Answers a message that is not a frame; only one that is not even of the encoding ends the
    /// session.
    fn refuse(&self, error: DecodeError) {
        let (id, code) = match &error {
            DecodeError::Malformed(..) => (None, ErrorCode::BadRequest),
            DecodeError::UnknownType { id, .. } => (*id, ErrorCode::UnknownType),
            DecodeError::Invalid { id, .. } => (*id, ErrorCode::Invalid),
        };
        self.error(id, &ApiError::new(code, error.to_string()));
        if matches!(error, DecodeError::Malformed(..)) {
            self.queue.close_with(CloseCode::BadFrame);
        }
    }

    fn principal(&self) -> Option<Arc<Principal>> {
        match &self.who {
            Who::Known {
                principal, expires, ..
            } if Instant::now() < *expires => Some(Arc::clone(principal)),
            _ => None,
        }
    }

    /// The session's id on the wire.
    fn session_id(&self) -> String {
        format!("{}-{:x}", self.services.node, self.place.id())
    }

    /// Takes on an authenticated principal.
    fn become_known(&mut self, principal: Arc<Principal>) -> Result<(), ApiError> {
        self.place
            .identify(&principal)
            .map_err(|full| ApiError::new(ErrorCode::LimitReached, full.to_string()))?;
        for open in &self.streams {
            if let Open::Document(document) = open {
                document.peer.set_expiry(principal.expires_ms);
            }
        }
        if let Who::Unknown {
            visit: Some(visit), ..
        } = &self.who
        {
            let seen = &self.services.seen;
            seen.note(&principal.login_session, || Visit::clone(visit));
        }
        let left = Duration::from_millis(principal.expires_ms.saturating_sub(now_ms()));
        self.who = Who::Known {
            principal,
            expires: Instant::now() + left,
            warned: false,
        };
        Ok(())
    }

    fn connected(&self, id: u32) {
        let Who::Known { principal, .. } = &self.who else {
            return;
        };
        let settings = &self.services.settings.session;
        self.send(&ServerFrame::Connected {
            id,
            session: self.session_id(),
            user: principal.user.to_string(),
            name: principal.name.to_string(),
            node: self.services.node.clone(),
            limits: Limits {
                message_bytes: settings.message_bytes as u64,
                channels: settings.channels as u32,
                documents: settings.documents as u32,
                history_page: settings.history_page as u32,
            },
            ping_ms: settings.ping_interval.as_millis() as u64,
            time: now_ms(),
            expires: principal.expires_ms,
        });
    }

    async fn catch_up(&mut self, stream: StreamId) {
        let Some(open) = self.streams.iter_mut().find(|open| open.stream() == stream) else {
            return;
        };
        let caught_up = match open {
            Open::Channel(subscription) => subscription.catch_up().await,
            Open::Document(document) => document.peer.resync().await,
            // It pushes only what there is room for.
            Open::Log(_) => Ok(()),
        };
        if let Err(error) = caught_up {
            tracing::warn!(detail = %error.detail, "a session could not be brought up to date");
            self.queue.close_with(CloseCode::Failed);
        }
    }
}

//! A session whose client can't hold a WebSocket: it follows channels, and documents by their logs, and hears
//! of them by other means.
//!
//! The rules are those of every session (rights, limits, recovery, expiry): only the way out is another. All
//! that it will follow is said at its beginning. Documents come as `doc` frames whose `n` is the sequence in the
//! document's log.

use std::sync::Arc;
use std::time::Duration;

use protocol::frame::ServerDocOp;
use protocol::{Blob, Encoding, ErrorCode, Position, ServerFrame};
use tokio::task::AbortHandle;

use super::{Open, Services, Session};
use crate::auth::Principal;
use crate::auth::rbac::Operation;
use crate::collab::follow::{LogFollower, LogStep};
use crate::connections::Place;
use crate::error::ApiError;
use crate::sendq::{SendQueue, StreamId};
use crate::transport::frame::encode;

/// How long a log waits for room in the queue, and for the store to come back.
const AGAIN: Duration = Duration::from_millis(50);
const STORE_AGAIN: Duration = Duration::from_millis(500);

/// A channel to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// Its name, as clients write it.
    pub channel: String,
    /// Where to go on from; from now on without.
    pub position: Option<Position>,
    /// Whether the session joins the channel's presence.
    pub presence: bool,
}

/// A document to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowLog {
    /// Its id.
    pub document: String,
    /// The sequence to go on from; from its state without.
    pub seq: Option<u64>,
}

/// A document that is being followed; dropping it ends that.
pub(super) struct OpenLog {
    stream: StreamId,
    document: Arc<str>,
    project: Arc<str>,
    task: AbortHandle,
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenLog {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn project(&self) -> &Arc<str> {
        &self.project
    }

    pub(super) fn closed(&self, reason: String) -> ServerFrame {
        let mut frame = step_frame(&self.document, ServerDocOp::Closed, None);
        if let ServerFrame::Doc { reason: why, .. } = &mut frame {
            *why = Some(reason);
        }
        frame
    }
}

impl Session {
    /// A session that follows these channels and documents; its frames are JSON.
    ///
    /// # Errors
    /// A name is wrong, the user may not follow it, a channel stands twice, there are too many, the user has too
    /// many sessions, or the broker can't be reached. Nothing is left behind then.
    pub async fn follow(
        services: Arc<Services>,
        queue: Arc<SendQueue>,
        place: Place,
        principal: Principal,
        channels: &[Follow],
        documents: &[FollowLog],
    ) -> Result<Self, ApiError> {
        let principal = Arc::new(principal);
        let mut session = Self::new(services, queue, Encoding::Json, place, None);
        let state = &mut *session.0;
        state.become_known(Arc::clone(&principal))?;
        state.connected(0);
        for one in channels {
            let position = one.position.clone();
            state
                .subscribe(0, &one.channel, position, one.presence, &principal)
                .await
                .map_err(|error| named(error, &one.channel))?;
        }
        if documents.len() > state.services.settings.session.documents {
            return Err(ApiError::new(
                ErrorCode::LimitReached,
                "more documents than a session may follow",
            ));
        }
        for one in documents {
            state
                .follow_log(one, &principal)
                .await
                .map_err(|error| named(error, &one.document))?;
        }
        Ok(session)
    }
}

impl super::State {
    async fn follow_log(&mut self, one: &FollowLog, who: &Principal) -> Result<(), ApiError> {
        let services = Arc::clone(&self.services);
        let (document, _) = services
            .auth
            .authorize_document(&who.user, &one.document, Operation::ReadDocument)
            .await?;
        let follower = services.documents.follow(&document.id, one.seq);
        let id: Arc<str> = document.id.into();
        let pushing = push(follower, Arc::clone(&id), Arc::clone(&self.queue));
        let log = OpenLog {
            stream: self.take_stream(),
            document: id,
            project: document.project_id.into(),
            task: tokio::spawn(pushing).abort_handle(),
        };
        self.streams.push(Open::Log(Box::new(log)));
        self.belong();
        Ok(())
    }
}

/// Passes a document's log on to a session, as fast as the session's client reads.
async fn push(mut follower: LogFollower, document: Arc<str>, queue: Arc<SendQueue>) {
    loop {
        let steps = match follower.next().await {
            Ok(steps) => steps,
            Err(error) => {
                tracing::debug!(%document, detail = %error.detail, "a followed log can't be read now");
                tokio::time::sleep(STORE_AGAIN).await;
                continue;
            }
        };
        for step in steps {
            while queue.is_full() {
                tokio::time::sleep(AGAIN).await;
            }
            let frame = match step {
                LogStep::State { state, seq } => {
                    step_frame(&document, ServerDocOp::Sync, Some((Blob(state), seq)))
                }
                LogStep::Update { update, seq } => {
                    step_frame(&document, ServerDocOp::Update, Some((Blob(update), seq)))
                }
                LogStep::Gone => step_frame(&document, ServerDocOp::Closed, None),
            };
            queue.reply(encode(&frame, Encoding::Json));
            if matches!(
                frame,
                ServerFrame::Doc {
                    op: ServerDocOp::Closed,
                    ..
                }
            ) {
                return;
            }
        }
    }
}

fn step_frame(document: &str, op: ServerDocOp, what: Option<(Blob, u64)>) -> ServerFrame {
    let gone = || Some("the document was deleted".to_owned());
    let (data, n) = what.unzip();
    ServerFrame::Doc {
        id: None,
        doc: document.to_owned(),
        reason: if op == ServerDocOp::Closed {
            gone()
        } else {
            None
        },
        op,
        data,
        n,
        document: None,
        writable: None,
    }
}

/// Says what an error is about.
fn named(mut error: ApiError, what: &str) -> ApiError {
    let detail = if error.detail.is_empty() {
        error.code.meaning()
    } else {
        &error.detail
    };
    error.detail = format!("{what}: {detail}").into();
    error
}

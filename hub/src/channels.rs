//! Channels: who may use one, subscribing, publishing, catching up.
//!
//! The walk of a message: `publish` (rights, then the broker) → `fanout` (one encoding for all) → send
//! queues. A subscription starts held back: it is registered first, then its position is read, then
//! what lies between is replayed from history, so that nothing falls in between. A subscriber that
//! fell behind goes the same way. Knows no socket and no frame of a client.

pub mod fanout;
pub mod publish;

use std::sync::Arc;
use std::time::Instant;

use backplane::broker::{Broker, BrokerError, Page, Publication, Publish, Published};
use protocol::frame::{Member, ResetReason};
use protocol::{ChannelName, Encoding, ErrorCode, Position, Role, ServerFrame};
use serde_json::Value;

use crate::auth::Auth;
use crate::auth::rbac::Operation;
use crate::error::ApiError;
use crate::metrics;
use crate::sendq::{Missed, SendQueue, StreamId};
use crate::transport::frame::encode;
use fanout::{Fanout, Ticket, message_frame};

/// Most messages of one chunk of a replay.
const REPLAY_MESSAGES: usize = 256;
/// A chunk ends after this many bytes.
const REPLAY_BYTES: usize = 256 * 1024;

/// The channels of this node.
pub struct Channels {
    broker: Arc<dyn Broker>,
    fanout: Arc<Fanout>,
    auth: Arc<Auth>,
    members_limit: usize,
}

/// What a subscriber asks for.
pub struct Request {
    /// The channel.
    pub channel: ChannelName,
    /// Where to go on from.
    pub position: Option<Position>,
    /// The session itself, if it joins the channel's presence.
    pub member: Option<Member>,
    /// The session's number for it.
    pub stream: StreamId,
}

/// Where a subscription starts.
pub struct Start {
    /// Messages after this follow.
    pub position: Position,
    /// The position asked for could not be gone on from.
    pub reset: Option<ResetReason>,
    /// The position asked for is gone on from.
    pub recovered: bool,
    /// Who is there, if presence was asked for.
    pub members: Option<Vec<Member>>,
}

/// A live subscription; dropping it ends it.
pub struct Subscription {
    channel: ChannelName,
    stream: StreamId,
    epoch: String,
    queue: Arc<SendQueue>,
    encoding: Encoding,
    broker: Arc<dyn Broker>,
    member: Option<Box<Member>>,
    /// The registration with the fan-out.
    ticket: Option<Ticket>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(member) = &self.member {
            self.broker.leave(&self.channel, &member.session);
        }
        self.broker.unsubscribe(&self.channel);
        // First nobody pushes any more, then what was pushed is forgotten.
        self.ticket = None;
        self.queue.forget(self.stream);
    }
}

fn broker_error(error: BrokerError) -> ApiError {
    match error {
        BrokerError::NoKey => ApiError::new(ErrorCode::Invalid, error.to_string()),
        BrokerError::Unavailable(_) => ApiError::new(
            ErrorCode::Unavailable,
            "the message broker can't be reached",
        ),
    }
}

/// About how long a value is as JSON, without writing it.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| name.len() + size(value) + 4);
            fields.sum::<usize>() + 2
        }
    }
}

impl Channels {
    /// Channels over a broker that delivers into `fanout`.
    #[must_use]
    pub fn new(
        broker: Arc<dyn Broker>,
        fanout: Arc<Fanout>,
        auth: Arc<Auth>,
        members_limit: usize,
    ) -> Self {
        Self {
            broker,
            fanout,
            auth,
            members_limit,
        }
    }

    /// The project that a channel belongs to; `None` for a user's own feed.
    ///
    /// # Errors
    /// `not_found` for the channel of a document or plan that does not exist.
    pub async fn project_of(&self, channel: &ChannelName) -> Result<Option<Arc<str>>, ApiError> {
        let found = match channel {
            ChannelName::Feed(_) => return Ok(None),
            ChannelName::Room { project, .. } | ChannelName::Project(project) => {
                return Ok(Some(Arc::clone(project)));
            }
            ChannelName::Doc(id) => {
                let document = self.auth.store().document(id).await?;
                document.map(|document| document.project_id)
            }
            ChannelName::Plan(id) => self.auth.store().project_of_plan(id).await?,
        };
        let missing = || ApiError::new(ErrorCode::NotFound, format!("there is no {channel}"));
        found.map(|id| Some(id.into())).ok_or_else(missing)
    }

    /// What following a channel takes in its project.
    #[must_use]
    pub fn subscribe_operation(channel: &ChannelName) -> Operation {
        match channel {
            ChannelName::Plan(_) => Operation::SubscribePlan,
            ChannelName::Doc(_) => Operation::SubscribeDoc,
            ChannelName::Room { .. } => Operation::SubscribeRoom,
            ChannelName::Project(_) | ChannelName::Feed(_) => Operation::SubscribeProject,
        }
    }

    /// A user's role for a channel if it may do `operation` there; a feed's own user may do anything
    /// that can be done in it.
    ///
    /// # Errors
    /// `forbidden`, or `not_found` where the user must not learn more.
    pub async fn authorize(
        &self,
        user: &str,
        channel: &ChannelName,
        operation: Operation,
    ) -> Result<Role, ApiError> {
        match self.project_of(channel).await? {
            None => Ok(Role::Owner),
            Some(project) => Ok(self.auth.authorize(user, &project, operation).await?),
        }
    }

    /// Sends a message to a channel; what clients may send, and where, is `publish`'s.
    ///
    /// # Errors
    /// `invalid` without a key where one is needed; `unavailable` if the broker can't be reached.
    pub async fn publish(
        &self,
        channel: &ChannelName,
        message: Publish,
    ) -> Result<Published, ApiError> {
        let carried = message.data.as_ref().map_or(0, size)
            + message.bytes.as_ref().map_or(0, |bytes| bytes.0.len());
        let received = metrics::RECEIVED.of(message.class);
        let began = Instant::now();
        let published = self.broker.publish(channel, message).await;
        let published = published.map_err(broker_error)?;
        metrics::publish_seconds().record(began.elapsed().as_secs_f64());
        received.add(1, carried as u64);
        Ok(published)
    }

    /// Follows a channel. The caller answers its client with the [`Start`], then calls
    /// [`Subscription::begin`].
    ///
    /// # Errors
    /// `unavailable` if the broker can't be reached; nothing is left behind then.
    pub async fn subscribe(
        &self,
        request: Request,
        queue: &Arc<SendQueue>,
        encoding: Encoding,
    ) -> Result<(Subscription, Start), ApiError> {
        let Request {
            channel,
            position,
            member,
            stream,
        } = request;
        queue.hold(stream);
        let ticket = self
            .fanout
            .add(&channel, queue, stream, encoding, member.is_some());
        if let Err(error) = self.broker.subscribe(&channel).await {
            // First nobody pushes any more, then what was pushed is forgotten.
            drop(ticket);
            queue.forget(stream);
            return Err(broker_error(error));
        }
        // From here on the subscription's own end undoes everything.
        let mut subscription = Subscription {
            channel,
            stream,
            epoch: String::new(),
            queue: Arc::clone(queue),
            encoding,
            broker: Arc::clone(&self.broker),
            member: None,
            ticket: Some(ticket),
        };
        let members = match member {
            Some(member) => Some(self.join(&mut subscription, member).await?),
            None => None,
        };
        let start = self.start(&subscription.channel, position, members).await?;
        subscription.epoch.clone_from(&start.position.epoch);
        Ok((subscription, start))
    }

    async fn join(
        &self,
        subscription: &mut Subscription,
        member: Member,
    ) -> Result<Vec<Member>, ApiError> {
        subscription.member = Some(Box::new(member.clone()));
        let channel = &subscription.channel;
        self.broker
            .join(channel, member)
            .await
            .map_err(broker_error)?;
        self.members(channel).await
    }

    async fn start(
        &self,
        channel: &ChannelName,
        position: Option<Position>,
        members: Option<Vec<Member>>,
    ) -> Result<Start, ApiError> {
        let Some(asked) = position else {
            return Ok(Start {
                position: self.broker.position(channel).await.map_err(broker_error)?,
                reset: None,
                recovered: false,
                members,
            });
        };
        let page = self.history(channel, Some(&asked), 1).await?;
        Ok(Start {
            recovered: page.reset.is_none(),
            position: if page.reset.is_some() {
                page.newest
            } else {
                asked
            },
            reset: page.reset,
            members,
        })
    }

    /// Who is in a channel.
    ///
    /// # Errors
    /// `unavailable` if the broker can't be reached.
    pub async fn members(&self, channel: &ChannelName) -> Result<Vec<Member>, ApiError> {
        self.broker
            .members(channel, self.members_limit)
            .await
            .map_err(broker_error)
    }

    /// Retained messages.
    ///
    /// # Errors
    /// `unavailable` if the broker can't be reached.
    pub async fn history(
        &self,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<Page, ApiError> {
        self.broker
            .history(channel, since, limit)
            .await
            .map_err(broker_error)
    }

    /// The newest value of each key of class `latest`.
    ///
    /// # Errors
    /// `unavailable` if the broker can't be reached.
    pub async fn latest(&self, channel: &ChannelName) -> Result<Vec<Arc<Publication>>, ApiError> {
        self.broker.latest(channel).await.map_err(broker_error)
    }
}

/// How many messages a page of history has, if so many are asked for and it may have `most`.
#[must_use]
pub fn page_size(asked: Option<u32>, most: usize) -> usize {
    asked.map_or(most, |asked| most.min(asked as usize)).max(1)
}

impl Subscription {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The session's number for it.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Lets the messages after `offset` come, behind what is queued.
    pub fn begin(&self, offset: u64) {
        self.queue.catch_up_from(self.stream, offset);
    }

    /// Sets the session's ephemeral state among the channel's members.
    ///
    /// # Errors
    /// `not_subscribed` without presence; `unavailable` if the broker can't be reached.
    pub async fn set_state(&mut self, state: Option<serde_json::Value>) -> Result<(), ApiError> {
        let Some(member) = self.member.as_mut() else {
            return Err(ApiError::new(
                ErrorCode::NotSubscribed,
                "subscribe with presence before setting a state",
            ));
        };
        member.state = state;
        self.broker
            .join(&self.channel, (**member).clone())
            .await
            .map_err(broker_error)
    }

    /// Replays a chunk of what was left out. Until all of it is sent, a further notice stands behind
    /// the chunk, so that a slow client's replay goes at its own pace.
    ///
    /// # Errors
    /// `unavailable` if the broker can't be reached: close the session, it resumes elsewhere.
    pub async fn catch_up(&mut self) -> Result<(), ApiError> {
        let mut was_reset = false;
        while let Some(seen) = self.queue.behind(self.stream) {
            if self.queue.is_full() {
                // Other streams are being replayed too: this one's turn comes when that has been sent.
                self.queue.catch_up_from(self.stream, seen);
                return Ok(());
            }
            let since = Position {
                epoch: self.epoch.clone(),
                offset: seen,
            };
            let page = self
                .broker
                .history(&self.channel, Some(&since), REPLAY_MESSAGES)
                .await
                .map_err(broker_error)?;
            if let Some(reason) = page.reset {
                self.reset(reason, page.newest);
                was_reset = true;
                continue;
            }
            let (sent, all) = self.replay(seen, &page);
            if !all || page.more {
                self.queue.catch_up_from(self.stream, sent);
                return Ok(());
            }
            if self.queue.caught_up(self.stream, sent) {
                break;
            }
        }
        // Values that find no room are noted as missed again: the next notice goes on with them alone.
        let missed = self.queue.missed(self.stream);
        let Some(missed) = (if was_reset { Some(Missed::All) } else { missed }) else {
            return Ok(());
        };
        let values = self
            .broker
            .latest(&self.channel)
            .await
            .map_err(broker_error)?;
        for value in values {
            if let Some(key) = &value.key
                && missed.has(key)
            {
                let frame = message_frame(&self.channel, &value, self.encoding);
                self.queue.latest(self.stream, key, value.version, &frame);
            }
        }
        Ok(())
    }

    /// Queues a page up to the size of a chunk: the last offset queued, and whether it was all.
    fn replay(&self, seen: u64, page: &Page) -> (u64, bool) {
        let (mut sent, mut bytes) = (seen, 0);
        for message in &page.messages {
            // A queue smaller than a chunk would take the rest for replies that nobody reads.
            if bytes >= REPLAY_BYTES || (bytes > 0 && self.queue.is_full()) {
                return (sent, false);
            }
            let frame = message_frame(&self.channel, message, self.encoding);
            bytes += frame.len();
            sent = message.offset;
            self.queue.reply(frame);
        }
        (sent, true)
    }

    fn reset(&mut self, reason: ResetReason, newest: Position) {
        let frame = ServerFrame::Reset {
            channel: self.channel.public(),
            reason,
            position: newest.clone(),
        };
        self.queue.reply(encode(&frame, self.encoding));
        self.epoch.clone_from(&newest.epoch);
        // What was published meanwhile, if anything, is read by the next turn.
        if !self.queue.caught_up(self.stream, newest.offset) {
            tracing::debug!(channel = %self.channel, "messages came during a reset");
        }
    }
}

//! One arm per client frame, one call each: the session's table of contents.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::frame::Member;
use protocol::{ChannelName, ClientFrame, ErrorCode, Position, Role, ServerFrame};
use serde_json::Value;

use super::{Open, ROLES_REMEMBERED, State, Who};
use crate::auth::Principal;
use crate::auth::rbac::{Operation, allows};
use crate::channels::fanout::history_message;
use crate::channels::publish::{Draft, parse};
use crate::channels::{Channels, Request, page_size};
use crate::error::ApiError;
use crate::now_ms;

pub(super) type Done = Result<(), ApiError>;

impl State {
    /// Serves one frame; every request gets exactly one reply.
    pub(super) async fn dispatch(&mut self, frame: ClientFrame) {
        let id = request_id(&frame);
        if let Err(error) = self.serve(frame).await {
            self.error(id, &error);
        }
    }

    async fn serve(&mut self, frame: ClientFrame) -> Done {
        let principal = self.principal();
        let known = || {
            principal.clone().ok_or_else(|| {
                ApiError::new(
                    ErrorCode::Unauthorized,
                    "send a connect frame with a token first",
                )
            })
        };
        match frame {
            ClientFrame::Connect { id, token, resume } => self.connect(id, token, resume).await,
            ClientFrame::Refresh { id, token } => {
                known()?;
                self.refresh(id, &token).await
            }
            ClientFrame::Ping { id } => {
                self.send(&ServerFrame::Pong { id, time: now_ms() });
                Ok(())
            }
            ClientFrame::Subscribe {
                id,
                channel,
                position,
                presence,
            } => {
                let who = known()?;
                self.subscribe(id, &channel, position, presence, &who).await
            }
            ClientFrame::Unsubscribe { id, channel } => self.unsubscribe(id, &channel, &*known()?),
            ClientFrame::Publish {
                id,
                channel,
                data,
                bytes,
                class,
                key,
                idempotency_key,
            } => {
                let who = known()?;
                let draft = Draft {
                    data,
                    bytes,
                    class,
                    key,
                    idempotency_key,
                };
                self.publish(id, &channel, draft, &who).await
            }
            ClientFrame::Presence { id, channel } => self.presence(id, &channel, &*known()?).await,
            ClientFrame::State { id, channel, data } => {
                self.set_state(id, &channel, data, &*known()?).await
            }
            ClientFrame::History {
                id,
                channel,
                since,
                limit,
            } => {
                let who = known()?;
                self.history(id, &channel, since, limit, &who).await
            }
            ClientFrame::Doc { id, doc, op, data } => {
                let who = known()?;
                self.document(id, &doc, op, data, &who).await
            }
        }
    }

    async fn connect(
        &mut self,
        id: u32,
        token: Option<String>,
        resume: BTreeMap<String, Position>,
    ) -> Done {
        if let Some(token) = token {
            match self.services.auth.authenticate(&token).await {
                Ok(principal) => {
                    self.same_user(&principal)?;
                    self.become_known(Arc::new(principal))?;
                }
                Err(error) => {
                    let error = ApiError::from(error);
                    if error.code == ErrorCode::Unauthorized {
                        self.queue_close_after(id, &error);
                        return Ok(());
                    }
                    return Err(error);
                }
            }
        }
        let Some(principal) = self.principal() else {
            return Err(ApiError::new(ErrorCode::Unauthorized, "a token is needed"));
        };
        self.connected(id);
        for (channel, position) in resume {
            let resumed = self.subscribe(0, &channel, Some(position), false, &principal);
            if let Err(error) = resumed.await {
                let detail = format!("{channel}: {}", error.detail);
                self.error(Some(0), &ApiError::new(error.code, detail));
            }
        }
        Ok(())
    }

    /// A session stays with its user.
    fn same_user(&self, fresh: &Principal) -> Done {
        match &self.who {
            Who::Known {
                principal: before, ..
            } if before.user != fresh.user => Err(ApiError::new(
                ErrorCode::Forbidden,
                "the token is another user's: open a session of its own for it",
            )),
            _ => Ok(()),
        }
    }

    fn queue_close_after(&self, id: u32, error: &ApiError) {
        self.error(Some(id), error);
        self.queue.close_with(protocol::CloseCode::Unauthorized);
    }

    async fn refresh(&mut self, id: u32, token: &str) -> Done {
        let principal = self.services.auth.authenticate(token).await?;
        self.same_user(&principal)?;
        let expires = principal.expires_ms;
        self.become_known(Arc::new(principal))?;
        self.send(&ServerFrame::Ack {
            id,
            position: None,
            duplicate: false,
            expires: Some(expires),
        });
        Ok(())
    }

    /// The session's role for a channel, if it allows the operation. Roles are remembered until rights
    /// change.
    async fn authorize(&mut self, user: &str, channel: &ChannelName, operation: Operation) -> Done {
        let project = match channel {
            ChannelName::Room { project, .. } | ChannelName::Project(project) => Some(project),
            _ => None,
        };
        let remembered = project.and_then(|project| {
            let mut roles = self.roles.iter();
            roles.find(|(id, _)| id == project).map(|(_, role)| *role)
        });
        if let Some(role) = remembered.filter(|role| allows(*role, operation)) {
            tracing::trace!(?role, %channel, "role remembered");
            return Ok(());
        }
        let role: Role = self
            .services
            .channels
            .authorize(user, channel, operation)
            .await?;
        if let Some(project) = project {
            self.roles.retain(|(id, _)| id != project);
            if self.roles.len() < ROLES_REMEMBERED {
                // Most sessions never see a second project.
                self.roles.reserve_exact(1);
                self.roles.push((Arc::clone(project), role));
            }
        }
        Ok(())
    }

    pub(super) fn subscription(&self, channel: &ChannelName) -> Option<usize> {
        self.streams.iter().position(
            |open| matches!(open, Open::Channel(subscription) if subscription.channel() == channel),
        )
    }

    pub(super) async fn subscribe(
        &mut self,
        id: u32,
        channel: &str,
        position: Option<Position>,
        presence: bool,
        who: &Principal,
    ) -> Done {
        let name = parse(channel, who)?;
        if self.subscription(&name).is_some() {
            let text = format!("already subscribed to {channel}");
            return Err(ApiError::new(ErrorCode::Conflict, text));
        }
        let open = |open: &&Open| matches!(open, Open::Channel(_));
        if self.streams.iter().filter(open).count() >= self.services.settings.session.channels {
            return Err(ApiError::new(
                ErrorCode::LimitReached,
                "the session has as many channels as it may",
            ));
        }
        self.authorize(&who.user, &name, Channels::subscribe_operation(&name))
            .await?;
        let member = presence.then(|| self.member(who));
        let request = Request {
            channel: name,
            position,
            member,
            stream: self.take_stream(),
        };
        let channels = Arc::clone(&self.services.channels);
        let (subscription, start) = channels
            .subscribe(request, &self.queue, self.encoding)
            .await?;
        let offset = start.position.offset;
        self.send(&ServerFrame::Subscribed {
            id,
            channel: subscription.channel().public(),
            epoch: start.position.epoch,
            offset,
            recovered: start.recovered,
            reset: start.reset,
            members: start.members,
        });
        subscription.begin(offset);
        self.streams.push(Open::Channel(Box::new(subscription)));
        self.belong();
        Ok(())
    }

    pub(super) fn member(&self, who: &Principal) -> Member {
        Member {
            session: self.session_id(),
            user: who.user.to_string(),
            name: who.name.to_string(),
            state: None,
        }
    }

    pub(super) fn take_stream(&mut self) -> u32 {
        self.next_stream = self.next_stream.wrapping_add(1);
        self.next_stream
    }

    fn unsubscribe(&mut self, id: u32, channel: &str, who: &Principal) -> Done {
        let name = parse(channel, who)?;
        let at = self.subscription(&name).ok_or_else(not_subscribed)?;
        self.streams.swap_remove(at);
        self.belong();
        self.ack(id);
        Ok(())
    }

    async fn publish(&mut self, id: u32, channel: &str, draft: Draft, who: &Principal) -> Done {
        let message = draft.by(&who.user)?;
        let name = parse(channel, who)?;
        let channels = Arc::clone(&self.services.channels);
        channels.admit(&name, || self.publishes.take_one())?;
        self.authorize(&who.user, &name, Operation::PublishRoom)
            .await?;
        let sent = channels.send(&name, message).await?;
        if !sent.duplicate {
            self.count_message(&name, who);
        }
        self.send(&ServerFrame::Ack {
            id,
            position: sent.position,
            duplicate: sent.duplicate,
            expires: None,
        });
        Ok(())
    }

    async fn presence(&mut self, id: u32, channel: &str, who: &Principal) -> Done {
        let name = parse(channel, who)?;
        self.authorize(&who.user, &name, Operation::Presence)
            .await?;
        let joined = self.services.channels.members(&name).await?;
        self.send(&ServerFrame::Presence {
            id: Some(id),
            channel: name.public(),
            joined,
            left: Vec::new(),
        });
        Ok(())
    }

    async fn set_state(&mut self, id: u32, channel: &str, data: Value, who: &Principal) -> Done {
        let name = parse(channel, who)?;
        let most = self.services.settings.session.state_bytes;
        if data.to_string().len() > most {
            let text = format!("a state has at most {most} bytes of JSON");
            return Err(ApiError::new(ErrorCode::TooLarge, text));
        }
        self.services.auth.check_writes()?;
        let at = self.subscription(&name).ok_or_else(not_subscribed)?;
        if let Open::Channel(subscription) = &mut self.streams[at] {
            let state = (!data.is_null()).then_some(data);
            subscription.set_state(state).await?;
        }
        self.ack(id);
        Ok(())
    }

    async fn history(
        &mut self,
        id: u32,
        channel: &str,
        since: Option<Position>,
        limit: Option<u32>,
        who: &Principal,
    ) -> Done {
        let name = parse(channel, who)?;
        self.authorize(&who.user, &name, Operation::ReadHistory)
            .await?;
        let limit = page_size(limit, self.services.settings.session.history_page);
        let channels = &self.services.channels;
        let page = channels.history(&name, since.as_ref(), limit).await?;
        if let Some(reason) = page.reset {
            self.send(&ServerFrame::Reset {
                channel: name.public(),
                reason,
                position: page.newest.clone(),
            });
        }
        let messages = page.messages.iter().map(|message| history_message(message));
        self.send(&ServerFrame::History {
            id,
            channel: name.public(),
            epoch: page.newest.epoch,
            offset: page.newest.offset,
            messages: messages.collect(),
            more: page.more,
        });
        Ok(())
    }
}

fn not_subscribed() -> ApiError {
    ApiError::new(ErrorCode::NotSubscribed, "")
}

fn request_id(frame: &ClientFrame) -> Option<u32> {
    match frame {
        ClientFrame::Connect { id, .. }
        | ClientFrame::Subscribe { id, .. }
        | ClientFrame::Unsubscribe { id, .. }
        | ClientFrame::Publish { id, .. }
        | ClientFrame::Presence { id, .. }
        | ClientFrame::State { id, .. }
        | ClientFrame::History { id, .. }
        | ClientFrame::Refresh { id, .. }
        | ClientFrame::Ping { id } => Some(*id),
        ClientFrame::Doc { id, .. } => *id,
    }
}

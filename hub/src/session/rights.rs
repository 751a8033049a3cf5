//! Rights are live: what a session does when they may have changed.

use protocol::frame::ServerDocOp;
use protocol::{CloseCode, ServerFrame};

use super::{Open, State};
use crate::auth::rbac::{Operation, allows};
use crate::channels::Channels;
use crate::error::ApiError;

impl State {
    /// Checks the login and every stream against the store; what is no longer allowed ends, and is
    /// told. If the store can't tell, the session ends: rights that can't be checked are none.
    pub(super) async fn recheck(&mut self) {
        self.roles.clear();
        let Some(who) = self.principal() else {
            return;
        };
        match self.services.auth.still_valid(&who).await {
            Ok(true) => {}
            Ok(false) => return self.end("the login was revoked", CloseCode::Revoked),
            Err(error) => return self.give_up(&error),
        }
        let mut kept = Vec::with_capacity(self.streams.len());
        for open in std::mem::take(&mut self.streams) {
            match self.still_allowed(&who.user, &open).await {
                Ok(true) => kept.push(open),
                Ok(false) => self.revoked(&open),
                Err(error) => return self.give_up(&error),
            }
        }
        self.streams = kept;
    }

    async fn still_allowed(&self, user: &str, open: &Open) -> Result<bool, ApiError> {
        let role = match open {
            Open::Channel(subscription) => {
                let channel = subscription.channel();
                let operation = Channels::subscribe_operation(channel);
                let channels = &self.services.channels;
                channels.authorize(user, channel, operation).await
            }
            Open::Document(document) => {
                let project = document.peer.project();
                let auth = &self.services.auth;
                let role = auth.authorize(user, project, Operation::ReadDocument).await;
                role.map_err(ApiError::from)
            }
        };
        let role = match role {
            Ok(role) => role,
            Err(error) if error.is_refusal() => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Open::Document(document) = open {
            let writable = allows(role, Operation::EditDocument);
            if document.peer.set_writable(writable) != writable {
                self.send(&ServerFrame::Doc {
                    id: None,
                    doc: document.name.to_string(),
                    op: ServerDocOp::Rights,
                    data: None,
                    n: None,
                    document: None,
                    writable: Some(writable),
                    reason: None,
                });
            }
        }
        Ok(true)
    }

    fn revoked(&self, open: &Open) {
        let reason = "you are no longer a member of the project".to_owned();
        match open {
            Open::Channel(subscription) => self.send(&ServerFrame::Revoked {
                channel: Some(subscription.channel().public()),
                reason,
            }),
            Open::Document(document) => {
                document.peer.revoke();
                self.send(&ServerFrame::Doc {
                    id: None,
                    doc: document.name.to_string(),
                    op: ServerDocOp::Closed,
                    data: None,
                    n: None,
                    document: None,
                    writable: None,
                    reason: Some(reason),
                });
            }
        }
    }

    fn end(&mut self, reason: &str, code: CloseCode) {
        self.drop_streams();
        self.send(&ServerFrame::Revoked {
            channel: None,
            reason: reason.to_owned(),
        });
        self.queue.close_with(code);
    }

    /// Ends every stream, with whatever of it still waits.
    pub(super) fn drop_streams(&mut self) {
        for open in self.streams.drain(..) {
            if let Open::Document(document) = open {
                document.peer.revoke();
            }
        }
    }

    fn give_up(&mut self, error: &ApiError) {
        tracing::warn!(detail = %error.detail, "rights could not be checked");
        self.drop_streams();
        self.queue.close_with(CloseCode::Failed);
    }
}

//! Rights are live: what a session does when they may have changed.

use protocol::frame::ServerDocOp;
use protocol::{CloseCode, ServerFrame};

use super::{Open, State};
use crate::auth::Verdict;
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
        let mut left = std::mem::take(&mut self.streams).into_iter();
        while let Some(open) = left.next() {
            match self.verdict(&who.user, &open).await {
                Ok(Verdict::Gone(reason)) => self.revoked(&open, reason),
                Ok(verdict) => {
                    self.set_writable(&open, verdict == Verdict::Allowed);
                    kept.push(open);
                }
                Err(error) => {
                    // Those that end must end with what of theirs still waits.
                    kept.push(open);
                    kept.extend(left);
                    self.streams = kept;
                    return self.give_up(&error);
                }
            }
        }
        self.streams = kept;
        self.belong();
    }

    async fn verdict(&self, user: &str, open: &Open) -> Result<Verdict, ApiError> {
        match open {
            Open::Channel(subscription) => {
                let channel = subscription.channel();
                let operation = Channels::subscribe_operation(channel);
                let channels = &self.services.channels;
                let role = channels.authorize(user, channel, operation).await;
                Verdict::of(role, operation)
            }
            Open::Document(document) => {
                let auth = &self.services.auth;
                auth.recheck_project(user, document.peer.project()).await
            }
            Open::Log(log) => {
                let auth = &self.services.auth;
                auth.recheck_project(user, log.project()).await
            }
        }
    }

    fn set_writable(&self, open: &Open, writable: bool) {
        if let Open::Document(document) = open
            && document.peer.set_writable(writable) != writable
        {
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

    fn revoked(&self, open: &Open, reason: &str) {
        let reason = reason.to_owned();
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
            Open::Log(log) => self.send(&log.closed(reason)),
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

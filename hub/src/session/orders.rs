//! What services want of a session: channels that it follows, or no longer.
//!
//! Carried out between the client's own requests, under the user's rights and the session's limits, as if the
//! client had asked: but the reply has the id 0, and what can't be done is left.

use protocol::ServerFrame;

use super::State;
use crate::auth::Principal;
use crate::channels::publish::parse;
use crate::connections::orders::Order;

impl State {
    /// Carries out what waits.
    pub(super) async fn obey(&mut self) {
        let Some(who) = self.principal() else {
            return;
        };
        for order in self.place.take_orders() {
            match order {
                Order::Subscribe { channel } => self.made_to_follow(&channel, &who).await,
                Order::Unsubscribe { channel } => self.made_to_leave(&channel, &who),
                // No matter of a single session.
                Order::Count | Order::Disconnect { .. } => {}
            }
        }
    }

    async fn made_to_follow(&mut self, channel: &str, who: &Principal) {
        let follows = parse(channel, who).is_ok_and(|name| self.subscription(&name).is_some());
        if follows {
            return;
        }
        if let Err(error) = self.subscribe(0, channel, None, false, who).await {
            let detail = &error.detail;
            tracing::debug!(channel, %detail, "a session does not follow as a service wants");
        }
    }

    fn made_to_leave(&mut self, channel: &str, who: &Principal) {
        let Ok(name) = parse(channel, who) else {
            return;
        };
        let Some(at) = self.subscription(&name) else {
            return;
        };
        self.streams.swap_remove(at);
        self.belong();
        self.send(&ServerFrame::Revoked {
            channel: Some(name.public()),
            reason: "unsubscribed by a service".to_owned(),
        });
    }
}

//! What a client may send to a channel, whichever way it comes: over a session or without one.
//!
//! Owns the rules of a message and of where it may go. A session brings a rate and the roles that it remembers (over REST
//! requests are counted before they come here), so the order is here and the two are the caller's: [`Draft::by`], then
//! [`Channels::admit`], then the role, then [`Channels::send`].

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::Publish;
use protocol::{Blob, ChannelName, DeliveryClass, ErrorCode, Position};
use serde_json::Value;

use super::Channels;
use crate::auth::Principal;
use crate::auth::rbac::Operation;
use crate::error::ApiError;

/// Longest `key` and `idempotency_key`, bytes.
pub const MAX_KEY_BYTES: usize = 128;

/// A message as a client sends it.
#[derive(Debug, Default)]
pub struct Draft {
    /// The message; exactly one of `data` and `bytes`.
    pub data: Option<Value>,
    /// The message, as bytes.
    pub bytes: Option<Blob>,
    /// Delivery class; reliable if absent.
    pub class: Option<DeliveryClass>,
    /// For class `latest`: which value it replaces.
    pub key: Option<String>,
    /// A resend with the same key is acknowledged, not repeated.
    pub idempotency_key: Option<String>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its place, if it is reliable.
    pub position: Option<Position>,
    /// The idempotency key had been used: nothing was sent again.
    pub duplicate: bool,
}

/// The channel of that name, as its user writes it.
///
/// # Errors
/// `invalid`, with what is wrong with the name.
pub fn parse(channel: &str, who: &Principal) -> Result<ChannelName, ApiError> {
    ChannelName::parse(channel, &who.user)
        .map_err(|error| ApiError::invalid("channel", error.to_string()))
}

impl Draft {
    /// The message, as sent by a user.
    ///
    /// # Errors
    /// `invalid`: not exactly one of data and bytes, or a key that is empty or over [`MAX_KEY_BYTES`].
    pub fn by(self, user: &Arc<str>) -> Result<Publish, ApiError> {
        if self.data.is_some() == self.bytes.is_some() {
            return Err(ApiError::invalid(
                "data",
                "send exactly one of data and bytes",
            ));
        }
        for (name, value) in [
            ("key", &self.key),
            ("idempotency_key", &self.idempotency_key),
        ] {
            if value
                .as_ref()
                .is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES)
            {
                return Err(ApiError::invalid(name, "has 1 to 128 bytes"));
            }
        }
        // A key is the sender's own: another user's equal key is another key.
        let own = |key: String| Arc::from(format!("{user}/{key}"));
        Ok(Publish {
            class: self.class.unwrap_or_default(),
            key: self.key.map(Arc::from),
            data: self.data,
            bytes: self.bytes,
            event: None,
            from: Some(Arc::clone(user)),
            idempotency_key: self.idempotency_key.map(own),
            dedup: None,
        })
    }
}

impl Channels {
    /// Whether clients may send to a channel at all, and this one now; `rate` counts the attempt, or says how
    /// long to wait.
    ///
    /// # Errors
    /// `forbidden` for all but rooms, `rate_limited`, or `unavailable` while rights can't be checked.
    pub fn admit(
        &self,
        channel: &ChannelName,
        rate: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<(), ApiError> {
        if !matches!(channel, ChannelName::Room { .. }) {
            return Err(ApiError::new(
                ErrorCode::Forbidden,
                "only rooms take messages from clients",
            ));
        }
        rate().map_err(|wait| {
            ApiError::new(ErrorCode::RateLimited, "too many messages").retry_after(wait)
        })?;
        Ok(self.auth.check_writes()?)
    }

    /// Sends a client's message that was admitted.
    ///
    /// # Errors
    /// As [`Channels::publish`].
    pub async fn send(&self, channel: &ChannelName, message: Publish) -> Result<Sent, ApiError> {
        let reliable = message.class == DeliveryClass::Reliable;
        let published = self.publish(channel, message).await?;
        Ok(Sent {
            position: reliable.then_some(published.position),
            duplicate: published.duplicate,
        })
    }

    /// Sends a message of somebody who has no session.
    ///
    /// # Errors
    /// As [`Draft::by`], [`Channels::admit`], [`Channels::authorize`] and [`Channels::publish`].
    pub async fn send_as(
        &self,
        who: &Principal,
        channel: &str,
        draft: Draft,
    ) -> Result<Sent, ApiError> {
        let message = draft.by(&who.user)?;
        let channel = parse(channel, who)?;
        self.admit(&channel, || Ok(()))?;
        self.authorize(&who.user, &channel, Operation::PublishRoom)
            .await?;
        self.send(&channel, message).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(draft: Draft) -> String {
        let error = draft.by(&"u1".into()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        error.errors[0].field.to_string()
    }

    #[test]
    fn a_message_is_data_or_bytes_with_short_keys() {
        let data = || Draft {
            data: Some(Value::Bool(true)),
            ..Draft::default()
        };
        assert_eq!(refused(Draft::default()), "data");
        let both = Draft {
            bytes: Some(Blob::from(vec![1])),
            ..data()
        };
        assert_eq!(refused(both), "data");
        for wrong in [String::new(), "k".repeat(MAX_KEY_BYTES + 1)] {
            let key = Draft {
                key: Some(wrong.clone()),
                ..data()
            };
            assert_eq!(refused(key), "key");
            let key = Draft {
                idempotency_key: Some(wrong),
                ..data()
            };
            assert_eq!(refused(key), "idempotency_key");
        }
        let keyed = Draft {
            key: Some("k".repeat(MAX_KEY_BYTES)),
            idempotency_key: Some("i".into()),
            ..data()
        };
        let message = keyed.by(&"u1".into()).unwrap();
        assert_eq!(message.class, DeliveryClass::Reliable);
        assert_eq!(message.idempotency_key.as_deref(), Some("u1/i"));
        assert_eq!(message.from.as_deref(), Some("u1"));
    }
}

//! How much a channel keeps, and for how long: a bound for all, and others for whole namespaces.

use std::collections::HashMap;
use std::time::Duration;

use protocol::ChannelName;

/// How much history a channel keeps, and for how long keys are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Most messages.
    pub messages: usize,
    /// Most bytes, by estimate. Also bounds the values of class `latest`, apart from the messages.
    pub bytes: usize,
    /// Most bytes of all channels together. Beyond it a channel that takes a message gives up its own
    /// oldest ones. Only the embedded broker can tell: with Redis, its `maxmemory` bounds them.
    pub total_bytes: usize,
    /// Oldest message.
    pub age: Duration,
    /// How long an idempotency key is remembered.
    pub dedup: Duration,
}

/// The retention of each namespace.
#[derive(Debug, Clone)]
pub struct Retentions {
    default: Retention,
    namespaces: HashMap<String, Retention>,
}

impl From<Retention> for Retentions {
    fn from(default: Retention) -> Self {
        Self {
            default,
            namespaces: HashMap::new(),
        }
    }
}

impl Retentions {
    /// Sets another retention for a namespace, as in [`ChannelName::namespace`].
    #[must_use]
    pub fn with(mut self, namespace: &str, retention: Retention) -> Self {
        self.namespaces.insert(namespace.to_owned(), retention);
        self
    }

    /// What holds for a channel. `total_bytes` is the same for all.
    #[must_use]
    pub fn of(&self, channel: &ChannelName) -> Retention {
        let own = self.namespaces.get(channel.namespace());
        Retention {
            total_bytes: self.default.total_bytes,
            ..own.copied().unwrap_or(self.default)
        }
    }
}

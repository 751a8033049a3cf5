//! The contract of a broker: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`broker_contract!`](crate::broker_contract) with a factory that
//! makes a fresh broker around a [`Recorder`]; the same names then pass, or fail, for each. The guarantees
//! of messages stand in `messages`, those of presence in `presence`.

mod messages;
mod presence;

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::ChannelName;
use serde_json::json;

pub use self::messages::*;
pub use self::presence::*;

use super::retention::{Retention, Retentions};
use super::{Broker, Deliver, PresenceChange, Publication, Publish};

/// Keeps what a broker delivers.
#[derive(Default)]
pub struct Recorder {
    broken: Mutex<Vec<ChannelName>>,
    messages: Mutex<Vec<(ChannelName, Arc<Publication>)>>,
    presence: Mutex<Vec<(ChannelName, PresenceChange)>>,
}

impl Deliver for Recorder {
    fn message(&self, channel: &ChannelName, message: &Arc<Publication>) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push((channel.clone(), Arc::clone(message)));
    }

    fn presence(&self, channel: &ChannelName, change: PresenceChange) {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.push((channel.clone(), change));
    }

    fn broken(&self, channel: &ChannelName, _last: u64) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.push(channel.clone());
    }
}

impl Recorder {
    /// How often a channel was said to be broken.
    #[must_use]
    pub fn broken(&self, channel: &ChannelName) -> usize {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.iter().filter(|name| *name == channel).count()
    }

    /// What was delivered on a channel.
    #[must_use]
    pub fn messages(&self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let on_it = messages.iter().filter(|(name, _)| name == channel);
        on_it.map(|(_, message)| Arc::clone(message)).collect()
    }

    /// The presence changes delivered on a channel.
    #[must_use]
    pub fn presence(&self, channel: &ChannelName) -> Vec<PresenceChange> {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let on_it = presence.iter().filter(|(name, _)| name == channel);
        on_it.map(|(_, change)| change.clone()).collect()
    }
}

/// A broker under test, and what it delivers to.
pub struct Subject {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Where its deliveries go.
    pub recorder: Arc<Recorder>,
    /// What has to live as long: a server, say.
    pub keep: Box<dyn Any + Send>,
}

/// The retention that the contract is checked with.
pub const RETENTION: Retention = Retention {
    messages: 100,
    bytes: 64 * 1024,
    total_bytes: 1024 * 1024,
    age: Duration::from_secs(60),
    dedup: Duration::from_secs(60),
};

/// The retention to make a broker with: [`RETENTION`], and less for plans.
#[must_use]
pub fn retentions() -> Retentions {
    let plans = Retention {
        messages: 3,
        ..RETENTION
    };
    Retentions::from(RETENTION).with("plan", plans)
}

fn room(name: &str) -> ChannelName {
    ChannelName::Room {
        project: "contract".into(),
        name: name.into(),
    }
}

fn text(n: u64) -> Publish {
    Publish {
        data: Some(json!({ "n": n })),
        ..Publish::default()
    }
}

fn numbers(messages: &[Arc<Publication>]) -> Vec<u64> {
    let data = messages.iter().filter_map(|message| message.data.as_ref());
    data.filter_map(|data| data["n"].as_u64()).collect()
}

/// Waits until a delivery that may take its time has come.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 5 s");
}

async fn publish(subject: &Subject, channel: &ChannelName, message: Publish) -> super::Published {
    subject.broker.publish(channel, message).await.unwrap()
}

/// Makes a test of each guarantee; `$factory` is an async closure or function that makes a [`Subject`].
#[macro_export]
macro_rules! broker_contract {
    ($factory:expr) => {
        $crate::broker_contract!($factory;
            offsets_are_gapless_and_ordered,
            concurrent_publishers_share_one_order,
            history_pages_are_complete,
            a_lost_position_is_reset,
            a_namespace_has_its_own_retention,
            an_idempotency_key_takes_effect_once,
            latest_values_are_kept_per_key,
            lossy_messages_leave_no_trace,
            channels_are_apart,
            a_dedup_window_holds_for_its_key,
            history_shown_is_delivered,
            subscriptions_are_counted,
            payloads_come_as_they_were_sent,
            presence_follows_sessions,
            the_last_to_leave_vacates_the_channel,
        );
    };
    ($factory:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::broker::contract::$name($factory().await).await;
            }
        )*
    };
}

//! Notifications of users and what they want to be told of (`notify_` tables).
//!
//! Every change of a user's notifications comes with the event that tells of it, made inside the
//! transaction from the number that is unread then; changes of one user follow one another, so that the number
//! told last is the right one. What is held for later is in no feed, is not unread, and is told of by no event until it
//! is released.

use std::collections::BTreeMap;

use async_trait::async_trait;
use protocol::Event;
use serde_json::Value;

use super::StoreError;

/// Who takes events in [`Notifications::notify`], as the inbox names it.
pub const CONSUMER: &str = "notifications";

/// A notification of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// UUID v7: later ones have higher ids.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// The project that it is about, if it is about one.
    pub project_id: Option<String>,
    /// The event that caused it, the last one of a group.
    pub event_id: String,
    /// What kind it is; preferences are by kind.
    pub kind: String,
    /// Unread notifications of one kind and group are told as one.
    pub group_key: Option<String>,
    /// How many events are told by it.
    pub grouped: u64,
    /// What it says; what is in it is its kind's.
    pub data: Value,
    /// Of the last event.
    pub created_at: u64,
    /// Read at.
    pub read_at: Option<u64>,
}

/// A notification to come.
#[derive(Debug, Clone, PartialEq)]
pub struct NewNotification {
    /// UUID v7, of now.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// The project that it is about.
    pub project_id: Option<String>,
    /// What kind it is.
    pub kind: String,
    /// The group that it is told with.
    pub group_key: Option<String>,
    /// What it says.
    pub data: Value,
    /// Its user is told at that time, in milliseconds since the Unix epoch, not now.
    pub held_until: Option<u64>,
}

/// A notification that was made, or that grew.
#[derive(Debug, Clone, PartialEq)]
pub struct Notified {
    /// As it is now.
    pub notification: Notification,
    /// The id that it had before it grew.
    pub replaced: Option<String>,
    /// How many are unread now.
    pub unread: u64,
}

/// Which notifications are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading<'a> {
    /// That one.
    One(&'a str),
    /// All up to that id.
    UpTo(&'a str),
    /// All.
    All,
}

/// What a reading changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// How many were unread before.
    pub changed: u64,
    /// How many are unread now.
    pub unread: u64,
}

/// Which notifications are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    /// Only those that were not read.
    pub unread: bool,
    /// Only those of that kind.
    pub kind: Option<String>,
    /// Older than that id.
    pub before: Option<String>,
}

/// How a user wants to be told of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// At once.
    Live,
    /// Gathered.
    Digest,
    /// Not at all.
    Off,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Live, Self::Digest, Self::Off];

    /// The name used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Digest => "digest",
            Self::Off => "off",
        }
    }

    /// The mode of that name, as a store has it.
    pub(crate) fn stored(name: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Corrupt(format!("unknown mode `{name}`"));
        let mut all = Self::ALL.into_iter();
        all.find(|mode| mode.as_str() == name).ok_or_else(unknown)
    }
}

/// Makes the event of a notification that was made or grew.
pub type TellNotified<'a> = &'a (dyn Fn(&Notified) -> Event + Send + Sync);
/// Makes the event of another change, from the number that is unread after it.
pub type TellUnread<'a> = &'a (dyn Fn(u64) -> Event + Send + Sync);

/// Notifications.
#[async_trait]
pub trait Notifications {
    /// Tells users of an event, in one transaction with the events that tell of it in turn. However often and by
    /// however many it is called for one event, as long as the inbox knows that event, it does so once, and
    /// gives nothing the other times. An unread notification of the same user, kind and group
    /// grows: it counts one more and gets the new id, data and time, so that it stands at the top of the list and whoever
    /// marks what they saw as read does not hide it. Of one event a user gets one notification, the first.
    /// Users and projects that are gone are left out.
    ///
    /// One that is to be held grows what is held of its user, kind and group, which stays due when it was. It is not among
    /// what is given, and nothing tells of it.
    async fn notify(
        &self,
        event_id: &str,
        notifications: &[NewNotification],
        now: u64,
        tell: TellNotified<'_>,
    ) -> Result<Vec<Notified>, StoreError>;

    /// The users and ids of notifications that were held until `now` or earlier, the longest due first, at most `limit`.
    async fn due_notifications(
        &self,
        now: u64,
        limit: u32,
    ) -> Result<Vec<(String, String)>, StoreError>;

    /// Tells a user of a notification that is due, with the event that tells of it, in one transaction: under a new id, so
    /// that it stands at the top, and as one with what is unread of its kind and group. `None` if it is not held any
    /// more, or its user does not want to be told of its kind now; then it is gone. Of any number of calls at once
    /// one gets it.
    async fn release_notification(
        &self,
        user_id: &str,
        id: &str,
        new_id: &str,
        now: u64,
        tell: TellNotified<'_>,
    ) -> Result<Option<Notified>, StoreError>;

    /// A user's notifications, newest first, at most `limit`.
    async fn notifications(
        &self,
        user_id: &str,
        feed: &Feed,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError>;

    /// How many notifications a user has not read.
    async fn unread(&self, user_id: &str) -> Result<u64, StoreError>;

    /// Marks notifications of a user as read; the event is kept if that changed any. `None` if one was named that
    /// the user does not have.
    async fn read_notifications(
        &self,
        user_id: &str,
        which: Reading<'_>,
        now: u64,
        tell: TellUnread<'_>,
    ) -> Result<Option<Read>, StoreError>;

    /// Deletes a notification of a user; `false` if there was none, and then the event is not kept.
    async fn delete_notification(
        &self,
        user_id: &str,
        id: &str,
        tell: TellUnread<'_>,
    ) -> Result<bool, StoreError>;

    /// What a user has chosen, by kind.
    async fn preferences(&self, user_id: &str) -> Result<BTreeMap<String, Mode>, StoreError>;

    /// Replaces what a user has chosen, whole.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the user does not exist.
    async fn set_preferences(
        &self,
        user_id: &str,
        preferences: &BTreeMap<String, Mode>,
    ) -> Result<(), StoreError>;
}

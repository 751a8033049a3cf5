//! Channel names, positions in a channel, and delivery classes.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Longest channel name in bytes.
pub const MAX_CHANNEL_BYTES: usize = 255;
/// Longest project id in bytes.
pub const MAX_PROJECT_BYTES: usize = 64;

/// Where a subscriber stands in a channel: everything up to `offset` has been seen.
///
/// Offsets are gapless within an epoch and start at 1; 0 means "nothing yet". The epoch changes
/// whenever the channel's retained history is lost, so equal offsets of two epochs never mean the
/// same message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
pub struct Position {
    /// The channel's epoch.
    pub epoch: String,
    /// The last offset seen.
    pub offset: u64,
}

/// How a message may be dropped for a slow subscriber.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryClass {
    /// Takes an offset, is kept in history, and is replayed to a slow or resuming subscriber.
    #[default]
    Reliable,
    /// Takes no offset; carries a key and the cumulative value; a newer one of the same key replaces it.
    Latest,
    /// Takes no offset, is kept nowhere, may be dropped.
    Lossy,
}

/// A parsed, valid channel name. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelName {
    /// `feed:<user>`; a client writes `feed:me`.
    Feed(Arc<str>),
    /// `plan:<id>`
    Plan(Arc<str>),
    /// `project:<id>`
    Project(Arc<str>),
    /// `room:<project>/<name>`
    Room {
        /// The project that the room belongs to.
        project: Arc<str>,
        /// The room's own name.
        name: Arc<str>,
    },
    /// `doc:<id>`: a document's lifecycle, not its text.
    Doc(Arc<str>),
}

/// Why a name is not a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Empty, or longer than [`MAX_CHANNEL_BYTES`].
    #[error("a channel name has 1 to {MAX_CHANNEL_BYTES} bytes")]
    Length,
    /// No known namespace before the first colon.
    #[error("a channel name starts with feed:, plan:, project:, room: or doc:")]
    Namespace,
    /// The rest holds something other than letters, digits, `-`, `_` and `.`.
    #[error("after its namespace a channel name has letters, digits, '-', '_' and '.'")]
    Characters,
    /// A room without `project/name`.
    #[error("a room is named room:<project>/<name>")]
    Room,
    /// A feed other than one's own.
    #[error("a feed is named feed:me")]
    Feed,
}

fn segment(text: &str) -> Result<Arc<str>, ChannelError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(valid) {
        return Err(ChannelError::Characters);
    }
    Ok(text.into())
}

impl ChannelName {
    /// Reads a name as a client writes it; `user` is who `feed:me` stands for.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub fn parse(text: &str, user: &str) -> Result<Self, ChannelError> {
        if text.is_empty() || text.len() > MAX_CHANNEL_BYTES {
            return Err(ChannelError::Length);
        }
        let (namespace, rest) = text.split_once(':').ok_or(ChannelError::Namespace)?;
        match namespace {
            "feed" if rest == "me" || rest == user => Ok(Self::Feed(user.into())),
            "feed" => Err(ChannelError::Feed),
            "plan" => Ok(Self::Plan(segment(rest)?)),
            "project" => Ok(Self::Project(segment(rest)?)),
            "doc" => Ok(Self::Doc(segment(rest)?)),
            "room" => {
                let (project, name) = rest.split_once('/').ok_or(ChannelError::Room)?;
                Ok(Self::Room {
                    project: segment(project)?,
                    name: segment(name)?,
                })
            }
            _ => Err(ChannelError::Namespace),
        }
    }

    /// The namespace, without the colon.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        match self {
            Self::Feed(_) => "feed",
            Self::Plan(_) => "plan",
            Self::Project(_) => "project",
            Self::Room { .. } => "room",
            Self::Doc(_) => "doc",
        }
    }

    /// The name as its subscribers write it: a feed's user is always `me`, so that one encoding
    /// serves all of them.
    #[must_use]
    pub fn public(&self) -> String {
        match self {
            Self::Feed(_) => "feed:me".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feed(id) => write!(f, "feed:{id}"),
            Self::Plan(id) => write!(f, "plan:{id}"),
            Self::Project(id) => write!(f, "project:{id}"),
            Self::Room { project, name } => write!(f, "room:{project}/{name}"),
            Self::Doc(id) => write!(f, "doc:{id}"),
        }
    }
}

//! Where a client of the fallback stands, in one opaque text.
//!
//! Holds for each channel its epoch, the last offset and the newest version of class `latest`, for each document the
//! sequence in its log. A cursor is a wish, never trusted: what it names is checked like any position. It is bound
//! to no node and no transport.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::Position;
use serde::{Deserialize, Serialize};

/// Raised when its form changes: another one is not read.
const FORM: u8 = 1;

/// Where a client stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    channels: BTreeMap<String, Seen>,
    documents: BTreeMap<String, u64>,
}

/// Where it stands in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    epoch: String,
    offset: u64,
    version: u64,
}

impl Cursor {
    pub(super) fn of(positions: BTreeMap<String, Position>) -> Self {
        let seen = |Position { epoch, offset }| Seen {
            epoch,
            offset,
            version: 0,
        };
        let positions = positions.into_iter();
        Self {
            channels: positions.map(|(channel, at)| (channel, seen(at))).collect(),
            documents: BTreeMap::new(),
        }
    }

    /// What was [`Cursor::encode`]d; `None` for anything else.
    pub(super) fn decode(text: &str) -> Option<Self> {
        if text.len() > super::CURSOR_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (form, channels, documents) = rmp_serde::from_slice(&bytes).ok()?;
        let same: u8 = form;
        (same == FORM).then_some(Self {
            channels,
            documents,
        })
    }

    pub(super) fn encode(&self) -> String {
        let all = (FORM, &self.channels, &self.documents);
        // Maps of strings and numbers can't fail to be written.
        URL_SAFE_NO_PAD.encode(rmp_serde::to_vec(&all).unwrap_or_default())
    }

    /// Without what is not followed any more.
    pub(super) fn only(mut self, channels: &[String], documents: &[&str]) -> Self {
        self.channels.retain(|name, _| channels.contains(name));
        self.documents
            .retain(|id, _| documents.contains(&id.as_str()));
        self
    }

    pub(super) fn position(&self, channel: &str) -> Option<Position> {
        let seen = self.channels.get(channel)?;
        Some(Position {
            epoch: seen.epoch.clone(),
            offset: seen.offset,
        })
    }

    pub(super) fn seq(&self, document: &str) -> Option<u64> {
        self.documents.get(document).copied()
    }

    /// The channel is followed from there; versions of another epoch say nothing.
    pub(super) fn start(&mut self, channel: &str, epoch: &str, offset: u64) {
        let before = self.channels.get(channel);
        let same = before.filter(|seen| seen.epoch == epoch);
        let seen = Seen {
            epoch: epoch.to_owned(),
            offset,
            version: same.map_or(0, |seen| seen.version),
        };
        self.channels.insert(channel.to_owned(), seen);
    }

    pub(super) fn reach(&mut self, channel: &str, offset: u64) {
        if let Some(seen) = self.channels.get_mut(channel) {
            seen.offset = offset;
        }
    }

    /// The newest version of class `latest` that was seen in the channel's epoch.
    pub(super) fn version(&self, channel: &str) -> u64 {
        self.channels.get(channel).map_or(0, |seen| seen.version)
    }

    pub(super) fn reach_version(&mut self, channel: &str, version: u64) {
        if let Some(seen) = self.channels.get_mut(channel) {
            seen.version = seen.version.max(version);
        }
    }

    pub(super) fn reach_seq(&mut self, document: &str, seq: u64) {
        self.documents.insert(document.to_owned(), seq);
    }

    /// The channel is not followed any more.
    pub(super) fn forget(&mut self, channel: &str) {
        self.channels.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_follows_its_channels() {
        let mut cursor = Cursor::default();
        cursor.start("room:p/x", "e1", 4);
        cursor.reach("room:p/x", 5);
        cursor.reach_version("room:p/x", 9);
        cursor.reach_seq("d1", 7);
        let read = Cursor::decode(&cursor.encode());
        assert_eq!(read.as_ref(), Some(&cursor));
        cursor.start("room:p/x", "e1", 5);
        assert_eq!(cursor.version("room:p/x"), 9);
        cursor.start("room:p/x", "e2", 0);
        assert_eq!(cursor.version("room:p/x"), 0);
        let none = cursor.only(&[], &[]);
        assert_eq!(none, Cursor::default());
    }

    proptest! {
        #[test]
        fn any_text_is_a_cursor_or_refused(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Cursor::decode(&text);
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }

    #[test]
    fn an_endless_cursor_is_refused() {
        assert_eq!(
            Cursor::decode(&"A".repeat(super::super::CURSOR_BYTES + 1)),
            None
        );
    }
}

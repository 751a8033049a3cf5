//! The y-websocket protocol: what one binary message of `/collab/{document}` holds.
//!
//! A client sends Step1 and its awareness; the hub answers with Step2 and sends its own Step1 and
//! everybody's awareness; Updates and Awareness follow. One WebSocket message carries one message of
//! this protocol, since its provider reads only the first. Never looks inside an update: that is
//! [`crate::yupdate`].

use crate::lib0::{Lib0Error, Reader, write_buf, write_str, write_var_uint};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const STEP1: u64 = 0;
const STEP2: u64 = 1;
const UPDATE: u64 = 2;

/// The empty awareness: a data message that says nothing, for clients that want one every 30 s.
pub const EMPTY_AWARENESS: [u8; 3] = [1, 1, 0];

/// The state of a client that is gone.
pub const GONE: &str = "null";

/// One message of the y-websocket protocol; borrows from the bytes that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The sender's state vector: asks for what lies beyond it.
    Step1(&'a [u8]),
    /// Answers a Step1: a v1 update with what the asker lacks.
    Step2(&'a [u8]),
    /// An edit: a v1 update.
    Update(&'a [u8]),
    /// An awareness update; see [`parse_awareness`].
    Awareness(&'a [u8]),
    /// The hub refuses, for this reason.
    PermissionDenied(&'a str),
    /// Asks for everybody's awareness.
    QueryAwareness,
}

/// The part of a message that moves document state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync<'a> {
    /// A state vector.
    Step1(&'a [u8]),
    /// A v1 update that answers a state vector.
    Step2(&'a [u8]),
    /// A v1 update.
    Update(&'a [u8]),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// Truncated, trailing or malformed bytes.
    #[error(transparent)]
    Lib0(#[from] Lib0Error),
    /// No such message type.
    #[error("unknown message type {0}")]
    UnknownMessage(u64),
    /// No such sync message.
    #[error("unknown sync message {0}")]
    UnknownSync(u64),
    /// No such auth message.
    #[error("unknown auth message {0}")]
    UnknownAuth(u64),
    /// An awareness update with more entries than allowed.
    #[error("an awareness update has more than {0} entries")]
    TooManyEntries(usize),
    /// An awareness clock that does not fit 32 bits.
    #[error("an awareness clock is over 2^32-1")]
    Clock,
}

impl<'a> Message<'a> {
    /// Reads exactly one message.
    ///
    /// # Errors
    /// Says why the bytes are not one; bytes after the message are an error, not a second message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SyncError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.var_uint()? {
            SYNC => match Sync::read(&mut reader)? {
                Sync::Step1(vector) => Self::Step1(vector),
                Sync::Step2(update) => Self::Step2(update),
                Sync::Update(update) => Self::Update(update),
            },
            AWARENESS => Self::Awareness(reader.buf()?),
            AUTH => match reader.var_uint()? {
                0 => Self::PermissionDenied(reader.str()?),
                other => return Err(SyncError::UnknownAuth(other)),
            },
            QUERY_AWARENESS => Self::QueryAwareness,
            other => return Err(SyncError::UnknownMessage(other)),
        };
        reader.end()?;
        Ok(message)
    }

    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Step1(vector) => encode_step1(vector),
            Self::Step2(update) => encode_step2(update),
            Self::Update(update) => encode_update(update),
            Self::Awareness(update) => encode_awareness(update),
            Self::PermissionDenied(reason) => encode_permission_denied(reason),
            Self::QueryAwareness => vec![QUERY_AWARENESS as u8],
        }
    }
}

impl<'a> Sync<'a> {
    /// Reads the sync message at the reader; Hocuspocus frames hold the same.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, SyncError> {
        match reader.var_uint()? {
            STEP1 => Ok(Self::Step1(reader.buf()?)),
            STEP2 => Ok(Self::Step2(reader.buf()?)),
            UPDATE => Ok(Self::Update(reader.buf()?)),
            other => Err(SyncError::UnknownSync(other)),
        }
    }

    /// Appends the sync message.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Step1(vector) => (STEP1, vector),
            Self::Step2(update) => (STEP2, update),
            Self::Update(update) => (UPDATE, update),
        };
        write_var_uint(out, kind);
        write_buf(out, bytes);
    }
}

fn encode_sync(sync: Sync<'_>, payload: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload + 8);
    write_var_uint(&mut out, SYNC);
    sync.write(&mut out);
    out
}

/// A Step1 message around a state vector.
#[must_use]
pub fn encode_step1(state_vector: &[u8]) -> Vec<u8> {
    encode_sync(Sync::Step1(state_vector), state_vector.len())
}

/// A Step2 message around a v1 update.
#[must_use]
pub fn encode_step2(update: &[u8]) -> Vec<u8> {
    encode_sync(Sync::Step2(update), update.len())
}

/// An Update message around a v1 update.
#[must_use]
pub fn encode_update(update: &[u8]) -> Vec<u8> {
    encode_sync(Sync::Update(update), update.len())
}

/// An Awareness message around an awareness update.
#[must_use]
pub fn encode_awareness(update: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(update.len() + 8);
    write_var_uint(&mut out, AWARENESS);
    write_buf(&mut out, update);
    out
}

/// A PermissionDenied message.
#[must_use]
pub fn encode_permission_denied(reason: &str) -> Vec<u8> {
    let mut out = vec![AUTH as u8, 0];
    write_str(&mut out, reason);
    out
}

/// What an awareness update says of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwarenessEntry<'a> {
    /// The Yjs client id.
    pub client: u64,
    /// Rises with each change of the client's state.
    pub clock: u64,
    /// The state as JSON; [`GONE`] if the client left.
    pub state: &'a str,
}

impl AwarenessEntry<'_> {
    /// Whether the entry says that its client left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state == GONE
    }
}

/// Reads the entries of an awareness update, at most `max_entries`.
///
/// # Errors
/// Says what is wrong. States are not checked to be JSON here: most of what is read is an echo, which is
/// dropped unread.
pub fn parse_awareness(
    update: &[u8],
    max_entries: usize,
) -> Result<Vec<AwarenessEntry<'_>>, SyncError> {
    let mut reader = Reader::new(update);
    let count = usize::try_from(reader.var_uint()?).unwrap_or(usize::MAX);
    if count > max_entries {
        return Err(SyncError::TooManyEntries(max_entries));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let client = reader.var_uint()?;
        let clock = reader.var_uint()?;
        if clock > u64::from(u32::MAX) {
            return Err(SyncError::Clock);
        }
        let state = reader.str()?;
        entries.push(AwarenessEntry {
            client,
            clock,
            state,
        });
    }
    reader.end()?;
    Ok(entries)
}

/// The awareness update that holds these entries; put it into a message with [`encode_awareness`].
#[must_use]
pub fn encode_awareness_update(entries: &[AwarenessEntry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_var_uint(&mut out, entries.len() as u64);
    for entry in entries {
        write_var_uint(&mut out, entry.client);
        write_var_uint(&mut out, entry.clock);
        write_str(&mut out, entry.state);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_of_the_wire() {
        assert_eq!(
            Message::parse(&[0, 1, 2, 0, 0]),
            Ok(Message::Step2(&[0, 0]))
        );
        assert_eq!(
            Message::parse(&EMPTY_AWARENESS),
            Ok(Message::Awareness(&[0]))
        );
        assert_eq!(parse_awareness(&[0], 0), Ok(vec![]));
        assert_eq!(Message::parse(&[3]), Ok(Message::QueryAwareness));
        assert_eq!(
            Message::parse(&[3, 3]),
            Err(SyncError::Lib0(Lib0Error::Trailing)),
            "a second message in the same frame is refused, not ignored"
        );
        assert_eq!(Message::parse(&[9]), Err(SyncError::UnknownMessage(9)));
        assert_eq!(Message::parse(&[0, 3]), Err(SyncError::UnknownSync(3)));
        assert_eq!(Message::parse(&[2, 1]), Err(SyncError::UnknownAuth(1)));
    }

    #[test]
    fn awareness_is_bounded() {
        let entry = |state| AwarenessEntry {
            client: 7,
            clock: 1,
            state,
        };
        let two = encode_awareness_update(&[entry("{}"), entry(GONE)]);
        assert_eq!(parse_awareness(&two, 1), Err(SyncError::TooManyEntries(1)));
        let entries = parse_awareness(&two, 2).unwrap();
        assert!(!entries[0].is_gone() && entries[1].is_gone());
        let late = AwarenessEntry {
            clock: 1 << 32,
            ..entry("1")
        };
        assert_eq!(
            parse_awareness(&encode_awareness_update(&[late]), 9),
            Err(SyncError::Clock)
        );
    }

    proptest! {
        #[test]
        fn messages_come_back_and_no_prefix_is_one(
            bytes: Vec<u8>, text in ".*", which in 0..6_u8,
        ) {
            let message = match which {
                0 => Message::Step1(&bytes),
                1 => Message::Step2(&bytes),
                2 => Message::Update(&bytes),
                3 => Message::Awareness(&bytes),
                4 => Message::PermissionDenied(&text),
                _ => Message::QueryAwareness,
            };
            let encoded = message.encode();
            prop_assert_eq!(Message::parse(&encoded), Ok(message));
            for cut in 0..encoded.len() {
                prop_assert!(Message::parse(&encoded[..cut]).is_err());
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Message::parse(&bytes);
            let _ = parse_awareness(&bytes, 16);
        }

        #[test]
        fn awareness_comes_back(
            raw in proptest::collection::vec((0..=crate::lib0::MAX_SAFE_INTEGER, any::<u32>(), ".*"), 0..5),
        ) {
            let raw: Vec<_> = raw
                .into_iter()
                .map(|(client, clock, name)| (client, clock, serde_json::json!({ "name": name }).to_string()))
                .collect();
            let entries: Vec<_> = raw
                .iter()
                .map(|(client, clock, state)| AwarenessEntry { client: *client, clock: u64::from(*clock), state })
                .collect();
            let update = encode_awareness_update(&entries);
            prop_assert_eq!(parse_awareness(&update, 5), Ok(entries));
        }
    }
}

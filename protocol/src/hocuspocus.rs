//! The Hocuspocus protocol: an envelope around the sync messages, many documents on one socket.
//!
//! A frame is the document's address, a type and a payload. The address is the document's name,
//! optionally followed by NUL and a session id of the client's; answers carry the same address.
//! Clients send Auth, Step1 and awareness without waiting for one another; `Ping` and `Pong` are bare
//! bytes without an address. Owns parsing of what clients send and encoding of what the hub sends;
//! never decides whether a message is allowed.

use crate::lib0::{Lib0Error, Reader, write_buf, write_str, write_var_uint};
use crate::ysync::{Sync, SyncError};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const STATELESS: u64 = 5;
const BROADCAST_STATELESS: u64 = 6;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const AUTH_TOKEN: u64 = 0;
const AUTH_DENIED: u64 = 1;
const AUTH_AUTHENTICATED: u64 = 2;

/// The hub's answer to a `Ping`: the whole frame.
pub const PONG_FRAME: [u8; 1] = [PONG];

/// What one WebSocket message from a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A bare ping; answer with [`PONG_FRAME`].
    Ping,
    /// A bare pong.
    Pong,
    /// A message about a document.
    Frame(Frame<'a>),
}

/// A message about one document; borrows from the bytes that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What answers are addressed to: the document's name, with the session id if there is one.
    pub address: &'a str,
    /// The document's name: the address up to its first NUL.
    pub document: &'a str,
    /// The message.
    pub message: ClientMessage<'a>,
}

/// What a client says about a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Document state.
    Sync(Sync<'a>),
    /// An awareness update; see [`crate::ysync::parse_awareness`].
    Awareness(&'a [u8]),
    /// A token: the first one, or a fresh one.
    Auth {
        /// The token.
        token: &'a str,
        /// The provider's version; older ones tell none.
        version: Option<&'a str>,
    },
    /// Asks for everybody's awareness.
    QueryAwareness,
    /// A message of the application's own.
    Stateless(&'a str),
    /// A message of the application's own for everybody; clients may not send it.
    BroadcastStateless(&'a str),
    /// Leaves the document; the socket stays.
    Close,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Truncated, trailing or malformed bytes.
    #[error(transparent)]
    Lib0(#[from] Lib0Error),
    /// The sync message inside is malformed.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// No message of a client has this type.
    #[error("unknown message type {0}")]
    UnknownType(u64),
    /// Not an auth message of a client.
    #[error("unknown auth message {0}")]
    UnknownAuth(u64),
}

/// What an authenticated client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read and edit.
    ReadWrite,
    /// Read.
    ReadOnly,
}

impl Scope {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "readonly",
        }
    }
}

impl<'a> Incoming<'a> {
    /// Reads exactly one message of a client.
    ///
    /// # Errors
    /// Says why the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        match bytes {
            [PING] => return Ok(Self::Ping),
            [PONG] => return Ok(Self::Pong),
            _ => {}
        }
        let mut reader = Reader::new(bytes);
        let address = reader.str()?;
        let document = address.split_once('\0').map_or(address, |(name, _)| name);
        let message = ClientMessage::read(&mut reader)?;
        reader.end()?;
        Ok(Self::Frame(Frame {
            address,
            document,
            message,
        }))
    }
}

impl<'a> ClientMessage<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        Ok(match reader.var_uint()? {
            SYNC => Self::Sync(Sync::read(reader)?),
            AWARENESS => Self::Awareness(reader.buf()?),
            AUTH => match reader.var_uint()? {
                AUTH_TOKEN => Self::Auth {
                    token: reader.str()?,
                    version: if reader.is_empty() {
                        None
                    } else {
                        Some(reader.str()?)
                    },
                },
                other => return Err(FrameError::UnknownAuth(other)),
            },
            QUERY_AWARENESS => Self::QueryAwareness,
            STATELESS => Self::Stateless(reader.str()?),
            BROADCAST_STATELESS => Self::BroadcastStateless(reader.str()?),
            CLOSE => Self::Close,
            other => return Err(FrameError::UnknownType(other)),
        })
    }
}

impl Frame<'_> {
    /// The bytes of this frame, as a client sends it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self.message {
            ClientMessage::Sync(sync) => encode_sync(self.address, sync),
            ClientMessage::Awareness(update) => encode_awareness(self.address, update),
            ClientMessage::Auth { token, version } => {
                let mut out = head(self.address, AUTH, token.len() + 16);
                write_var_uint(&mut out, AUTH_TOKEN);
                write_str(&mut out, token);
                if let Some(version) = version {
                    write_str(&mut out, version);
                }
                out
            }
            ClientMessage::QueryAwareness => head(self.address, QUERY_AWARENESS, 0),
            ClientMessage::Stateless(payload) => encode_stateless(self.address, payload),
            ClientMessage::BroadcastStateless(payload) => {
                let mut out = head(self.address, BROADCAST_STATELESS, payload.len());
                write_str(&mut out, payload);
                out
            }
            ClientMessage::Close => head(self.address, CLOSE, 0),
        }
    }
}

fn head(address: &str, kind: u64, payload: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(address.len() + payload + 16);
    write_str(&mut out, address);
    write_var_uint(&mut out, kind);
    out
}

/// The client's token was accepted, for this scope.
#[must_use]
pub fn encode_authenticated(address: &str, scope: Scope) -> Vec<u8> {
    let mut out = head(address, AUTH, 16);
    write_var_uint(&mut out, AUTH_AUTHENTICATED);
    write_str(&mut out, scope.as_str());
    out
}

/// The client's token was refused, or it may not see the document; the socket stays open.
#[must_use]
pub fn encode_denied(address: &str, reason: &str) -> Vec<u8> {
    let mut out = head(address, AUTH, reason.len() + 8);
    write_var_uint(&mut out, AUTH_DENIED);
    write_str(&mut out, reason);
    out
}

/// The client should send its token again: the one that it gave is about to expire.
#[must_use]
pub fn encode_token_wanted(address: &str) -> Vec<u8> {
    let mut out = head(address, AUTH, 1);
    write_var_uint(&mut out, AUTH_TOKEN);
    out
}

/// Document state: Step1, Step2 or an Update.
#[must_use]
pub fn encode_sync(address: &str, sync: Sync<'_>) -> Vec<u8> {
    let (Sync::Step1(bytes) | Sync::Step2(bytes) | Sync::Update(bytes)) = sync;
    let mut out = head(address, SYNC, bytes.len());
    sync.write(&mut out);
    out
}

/// An awareness update.
#[must_use]
pub fn encode_awareness(address: &str, update: &[u8]) -> Vec<u8> {
    let mut out = head(address, AWARENESS, update.len());
    write_buf(&mut out, update);
    out
}

/// The hub ended the client's part in this document.
#[must_use]
pub fn encode_close(address: &str, reason: &str) -> Vec<u8> {
    let mut out = head(address, CLOSE, reason.len());
    write_str(&mut out, reason);
    out
}

/// Answers one Step2 or Update: it is saved, or it was refused.
#[must_use]
pub fn encode_sync_status(address: &str, saved: bool) -> Vec<u8> {
    let mut out = head(address, SYNC_STATUS, 1);
    write_var_uint(&mut out, u64::from(saved));
    out
}

/// A message of the application's own.
#[must_use]
pub fn encode_stateless(address: &str, payload: &str) -> Vec<u8> {
    let mut out = head(address, STATELESS, payload.len());
    write_str(&mut out, payload);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bare_bytes_and_addresses() {
        assert_eq!(Incoming::parse(&[9]), Ok(Incoming::Ping));
        assert_eq!(Incoming::parse(&[10]), Ok(Incoming::Pong));
        assert_eq!(
            Incoming::parse(&[]),
            Err(FrameError::Lib0(Lib0Error::Truncated))
        );
        let bytes = [3, b'a', 0, b's', 3];
        let Ok(Incoming::Frame(frame)) = Incoming::parse(&bytes) else {
            panic!("a frame");
        };
        assert_eq!((frame.address, frame.document), ("a\0s", "a"));
        assert_eq!(frame.message, ClientMessage::QueryAwareness);
        assert_eq!(
            Incoming::parse(&[1, b'a', 8, 1]),
            Err(FrameError::UnknownType(8)),
            "only the hub sends a status"
        );
        assert_eq!(
            Incoming::parse(&[1, b'a', 2, 2]),
            Err(FrameError::UnknownAuth(2))
        );
    }

    proptest! {
        #[test]
        fn frames_come_back(
            name in "[a-z/]{1,12}", session in proptest::option::of("[a-z]{0,5}"),
            bytes: Vec<u8>, text in ".*", version in proptest::option::of("[0-9.]{1,6}"), which in 0..9_u8,
        ) {
            let address = match session {
                Some(session) => format!("{name}\0{session}"),
                None => name.clone(),
            };
            let message = match which {
                0 => ClientMessage::Sync(Sync::Step1(&bytes)),
                1 => ClientMessage::Sync(Sync::Step2(&bytes)),
                2 => ClientMessage::Sync(Sync::Update(&bytes)),
                3 => ClientMessage::Awareness(&bytes),
                4 => ClientMessage::Auth { token: &text, version: version.as_deref() },
                5 => ClientMessage::QueryAwareness,
                6 => ClientMessage::Stateless(&text),
                7 => ClientMessage::BroadcastStateless(&text),
                _ => ClientMessage::Close,
            };
            let frame = Frame { address: &address, document: &name, message };
            let encoded = frame.encode();
            prop_assert_eq!(Incoming::parse(&encoded), Ok(Incoming::Frame(frame)));
            let mut longer = encoded;
            longer.extend_from_slice(&[0xff; 9]);
            prop_assert!(Incoming::parse(&longer).is_err());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Incoming::parse(&bytes);
        }
    }
}

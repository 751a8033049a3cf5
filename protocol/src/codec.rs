//! The two encodings of session frames. Each frame is one WebSocket message: JSON as text,
//! MessagePack (maps with string keys) as binary.

pub mod json;
pub mod msgpack;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ClientFrame;

/// How a session's frames are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// `tandem.v1.json`: text messages.
    Json,
    /// `tandem.v1.msgpack`: binary messages.
    MsgPack,
}

/// Why a message is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not of the encoding, or not a map.
    #[error("not a {0} message: {1}")]
    Malformed(&'static str, String),
    /// A well-formed message of a type that this version does not know.
    #[error("unknown frame type {kind:?}")]
    UnknownType {
        /// The request id, if there is one.
        id: Option<u32>,
        /// The type named.
        kind: String,
    },
    /// A known type with a wrong field.
    #[error("{message}")]
    Invalid {
        /// The request id, if there is one.
        id: Option<u32>,
        /// What is wrong.
        message: String,
    },
}

impl Encoding {
    /// Encodes a frame.
    #[must_use]
    pub fn encode<T: Serialize>(self, frame: &T) -> Vec<u8> {
        match self {
            Self::Json => json::encode(frame),
            Self::MsgPack => msgpack::encode(frame),
        }
    }

    /// Decodes any frame of this protocol (tests and clients).
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] if it is not one.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Self::Json => json::decode(bytes),
            Self::MsgPack => msgpack::decode(bytes),
        }
    }

    /// Decodes a client's frame, telling apart what is malformed, unknown and invalid.
    ///
    /// # Errors
    /// See [`DecodeError`]; only `Malformed` means that the peer does not speak the protocol.
    pub fn decode_client(self, bytes: &[u8]) -> Result<ClientFrame, DecodeError> {
        let error = match self.decode::<ClientFrame>(bytes) {
            Ok(frame) => return Ok(frame),
            Err(error) => error,
        };
        // The slow path: read only the head, to say what exactly is wrong.
        let head: Head = self.decode(bytes)?;
        let id = match head.id {
            Some(Lenient::Right(id)) => Some(id),
            _ => None,
        };
        let Some(Lenient::Right(kind)) = head.kind else {
            return Err(error);
        };
        if CLIENT_TYPES.contains(&kind.as_str()) {
            let message = match error {
                DecodeError::Malformed(_, message) => message,
                other => other.to_string(),
            };
            Err(DecodeError::Invalid { id, message })
        } else {
            Err(DecodeError::UnknownType {
                id,
                kind: kind.chars().take(64).collect(),
            })
        }
    }
}

/// What every frame starts with, if it does.
#[derive(serde::Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<Lenient<String>>,
    id: Option<Lenient<u32>>,
}

/// A field that may hold anything.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Right(T),
    Wrong(serde::de::IgnoredAny),
}

/// The types of [`ClientFrame`].
pub const CLIENT_TYPES: &[&str] = &[
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "state",
    "history",
    "doc",
    "refresh",
    "ping",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_head_is_an_error_of_the_frame_not_of_the_peer() {
        let refused = |text: &str| Encoding::Json.decode_client(text.as_bytes()).unwrap_err();
        for text in [
            r#"{"type":"ping","id":"x"}"#,
            r#"{"type":"ping","id":-1}"#,
            r#"{"type":"ping"}"#,
        ] {
            let error = refused(text);
            assert!(
                matches!(error, DecodeError::Invalid { .. }),
                "{text}: {error:?}"
            );
        }
        for text in [
            "",
            "[]",
            "7",
            "{",
            "null",
            r#"{"type":7,"id":1}"#,
            r#"{"id":1}"#,
        ] {
            let error = refused(text);
            assert!(
                matches!(error, DecodeError::Malformed(..)),
                "{text}: {error:?}"
            );
        }
        let binary = Encoding::MsgPack.encode(&serde_json::json!({"type": "ping", "id": "x"}));
        let error = Encoding::MsgPack.decode_client(&binary).unwrap_err();
        assert!(
            matches!(error, DecodeError::Invalid { id: None, .. }),
            "{error:?}"
        );
    }
}

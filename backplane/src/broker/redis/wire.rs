//! What stands in a channel's keys and goes over its topic: bytes to and from publications and presence.
//!
//! A publication's body is MessagePack with named fields, so that nodes of two versions read each other;
//! its place stands in a line before it, which the script writes. Pure: no I/O, no clock.

use std::sync::Arc;

use protocol::frame::Member;
use protocol::{Blob, DeliveryClass};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::broker::{Publication, Publish};

/// What of a message is known before it has its place.
#[derive(Default, Serialize, Deserialize)]
struct Body {
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    /// A JSON null is a value, not the lack of one.
    #[serde(
        rename = "d",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    data: Option<Value>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Blob>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    event: Option<Arc<str>>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    from: Option<Arc<str>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// No frame that this version knows.
    #[error("not a frame of a channel")]
    Frame,
    /// A body that can't be read.
    #[error("unreadable body: {0}")]
    Body(String),
}

/// What arrives on a channel's topic.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Push {
    /// A publication, with the epoch and the newest offset at its time.
    Message {
        epoch: String,
        newest: u64,
        message: Arc<Publication>,
    },
    Joined(Member),
    Left(String),
    Vacated,
}

/// The letter of a class, as the scripts know it.
pub(super) fn letter(class: DeliveryClass) -> &'static [u8] {
    match class {
        DeliveryClass::Reliable => b"r",
        DeliveryClass::Latest => b"v",
        DeliveryClass::Lossy => b"l",
    }
}

/// The body of a message.
///
/// # Errors
/// [`WireError::Body`] for a value that MessagePack can't hold.
pub(super) fn encode(message: &Publish) -> Result<Vec<u8>, WireError> {
    let body = Body {
        key: message.key.clone(),
        data: message.data.clone(),
        bytes: message.bytes.clone(),
        event: message.event.clone(),
        from: message.from.clone(),
    };
    rmp_serde::to_vec_named(&body).map_err(|error| WireError::Body(error.to_string()))
}

/// A publication from its place and body.
fn publication(
    class: DeliveryClass,
    offset: u64,
    version: u64,
    time: u64,
    body: &[u8],
) -> Result<Arc<Publication>, WireError> {
    let body: Body =
        rmp_serde::from_slice(body).map_err(|error| WireError::Body(error.to_string()))?;
    Ok(Arc::new(Publication {
        class,
        offset: if class == DeliveryClass::Reliable {
            offset
        } else {
            0
        },
        key: body.key,
        version: if class == DeliveryClass::Latest {
            version
        } else {
            0
        },
        data: body.data,
        bytes: body.bytes,
        event: body.event,
        from: body.from,
        time,
    }))
}

/// An entry of the log: the frame that was published. One that can't be read keeps its place, empty, so that
/// offsets stay gapless.
pub(super) fn entry(offset: u64, frame: &[u8]) -> Arc<Publication> {
    match parse(frame) {
        Ok(Push::Message { message, .. }) if message.offset == offset => message,
        _ => unreadable(offset, 0),
    }
}

fn unreadable(offset: u64, time: u64) -> Arc<Publication> {
    tracing::error!(offset, "a message of a channel can't be read");
    Arc::new(Publication {
        class: DeliveryClass::Reliable,
        offset,
        key: None,
        version: 0,
        data: None,
        bytes: None,
        event: None,
        from: None,
        time,
    })
}

/// Reads what arrived on a topic.
///
/// # Errors
/// [`WireError`]: somebody else publishes on it, or a newer version of the hub.
pub(super) fn parse(payload: &[u8]) -> Result<Push, WireError> {
    let line_end = payload.iter().position(|byte| *byte == b'\n');
    let (line, rest) = payload.split_at(line_end.ok_or(WireError::Frame)?);
    let body = &rest[1..];
    let line = std::str::from_utf8(line).map_err(|_| WireError::Frame)?;
    match line {
        "j" => member(body).map(Push::Joined),
        "l" => {
            let session = std::str::from_utf8(body).map_err(|_| WireError::Frame)?;
            Ok(Push::Left(session.to_owned()))
        }
        "v" => Ok(Push::Vacated),
        _ => message(line, body),
    }
}

fn message(line: &str, body: &[u8]) -> Result<Push, WireError> {
    let mut words = line.split(' ');
    let class = match words.next() {
        Some("mr") => DeliveryClass::Reliable,
        Some("mv") => DeliveryClass::Latest,
        Some("ml") => DeliveryClass::Lossy,
        _ => return Err(WireError::Frame),
    };
    let epoch = words.next().ok_or(WireError::Frame)?.to_owned();
    let mut number = || -> Result<u64, WireError> {
        let word = words.next().ok_or(WireError::Frame)?;
        word.parse().map_err(|_| WireError::Frame)
    };
    let (newest, version, time) = (number()?, number()?, number()?);
    let message = match publication(class, newest, version, time, body) {
        Ok(message) => message,
        Err(_) if class == DeliveryClass::Reliable => unreadable(newest, time),
        Err(error) => return Err(error),
    };
    Ok(Push::Message {
        epoch,
        newest,
        message,
    })
}

/// A member, as a channel's hash and its topic hold it.
///
/// # Errors
/// [`WireError::Body`].
pub(super) fn member(json: &[u8]) -> Result<Member, WireError> {
    serde_json::from_slice(json).map_err(|error| WireError::Body(error.to_string()))
}

/// The value of a channel's members hash: the member behind its node's incarnation.
///
/// # Errors
/// [`WireError`].
pub(super) fn stored_member(value: &[u8]) -> Result<Member, WireError> {
    let line_end = value.iter().position(|byte| *byte == b'\n');
    member(&value[line_end.ok_or(WireError::Frame)? + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_comes_back_whole() {
        for data in [
            None,
            Some(Value::Null),
            Some(json!({ "n": [1, -2, 0.5, "x", null] })),
        ] {
            let publish = Publish {
                key: Some("k".into()),
                data: data.clone(),
                bytes: Some(Blob::from(vec![0, b'\n', 255])),
                event: Some("e".into()),
                from: Some("u".into()),
                ..Publish::default()
            };
            let mut frame = b"mv 0a1 7 9 1234\n".to_vec();
            frame.extend(encode(&publish).unwrap());
            let Push::Message {
                epoch,
                newest,
                message,
            } = parse(&frame).unwrap()
            else {
                panic!("not a message");
            };
            assert_eq!((epoch.as_str(), newest), ("0a1", 7));
            assert_eq!(
                (message.offset, message.version, message.time),
                (0, 9, 1234)
            );
            assert_eq!(message.data, data);
            assert_eq!(
                (&message.key, &message.bytes),
                (&publish.key, &publish.bytes)
            );
            assert_eq!(
                (&message.event, &message.from),
                (&publish.event, &publish.from)
            );
        }
    }

    #[test]
    fn an_unreadable_entry_keeps_its_place() {
        let Push::Message { message, .. } = parse(b"mr e 3 0 5\n\xc1").unwrap() else {
            panic!("not a message");
        };
        assert_eq!((message.offset, &message.data), (3, &None));
        assert_eq!(entry(3, b"mr e 3 0 5\n\xc1"), message);
        assert_eq!(entry(4, b"mr e 3 0 5\n\xc1").offset, 4);
        assert!(parse(b"ml e 3 0 5\n\xc1").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_push(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let mut frame = b"mr e 1 2 3\n".to_vec();
            frame.extend(&bytes);
            prop_assert!(parse(&frame).is_ok());
            let _ = stored_member(&bytes);
        }
    }
}

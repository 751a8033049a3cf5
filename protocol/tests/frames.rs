//! Every frame comes back from both encodings, and nothing that a peer sends makes decoding panic.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::codec::DecodeError;
use protocol::{Encoding, ServerFrame};
use serde_json::{Value, json};

#[path = "frames/strategies.rs"]
mod strategies;
use strategies::{client_frame, push, reply, value};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MsgPack];

proptest! {
    #[test]
    fn client_frames_come_back(frame in client_frame()) {
        for encoding in BOTH {
            let bytes = encoding.encode(&frame);
            prop_assert_eq!(encoding.decode_client(&bytes), Ok(frame.clone()), "{:?}", encoding);
        }
    }

    #[test]
    fn server_frames_come_back(frame in prop_oneof![reply(), push()]) {
        for encoding in BOTH {
            let bytes = encoding.encode(&frame);
            prop_assert_eq!(encoding.decode::<ServerFrame>(&bytes), Ok(frame.clone()), "{:?}", encoding);
        }
    }

    #[test]
    fn random_and_mutated_bytes_never_panic(
        bytes: Vec<u8>,
        frame in client_frame(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for encoding in BOTH {
            let _ = encoding.decode_client(&bytes);
            let mut mutated = encoding.encode(&frame);
            for (at, byte) in &edits {
                let at = at.index(mutated.len());
                mutated[at] = *byte;
            }
            let _ = encoding.decode_client(&mutated);
            mutated.truncate(edits[0].0.index(mutated.len()));
            let _ = encoding.decode_client(&mutated);
        }
    }

    #[test]
    fn unknown_fields_are_ignored(frame in client_frame(), extra in value()) {
        let mut object = serde_json::to_value(&frame).unwrap();
        object["a_field_of_tomorrow"] = extra;
        for encoding in BOTH {
            let bytes = encoding.encode(&object);
            prop_assert_eq!(encoding.decode_client(&bytes), Ok(frame.clone()), "{:?}", encoding);
        }
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    for encoding in BOTH {
        let decode = |value: Value| encoding.decode_client(&encoding.encode(&value));
        let unknown = |id| {
            Err(DecodeError::UnknownType {
                id,
                kind: "teleport".to_owned(),
            })
        };
        assert_eq!(
            decode(json!({ "type": "teleport", "id": 7, "to": [1] })),
            unknown(Some(7))
        );
        assert_eq!(decode(json!({ "type": "teleport" })), unknown(None));
        assert_eq!(
            decode(json!({ "type": "teleport", "id": 1_u64 << 40 })),
            unknown(None)
        );
        let Err(DecodeError::Invalid { id, message }) =
            decode(json!({ "type": "subscribe", "id": 8 }))
        else {
            panic!("a missing field is invalid");
        };
        assert_eq!(id, Some(8));
        assert!(message.contains("channel"), "{message}");
        for odd in [
            json!({ "id": 1 }),
            json!([1, 2]),
            json!("ping"),
            json!({ "type": 5 }),
        ] {
            assert!(matches!(decode(odd), Err(DecodeError::Malformed(..))));
        }
        assert!(matches!(
            encoding.decode_client(b""),
            Err(DecodeError::Malformed(..))
        ));
    }
}

#[test]
fn a_long_unknown_type_is_cut() {
    let bytes = Encoding::Json.encode(&json!({ "type": "é".repeat(5_000) }));
    let Err(DecodeError::UnknownType { kind, .. }) = Encoding::Json.decode_client(&bytes) else {
        panic!("unknown");
    };
    assert_eq!(kind.chars().count(), 64);
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!(
        r#"{{"type":"state","id":1,"channel":"c","data":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert!(Encoding::Json.decode_client(deep.as_bytes()).is_err());
    let mut packed = vec![0x84];
    for (key, value) in [
        ("type", &b"\xa5state"[..]),
        ("id", b"\x01"),
        ("channel", b"\xa1c"),
    ] {
        packed.push(0xa0 | key.len() as u8);
        packed.extend_from_slice(key.as_bytes());
        packed.extend_from_slice(value);
    }
    packed.extend_from_slice(b"\xa4data");
    packed.extend(std::iter::repeat_n(0x91, 100_000));
    packed.push(0xc0);
    assert!(Encoding::MsgPack.decode_client(&packed).is_err());
}

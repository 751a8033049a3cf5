//! Golden vectors: what this version writes, byte by byte, and can still read.
//!
//! A changed vector is a changed protocol. `UPDATE_GOLDEN=1` writes the files anew; whoever does so
//! looks at the difference first.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use protocol::hocuspocus::{self, ClientMessage, Frame, Incoming, Scope};
use protocol::ysync::{self, AwarenessEntry, Message, Sync};
use protocol::{ClientFrame, Encoding, Event, ServerFrame};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[path = "golden/client.rs"]
mod client;
#[path = "golden/samples.rs"]
mod samples;

/// A frame in both encodings.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FrameVector {
    name: String,
    json: String,
    msgpack: String,
}

/// A binary message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct MessageVector {
    name: String,
    hex: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Reads the vectors of a file, after writing them anew if that was asked for.
fn golden<T: Serialize + DeserializeOwned>(file: &str, fresh: &[T]) -> Vec<T> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(fresh).unwrap() + "\n";
        fs::write(&path, text).unwrap();
    }
    serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

fn check_frames<T>(file: &str, samples: Vec<(&'static str, T)>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let fresh: Vec<_> = samples
        .iter()
        .map(|(name, frame)| FrameVector {
            name: (*name).to_owned(),
            json: String::from_utf8(Encoding::Json.encode(frame)).unwrap(),
            msgpack: hex(&Encoding::MsgPack.encode(frame)),
        })
        .collect();
    let kept = golden(file, &fresh);
    assert_eq!(kept, fresh, "{file}: what is written changed");
    for (vector, (name, frame)) in kept.iter().zip(&samples) {
        let json: T = Encoding::Json.decode(vector.json.as_bytes()).unwrap();
        assert_eq!(&json, frame, "{name} from JSON");
        let packed: T = Encoding::MsgPack.decode(&unhex(&vector.msgpack)).unwrap();
        assert_eq!(&packed, frame, "{name} from MessagePack");
    }
}

fn check_messages(file: &str, samples: Vec<(&'static str, Vec<u8>)>) {
    let fresh: Vec<_> = samples
        .into_iter()
        .map(|(name, bytes)| MessageVector {
            name: name.to_owned(),
            hex: hex(&bytes),
        })
        .collect();
    assert_eq!(
        golden(file, &fresh),
        fresh,
        "{file}: what is written changed"
    );
}

#[test]
fn client_frames() {
    let samples = client::client();
    for kind in protocol::codec::CLIENT_TYPES {
        let named = |frame: &ClientFrame| serde_json::to_value(frame).unwrap()["type"] == **kind;
        assert!(
            samples.iter().any(|(_, frame)| named(frame)),
            "no vector of {kind}"
        );
    }
    check_frames("client_frames.json", samples);
}

#[test]
fn server_frames() {
    let samples: Vec<(&str, ServerFrame)> = samples::server();
    let schema = serde_json::to_value(schemars::schema_for!(ServerFrame)).unwrap();
    for variant in schema["oneOf"].as_array().unwrap() {
        let kind = &variant["properties"]["type"]["const"];
        let named = |frame: &ServerFrame| serde_json::to_value(frame).unwrap()["type"] == *kind;
        assert!(
            samples.iter().any(|(_, frame)| named(frame)),
            "no vector of {kind}"
        );
    }
    check_frames("server_frames.json", samples);
}

#[test]
fn events() {
    let samples: Vec<(&str, Event)> = samples::events();
    check_frames("events.json", samples);
}

#[test]
fn y_websocket_messages() {
    let entries = [
        AwarenessEntry {
            client: 300_000,
            clock: 1,
            state: r#"{"user":{"name":"alice"}}"#,
        },
        AwarenessEntry {
            client: 7,
            clock: 2,
            state: ysync::GONE,
        },
    ];
    let awareness = ysync::encode_awareness_update(&entries);
    assert_eq!(ysync::parse_awareness(&awareness, 2).unwrap(), entries);
    let messages = [
        ("step1 of an empty document", Message::Step1(&[0])),
        ("step1", Message::Step1(&[1, 5, 3])),
        ("step2 of an empty document", Message::Step2(&[0, 0])),
        ("update", Message::Update(&[0, 1, 5, 1, 0, 3])),
        (
            "awareness of one and another gone",
            Message::Awareness(&awareness),
        ),
        ("awareness of nobody", Message::Awareness(&[0])),
        (
            "permission denied",
            Message::PermissionDenied("no such document"),
        ),
        ("query awareness", Message::QueryAwareness),
    ];
    for (name, message) in messages {
        assert_eq!(Message::parse(&message.encode()), Ok(message), "{name}");
    }
    check_messages(
        "y_websocket.json",
        messages
            .map(|(name, message)| (name, message.encode()))
            .into(),
    );
}

#[test]
fn hocuspocus_client_messages() {
    let plain = |message| Frame {
        address: "demo/main.rs",
        document: "demo/main.rs",
        message,
    };
    let frames = [
        (
            "auth",
            plain(ClientMessage::Auth {
                token: "jwt",
                version: Some("4.8.0"),
            }),
        ),
        (
            "auth of an older provider",
            plain(ClientMessage::Auth {
                token: "jwt",
                version: None,
            }),
        ),
        ("step1", plain(ClientMessage::Sync(Sync::Step1(&[0])))),
        ("step2", plain(ClientMessage::Sync(Sync::Step2(&[0, 0])))),
        (
            "update",
            plain(ClientMessage::Sync(Sync::Update(&[0, 1, 5, 1, 0, 3]))),
        ),
        ("awareness of nobody", plain(ClientMessage::Awareness(&[0]))),
        ("query awareness", plain(ClientMessage::QueryAwareness)),
        ("stateless", plain(ClientMessage::Stateless("hello"))),
        (
            "broadcast stateless",
            plain(ClientMessage::BroadcastStateless("hello")),
        ),
        ("close", plain(ClientMessage::Close)),
        (
            "step1 with a session id",
            Frame {
                address: "d\0s1",
                document: "d",
                message: ClientMessage::Sync(Sync::Step1(&[0])),
            },
        ),
    ];
    for (name, frame) in frames {
        assert_eq!(
            Incoming::parse(&frame.encode()),
            Ok(Incoming::Frame(frame)),
            "{name}"
        );
    }
    check_messages(
        "hocuspocus_client.json",
        frames.map(|(name, frame)| (name, frame.encode())).into(),
    );
}

#[test]
fn hocuspocus_server_messages() {
    let address = "demo/main.rs";
    check_messages(
        "hocuspocus_server.json",
        vec![
            (
                "authenticated to edit",
                hocuspocus::encode_authenticated(address, Scope::ReadWrite),
            ),
            (
                "authenticated to read",
                hocuspocus::encode_authenticated(address, Scope::ReadOnly),
            ),
            (
                "denied",
                hocuspocus::encode_denied(address, "no such document"),
            ),
            ("token wanted", hocuspocus::encode_token_wanted(address)),
            ("step1", hocuspocus::encode_sync(address, Sync::Step1(&[0]))),
            (
                "step2 of an empty document",
                hocuspocus::encode_sync(address, Sync::Step2(&[0, 0])),
            ),
            (
                "update",
                hocuspocus::encode_sync(address, Sync::Update(&[0, 1, 5, 1, 0, 3])),
            ),
            (
                "awareness of nobody",
                hocuspocus::encode_awareness(address, &[0]),
            ),
            ("close", hocuspocus::encode_close(address, "revoked")),
            ("saved", hocuspocus::encode_sync_status(address, true)),
            ("refused", hocuspocus::encode_sync_status(address, false)),
            ("stateless", hocuspocus::encode_stateless(address, "hello")),
            ("pong", hocuspocus::PONG_FRAME.to_vec()),
        ],
    );
}

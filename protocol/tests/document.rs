//! `docs/protocol.md` must tell of every frame type and every code, as the types have them.

use std::fs;
use std::path::Path;

use protocol::codec::{CLIENT_TYPES, Encoding};
use protocol::event::Event;
use protocol::{ClientFrame, CloseCode, ErrorCode, ServerFrame};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    fs::read_to_string(path).unwrap()
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[test]
fn every_code_stands_in_the_document() {
    let text = document();
    for code in ErrorCode::ALL {
        let row = format!(
            "| `{}` | {} | {} | {} |",
            code.as_str(),
            code.http_status(),
            yes(code.is_temporary()),
            code.meaning()
        );
        assert!(text.contains(&row), "missing: {row}");
    }
    for code in CloseCode::ALL {
        let row = format!(
            "| {} | {code:?} | {} | {} |",
            code.code(),
            yes(code.should_reconnect()),
            code.meaning()
        );
        assert!(text.contains(&row), "missing: {row}");
    }
}

#[test]
fn every_frame_type_stands_in_the_document() {
    let text = document();
    let schema = serde_json::to_value(schemars::schema_for!(ServerFrame)).unwrap();
    let server = schema["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| variant["properties"]["type"]["const"].as_str().unwrap());
    for kind in CLIENT_TYPES.iter().copied().chain(server) {
        assert!(text.contains(&format!("`{kind}`")), "missing: {kind}");
    }
}

/// An ellipsis in an example stands for the rest of a token.
#[test]
fn the_examples_are_frames_or_events() {
    let text = document();
    let mut seen = 0;
    for block in text.split("```json\n").skip(1) {
        let (example, _) = block.split_once("```").unwrap();
        let example = example.replace('…', "");
        let client = Encoding::Json.decode::<ClientFrame>(example.as_bytes());
        let server = Encoding::Json.decode::<ServerFrame>(example.as_bytes());
        let event = serde_json::from_str::<Event>(&example);
        let any = client.is_ok() || server.is_ok() || event.is_ok();
        assert!(any, "neither a frame nor an event: {example}");
        seen += 1;
    }
    assert!(seen > 5);
}

//! The frames of a client behind the golden vectors.

use std::collections::BTreeMap;

use protocol::channel::DeliveryClass;
use protocol::frame::ClientDocOp;
use protocol::{Blob, ClientFrame};
use serde_json::json;

use super::samples::{blob, me, position, room};

fn doc(id: Option<u32>, op: ClientDocOp, data: Option<Blob>) -> ClientFrame {
    ClientFrame::Doc {
        id,
        doc: "demo/main.rs".into(),
        op,
        data,
    }
}

pub(super) fn client() -> Vec<(&'static str, ClientFrame)> {
    use ClientFrame as F;
    vec![
        (
            "connect, token in the handshake",
            F::Connect {
                id: 0,
                token: None,
                resume: BTreeMap::new(),
            },
        ),
        (
            "connect and resume",
            F::Connect {
                id: 1,
                token: Some("jwt".into()),
                resume: BTreeMap::from([(me(), position())]),
            },
        ),
        (
            "subscribe",
            F::Subscribe {
                id: 2,
                channel: me(),
                position: None,
                presence: false,
            },
        ),
        (
            "subscribe from a position, with presence",
            F::Subscribe {
                id: 3,
                channel: room(),
                position: Some(position()),
                presence: true,
            },
        ),
        (
            "unsubscribe",
            F::Unsubscribe {
                id: 4,
                channel: room(),
            },
        ),
        (
            "publish",
            F::Publish {
                id: 5,
                channel: room(),
                data: Some(json!({ "text": "hello" })),
                bytes: None,
                class: None,
                key: None,
                idempotency_key: None,
            },
        ),
        (
            "publish bytes, latest by key, idempotent",
            F::Publish {
                id: 6,
                channel: room(),
                data: None,
                bytes: Some(blob()),
                class: Some(DeliveryClass::Latest),
                key: Some("progress".into()),
                idempotency_key: Some("k1".into()),
            },
        ),
        (
            "presence",
            F::Presence {
                id: 7,
                channel: room(),
            },
        ),
        (
            "state",
            F::State {
                id: 8,
                channel: room(),
                data: json!({ "typing": true }),
            },
        ),
        (
            "state cleared",
            F::State {
                id: 9,
                channel: room(),
                data: json!(null),
            },
        ),
        (
            "history",
            F::History {
                id: 10,
                channel: me(),
                since: None,
                limit: None,
            },
        ),
        (
            "history after a position",
            F::History {
                id: 11,
                channel: me(),
                since: Some(position()),
                limit: Some(50),
            },
        ),
        (
            "doc open",
            doc(Some(12), ClientDocOp::Open, Some(vec![0].into())),
        ),
        ("doc update", doc(None, ClientDocOp::Update, Some(blob()))),
        (
            "doc sync",
            doc(Some(13), ClientDocOp::Sync, Some(vec![0].into())),
        ),
        (
            "doc awareness",
            doc(None, ClientDocOp::Awareness, Some(vec![0].into())),
        ),
        ("doc close", doc(Some(14), ClientDocOp::Close, None)),
        (
            "refresh",
            F::Refresh {
                id: 15,
                token: "jwt2".into(),
            },
        ),
        ("ping", F::Ping { id: u32::MAX }),
    ]
}

//! The frames of the hub, and events, behind the golden vectors: each variant, with its optional
//! fields absent and present.

use protocol::channel::Position;
use protocol::frame::{HistoryMessage, Limits, Member, ResetReason, ServerDocOp};
use protocol::{Blob, ErrorCode, Event, ServerFrame};
use serde_json::json;
use uuid::Uuid;

const TIME: u64 = 1_785_000_000_000;

pub(super) fn position() -> Position {
    Position {
        epoch: "e1".into(),
        offset: 41,
    }
}

pub(super) fn blob() -> Blob {
    Blob::from(vec![0, 1, 0xfe, 0xff])
}

pub(super) fn me() -> String {
    "feed:me".into()
}

pub(super) fn room() -> String {
    "room:demo/lobby".into()
}

fn member(state: bool) -> Member {
    Member {
        session: "s1".into(),
        user: "u1".into(),
        name: "Alice".into(),
        state: state.then(|| json!({ "file": "main.rs" })),
    }
}

fn answered(op: ServerDocOp) -> ServerFrame {
    ServerFrame::Doc {
        id: None,
        doc: "demo/main.rs".into(),
        op,
        data: None,
        n: None,
        document: None,
        writable: None,
        reason: None,
    }
}

pub(super) fn server() -> Vec<(&'static str, ServerFrame)> {
    let mut all = replies();
    all.extend(pushes());
    all.extend(docs());
    all
}

fn replies() -> Vec<(&'static str, ServerFrame)> {
    use ServerFrame as F;
    let limits = Limits {
        message_bytes: 1 << 20,
        channels: 256,
        documents: 64,
        history_page: 500,
    };
    let subscribed = |reset, members| F::Subscribed {
        id: 2,
        channel: room(),
        epoch: "e1".into(),
        offset: 41,
        recovered: false,
        reset,
        members,
    };
    let ack = |position, duplicate, expires| F::Ack {
        id: 5,
        position,
        duplicate,
        expires,
    };
    vec![
        (
            "connected",
            F::Connected {
                id: 0,
                session: "s1".into(),
                user: "u1".into(),
                name: "Alice".into(),
                node: "n1".into(),
                limits,
                ping_ms: 25_000,
                time: TIME,
                expires: TIME + 900_000,
            },
        ),
        ("subscribed", subscribed(None, None)),
        (
            "subscribed, reset, with members",
            subscribed(Some(ResetReason::Expired), Some(vec![member(true)])),
        ),
        ("ack", ack(None, false, None)),
        ("ack of a publish", ack(Some(position()), false, None)),
        (
            "ack of a repeated publish",
            ack(Some(position()), true, None),
        ),
        ("ack of a refresh", ack(None, false, Some(TIME))),
        (
            "error",
            F::Error {
                id: Some(5),
                code: ErrorCode::Forbidden,
                message: "viewers do not publish".into(),
                retry_after_ms: None,
            },
        ),
        (
            "error without an id, to retry",
            F::Error {
                id: None,
                code: ErrorCode::RateLimited,
                message: "too fast".into(),
                retry_after_ms: Some(250),
            },
        ),
        ("pong", F::Pong { id: 16, time: TIME }),
        (
            "history",
            F::History {
                id: 10,
                channel: room(),
                epoch: "e1".into(),
                offset: 42,
                messages: vec![
                    HistoryMessage {
                        offset: 41,
                        data: Some(json!({ "text": "hello" })),
                        bytes: None,
                        event: None,
                        from: Some("u1".into()),
                        time: TIME,
                    },
                    HistoryMessage {
                        offset: 42,
                        data: None,
                        bytes: Some(blob()),
                        event: Some("ev1".into()),
                        from: None,
                        time: TIME,
                    },
                ],
                more: false,
            },
        ),
        (
            "presence, asked for",
            F::Presence {
                id: Some(7),
                channel: room(),
                joined: vec![member(true), member(false)],
                left: vec![],
            },
        ),
    ]
}

fn pushes() -> Vec<(&'static str, ServerFrame)> {
    use ServerFrame as F;
    vec![
        (
            "message",
            F::Message {
                channel: room(),
                offset: Some(42),
                data: Some(json!({ "text": "hello" })),
                bytes: None,
                key: None,
                version: None,
                event: None,
                from: Some("u1".into()),
                time: TIME,
            },
        ),
        (
            "message, latest, from an event",
            F::Message {
                channel: "plan:p1".into(),
                offset: None,
                data: None,
                bytes: Some(blob()),
                key: Some("step-1".into()),
                version: Some(9),
                event: Some("ev1".into()),
                from: None,
                time: TIME,
            },
        ),
        (
            "presence, somebody left",
            F::Presence {
                id: None,
                channel: room(),
                joined: vec![],
                left: vec!["s2".into()],
            },
        ),
        ("expiring", F::Expiring { in_ms: 60_000 }),
        (
            "reset",
            F::Reset {
                channel: me(),
                reason: ResetReason::Epoch,
                position: position(),
            },
        ),
        (
            "reconnect",
            F::Reconnect {
                after_ms: 1_200,
                reason: "draining".into(),
            },
        ),
        (
            "revoked, a channel",
            F::Revoked {
                channel: Some(room()),
                reason: "no longer a member".into(),
            },
        ),
        (
            "revoked, the session",
            F::Revoked {
                channel: None,
                reason: "logged out".into(),
            },
        ),
    ]
}

fn docs() -> Vec<(&'static str, ServerFrame)> {
    let with = |op, change: fn(&mut ServerFrame)| {
        let mut frame = answered(op);
        change(&mut frame);
        frame
    };
    vec![
        (
            "doc opened",
            with(ServerDocOp::Opened, |frame| {
                if let ServerFrame::Doc {
                    id,
                    data,
                    document,
                    writable,
                    ..
                } = frame
                {
                    (*id, *data) = (Some(12), Some(vec![0].into()));
                    (*document, *writable) = (Some("d1".into()), Some(true));
                }
            }),
        ),
        (
            "doc sync",
            with(ServerDocOp::Sync, |frame| {
                if let ServerFrame::Doc { id, data, .. } = frame {
                    (*id, *data) = (Some(12), Some(vec![0, 0].into()));
                }
            }),
        ),
        (
            "doc update",
            with(ServerDocOp::Update, |frame| {
                if let ServerFrame::Doc { data, .. } = frame {
                    *data = Some(blob());
                }
            }),
        ),
        (
            "doc awareness",
            with(ServerDocOp::Awareness, |frame| {
                if let ServerFrame::Doc { data, .. } = frame {
                    *data = Some(vec![0].into());
                }
            }),
        ),
        (
            "doc durable",
            with(ServerDocOp::Durable, |frame| {
                if let ServerFrame::Doc { n, .. } = frame {
                    *n = Some(17);
                }
            }),
        ),
        (
            "doc denied",
            with(ServerDocOp::Denied, |frame| {
                if let ServerFrame::Doc { reason, .. } = frame {
                    *reason = Some("viewers do not edit".into());
                }
            }),
        ),
        (
            "doc rights",
            with(ServerDocOp::Rights, |frame| {
                if let ServerFrame::Doc { writable, .. } = frame {
                    *writable = Some(false);
                }
            }),
        ),
        ("doc closed", answered(ServerDocOp::Closed)),
    ]
}

pub(super) fn events() -> Vec<(&'static str, Event)> {
    let event = |kind: &str, project: Option<&str>| Event {
        id: Uuid::from_u128(0x0198_1234_5678_7abc_8def_0123_4567_89ab),
        kind: kind.into(),
        project: project.map(Into::into),
        actor: project.map(|_| "u1".into()),
        subject: "doc:d1".into(),
        time: TIME,
        traceparent: project
            .map(|_| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        schema_version: protocol::event::SCHEMA_VERSION,
        data: json!({ "edits": 3 }),
    };
    vec![
        ("of a project", event("document.opened", Some("demo"))),
        ("of a user alone", event("user.registered", None)),
    ]
}

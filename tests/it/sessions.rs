//! A session's life on `/ws`: how it begins, what it tolerates, what ends it, and its limits.

use crate::world::people::workspace;
use crate::world::session::publish;
use crate::world::socket::Opening;
use crate::world::{
    ClientFrame, CloseCode, ENCODINGS, Encoding, ErrorCode, ServerFrame, Session, TestHub, soon,
};
use protocol::frame::{SUBPROTOCOL_BEARER, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK};
use serde_json::json;
use std::time::Duration;
use tungstenite::Message;

fn connect(id: u32, token: Option<&str>) -> ClientFrame {
    ClientFrame::Connect {
        id,
        token: token.map(str::to_owned),
        resume: Default::default(),
    }
}

#[tokio::test]
async fn a_token_comes_in_three_ways() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    for encoding in ENCODINGS {
        Session::open(&hub, &alice, encoding).await.ping().await;

        let mut browser = Session::open_as_browser(&hub, &alice.token, encoding).await;
        let hello = browser.next().await;
        assert!(
            matches!(hello, ServerFrame::Connected { id: 0, .. }),
            "{hello:?}"
        );
        browser.ping().await;

        let mut first_frame = Session::open_unknown(&hub, encoding).await;
        let hello = first_frame
            .request(|id| connect(id, Some(&alice.token)))
            .await;
        let ServerFrame::Connected {
            user,
            name,
            limits,
            expires,
            time,
            ..
        } = hello
        else {
            panic!("{hello:?}");
        };
        assert_eq!((user.as_str(), name.as_str()), (alice.id.as_str(), "alice"));
        assert!(limits.message_bytes > 0 && limits.channels > 0 && limits.documents > 0);
        assert!(expires > time);
        first_frame.ping().await;
    }
}

#[tokio::test]
async fn the_token_is_never_echoed_and_the_encoding_is() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let bearer = format!("{SUBPROTOCOL_BEARER}{}", alice.token);
    for chosen in [SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK] {
        let request = reqwest::Client::new()
            .get(hub.url("/ws"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", format!("{bearer}, {chosen}"));
        let answer = soon("the handshake", request.send())
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 101);
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(answer.headers()["sec-websocket-protocol"], chosen);
    }
    let unknown = Opening::default()
        .offer(&["tandem.v9.xml"])
        .open(&hub, "/ws")
        .await;
    assert_eq!(unknown.err(), Some(400));
}

#[tokio::test]
async fn a_token_in_the_url_counts_only_if_configured() {
    for (setting, code) in [("false", None), ("true", Some(0))] {
        let hub = TestHub::start(&[("TANDEM_AUTH_TOKEN_IN_URL", setting)]).await;
        let alice = hub.person("alice").await;
        let path = format!("/ws?token={}", alice.token);
        let socket = Opening::default()
            .open(&hub, &path)
            .await
            .expect("an upgrade");
        let mut session = Session::from_socket(socket, Encoding::Json);
        match code {
            Some(_) => assert!(matches!(
                session.next().await,
                ServerFrame::Connected { .. }
            )),
            None => {
                let refused = session.refused(|id| ClientFrame::History {
                    id,
                    channel: "feed:me".to_owned(),
                    since: None,
                    limit: None,
                });
                assert_eq!(refused.await.0, ErrorCode::Unauthorized);
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_by_its_close_code() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let (head, signature) = alice.token.rsplit_once('.').expect("a JWT");
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for encoding in ENCODINGS {
        for wrong in [forged.as_str(), "nonsense", "a.b.c"] {
            let mut session = Session::open_as_browser(&hub, wrong, encoding).await;
            assert_eq!(session.close_code().await, CloseCode::Unauthorized.code());

            let mut session = Session::open_unknown(&hub, encoding).await;
            let refused = session.refused(|id| connect(id, Some(wrong))).await;
            assert_eq!(refused.0, ErrorCode::Unauthorized);
            assert_eq!(session.close_code().await, CloseCode::Unauthorized.code());
        }
    }
}

#[tokio::test]
async fn nothing_is_served_without_a_token() {
    let hub = TestHub::start(&[]).await;
    for encoding in ENCODINGS {
        let mut session = Session::open_unknown(&hub, encoding).await;
        let refused = session
            .refused(|id| publish(id, "room:p1/lobby", json!(1)))
            .await;
        assert_eq!(refused.0, ErrorCode::Unauthorized);
        let refused = session.refused(|id| connect(id, None)).await;
        assert_eq!(refused.0, ErrorCode::Unauthorized);
        let frame = json!({ "type": "doc", "id": 77, "doc": "p1/x", "op": "open" });
        session.send_value(&frame).await;
        let reply = session.reply_to(77).await;
        assert!(matches!(
            reply,
            ServerFrame::Error {
                code: ErrorCode::Unauthorized,
                ..
            }
        ));
    }
}

#[tokio::test]
async fn a_silent_client_is_sent_away_after_the_connect_timeout() {
    let hub = TestHub::start(&[("TANDEM_SESSION_CONNECT_TIMEOUT", "400ms")]).await;
    let alice = hub.person("alice").await;
    let started = std::time::Instant::now();
    let mut silent = Session::open_unknown(&hub, Encoding::Json).await;
    let mut known = Session::open(&hub, &alice, Encoding::Json).await;
    assert_eq!(silent.close_code().await, CloseCode::ConnectTimeout.code());
    assert!(started.elapsed() >= Duration::from_millis(400), "too early");
    known.ping().await;
}

#[tokio::test]
async fn what_is_unknown_is_tolerated_and_what_is_wrong_is_told() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &alice, encoding).await;
        for (frame, expected) in [
            (
                json!({ "type": "teleport", "id": 101 }),
                ErrorCode::UnknownType,
            ),
            (json!({ "type": "publish", "id": 102 }), ErrorCode::Invalid),
            (
                json!({ "type": "subscribe", "id": 103, "channel": 7 }),
                ErrorCode::Invalid,
            ),
            (
                json!({ "type": "subscribe", "id": 104, "channel": "nonsense" }),
                ErrorCode::Invalid,
            ),
            (
                json!({ "type": "subscribe", "id": 105, "channel": "feed:somebody" }),
                ErrorCode::Invalid,
            ),
            (
                json!({ "type": "doc", "id": 106, "doc": "x", "op": "fly" }),
                ErrorCode::Invalid,
            ),
            (
                json!({ "type": "doc", "id": 107, "doc": "x", "op": "update", "data": "AAA=" }),
                ErrorCode::NotSubscribed,
            ),
            (
                json!({ "type": "unsubscribe", "id": 108, "channel": "feed:me" }),
                ErrorCode::NotSubscribed,
            ),
        ] {
            let id = frame["id"].as_u64().expect("an id") as u32;
            session.send_value(&frame).await;
            match session.reply_to(id).await {
                ServerFrame::Error { code, message, .. } => {
                    assert_eq!(code, expected, "{frame}: {message}");
                    assert!(!message.is_empty());
                }
                other => panic!("{frame}: {other:?}"),
            }
        }
        let padded =
            json!({ "type": "ping", "id": 109, "colour": "blue", "deep": { "a": [1, {}] } });
        session.send_value(&padded).await;
        assert!(matches!(
            session.reply_to(109).await,
            ServerFrame::Pong { .. }
        ));
        session.ping().await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_session() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let cases: [(Encoding, &[u8]); 7] = [
        (Encoding::Json, br#"{"kind":"ping","id":1}"#),
        (Encoding::Json, b"{"),
        (Encoding::Json, b"hello"),
        (Encoding::Json, b"[1,2,3]"),
        (Encoding::MsgPack, &[0xc1]),
        (Encoding::MsgPack, &[0x82, 0xa4, b't', b'y']),
        (Encoding::MsgPack, &[]),
    ];
    for (encoding, bytes) in cases {
        let mut session = Session::open(&hub, &alice, encoding).await;
        session.send_raw(bytes).await;
        let code = session.close_code().await;
        assert_eq!(code, CloseCode::BadFrame.code(), "{encoding:?} {bytes:?}");
    }
    for (encoding, message) in [
        (
            Encoding::Json,
            Message::Binary(br#"{"type":"ping","id":1}"#.to_vec().into()),
        ),
        (
            Encoding::MsgPack,
            Message::text(r#"{"type":"ping","id":1}"#),
        ),
    ] {
        let mut session = Session::open(&hub, &alice, encoding).await;
        session.socket.send(message).await;
        assert_eq!(
            session.close_code().await,
            CloseCode::Unsupported.code(),
            "{encoding:?}"
        );
    }
}

#[tokio::test]
async fn every_request_gets_one_reply_in_order() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &owner, encoding).await;
        let channel = "room:p1/order";
        let frames = [
            json!({ "type": "ping", "id": 201 }),
            json!({ "type": "subscribe", "id": 202, "channel": channel, "presence": true }),
            json!({ "type": "publish", "id": 203, "channel": channel, "data": {} }),
            json!({ "type": "presence", "id": 204, "channel": channel }),
            json!({ "type": "state", "id": 205, "channel": channel, "data": { "x": 1 } }),
            json!({ "type": "history", "id": 206, "channel": channel }),
            json!({ "type": "doc", "id": 207, "doc": document, "op": "open" }),
            json!({ "type": "doc", "id": 208, "doc": document, "op": "close" }),
            json!({ "type": "unsubscribe", "id": 209, "channel": channel }),
            json!({ "type": "nothing", "id": 210 }),
            json!({ "type": "refresh", "id": 211, "token": owner.token }),
            json!({ "type": "connect", "id": 212 }),
        ];
        for frame in &frames {
            session.send_value(frame).await;
        }
        // `Session` itself fails the test at a second reply to the same id.
        let mut seen = Vec::new();
        while seen.len() < frames.len() {
            let frame = session.next().await;
            seen.extend(crate::world::session::answers(&frame));
        }
        assert_eq!(seen, (201..=212).collect::<Vec<u32>>(), "{encoding:?}");
        assert!(
            session
                .next_within(Duration::from_millis(300))
                .await
                .is_none_or(|frame| { crate::world::session::answers(&frame).is_none() })
        );
    }
}

#[tokio::test]
async fn pages_from_elsewhere_may_not_connect() {
    let hub = TestHub::start(&[]).await;
    let listed = TestHub::start(&[(
        "TANDEM_HTTP_ALLOWED_ORIGINS",
        "https://ide.example.org, http://other.example:8443",
    )])
    .await;
    let alice = hub.person("alice").await;
    let own = format!("http://{}", hub.address());
    let cases = [
        (&hub, own.as_str(), true),
        (&hub, "http://localhost:3000", true),
        (&hub, "http://127.0.0.1:9999", true),
        (&hub, "https://evil.example", false),
        (&hub, "http://localhost.evil.example", false),
        (&hub, "null", false),
        (&listed, "https://ide.example.org", true),
        (&listed, "http://other.example:8443", true),
        (&listed, "http://other.example", false),
        (&listed, "https://ide.example.org.evil.example", false),
    ];
    for (at, origin, allowed) in cases {
        for path in ["/ws", "/collab/p1/x", "/hocuspocus"] {
            let opened = Opening::default()
                .header("origin", origin)
                .open(at, path)
                .await;
            let status = opened.as_ref().err().copied();
            assert_eq!(status, (!allowed).then_some(403), "{origin} on {path}");
        }
    }
    Session::open(&hub, &alice, Encoding::Json)
        .await
        .ping()
        .await;
}

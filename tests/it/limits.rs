//! The limits of a session and of the node: told at connect, kept, and answered by their own codes.

use std::time::Duration;

use serde_json::json;
use tungstenite::Message;

use crate::world::people::workspace;
use crate::world::session::{publish, subprotocol};
use crate::world::socket::Opening;
use crate::world::{
    ClientFrame, CloseCode, ENCODINGS, Encoding, ErrorCode, Heard, ServerFrame, Session, TestHub,
    eventually, soon,
};

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up() {
    let hub = TestHub::start(&[("TANDEM_SESSION_PING_INTERVAL", "300ms")]).await;
    let alice = hub.person("alice").await;
    let mut session = Session::open(&hub, &alice, Encoding::Json).await;
    // The test client answers pings as it reads: it stays, though it says nothing.
    let mut pings = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    while let Ok(heard) = tokio::time::timeout_at(until, session.socket.hear_any()).await {
        assert_eq!(heard, Heard::Ping);
        pings += 1;
    }
    assert!((3..=8).contains(&pings), "{pings} pings in 2 s");
    session.ping().await;
    assert!(
        session
            .socket
            .send(Message::Ping(b"are you there".to_vec().into()))
            .await
    );
    let pong = soon("a pong", async {
        loop {
            if let Heard::Pong(bytes) = session.socket.hear().await {
                return bytes;
            }
        }
    });
    assert_eq!(pong.await, b"are you there");

    // One that does not read answers nothing, and finds itself closed.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(session.close_code().await, CloseCode::IdleTimeout.code());
}

#[tokio::test]
async fn limits_are_told_and_kept() {
    let hub = TestHub::start(&[
        ("TANDEM_SESSION_CHANNELS", "2"),
        ("TANDEM_SESSION_DOCUMENTS", "1"),
        ("TANDEM_SESSION_MESSAGE_BYTES", "4KiB"),
        ("TANDEM_SESSION_STATE_BYTES", "64B"),
        ("TANDEM_SESSION_PUBLISH_RATE", "5"),
    ])
    .await;
    let (owner, document) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &owner, encoding).await;
        session.follow("room:p1/a").await;
        session.subscribe("room:p1/b", None, true).await;
        let third = session.subscribe("room:p1/c", None, false).await;
        assert!(matches!(
            third,
            ServerFrame::Error {
                code: ErrorCode::LimitReached,
                ..
            }
        ));
        let twice = session.subscribe("room:p1/a", None, false).await;
        assert!(matches!(
            twice,
            ServerFrame::Error {
                code: ErrorCode::Conflict,
                ..
            }
        ));
        let open =
            |id: u32, doc: &str| json!({ "type": "doc", "id": id, "doc": doc, "op": "open" });
        session.send_value(&open(301, &document)).await;
        let opened = session.reply_to(301).await;
        assert!(matches!(opened, ServerFrame::Doc { .. }), "{opened:?}");
        session.send_value(&open(302, "p1/other.rs")).await;
        let second = session.reply_to(302).await;
        assert!(matches!(
            second,
            ServerFrame::Error {
                code: ErrorCode::LimitReached,
                ..
            }
        ));

        let state = json!({ "text": "x".repeat(100) });
        let refused = session.refused(|id| ClientFrame::State {
            id,
            channel: "room:p1/b".to_owned(),
            data: state,
        });
        assert_eq!(refused.await.0, ErrorCode::TooLarge);

        let mut limited = None;
        for n in 0..20 {
            let reply = session
                .request(|id| publish(id, "room:p1/a", json!(n)))
                .await;
            if let ServerFrame::Error {
                code,
                retry_after_ms,
                ..
            } = reply
            {
                assert_eq!(code, ErrorCode::RateLimited);
                limited = retry_after_ms;
                break;
            }
        }
        let wait = limited.expect("a limit, and when to try again");
        assert!((1..=1000).contains(&wait), "{wait} ms");
        tokio::time::sleep(Duration::from_millis(wait + 20)).await;
        session.say("room:p1/a", json!("later")).await;

        let big = json!({ "type": "ping", "id": 9, "padding": "x".repeat(5000) });
        session.send_raw(&encoding.encode(&big)).await;
        assert_eq!(session.close_code().await, CloseCode::TooBig.code());
    }
}

#[tokio::test]
async fn one_user_may_have_so_many_sessions() {
    let hub = TestHub::start(&[
        ("TANDEM_LIMITS_SESSIONS_PER_USER", "2"),
        ("TANDEM_LIMITS_SESSIONS", "3"),
    ])
    .await;
    let (alice, bob) = (hub.person("alice").await, hub.person("bob").await);
    let first = Session::open(&hub, &alice, Encoding::Json).await;
    let _second = Session::open(&hub, &alice, Encoding::Json).await;
    let mut third = Session::open_as_browser(&hub, &alice.token, Encoding::Json).await;
    assert_eq!(third.close_code().await, CloseCode::OverCapacity.code());
    drop(third);
    let mut others = Session::open(&hub, &bob, Encoding::Json).await;
    let opening = Opening::default().offer(&[subprotocol(Encoding::Json)]);
    assert_eq!(
        opening.open(&hub, "/ws").await.err(),
        Some(503),
        "the node is full"
    );
    first.socket.leave().await;
    eventually("there is room again", || async {
        let opening = Opening::default().offer(&[subprotocol(Encoding::Json)]);
        opening.open(&hub, "/ws").await.is_ok()
    })
    .await;
    others.ping().await;
}

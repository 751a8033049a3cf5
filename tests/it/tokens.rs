//! Tokens within a session: expiry to the second, refresh in session, another user's token refused.

use std::time::Duration;

use protocol::frame::ServerDocOp;
use serde_json::json;

use crate::world::people::workspace;
use crate::world::{
    ClientFrame, CloseCode, ENCODINGS, Editor, Encoding, ErrorCode, Kind, ServerFrame, Session,
    TestHub, now_ms, within,
};

const SHORT: &[(&str, &str)] = &[
    ("TANDEM_AUTH_ACCESS_TTL", "5s"),
    ("TANDEM_SESSION_EXPIRING_NOTICE", "2s"),
];

/// Within how much of its time an expiry is acted on.
const PUNCTUAL: u64 = 900;

async fn expires(session: &mut Session, token: &str) -> u64 {
    let token = token.to_owned();
    match session
        .request(|id| ClientFrame::Refresh { id, token })
        .await
    {
        ServerFrame::Ack {
            expires: Some(expires),
            ..
        } => expires,
        other => panic!("not refreshed: {other:?}"),
    }
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_is_told_before() {
    let hub = TestHub::start(SHORT).await;
    for encoding in ENCODINGS {
        let person = hub.person(&format!("{encoding:?}")).await;
        let mut session = Session::open_as_browser(&hub, &person.token, encoding).await;
        let ServerFrame::Connected { expires, .. } = session.next().await else {
            panic!("not connected");
        };
        let warned = session.pushed("`expiring`", |frame| {
            matches!(frame, ServerFrame::Expiring { .. })
        });
        let ServerFrame::Expiring { in_ms } = warned.await else {
            unreachable!("it was picked");
        };
        let (now, left) = (now_ms(), expires.saturating_sub(now_ms()));
        assert!(
            in_ms <= 2000 && in_ms.abs_diff(left) < PUNCTUAL,
            "{in_ms} ms told, {left} left"
        );
        assert!(now < expires);
        assert_eq!(session.close_code().await, CloseCode::TokenExpired.code());
        let late = now_ms() as i64 - expires as i64;
        assert!(
            (0..PUNCTUAL as i64).contains(&late),
            "ended {late} ms after the expiry"
        );
        // The same token is refused at the door, with the code that says "come back with a fresh one".
        let mut again = Session::open_as_browser(&hub, &person.token, encoding).await;
        assert_eq!(again.close_code().await, CloseCode::TokenExpired.code());
    }
}

#[tokio::test]
async fn nothing_is_taken_after_the_expiry() {
    let hub = TestHub::start(SHORT).await;
    let (owner, document) = workspace(&hub).await;
    let fresh = owner.log_in(&hub).await;
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    let mut reader = Editor::join(Kind::Collab, &hub, &fresh, &document).await;
    let mut last = String::new();
    let started = tokio::time::Instant::now();
    // Types all the time until it is cut off.
    while editor.ended.is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "the session outlived its token"
        );
        last.push('x');
        editor.append("x").await;
        editor.turn_for(Duration::from_millis(20)).await;
    }
    assert_eq!(editor.close_code().await, CloseCode::TokenExpired.code());
    assert!(started.elapsed() <= Duration::from_secs(6));
    reader.turn_for(Duration::from_millis(100)).await;
    let newest = owner.log_in(&hub).await;
    let text = newest.text(&hub, &document).await;
    assert!(
        text.len() as u64 >= editor.durable,
        "{} of {}",
        text.len(),
        editor.durable
    );
    assert!(text.len() <= last.len());
}

#[tokio::test]
async fn a_refresh_in_the_session_prolongs_it() {
    let hub = TestHub::start(SHORT).await;
    for encoding in ENCODINGS {
        let person = hub.person(&format!("{encoding:?}")).await;
        let mut session = Session::open(&hub, &person, encoding).await;
        let began = tokio::time::Instant::now();
        let mut now = person;
        for _ in 0..3 {
            let is_warning = |frame: &ServerFrame| matches!(frame, ServerFrame::Expiring { .. });
            session.pushed("`expiring`", is_warning).await;
            now = now.refreshed(&hub).await;
            let until = expires(&mut session, &now.token).await;
            assert!(
                until > now_ms() + 3000,
                "{until} is not a fresh token's end"
            );
        }
        session.ping().await;
        assert!(
            began.elapsed() > Duration::from_secs(6),
            "it has outlived its first token"
        );
    }
}

#[tokio::test]
async fn a_session_stays_with_its_user() {
    let hub = TestHub::start(&[]).await;
    let (alice, bob) = (hub.person("alice").await, hub.person("bob").await);
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &alice, encoding).await;
        let token = bob.token.clone();
        let refused = session
            .refused(|id| ClientFrame::Refresh { id, token })
            .await;
        assert_eq!(refused.0, ErrorCode::Forbidden);
        let refused = session.refused(|id| ClientFrame::Connect {
            id,
            token: Some(bob.token.clone()),
            resume: Default::default(),
        });
        assert_eq!(refused.await.0, ErrorCode::Forbidden);
        let token = "nonsense".to_owned();
        let refused = session
            .refused(|id| ClientFrame::Refresh { id, token })
            .await;
        assert_eq!(refused.0, ErrorCode::Unauthorized);
        session.ping().await;
    }
}

#[tokio::test]
async fn document_sockets_end_with_their_token_too() {
    let hub = TestHub::start(SHORT).await;
    let (owner, document) = workspace(&hub).await;
    let mut yws = Editor::join(Kind::Collab, &hub, &owner, &document).await;
    let mut hocus = Editor::join(Kind::Hocuspocus, &hub, &owner, &document).await;
    let ended = async {
        assert_eq!(yws.close_code().await, CloseCode::TokenExpired.code());
        // Its providers look at no close code: they are told in band, and the socket stays.
        hocus.sent_off().await;
    };
    within(Duration::from_secs(8), "both end with their token", ended).await;
    assert!(
        hocus
            .closed
            .as_deref()
            .is_some_and(|why| why.contains("expired")),
        "{}",
        hocus.state()
    );
    let late = hub.person("late").await;
    let mut session = Session::open(&hub, &late, Encoding::Json).await;
    session
        .send_value(&json!({ "type": "doc", "id": 5, "doc": document, "op": "open" }))
        .await;
    let refused = session.reply_to(5).await;
    assert!(
        !matches!(
            refused,
            ServerFrame::Doc {
                op: ServerDocOp::Opened,
                ..
            }
        ),
        "a stranger is let in: {refused:?}"
    );
}

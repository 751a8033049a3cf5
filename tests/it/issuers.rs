//! Outside identity: who comes with the token of a configured issuer, what its claims grant, and how such a
//! login ends.

use std::time::Duration;

use protocol::frame::ServerDocOp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::issuer::{Key, TestIssuer};
use crate::world::people::{ask, workspace};
use crate::world::{
    ClientFrame, CloseCode, ENCODINGS, Editor, Encoding, Kind, Person, ServerFrame, Session,
    TestHub, now_ms, within,
};

/// Rights are live within that.
const LIVE: Duration = Duration::from_secs(1);

const ROLES: &str = concat!(
    "clock_skew = '0s'\n",
    "[[issuers.roles]]\nclaim = 'groups'\nvalue = 'engineers'\nproject = 'p1'\nrole = 'editor'\n",
    "[[issuers.roles]]\nclaim = 'groups'\nvalue = 'leads'\nproject = 'p1'\nrole = 'owner'\n",
    "[[issuers.roles]]\nclaim = 'groups'\nvalue = 'guests'\nproject = 'p1'\nrole = 'viewer'\n",
);

async fn hub_for(issuer: &TestIssuer, more: &str) -> TestHub {
    TestHub::start(&[("TANDEM_AUTH_ISSUERS_FILE", &issuer.file(more))]).await
}

/// Whoever the token speaks for.
async fn person(hub: &TestHub, token: &str) -> Person {
    let me = me(hub, token).await;
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    Person {
        id: text(&me["user"]["id"]),
        login: text(&me["user"]["login"]),
        token: token.to_owned(),
        refresh_token: String::new(),
    }
}

async fn me(hub: &TestHub, token: &str) -> Value {
    let answer = ask(hub, Some(token), Method::GET, "/api/auth/me", None).await;
    answer.expect(200).json()
}

async fn status(hub: &TestHub, token: &str) -> u16 {
    let answer = ask(hub, Some(token), Method::GET, "/api/auth/me", None).await;
    answer.status
}

/// Seconds of the Unix epoch.
fn second() -> u64 {
    now_ms() / 1000
}

#[tokio::test]
async fn a_token_of_each_algorithm_opens_every_door() {
    let keys = [Key::rsa("r"), Key::p256("e"), Key::ed25519("d")];
    let issuer = TestIssuer::start(&[&keys[0], &keys[1], &keys[2]]).await;
    let hub = hub_for(&issuer, ROLES).await;
    let (owner, document) = workspace(&hub).await;
    for key in &keys {
        let subject = format!("{:?}", key.algorithm);
        let more = json!({ "groups": ["engineers"], "name": subject, "sid": "s" });
        let token = issuer.token(key, &subject, more);
        let who = person(&hub, &token).await;
        let shown = me(&hub, &token).await;
        assert_eq!(shown["user"]["name"], subject);
        assert!(
            shown["expires_at"]
                .as_u64()
                .is_some_and(|ms| ms % 1000 == 0)
        );
        for encoding in ENCODINGS {
            let mut session = Session::open(&hub, &who, encoding).await;
            session.say("room:p1/lobby", json!("hello")).await;
            let mut browser = Session::open_as_browser(&hub, &token, encoding).await;
            let hello = browser.next().await;
            assert!(matches!(hello, ServerFrame::Connected { .. }), "{hello:?}");
        }
        for kind in Kind::ALL {
            let mut editor = Editor::join(kind, &hub, &who, &document).await;
            editor.append(&subject).await;
            editor.turn_for(Duration::from_millis(50)).await;
        }
    }
    let text = owner.text(&hub, &document).await;
    for key in &keys {
        let times = text.matches(&format!("{:?}", key.algorithm)).count();
        assert_eq!(times, 4, "{text}");
    }
}

#[tokio::test]
async fn a_user_is_made_once_and_never_takes_an_account() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, "").await;
    let local = hub.person("alice").await;
    let claims =
        json!({ "preferred_username": "Alice", "email": "alice@example.org", "name": "A." });
    let token = issuer.token(&key, "s1", claims);
    let asked: Vec<_> = (0..8).map(|_| me(&hub, &token)).collect();
    let seen = futures::future::join_all(asked).await;
    assert!(seen.iter().all(|one| one == &seen[0]), "{seen:?}");
    assert_eq!(seen[0]["user"]["login"], "Alice-2");
    assert_ne!(seen[0]["user"]["id"], json!(local.id));
    // Nobody gets in with a password, not even with none.
    for password in ["", " ", "a long enough passphrase 7"] {
        let body = json!({ "login": "alice-2", "password": password });
        ask(&hub, None, Method::POST, "/api/auth/login", Some(body))
            .await
            .expect(401);
    }
    // The name follows the newest token, an older one changes nothing.
    let renamed = json!({ "name": "Alice B.", "iat": second() });
    let newest = issuer.token(&key, "s1", renamed);
    assert_eq!(me(&hub, &newest).await["user"]["name"], "Alice B.");
    let old = json!({ "name": "A.", "iat": second() - 100 });
    let old = me(&hub, &issuer.token(&key, "s1", old)).await;
    assert_eq!(old["user"]["name"], "Alice B.");
    let other = issuer.token(&key, "s2", json!({ "preferred_username": "Alice" }));
    assert_eq!(me(&hub, &other).await["user"]["login"], "Alice-3");
}

#[tokio::test]
async fn only_known_identities_come_in_where_no_users_are_made() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, "create_users = false\n").await;
    let token = issuer.token(&key, "s1", json!({}));
    let refused = ask(&hub, Some(&token), Method::GET, "/api/auth/me", None).await;
    let refused = refused.expect(401);
    assert!(
        refused.text().contains("nobody here is known by it"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn claims_grant_roles_and_take_them_from_a_live_session() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, ROLES).await;
    let (owner, document) = workspace(&hub).await;
    let now = second();
    let token = |groups: Value, iat: u64| {
        let more = json!({ "groups": groups, "iat": iat, "exp": now + 300, "sid": "x" });
        issuer.token(&key, "s1", more)
    };
    let member = person(&hub, &token(json!(["engineers", "guests"]), now - 50)).await;
    let mut session = Session::open(&hub, &member, Encoding::Json).await;
    session.follow("room:p1/lobby").await;
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push(Editor::join(kind, &hub, &member, &document).await);
    }
    assert!(editors.iter().all(|editor| editor.writable));
    // A weaker role, by a refresh in the session.
    let weaker = token(json!(["guests"]), now - 40);
    session
        .request(|id| ClientFrame::Refresh {
            id,
            token: weaker.clone(),
        })
        .await;
    let read_only = async {
        // y-websocket has no word for it before an update is refused.
        for (kind, editor) in Kind::ALL.iter().zip(&mut editors) {
            if *kind != Kind::Collab {
                editor.until("read only", |editor| !editor.writable).await;
            }
        }
    };
    within(LIVE, "the documents are for reading", read_only).await;
    for (kind, editor) in Kind::ALL.iter().zip(&mut editors) {
        editor.append("no").await;
        let said = |editor: &Editor| editor.refused > 0 || !editor.denials.is_empty();
        editor.until(&format!("{kind:?} is denied"), said).await;
    }
    // An older token brings nothing back.
    assert_eq!(status(&hub, &token(json!(["leads"]), now - 45)).await, 200);
    let path = "/api/projects/p1";
    let role = owner
        .get(&hub, &format!("{path}/members"))
        .await
        .expect(200)
        .text();
    assert!(
        role.contains("viewer") && !role.contains("editor"),
        "{role}"
    );
    // And none at all, seen over REST.
    let none = token(json!([]), now - 30);
    assert_eq!(status(&hub, &none).await, 200);
    let out = async {
        let is_revoked = |frame: &ServerFrame| matches!(frame, ServerFrame::Revoked { channel: Some(channel), .. } if channel == "room:p1/lobby");
        session.pushed("`revoked` of the room", is_revoked).await;
        for editor in &mut editors {
            editor.sent_off().await;
        }
    };
    within(LIVE, "every stream of the project ends", out).await;
    ask(&hub, Some(&none), Method::GET, path, None)
        .await
        .expect(404);
    assert_eq!(owner.text(&hub, &document).await, "");
    // The events tell it as any other change.
    let again = token(json!(["engineers"]), now - 20);
    ask(&hub, Some(&again), Method::GET, path, None)
        .await
        .expect(200);
}

#[tokio::test]
async fn what_is_given_by_hand_is_not_taken_by_claims() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, ROLES).await;
    let now = second();
    let token = |groups: Value, iat: u64| {
        issuer.token(
            &key,
            "s1",
            json!({ "groups": groups, "iat": iat, "exp": now + 300 }),
        )
    };
    let early = person(&hub, &token(json!(["engineers"]), now - 90)).await;
    // The project comes after the token that grants a role in it: the next one does.
    let (owner, _) = workspace(&hub).await;
    let role = |token: String| {
        let hub = &hub;
        async move {
            let answer = ask(hub, Some(&token), Method::GET, "/api/projects/p1", None).await;
            let role = answer.json()["role"].as_str().map(str::to_owned);
            (answer.status, role.unwrap_or_default())
        }
    };
    assert_eq!(
        role(token(json!(["engineers"]), now - 85)).await.1,
        "editor"
    );
    owner.give(&hub, "p1", &early, "commenter").await;
    assert_eq!(
        role(token(json!(["guests"]), now - 80)).await.1,
        "commenter"
    );
    assert_eq!(role(token(json!(["leads"]), now - 70)).await.1, "owner");
    assert_eq!(role(token(json!([]), now - 60)).await.1, "commenter");
    owner.remove(&hub, "p1", &early).await;
    assert_eq!(role(token(json!([]), now - 50)).await.0, 404);
    // Removed by hand after a grant: it stays so while the claims stay.
    assert_eq!(
        role(token(json!(["engineers"]), now - 40)).await.1,
        "editor"
    );
    owner.remove(&hub, "p1", &early).await;
    assert_eq!(role(token(json!(["engineers"]), now - 30)).await.0, 404);
    assert_eq!(role(token(json!(["guests"]), now - 20)).await.1, "viewer");
    // The last owner stays one, whatever the claims say.
    assert_eq!(role(token(json!(["leads"]), now - 15)).await.1, "owner");
    owner.remove(&hub, "p1", &owner).await;
    assert_eq!(role(token(json!([]), now - 10)).await.1, "owner");
}

#[tokio::test]
async fn what_is_no_token_for_this_hub_is_refused_at_every_door() {
    let (key, stranger) = (Key::rsa("r"), Key::rsa("r"));
    let issuer = TestIssuer::start(&[&key]).await;
    let other = TestIssuer::start(&[&stranger]).await;
    let hub = hub_for(&issuer, "").await;
    let (_, document) = workspace(&hub).await;
    let good = issuer.token(&key, "s1", json!({}));
    assert_eq!(status(&hub, &good).await, 200);
    let (head, rest) = good.split_once('.').expect("parts");
    let (body, signature) = rest.split_once('.').expect("parts");
    let none = "eyJhbGciOiJub25lIn0";
    let mut secret = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    secret.kid = Some("r".to_owned());
    let public = jsonwebtoken::EncodingKey::from_secret(key.public().as_bytes());
    let confused = jsonwebtoken::encode(&secret, &issuer.claims("s1", json!({})), &public);
    let now = second();
    let wrong = [
        issuer.token(&key, "s1", json!({ "aud": "somebody-else" })),
        issuer.token(&key, "s1", json!({ "aud": ["tandem", "other"] })),
        issuer.token(&key, "s1", json!({ "iss": other.url() })),
        issuer.token(&key, "s1", json!({ "iss": "tandem" })),
        issuer.token(&key, "s1", json!({ "nbf": now + 100 })),
        issuer.token(&key, "s1", json!({ "exp": now + 90_000 })),
        issuer.token(&key, "s1", json!({ "pad": "x".repeat(20_000) })),
        issuer.token(&stranger, "s1", json!({})),
        other.token(&stranger, "s1", json!({})),
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        format!("{head}.{body}."),
        confused.expect("a token"),
    ];
    for token in &wrong {
        let answer = ask(&hub, Some(token), Method::GET, "/api/auth/me", None).await;
        // One that is too long for a header is refused before it is looked at.
        assert!(
            [401, 431].contains(&answer.status),
            "{token}: {}",
            answer.text()
        );
    }
    let foreign = &wrong[0];
    let mut session = Session::open_as_browser(&hub, foreign, Encoding::Json).await;
    assert_eq!(session.close_code().await, CloseCode::Unauthorized.code());
    let nobody = Person {
        id: String::new(),
        login: String::new(),
        token: foreign.clone(),
        refresh_token: String::new(),
    };
    let doc = crate::world::editor::replica;
    let mut yws = Editor::open(Kind::Collab, &hub, &nobody, &document, doc()).await;
    assert_eq!(yws.close_code().await, CloseCode::Unauthorized.code());
    let mut hocus = Editor::open(Kind::Hocuspocus, &hub, &nobody, &document, doc()).await;
    hocus.sent_off().await;
    let expired = issuer.token(&key, "s1", json!({ "iat": now - 60, "exp": now - 1 }));
    let refused = ask(&hub, Some(&expired), Method::GET, "/api/auth/me", None).await;
    assert!(refused.expect(401).text().contains("has expired"));
    let mut session = Session::open_as_browser(&hub, &expired, Encoding::Json).await;
    assert_eq!(session.close_code().await, CloseCode::TokenExpired.code());
}

#[tokio::test]
async fn a_session_ends_with_its_outside_token() {
    let key = Key::p256("e");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, "").await;
    let expires = second() + 3;
    let token = issuer.token(&key, "s1", json!({ "exp": expires }));
    let mut session = Session::open_as_browser(&hub, &token, Encoding::Json).await;
    assert_eq!(session.close_code().await, CloseCode::TokenExpired.code());
    let late = now_ms() as i64 - expires as i64 * 1000;
    assert!((0..900).contains(&late), "ended {late} ms after the expiry");
}

#[tokio::test]
async fn an_outside_login_is_listed_and_ended_from_another() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, "").await;
    let token = |sid: &str| issuer.token(&key, "s1", json!({ "sid": sid }));
    let (mine, lost) = (token("mine"), token("lost"));
    let lost_login = me(&hub, &lost).await["session"].clone();
    let me = person(&hub, &mine).await;
    let mut session = Session::open_as_browser(&hub, &lost, Encoding::Json).await;
    session.next().await;
    let list = me.get(&hub, "/api/auth/sessions").await.expect(200).json();
    let listed = list["items"].as_array().expect("a list");
    assert_eq!(listed.len(), 2, "{list}");
    assert!(
        listed
            .iter()
            .any(|one| one["id"] == lost_login && one["current"] == false)
    );
    let path = format!("/api/auth/sessions/{}", lost_login.as_str().expect("an id"));
    me.delete(&hub, &path).await.expect(204);
    let closed = within(LIVE, "the lost session ends", session.close_code()).await;
    assert_eq!(closed, CloseCode::Revoked.code());
    assert_eq!(
        (status(&hub, &lost).await, status(&hub, &mine).await),
        (401, 200)
    );
}

#[tokio::test]
async fn an_outside_login_is_ended_here() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, ROLES).await;
    let (_, document) = workspace(&hub).await;
    let token = |sid: &str, iat: u64| {
        let more = json!({ "sid": sid, "iat": iat, "exp": iat + 300, "groups": ["engineers"] });
        issuer.token(&key, "s1", more)
    };
    let now = second();
    let (first, other) = (token("a", now - 10), token("b", now - 10));
    let who = person(&hub, &first).await;
    let elsewhere = person(&hub, &other).await;
    assert_eq!(who.id, elsewhere.id);
    let sessions = |value: Value| value["session"].as_str().map(str::to_owned);
    let (one, two) = (me(&hub, &first).await, me(&hub, &other).await);
    assert_ne!(sessions(one.clone()), sessions(two));
    assert_eq!(
        sessions(one),
        sessions(me(&hub, &token("a", now - 5)).await)
    );
    let mut session = Session::open(&hub, &who, Encoding::Json).await;
    let mut editor = Editor::join(Kind::Collab, &hub, &who, &document).await;
    let mut left = Session::open(&hub, &elsewhere, Encoding::MsgPack).await;
    who.post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    let ended = async {
        assert_eq!(session.close_code().await, CloseCode::Revoked.code());
        assert_eq!(editor.close_code().await, CloseCode::Revoked.code());
    };
    within(LIVE, "what the login held ends", ended).await;
    left.ping().await;
    for stale in [&first, &token("a", now - 1), &token("a", now)] {
        assert_eq!(status(&hub, stale).await, 401);
    }
    assert_eq!(status(&hub, &other).await, 200);
    // What the issuer gave out later opens another login.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = token("a", second());
    assert_eq!(status(&hub, &fresh).await, 200);
    assert_eq!(status(&hub, &first).await, 401);
    // All of them, also one that nobody has brought yet.
    let unseen = token("c", now);
    let fresh = person(&hub, &fresh).await;
    fresh
        .post(&hub, "/api/auth/logout?all=true", json!({}))
        .await
        .expect(204);
    for stale in [&other, &unseen, &fresh.token] {
        assert_eq!(status(&hub, stale).await, 401);
    }
    let closed = within(LIVE, "the other session ends", left.close_code()).await;
    assert_eq!(closed, CloseCode::Revoked.code());
    let mut again = Session::open_unknown(&hub, Encoding::Json).await;
    let frame = json!({ "type": "connect", "id": 0, "token": unseen });
    again.send_value(&frame).await;
    assert_eq!(again.close_code().await, CloseCode::Unauthorized.code());
    let document_of = |frame: &ServerFrame| {
        matches!(
            frame,
            ServerFrame::Doc {
                op: ServerDocOp::Opened,
                ..
            }
        )
    };
    assert!(!again.pushed.iter().any(document_of));
}

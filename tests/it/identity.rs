//! Accounts without a socket: login sessions, passwords and their reset, invitations, keys of services.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::people::{Answer, PASSWORD, ask, workspace};
use crate::world::service::{PERMISSIONS, run};
use crate::world::socket::Opening;
use crate::world::{CloseCode, Encoding, Person, Service, Session, TestHub, within};

const NEW: &str = "another long enough passphrase 8";
/// The promise of live rights.
const LIVE: Duration = Duration::from_secs(1);

async fn anonymous(hub: &TestHub, path: &str, body: Value) -> Answer {
    ask(hub, None, Method::POST, path, Some(body)).await
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The statuses of as many equal calls at once.
async fn at_once(count: usize, call: impl AsyncFn(usize) -> Answer) -> Vec<u16> {
    let calls = (0..count).map(|n| {
        let call = &call;
        async move { call(n).await.status }
    });
    futures::future::join_all(calls).await
}

#[tokio::test]
async fn login_sessions_are_seen_and_ended_one_by_one() {
    let hub = TestHub::start(&[]).await;
    let ann = hub.person("ann").await;
    let laptop = ann.log_in(&hub).await;
    let bob = hub.person("bob").await;
    let mut socket = Session::open(&hub, &laptop, Encoding::Json).await;
    let first = ann
        .get(&hub, "/api/auth/sessions?limit=1")
        .await
        .expect(200);
    let first = first.json();
    assert_eq!(first["items"][0]["current"], true);
    assert_eq!(first["items"][0]["address"], "127.0.0.1");
    let next = text(&first["next"]);
    let rest = format!("/api/auth/sessions?after={next}");
    let rest = ann.get(&hub, &rest).await.expect(200).json();
    assert_eq!(rest["items"][0]["current"], false);
    assert_eq!(rest["next"], Value::Null);
    let path = format!("/api/auth/sessions/{}", text(&rest["items"][0]["id"]));
    bob.delete(&hub, &path).await.expect(404);
    ann.delete(&hub, &path).await.expect(204);
    let closed = within(LIVE, "the session ends", socket.close_code());
    assert_eq!(closed.await, CloseCode::Revoked.code());
    laptop.get(&hub, "/api/auth/me").await.expect(401);
    laptop.refresh(&hub).await.expect(401);
    ann.delete(&hub, &path).await.expect(404);
    ann.get(&hub, "/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_the_other_logins() {
    let hub = TestHub::start(&[]).await;
    let ann = hub.person("ann").await;
    let laptop = ann.log_in(&hub).await;
    let mut socket = Session::open(&hub, &laptop, Encoding::MsgPack).await;
    let path = "/api/auth/password";
    let wrong = json!({ "current": "no", "new": NEW });
    let wrong = ann.post(&hub, path, wrong).await.expect(422).json();
    assert_eq!(wrong["errors"][0]["field"], "current");
    let change = json!({ "current": PASSWORD, "new": NEW });
    ann.post(&hub, path, change).await.expect(204);
    let closed = within(LIVE, "the other login ends", socket.close_code());
    assert_eq!(closed.await, CloseCode::Revoked.code());
    ann.get(&hub, "/api/auth/me").await.expect(200);
    let old = json!({ "login": "ann", "password": PASSWORD });
    anonymous(&hub, "/api/auth/login", old).await.expect(401);
    Person::log_in_as(&hub, "ann", NEW).await;
}

#[tokio::test]
async fn a_password_is_reset_by_command_and_by_service_once() {
    let hub = TestHub::start(&[]).await;
    let ann = hub.person("ann").await;
    let (said, done) = run(None, hub.data(), &["reset-password", "ann"]).await;
    assert!(done && said.contains("60 min"), "{said}");
    let token = said.lines().next().expect("a token");
    let redeem = "/api/auth/password-resets/redeem";
    let mut socket = Session::open(&hub, &ann, Encoding::Json).await;
    let statuses = at_once(6, async |n| {
        let body = json!({ "token": token, "password": format!("{NEW} {n}") });
        anonymous(&hub, redeem, body).await
    });
    let mut statuses = statuses.await;
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 410, 410, 410, 410, 410]);
    assert_eq!(socket.close_code().await, CloseCode::Revoked.code());

    let (said, done) = run(None, hub.data(), &["reset-password", "nobody"]).await;
    assert!(!done && said.contains("nobody has the login"), "{said}");
    let mailer = Service::of_hub(None, hub.data(), &["password_reset"]).await;
    let path = "/api/auth/password-resets";
    let made = mailer.post(&hub, path, json!({ "login": "ANN" })).await;
    let made = made.expect(201);
    assert!(made.headers.contains_key("location"));
    let body = json!({ "token": made.json()["token"], "password": NEW });
    anonymous(&hub, redeem, body.clone()).await.expect(204);
    assert_eq!(
        anonymous(&hub, redeem, body).await.expect(410).code(),
        "gone"
    );
    let unknown = json!({ "token": "A".repeat(43), "password": NEW });
    anonymous(&hub, redeem, unknown).await.expect(404);
    let missing = json!({ "login": "nobody" });
    mailer.post(&hub, path, missing).await.expect(404);
    let ann = Person::log_in_as(&hub, "ann", NEW).await;
    let body = json!({ "login": "ann" });
    ann.post(&hub, path, body.clone()).await.expect(401);
    let other = Service::of_hub(None, hub.data(), &["publish"]).await;
    other.post(&hub, path, body).await.expect(403);
}

async fn invite(hub: &TestHub, owner: &Person, body: Value) -> (String, String) {
    let made = owner.post(hub, "/api/projects/p1/invitations", body).await;
    let made = made.expect(201).json();
    (text(&made["id"]), text(&made["token"]))
}

#[tokio::test]
async fn an_invitation_lets_in_as_many_as_it_says() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut guests = Vec::new();
    for n in 0..6 {
        guests.push(hub.person(&format!("guest{n}")).await);
    }
    let (_, token) = invite(&hub, &owner, json!({ "role": "editor" })).await;
    let look = format!("/api/invitations/{token}");
    let offer = ask(&hub, None, Method::GET, &look, None).await.expect(200);
    let offer = offer.json();
    assert_eq!(offer["role"], "editor");
    assert_eq!(
        (&offer["project"], &offer["inviter"]),
        (&json!("p1"), &json!("owner"))
    );
    let accept = format!("/api/invitations/{token}/accept");
    let statuses = at_once(6, async |n| guests[n].post(&hub, &accept, json!({})).await).await;
    let joined: Vec<usize> = (0..6).filter(|n| statuses[*n] == 200).collect();
    assert_eq!(joined.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 410].contains(status)));
    let guest = &guests[joined[0]];
    let again = guest.post(&hub, &accept, json!({})).await.expect(200);
    assert_eq!(again.json(), json!({ "project": "p1", "role": "editor" }));
    guest.get(&hub, "/api/projects/p1").await.expect(200);
    ask(&hub, None, Method::GET, &look, None).await.expect(410);
    // The owner stays one.
    let kept = owner.post(&hub, &accept, json!({})).await.expect(200);
    assert_eq!(kept.json()["role"], "owner");

    let path = "/api/projects/p1/invitations";
    guest.get(&hub, path).await.expect(403);
    guest
        .post(&hub, path, json!({ "role": "viewer" }))
        .await
        .expect(403);
    let stranger = &guests[(joined[0] + 1) % 6];
    stranger.get(&hub, path).await.expect(404);
    let (id, token) = invite(&hub, &owner, json!({ "role": "viewer", "uses": 9 })).await;
    let listed = owner.get(&hub, path).await.expect(200);
    assert!(!listed.text().contains(&token), "no token is shown again");
    assert_eq!(listed.json()["items"][0]["used"], 1);
    owner
        .delete(&hub, &format!("{path}/{id}"))
        .await
        .expect(204);
    owner
        .delete(&hub, &format!("{path}/{id}"))
        .await
        .expect(404);
    let accept = format!("/api/invitations/{token}/accept");
    stranger.post(&hub, &accept, json!({})).await.expect(404);
    let bad = json!({ "role": "viewer", "uses": 0, "expires_in": 1 });
    let bad = owner.post(&hub, path, bad).await.expect(422).json();
    assert_eq!(bad["errors"].as_array().map(Vec::len), Some(2), "{bad}");
    assert!(!hub.log().contains(&token), "no token stands in the log");
}

#[tokio::test]
async fn an_invitation_ends_with_its_owner_and_is_for_its_login() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let (bob, eve) = (hub.person("bob").await, hub.person("eve").await);
    owner.give(&hub, "p1", &bob, "owner").await;
    let (_, token) = invite(&hub, &bob, json!({ "role": "owner", "uses": 5 })).await;
    owner.remove(&hub, "p1", &bob).await;
    for who in [&bob, &eve] {
        let accept = format!("/api/invitations/{token}/accept");
        who.post(&hub, &accept, json!({})).await.expect(410);
    }
    let body = json!({ "role": "editor", "login": "Eve" });
    let (_, token) = invite(&hub, &owner, body).await;
    let accept = format!("/api/invitations/{token}/accept");
    bob.post(&hub, &accept, json!({})).await.expect(403);
    // A session that is open already may at once.
    let mut session = Session::open(&hub, &eve, Encoding::Json).await;
    eve.post(&hub, &accept, json!({})).await.expect(200);
    session.say("room:p1/lobby", json!("hello")).await;
}

#[tokio::test]
async fn registration_may_be_by_invitation_alone() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let (_, token) = invite(&hub, &owner, json!({ "role": "editor" })).await;
    let mut hub = hub;
    hub.terminate().await;
    let hub = hub
        .restarted_with(&[("TANDEM_AUTH_REGISTRATION", "false")])
        .await;
    let register = |login: String, invitation: Option<String>| {
        let body = json!({ "login": login, "password": PASSWORD, "invitation": invitation });
        anonymous(&hub, "/api/auth/register", body)
    };
    register("bob".into(), None).await.expect(403);
    register("bob".into(), Some("x".into())).await.expect(404);
    let statuses = at_once(5, async |n| {
        register(format!("new{n}"), Some(token.clone())).await
    });
    let statuses = statuses.await;
    let joined: Vec<usize> = (0..5).filter(|n| statuses[*n] == 201).collect();
    assert_eq!(joined.len(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 410].contains(status)));
    for n in 0..5 {
        let body = json!({ "login": format!("new{n}"), "password": PASSWORD });
        let expected = if joined[0] == n { 200 } else { 401 };
        anonymous(&hub, "/api/auth/login", body)
            .await
            .expect(expected);
    }
    let member = Person::log_in_as(&hub, &format!("new{}", joined[0]), PASSWORD).await;
    member.get(&hub, "/api/projects/p1").await.expect(200);
}

#[tokio::test]
async fn keys_of_a_project_are_its_owners_and_shown_once() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let editor = hub.person("editor").await;
    owner.give(&hub, "p1", &editor, "editor").await;
    let path = "/api/projects/p1/keys";
    let (service, id) = Service::of_project(&hub, &owner, "p1", &["publish"]).await;
    let listed = owner.get(&hub, path).await.expect(200);
    let secret = service.key.rsplit('_').next().expect("a secret");
    assert!(!listed.text().contains(secret));
    assert_eq!(listed.json()["items"][0]["id"], id.as_str());
    editor.get(&hub, path).await.expect(403);
    let body = json!({ "name": "x", "permissions": ["publish"] });
    editor.post(&hub, path, body).await.expect(403);
    let own = format!("{path}/{id}");
    editor.delete(&hub, &own).await.expect(403);
    for (permission, allowed) in PERMISSIONS {
        let body = json!({ "name": "x", "permissions": [permission] });
        let status = if allowed { 201 } else { 422 };
        owner.post(&hub, path, body).await.expect(status);
    }
    for wrong in [
        json!({ "name": "x", "permissions": [] }),
        json!({ "name": "x", "permissions": ["fly"] }),
        json!({ "name": "", "permissions": ["publish"] }),
        json!({ "name": "x", "permissions": ["publish"], "expires_in": 1 }),
    ] {
        owner.post(&hub, path, wrong).await.expect(422);
    }
    let message = json!({ "channel": "room:p1/lobby", "data": 1 });
    let publish = "/api/server/publish";
    service
        .post(&hub, publish, message.clone())
        .await
        .expect(200);
    let used = owner.get(&hub, path).await.expect(200).json();
    assert!(used["items"][0]["last_used_at"].is_u64(), "{used}");
    owner.delete(&hub, &own).await.expect(204);
    service.post(&hub, publish, message).await.expect(401);
}

#[tokio::test]
async fn a_key_opens_no_door_of_users_and_a_token_none_of_services() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let all: Vec<&str> = PERMISSIONS.iter().map(|(name, _)| *name).collect();
    let service = Service::of_hub(None, hub.data(), &all).await;
    for path in [
        "/api/auth/me",
        "/api/auth/sessions",
        "/api/projects",
        "/api/projects/p1/members",
        "/api/projects/p1/keys",
        "/api/projects/p1/documents",
        &format!("/api/documents/{document}/text"),
    ] {
        let refused = service.get(&hub, path).await.expect(401);
        assert!(
            refused.text().contains("API key"),
            "{path}: {}",
            refused.text()
        );
    }
    let opening = Opening::default().header("authorization", format!("Bearer {}", service.key));
    let socket = opening.open(&hub, "/ws").await.expect("an upgrade");
    let mut session = Session::from_socket(socket, Encoding::Json);
    let code = CloseCode::Unauthorized.code();
    assert_eq!(session.close_code().await, code);
    for path in [
        "presence?channel=room:p1/a",
        "history?channel=room:p1/a",
        "users/owner/sessions",
    ] {
        owner
            .get(&hub, &format!("/api/server/{path}"))
            .await
            .expect(401);
    }
    let message = json!({ "channel": "room:p1/lobby", "data": 1 });
    owner
        .post(&hub, "/api/server/publish", message)
        .await
        .expect(401);
}

#[tokio::test]
async fn keys_of_the_hub_are_made_and_revoked_beside_it() {
    let hub = TestHub::start(&[]).await;
    workspace(&hub).await;
    let service = Service::of_hub(None, hub.data(), &["publish", "presence"]).await;
    let message = json!({ "channel": "project:p1", "data": { "n": 1 } });
    let publish = "/api/server/publish";
    service
        .post(&hub, publish, message.clone())
        .await
        .expect(200);
    let (list, done) = run(None, hub.data(), &["key", "list"]).await;
    assert!(
        done && list.contains("a service  (publish presence)  never expires"),
        "{list}"
    );
    let id = service.key.split('_').nth(1).expect("an id");
    assert!(list.contains(id) && !list.contains(&service.key));
    let (said, done) = run(None, hub.data(), &["key", "revoke", id]).await;
    assert!(done, "{said}");
    service.post(&hub, publish, message).await.expect(401);
    let (said, done) = run(None, hub.data(), &["key", "revoke", id]).await;
    assert!(!done, "{said}");
    let (list, _) = run(None, hub.data(), &["key", "list"]).await;
    assert_eq!(list, "there is no key of the whole hub");
}

//! What services do with an API key: each permission by each call, in the key's project and in a foreign one; on
//! every node.

use std::time::Duration;

use protocol::DeliveryClass;
use serde_json::{Value, json};

use crate::world::people::{Answer, workspace};
use crate::world::service::PERMISSIONS;
use crate::world::{
    CloseCode, Cluster, ENCODINGS, Editor, Encoding, Kind, Person, ServerFrame, Service, Session,
    TestHub, eventually, within,
};

/// The promise of live rights, and of what is told to other nodes.
const LIVE: Duration = Duration::from_secs(1);

/// A call by its name, about a channel and a user.
async fn call(hub: &TestHub, service: &Service, name: &str, channel: &str, user: &str) -> Answer {
    let path = format!("/api/server/{name}");
    let following = json!({ "user": user, "channel": channel });
    match name {
        "publish" => {
            let body = json!({ "channel": channel, "data": 1 });
            service.post(hub, &path, body).await
        }
        "broadcast" => {
            let body = json!({ "channels": [channel], "data": 1 });
            service.post(hub, &path, body).await
        }
        "subscribe" | "unsubscribe" => service.post(hub, &path, following).await,
        "disconnect" | "revoke" => service.post(hub, &path, json!({ "user": user })).await,
        "presence" | "history" => {
            let path = format!("{path}?channel={channel}");
            service.get(hub, &path).await
        }
        "events" => {
            // About the project of the channel.
            let project = channel.split([':', '/']).nth(1).unwrap_or_default();
            let subject = format!("project:{project}");
            let body = json!({ "type": "build.finished", "subject": subject });
            service.post(hub, &path, body).await
        }
        "sessions" => {
            let path = format!("/api/server/users/{user}/sessions");
            service.get(hub, &path).await
        }
        "password_reset" => {
            let path = "/api/auth/password-resets";
            service.post(hub, path, json!({ "login": user })).await
        }
        other => panic!("no call {other}"),
    }
}

/// Each call, and the permission that it needs.
const CALLS: [(&str, &str); 11] = [
    ("publish", "publish"),
    ("broadcast", "broadcast"),
    ("subscribe", "subscribe"),
    ("unsubscribe", "subscribe"),
    ("disconnect", "disconnect"),
    ("revoke", "revoke"),
    ("presence", "presence"),
    ("history", "history"),
    ("events", "events"),
    ("sessions", "presence"),
    ("password_reset", "password_reset"),
];

/// What a call came to; a broadcast that was refused for its channel counts as such.
fn came(answer: &Answer) -> u16 {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match body["results"][0]["error"]["code"].as_str() {
        Some("not_found") => 404,
        Some(other) => panic!("{other}"),
        None => answer.status,
    }
}

#[tokio::test]
async fn each_permission_allows_its_calls_in_its_project_alone() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    stranger.project(&hub, "p2").await;
    for (permission, of_project) in PERMISSIONS {
        // One of the calls ends the owner's logins.
        let owner = owner.log_in(&hub).await;
        let whole = Service::of_hub(None, hub.data(), &[permission]).await;
        let mut services = vec![("hub", whole)];
        if of_project {
            let (own, _) = Service::of_project(&hub, &owner, "p1", &[permission]).await;
            services.push(("project", own));
        }
        for (kind, service) in &services {
            for (name, needs) in CALLS {
                for (project, user) in [("p1", "owner"), ("p2", "stranger")] {
                    let channel = format!("room:{project}/lobby");
                    let answer = call(&hub, service, name, &channel, user).await;
                    let expected: &[u16] = match (needs == permission, *kind, project) {
                        (false, ..) => &[403],
                        (true, "project", "p2") => &[404],
                        (true, ..) => &[200, 201, 202, 204],
                    };
                    let what = format!("{kind} key, {permission}: {name} in {project}");
                    assert!(
                        expected.contains(&came(&answer)),
                        "{what}: {}",
                        answer.text()
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_project_s_key_reaches_no_further_than_its_members() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    stranger.project(&hub, "p2").await;
    let foreign = stranger.document(&hub, "p2", "secret.rs").await;
    let all: Vec<&str> = PERMISSIONS
        .iter()
        .filter_map(|(name, of_project)| of_project.then_some(*name))
        .collect();
    let (service, _) = Service::of_project(&hub, &owner, "p1", &all).await;
    let feed = |who: &Person| format!("feed:{}", who.id);
    for (channel, status) in [
        (format!("doc:{document}"), 200),
        ("project:p1".to_owned(), 200),
        (feed(&owner), 200),
        (format!("doc:{foreign}"), 404),
        ("project:p2".to_owned(), 404),
        ("doc:none".to_owned(), 404),
        ("plan:none".to_owned(), 404),
        (feed(&stranger), 404),
        ("feed:me".to_owned(), 422),
        ("nonsense".to_owned(), 422),
    ] {
        let answer = call(&hub, &service, "publish", &channel, "").await;
        assert_eq!(answer.status, status, "{channel}: {}", answer.text());
    }
    // A feed holds what concerns its user elsewhere too.
    let own = feed(&owner);
    call(&hub, &service, "history", &own, "").await.expect(404);
    call(&hub, &service, "presence", &own, "").await.expect(404);
    let whole = Service::of_hub(None, hub.data(), &["history", "publish"]).await;
    let told = call(&hub, &whole, "history", &own, "").await.expect(200);
    assert_eq!(told.json()["messages"].as_array().map(Vec::len), Some(1));
    call(&hub, &whole, "publish", "room:none/a", "")
        .await
        .expect(404);
    let final_close = json!({ "user": "owner", "reconnect": false });
    let path = "/api/server/disconnect";
    service.post(&hub, path, final_close).await.expect(403);
}

#[tokio::test]
async fn a_message_reaches_every_kind_of_channel_once() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let service = Service::of_hub(None, hub.data(), &["publish", "broadcast", "history"]).await;
    let id = service.key.split('_').nth(1).expect("an id");
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &owner, encoding).await;
        let feed = format!("feed:{}", owner.id);
        let doc = format!("doc:{document}");
        let channels = ["room:p1/lobby", "project:p1", &doc, &feed];
        for channel in channels {
            session.follow(channel).await;
        }
        let once = format!("{encoding:?}");
        let body = json!({ "channels": channels, "data": { "n": 7 }, "idempotency_key": once });
        let path = "/api/server/broadcast";
        let sent = service.post(&hub, path, body.clone()).await.expect(200);
        for result in sent.json()["results"].as_array().expect("results") {
            assert_eq!(result["error"], Value::Null, "{result}");
            assert_eq!(result["duplicate"], false);
            assert!(result["position"]["offset"].as_u64() > Some(0));
        }
        for channel in ["room:p1/lobby", "project:p1", &doc, "feed:me"] {
            // Whoever comes later is told the newest value as well.
            let is_meant = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { channel: on, key: None, .. } if on == channel);
            let ServerFrame::Message { data, from, .. } = session.pushed(channel, is_meant).await
            else {
                unreachable!("it is a message");
            };
            assert_eq!(data, Some(json!({ "n": 7 })));
            assert_eq!(from.as_deref(), Some(&*format!("key:{id}")));
        }
        let again = service.post(&hub, path, body).await.expect(200).json();
        assert_eq!(again["results"][3]["duplicate"], true);
        let latest =
            json!({ "channel": "room:p1/lobby", "bytes": "AQI=", "class": "latest", "key": "k" });
        let sent = service
            .post(&hub, "/api/server/publish", latest)
            .await
            .expect(200);
        assert_eq!(sent.json()["position"], Value::Null);
        let is_latest =
            |frame: &ServerFrame| matches!(frame, ServerFrame::Message { key: Some(_), .. });
        let ServerFrame::Message { bytes, .. } = session.pushed("a value", is_latest).await else {
            unreachable!("it is a message");
        };
        assert_eq!(bytes.map(|blob| blob.0.to_vec()), Some(vec![1, 2]));
    }
    let page = "/api/server/history?channel=room:p1/lobby&limit=1";
    let page = service.get(&hub, page).await.expect(200).json();
    assert_eq!(
        (&page["more"], &page["messages"][0]["offset"]),
        (&json!(true), &json!(1))
    );
    let epoch = page["epoch"].as_str().expect("an epoch");
    let rest = format!("/api/server/history?channel=room:p1/lobby&epoch={epoch}&offset=1");
    let rest = service.get(&hub, &rest).await.expect(200).json();
    assert_eq!(
        (&rest["more"], &rest["messages"][0]["offset"]),
        (&json!(false), &json!(2))
    );
    let other = "/api/server/history?channel=room:p1/lobby&epoch=other&offset=1";
    let other = service.get(&hub, other).await.expect(200).json();
    assert_eq!(other["reset"], "epoch");
    let class = DeliveryClass::Latest;
    for (wrong, field) in [
        (json!({ "data": 1, "bytes": "AQ==" }), "data"),
        (json!({}), "data"),
        (json!({ "data": 1, "class": class }), "key"),
        (
            json!({ "data": 1, "idempotency_key": "" }),
            "idempotency_key",
        ),
    ] {
        let mut body = wrong;
        body["channel"] = json!("room:p1/lobby");
        let refused = service
            .post(&hub, "/api/server/publish", body)
            .await
            .expect(422);
        assert_eq!(refused.json()["errors"][0]["field"], field);
    }
    let twice = json!({ "channels": ["project:p1", "project:p1"], "data": 1 });
    service
        .post(&hub, "/api/server/broadcast", twice)
        .await
        .expect(422);
}

#[tokio::test]
async fn a_service_s_event_reaches_its_subject_s_sessions_once() {
    let hub = TestHub::start(&[("TANDEM_BRIDGE_TYPES", "build.*")]).await;
    let (owner, _) = workspace(&hub).await;
    let (service, id) = Service::of_project(&hub, &owner, "p1", &["events"]).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    session.follow("project:p1").await;
    session.follow("feed:me").await;
    let path = "/api/server/events";
    let event = json!({
        "id": "0199aaaa-0000-7000-8000-000000000001",
        "type": "build.finished",
        "subject": "project:p1",
        "data": { "state": "passed" },
    });
    for _ in 0..2 {
        service.post(&hub, path, event.clone()).await.expect(202);
    }
    let about_user = json!({ "type": "build.broke", "subject": format!("user:{}", owner.id) });
    service.post(&hub, path, about_user).await.expect(202);
    let (_, told) = session.message("feed:me").await;
    assert_eq!(told["type"], "build.broke");
    let (_, told) = session.message("project:p1").await;
    assert_eq!(told["data"], json!({ "state": "passed" }));
    assert_eq!(told["actor"], format!("key:{id}"));
    session.ping().await;
    assert!(session.pushed.is_empty(), "{:?}", session.pushed);
    for (wrong, status) in [
        (
            json!({ "type": "member.added", "subject": "project:p1" }),
            422,
        ),
        (json!({ "type": "build", "subject": "project:p1" }), 422),
        (json!({ "type": "build.x", "subject": "room:p1/a" }), 422),
        (json!({ "type": "build.x", "subject": "doc:none" }), 404),
        (json!({ "type": "build.x", "subject": "user:none" }), 404),
    ] {
        service.post(&hub, path, wrong).await.expect(status);
    }
}

/// Waits for `subscribed` of a channel that nobody here asked for.
async fn made_to_follow(session: &mut Session, on: &str) {
    let is_meant = |frame: &ServerFrame| matches!(frame, ServerFrame::Subscribed { id: 0, channel, .. } if channel == on);
    session.pushed("`subscribed`", is_meant).await;
}

#[tokio::test]
async fn sessions_follow_what_a_service_says_and_their_user_may() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    let permissions = ["subscribe", "publish", "presence"];
    let (service, _) = Service::of_project(&hub, &owner, "p1", &permissions).await;
    let whole = Service::of_hub(None, hub.data(), &permissions).await;
    let mut sessions = Vec::new();
    for encoding in ENCODINGS {
        sessions.push(Session::open(&hub, &owner, encoding).await);
    }
    let room = "room:p1/build";
    sessions[1].follow(room).await;
    let told = call(&hub, &service, "subscribe", room, "owner")
        .await
        .expect(200);
    assert_eq!(told.json(), json!({ "sessions": 2, "complete": true }));
    made_to_follow(&mut sessions[0], room).await;
    call(&hub, &service, "publish", room, "").await.expect(200);
    for session in &mut sessions {
        assert_eq!(session.message(room).await.1, json!(1));
        // One that followed already is not told again.
        session.ping().await;
        assert!(session.pushed.is_empty(), "{:?}", session.pushed);
    }
    call(&hub, &whole, "subscribe", "feed:me", "owner")
        .await
        .expect(200);
    made_to_follow(&mut sessions[0], "feed:me").await;
    let told = call(&hub, &service, "unsubscribe", room, "owner")
        .await
        .expect(200);
    assert_eq!(told.json()["sessions"], 2);
    for session in &mut sessions {
        let is_meant = |frame: &ServerFrame| matches!(frame, ServerFrame::Revoked { channel: Some(channel), .. } if channel == room);
        session.pushed("`revoked`", is_meant).await;
    }
    call(&hub, &service, "publish", room, "").await.expect(200);
    for session in &mut sessions {
        session.ping().await;
        let is_message = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { .. });
        assert!(!session.pushed.iter().any(is_message));
    }
    // Who may not is not made to.
    call(&hub, &whole, "subscribe", room, "stranger")
        .await
        .expect(404);
    call(&hub, &service, "subscribe", room, "stranger")
        .await
        .expect(404);
    let foreign = format!("feed:{}", stranger.id);
    call(&hub, &whole, "subscribe", &foreign, "owner")
        .await
        .expect(403);
    call(&hub, &whole, "subscribe", room, "nobody")
        .await
        .expect(404);
}

#[tokio::test]
async fn a_user_is_disconnected_or_revoked() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let other = hub.person("other").await;
    let service = Service::of_hub(None, hub.data(), &["disconnect", "revoke", "presence"]).await;
    let mut bystander = Session::open(&hub, &other, Encoding::Json).await;
    for (reconnect, code) in [(true, CloseCode::SentBack), (false, CloseCode::SentAway)] {
        let mut session = Session::open(&hub, &owner, Encoding::MsgPack).await;
        let mut editor = Editor::join(Kind::Collab, &hub, &owner, &document).await;
        let counted = call(&hub, &service, "sessions", "", &owner.id)
            .await
            .expect(200);
        assert_eq!(counted.json(), json!({ "sessions": 2, "complete": true }));
        let body = json!({ "user": "owner", "reconnect": reconnect });
        let done = service.post(&hub, "/api/server/disconnect", body).await;
        assert_eq!(done.expect(200).json()["sessions"], 2);
        assert_eq!(session.close_code().await, code.code());
        assert_eq!(editor.close_code().await, code.code());
        assert_eq!(code.should_reconnect(), reconnect);
        // Its login stands.
        owner.get(&hub, "/api/auth/me").await.expect(200);
        eventually("they are gone", || async {
            let counted = call(&hub, &service, "sessions", "", "owner").await;
            counted.json()["sessions"] == 0
        })
        .await;
    }
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    call(&hub, &service, "revoke", "", "owner")
        .await
        .expect(204);
    let closed = within(LIVE, "the session ends", session.close_code());
    assert_eq!(closed.await, CloseCode::Revoked.code());
    owner.get(&hub, "/api/auth/me").await.expect(401);
    bystander.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_says_holds_on_the_other_node() {
    let cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    let (here, there) = (cluster.hub(0), cluster.hub(1));
    let database = Some(cluster.postgres.url());
    let permissions = ["subscribe", "publish", "disconnect", "revoke", "presence"];
    let service = Service::of_hub(database.clone(), here.data(), &permissions).await;
    let mut session = Session::open(there, &owner, Encoding::Json).await;
    let told = call(here, &service, "subscribe", "room:p1/build", "owner").await;
    assert_eq!(
        told.expect(200).json(),
        json!({ "sessions": 1, "complete": true })
    );
    let follows = made_to_follow(&mut session, "room:p1/build");
    within(LIVE, "the session of the other node follows", follows).await;
    call(here, &service, "publish", "room:p1/build", "")
        .await
        .expect(200);
    assert_eq!(session.message("room:p1/build").await.1, json!(1));
    let counted = call(here, &service, "sessions", "", "owner")
        .await
        .expect(200);
    assert_eq!(counted.json(), json!({ "sessions": 1, "complete": true }));
    let done = call(here, &service, "disconnect", "", "owner")
        .await
        .expect(200);
    assert_eq!(done.json(), json!({ "sessions": 1, "complete": true }));
    let closed = within(LIVE, "it is closed", session.close_code());
    assert_eq!(closed.await, CloseCode::SentBack.code());
    let mut session = Session::open(there, &owner, Encoding::Json).await;
    call(here, &service, "revoke", "", "owner")
        .await
        .expect(204);
    let closed = within(LIVE, "its login ends", session.close_code());
    assert_eq!(closed.await, CloseCode::Revoked.code());
    owner.get(there, "/api/auth/me").await.expect(401);

    // A project's key, revoked here, is refused there at once.
    let owner = owner.log_in(here).await;
    let (own, id) = Service::of_project(here, &owner, "p1", &["publish"]).await;
    call(there, &own, "publish", "room:p1/a", "")
        .await
        .expect(200);
    let path = format!("/api/projects/p1/keys/{id}");
    owner.delete(here, &path).await.expect(204);
    call(there, &own, "publish", "room:p1/a", "")
        .await
        .expect(401);
}

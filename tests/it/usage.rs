//! Usage and quotas: what is done on sockets and over REST is counted to its user and project, a day's plans are as many
//! as is set, and the events that tell of them can be told again.

use std::time::Duration;

use protocol::DeliveryClass;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::desk::send;
use crate::world::people::{Answer, workspace};
use crate::world::session::publish_as;
use crate::world::{Editor, Encoding, Kind, Person, Session, TestHub, eventually};

const FLUSH: (&str, &str) = ("TANDEM_USAGE_FLUSH", "100ms");

async fn usage(hub: &TestHub, who: &Person, of: &str) -> Value {
    let path = format!("/api/usage?granularity=hour{of}");
    who.get(hub, &path).await.expect(200).json()["total"].clone()
}

fn amount(usage: &Value, name: &str) -> u64 {
    usage[name].as_u64().expect("a number")
}

/// Waits until the project's usage has at least that much of something, and no more.
async fn reaches(hub: &TestHub, who: &Person, name: &str, most: u64) {
    eventually(&format!("{most} {name}"), || async {
        let now = amount(&usage(hub, who, "&project=p1").await, name);
        assert!(now <= most, "{now} {name}");
        now == most
    })
    .await;
}

#[tokio::test]
async fn what_is_used_is_counted_to_user_and_project() {
    let hub = TestHub::start(&[FLUSH]).await;
    let (owner, document) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    session.follow("room:p1/lobby").await;
    for n in 0..3 {
        let say = |id| publish_as(id, "room:p1/lobby", json!(n), DeliveryClass::Reliable, None);
        session.request(say).await;
    }
    let message = json!({ "channel": "room:p1/lobby", "data": 1, "idempotency_key": "once" });
    for _ in 0..2 {
        let sent = owner.post(&hub, "/api/channels/publish", message.clone());
        sent.await.expect(200);
    }
    reaches(&hub, &owner, "messages", 4).await;
    for kind in Kind::ACKNOWLEDGING {
        let mut editor = Editor::join(kind, &hub, &owner, &document).await;
        editor.append("word ").await;
        editor.settled().await;
        editor.leave().await;
    }
    let text = format!("/api/documents/{document}/edits");
    let edits = json!({ "edits": [{ "op": "insert", "at": 0, "text": "x" }] });
    let edited = owner.post(&hub, &text, edits).await;
    assert!(edited.status < 300, "{}: {}", edited.status, edited.text());
    reaches(&hub, &owner, "edits", 4).await;
    eventually("the session's time", || async {
        let now = usage(&hub, &owner, "&project=p1").await;
        amount(&now, "connected_ms") >= 500
    })
    .await;
    let (all, ours) = (
        usage(&hub, &owner, "").await,
        usage(&hub, &owner, "&project=p1").await,
    );
    for name in ["connected_ms", "bytes_in", "bytes_out"] {
        assert!(amount(&ours, name) > 0, "{name}: {ours}");
        assert!(amount(&all, name) >= amount(&ours, name), "{name}: {all}");
    }
}

#[tokio::test]
async fn what_was_used_last_is_written_when_the_hub_leaves() {
    let mut hub = TestHub::start(&[("TANDEM_USAGE_FLUSH", "10s")]).await;
    let (owner, _) = workspace(&hub).await;
    let message = json!({ "channel": "room:p1/lobby", "data": 1 });
    owner
        .post(&hub, "/api/channels/publish", message)
        .await
        .expect(200);
    assert!(hub.terminate().await.success());
    hub.restart().await;
    let owner = owner.log_in(&hub).await;
    reaches(&hub, &owner, "messages", 1).await;
}

async fn plan(hub: &TestHub, who: &Person, key: &str) -> Answer {
    let body = json!({ "project": "p1", "request": "a dark theme" }).to_string();
    let headers = [
        ("idempotency-key", key),
        ("content-type", "application/json"),
    ];
    send(hub, who, (Method::POST, "/api/plans"), &headers, body).await
}

#[tokio::test]
async fn a_day_has_as_many_plans_as_is_set() {
    let limit = ("TANDEM_USAGE_PLANS_PER_DAY", "2");
    for (exceeded, status, code) in [
        ("wait", 429, "quota_exceeded"),
        ("pay", 402, "payment_required"),
    ] {
        let hub = TestHub::start(&[FLUSH, limit, ("TANDEM_USAGE_EXCEEDED", exceeded)]).await;
        let (owner, _) = workspace(&hub).await;
        for key in ["one", "two", "one"] {
            plan(&hub, &owner, key).await.expect(202);
        }
        let refused = plan(&hub, &owner, "three").await;
        assert_eq!(refused.code(), code);
        let wait = refused.retry_after();
        refused.expect(status);
        match exceeded {
            "wait" => assert!((1..=86_400).contains(&wait.expect("Retry-After"))),
            _ => assert_eq!(wait, None),
        }
        // What was asked for is still found, and others have days of their own.
        plan(&hub, &owner, "two").await.expect(202);
        let other = hub.person("other").await;
        owner.give(&hub, "p1", &other, "editor").await;
        plan(&hub, &other, "three").await.expect(202);
        reaches(&hub, &owner, "plans", 3).await;
    }
}

#[tokio::test]
async fn events_are_told_again_to_the_consumer_that_is_named() {
    let hub = TestHub::start(&[FLUSH]).await;
    let (owner, _) = workspace(&hub).await;
    plan(&hub, &owner, "one").await.expect(202);
    reaches(&hub, &owner, "plans", 1).await;
    let events = "/api/projects/p1/events?type=plan.requested";
    eventually("the event in the log", || async {
        let page = owner.get(&hub, events).await.expect(200).json();
        page["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    })
    .await;
    let replay = |more: &[&str]| {
        let range = ["replay", "--from", "0", "--to", "2100-01-01T00:00:00Z"];
        let arguments = [&range[..], &["--type", "plan.requested"], more].concat();
        let output = TestHub::run(&[], hub.data(), &arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(replay(&["--dry-run"]).contains("1 events would be"));
    // Who has taken it does nothing.
    assert!(replay(&[]).contains("1 events are told again"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    reaches(&hub, &owner, "plans", 1).await;
    assert!(replay(&["--consumer", "usage"]).contains("usage had taken 1 of them"));
    reaches(&hub, &owner, "plans", 2).await;
    let wrong = ["replay", "--from", "2", "--to", "1"];
    let refused = TestHub::run(&[], hub.data(), &wrong);
    assert!(!refused.status.success());
}

//! Plans, notifications, usage and events over REST: what each answers, to whom, and that what changes is heard on
//! `/ws`. Channels over REST are in `rest_messages`.

use std::collections::HashSet;

use futures::future::join_all;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::world::people::{Answer, ask, workspace};
use crate::world::{Encoding, Person, Session, TestHub, eventually, now_ms, soon};

const ROOM: &str = "room:p1/lobby";
const HOUR: u64 = 3_600_000;

/// What is asked for stays as it is: no worker takes it.
const NO_WORKER: (&str, &str) = ("TANDEM_PLANS_WORKERS", "0");

/// Every item of a list, read page by page to its end.
async fn all(hub: &TestHub, who: &Person, path: &str, limit: usize) -> Vec<Value> {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut next = String::new();
    let mut items = Vec::new();
    loop {
        let page = format!("{path}{join}limit={limit}{next}");
        let page = who.get(hub, &page).await.expect(200).json();
        let read = page["items"].as_array().expect("items").clone();
        assert!(read.len() <= limit);
        items.extend(read);
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => return items,
        }
    }
}

/// A request for a plan with a key.
async fn keyed(hub: &TestHub, who: &Person, key: &str, body: Value) -> Answer {
    let request = Client::new()
        .post(hub.url("/api/plans"))
        .bearer_auth(&who.token)
        .header("idempotency-key", key)
        .json(&body);
    let answer = soon("an answer", request.send()).await.expect("an answer");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await.expect("a body").to_vec(),
    }
}

async fn plan(hub: &TestHub, who: &Person, request: &str) -> Value {
    let body = json!({ "project": "p1", "request": request });
    let answer = who.post(hub, "/api/plans", body).await.expect(202);
    let plan = answer.json();
    let location = answer.headers["location"].to_str().expect("text");
    assert_eq!(
        location,
        format!("/api/plans/{}", plan["id"].as_str().unwrap())
    );
    plan
}

fn id(item: &Value) -> &str {
    item["id"].as_str().expect("an id")
}

/// The hub's database, past the hub: what the services around it write comes from there.
async fn database(hub: &TestHub) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(hub.data().join("tandem.db"));
    file.foreign_keys(true).connect().await.expect("a database")
}

/// Notifications of a user, as a service leaves them; their ids, oldest first.
async fn notified(hub: &TestHub, whom: &Person, count: usize) -> Vec<String> {
    let mut database = database(hub).await;
    let mut ids = Vec::new();
    for n in 0..count {
        let id = format!("0198c0de-0000-7000-8000-{n:012}");
        let add = sqlx::query(
            "INSERT INTO notify_notifications (id, user_id, project_id, event_id, kind, data, created_at)
             VALUES ($1, $2, 'p1', $3, $4, '{\"text\":\"done\"}', $5)",
        );
        add.bind(&id)
            .bind(&whom.id)
            .bind(format!("event {n}"))
            .bind(["plan.created", "mention"][n % 2])
            .bind(1000 + n as i64)
            .execute(&mut database)
            .await
            .expect("a notification");
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn a_plan_is_queued_listed_and_cancelled() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, _) = workspace(&hub).await;
    let mut plans = Vec::new();
    for n in 0..7 {
        plans.push(plan(&hub, &owner, &format!("größer {n} {}", "x".repeat(300))).await);
    }
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let channel = format!("plan:{}", id(&plans[0]));
    session.follow(&channel).await;
    let path = format!("/api/plans/{}", id(&plans[0]));
    let read = owner.get(&hub, &path).await.expect(200).json();
    assert_eq!(read, plans[0]);
    assert_eq!(
        (&read["status"], &read["attempt"], &read["steps"]),
        (&json!("queued"), &json!(0), &json!([]))
    );
    assert_eq!(read["requested_by"], owner.id.as_str());
    // Newest first, to the end, each with the beginning of its request.
    let listed = all(&hub, &owner, "/api/projects/p1/plans", 3).await;
    let ids: Vec<&str> = listed.iter().map(id).collect();
    let expected: Vec<&str> = plans.iter().rev().map(id).collect();
    assert_eq!(ids, expected);
    let request = listed[6]["request"].as_str().unwrap();
    assert!(request.starts_with("größer 0") && request.chars().count() == 200);
    // Of many who cancel at once all are told that it is, and it is told once.
    let cancel = format!("{path}/cancel");
    let calls = (0..10).map(|_| owner.post(&hub, &cancel, json!({})));
    for answer in join_all(calls).await {
        assert_eq!(answer.expect(200).json()["status"], "cancelled");
    }
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "plan.cancelled") {
        let (_, told) = session.message(&channel).await;
        kinds.push(told["type"].as_str().unwrap().to_owned());
    }
    let more = session.next_within(std::time::Duration::from_millis(500));
    assert!(more.await.is_none(), "told once");
    // What is done is not cancelled any more.
    let done = format!("/api/plans/{}/cancel", id(&plans[1]));
    let statement = "UPDATE planning_plans SET status = 'done', finished_at = 2 WHERE id = $1";
    let update = sqlx::query(statement).bind(id(&plans[1]).to_owned());
    update.execute(&mut database(&hub).await).await.unwrap();
    let refused = owner.post(&hub, &done, json!({})).await.expect(409);
    assert_eq!(refused.code(), "conflict");
    let missing = owner.get(&hub, "/api/plans/nothing").await.expect(404);
    assert_eq!(missing.code(), "not_found");
    owner.delete(&hub, "/api/projects/p1").await.expect(204);
    owner.get(&hub, &path).await.expect(404);
}

#[tokio::test]
async fn equal_requests_with_one_key_are_one_plan() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    owner.give(&hub, "p1", &other, "editor").await;
    let body = |request: &str| json!({ "project": "p1", "request": request });
    let calls = (0..20).map(|_| keyed(&hub, &owner, "k1", body("once")));
    let answers: Vec<Value> = join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.expect(202).json())
        .collect();
    let ids: HashSet<&str> = answers.iter().map(id).collect();
    assert_eq!(ids.len(), 1);
    let different = keyed(&hub, &owner, "k1", body("another")).await.expect(422);
    assert_eq!(different.code(), "idempotency_conflict");
    let others = keyed(&hub, &other, "k1", body("once")).await.expect(202);
    assert!(!ids.contains(id(&others.json())));
    assert_eq!(
        all(&hub, &owner, "/api/projects/p1/plans", 50).await.len(),
        2
    );
    for wrong in ["", &"k".repeat(129), "a b"] {
        let refused = keyed(&hub, &owner, wrong, body("once")).await.expect(422);
        assert_eq!(refused.json()["errors"][0]["field"], "Idempotency-Key");
    }
    // The event of each plan was told once.
    eventually("the log has the events of both plans", || async {
        let path = "/api/projects/p1/events?type=plan.requested";
        all(&hub, &owner, path, 50).await.len() == 2
    })
    .await;
}

#[tokio::test]
async fn requests_for_plans_have_limits() {
    let hub = TestHub::start(&[NO_WORKER, ("TANDEM_PLANS_OPEN_PER_PROJECT", "3")]).await;
    let (owner, _) = workspace(&hub).await;
    let longest = "ü".repeat(16 * 1024);
    let plan = plan(&hub, &owner, &longest).await;
    assert_eq!(plan["request"], longest.as_str());
    for wrong in [
        json!({ "project": "p1", "request": "" }),
        json!({ "project": "p1", "request": "a\0b" }),
        json!({ "project": "p1", "request": format!("{longest}ü") }),
        json!({ "project": "p1", "request": 7 }),
        json!({ "project": "p1" }),
    ] {
        let refused = owner.post(&hub, "/api/plans", wrong).await.expect(422);
        assert_eq!(refused.json()["errors"][0]["field"], "request");
    }
    let body = json!({ "project": "p1", "request": "more" });
    let calls = (0..6).map(|_| owner.post(&hub, "/api/plans", body.clone()));
    let mut codes = Vec::new();
    for answer in join_all(calls).await {
        codes.push(if answer.status == 202 {
            "queued".to_owned()
        } else {
            answer.expect(409).code()
        });
    }
    codes.sort();
    assert_eq!(codes, [&["limit_reached"; 4][..], &["queued"; 2]].concat());
    let cancel = format!("/api/plans/{}/cancel", id(&plan));
    owner.post(&hub, &cancel, json!({})).await.expect(200);
    owner.post(&hub, "/api/plans", body).await.expect(202);
}

#[tokio::test]
async fn services_keep_to_the_table_of_rights() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, _) = workspace(&hub).await;
    let mut people = vec![("owner", owner.clone())];
    for role in ["editor", "commenter", "viewer"] {
        let person = hub.person(role).await;
        owner.give(&hub, "p1", &person, role).await;
        people.push((role, person));
    }
    people.push(("stranger", hub.person("stranger").await));
    let body = json!({ "project": "p1", "request": "x" });
    let message = json!({ "channel": ROOM, "data": 1 });
    let read = format!("/api/plans/{}", id(&plan(&hub, &owner, "y").await));
    let of = |what: &str| format!("/api/channels/{what}?channel={ROOM}");
    let rows = [
        (Method::POST, "/api/plans".to_owned(), Some(body), "eo"),
        (Method::GET, read.clone(), None, "vceo"),
        (Method::GET, "/api/projects/p1/plans".into(), None, "vceo"),
        (Method::GET, "/api/projects/p1/events".into(), None, "vceo"),
        (Method::GET, "/api/usage?project=p1".into(), None, "o"),
        (
            Method::POST,
            "/api/channels/publish".into(),
            Some(message),
            "ceo",
        ),
        (Method::GET, of("history"), None, "vceo"),
        (Method::GET, of("presence"), None, "vceo"),
        (Method::GET, of("latest"), None, "vceo"),
        (Method::POST, format!("{read}/cancel"), None, "eo"),
    ];
    for (method, path, body, allowed) in rows {
        for (role, person) in &people {
            let token = Some(person.token.as_str());
            let answer = ask(&hub, token, method.clone(), &path, body.clone()).await;
            let right = match *role {
                "stranger" => answer.status == 404,
                role if allowed.contains(&role[..1]) => (200..300).contains(&answer.status),
                _ => answer.status == 403,
            };
            let (status, text) = (answer.status, answer.text());
            assert!(right, "{role} {method} {path}: {status} {text}");
        }
        let answer = ask(&hub, None, method.clone(), &path, body).await;
        assert_eq!(answer.status, 401, "nobody {method} {path}");
    }
    // Who asked for a plan may cancel it, whatever they have become.
    let editor = &people[1].1;
    let own = format!(
        "/api/plans/{}/cancel",
        id(&plan(&hub, editor, "mine").await)
    );
    owner.give(&hub, "p1", editor, "viewer").await;
    editor.post(&hub, &own, json!({})).await.expect(200);
    let theirs = format!("/api/plans/{}", id(&plan(&hub, &owner, "z").await));
    owner.remove(&hub, "p1", editor).await;
    editor.get(&hub, &theirs).await.expect(404);
    editor.post(&hub, &own, json!({})).await.expect(404);
}

#[tokio::test]
async fn what_one_device_reads_the_other_sees() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    let ids = notified(&hub, &owner, 7).await;
    let mut device = Session::open(&hub, &owner.log_in(&hub).await, Encoding::MsgPack).await;
    device.follow("feed:me").await;
    let feed = "/api/notifications";
    let listed = all(&hub, &owner, feed, 3).await;
    let seen: Vec<&str> = listed.iter().map(id).collect();
    let expected: Vec<&str> = ids.iter().rev().map(String::as_str).collect();
    assert_eq!(seen, expected);
    assert_eq!(
        listed[6],
        json!({ "id": ids[0], "kind": "plan.created", "project": "p1", "event": "event 0", "count": 1,
            "data": { "text": "done" }, "created_at": 1000, "read_at": null })
    );
    let unread = async || {
        let answer = owner.get(&hub, "/api/notifications/unread").await;
        answer.expect(200).json()["unread"].clone()
    };
    assert_eq!(unread().await, 7);
    let one = format!("{feed}/{}/read", ids[4]);
    for changed in [1, 0] {
        let read = owner.post(&hub, &one, json!({})).await.expect(200);
        assert_eq!(read.json(), json!({ "changed": changed, "unread": 6 }));
    }
    other.post(&hub, &one, json!({})).await.expect(404);
    let up_to = json!({ "up_to": ids[1] });
    let some = format!("{feed}/read");
    let read = owner.post(&hub, &some, up_to).await.expect(200).json();
    assert_eq!(read, json!({ "changed": 2, "unread": 4 }));
    let new = format!("{feed}?unread_only=true");
    assert_eq!(all(&hub, &owner, &new, 2).await.len(), 4);
    let plans = all(&hub, &owner, &format!("{new}&kind=plan.created"), 2).await;
    let plans: Vec<&str> = plans.iter().map(id).collect();
    assert_eq!(plans, [&ids[6], &ids[2]]);
    let gone = format!("{feed}/{}", ids[6]);
    other.delete(&hub, &gone).await.expect(404);
    owner.delete(&hub, &gone).await.expect(204);
    owner.delete(&hub, &gone).await.expect(404);
    let read = owner.post(&hub, &some, json!({ "all": true })).await;
    assert_eq!(
        read.expect(200).json(),
        json!({ "changed": 3, "unread": 0 })
    );
    assert_eq!(unread().await, 0);
    for (kind, data) in [
        ("notification.read", json!({ "id": ids[4], "unread": 6 })),
        ("notification.read", json!({ "up_to": ids[1], "unread": 4 })),
        ("notification.deleted", json!({ "id": ids[6], "unread": 3 })),
        ("notification.read", json!({ "all": true, "unread": 0 })),
    ] {
        let (offset, told) = device.message("feed:me").await;
        assert!(offset.is_some(), "another device must not miss it: {told}");
        assert_eq!((&told["type"], &told["data"]), (&json!(kind), &data));
    }
    for wrong in [
        json!({}),
        json!({ "all": false }),
        json!({ "all": true, "up_to": ids[0] }),
        json!({ "up_to": "x" }),
    ] {
        owner.post(&hub, &some, wrong).await.expect(422);
    }
}

#[tokio::test]
async fn preferences_are_a_users_own_and_replaced_whole() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, other) = (hub.person("owner").await, hub.person("other").await);
    let path = "/api/notifications/preferences";
    let none = json!({ "kinds": [] });
    assert_eq!(owner.get(&hub, path).await.expect(200).json(), none);
    let of = |kinds: &[(&str, &str)]| {
        let kinds = kinds
            .iter()
            .map(|(kind, mode)| json!({ "kind": kind, "mode": mode }));
        json!({ "kinds": kinds.collect::<Vec<_>>() })
    };
    let first = of(&[("mention", "digest"), ("plan.created", "off")]);
    let second = of(&[("plan.created", "live")]);
    for wanted in [&first, &second] {
        let set = owner.put(&hub, path, wanted.clone()).await.expect(200);
        assert_eq!(set.json(), *wanted);
        assert_eq!(owner.get(&hub, path).await.expect(200).json(), *wanted);
    }
    let many: Vec<String> = (0..101).map(|n| format!("k{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|kind| (&**kind, "off")).collect();
    for wrong in [of(&[("A b", "off")]), of(&[("a", "loud")]), of(&many)] {
        owner.put(&hub, path, wrong).await.expect(422);
    }
    assert_eq!(owner.get(&hub, path).await.expect(200).json(), second);
    assert_eq!(other.get(&hub, path).await.expect(200).json(), none);
}

#[tokio::test]
async fn usage_is_summed_for_users_and_owners() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    owner.give(&hub, "p1", &other, "editor").await;
    let empty = owner.get(&hub, "/api/usage").await.expect(200).json();
    assert_eq!(
        (&empty["periods"], &empty["total"]["edits"]),
        (&json!([]), &json!(0))
    );
    let now = now_ms();
    let hour = now - now % HOUR;
    let mut database = database(&hub).await;
    for (user, project, ago, edits) in [
        (&owner, Some("p1"), 0, 1_i64),
        (&owner, None, 2, 2),
        (&other, Some("p1"), 2, 4),
        (&owner, Some("p1"), 24 * 40, 8),
    ] {
        let add = "INSERT INTO usage_hourly (hour, user_id, project_id, edits, connected_ms)
            VALUES ($1, $2, $3, $4, 7)";
        sqlx::query(add)
            .bind((hour - ago * HOUR) as i64)
            .bind(&user.id)
            .bind(project)
            .bind(edits)
            .execute(&mut database)
            .await
            .unwrap();
    }
    let edits = async |who: &Person, query: String| {
        let usage = who.get(&hub, &format!("/api/usage?{query}")).await;
        let usage = usage.expect(200).json();
        let periods = usage["periods"].as_array().unwrap().clone();
        let each: Vec<u64> = periods
            .iter()
            .map(|one| one["edits"].as_u64().unwrap())
            .collect();
        (usage["total"]["edits"].as_u64().unwrap(), each)
    };
    let by_hour = |more: &str| format!("granularity=hour{more}");
    assert_eq!(edits(&owner, by_hour("")).await, (3, vec![2, 1]));
    let project = by_hour("&project=p1");
    assert_eq!(edits(&owner, project).await, (5, vec![4, 1]));
    assert_eq!(edits(&other, by_hour("")).await, (4, vec![4]));
    let from = now - 50 * 24 * HOUR;
    let total = format!("granularity=total&from={from}");
    assert_eq!(edits(&owner, total).await, (11, vec![]));
    let days = edits(&owner, format!("from={from}&to={}", from + 20 * 24 * HOUR)).await;
    assert_eq!(days, (8, vec![8]));
    for wrong in [
        format!("granularity=hour&from={from}"),
        format!("from={now}&to={from}"),
        "granularity=minute".into(),
        "from=-1".into(),
        format!("to={}", u64::MAX),
    ] {
        owner
            .get(&hub, &format!("/api/usage?{wrong}"))
            .await
            .expect(422);
    }
}

#[tokio::test]
async fn the_log_of_a_project_is_read_to_its_end() {
    let hub = TestHub::start(&[NO_WORKER]).await;
    let (owner, document) = workspace(&hub).await;
    owner.project(&hub, "p2").await;
    for n in 0..5 {
        owner.document(&hub, "p1", &format!("{n}.rs")).await;
    }
    let path = "/api/projects/p1/events";
    eventually("the log has everything", || async {
        all(&hub, &owner, path, 100).await.len() == 7
    })
    .await;
    let log = all(&hub, &owner, path, 2).await;
    assert_eq!(log.len(), 7);
    assert_eq!(log[6]["type"], "project.created");
    assert_eq!(log[6]["actor"], owner.id.as_str());
    let times: Vec<u64> = log
        .iter()
        .map(|one| one["time"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let made = all(&hub, &owner, &format!("{path}?type=document.created"), 2).await;
    assert_eq!(made.len(), 6);
    let about = all(&hub, &owner, &format!("{path}?subject=doc:{document}"), 2).await;
    assert_eq!(about.len(), 1);
    assert_eq!(about[0]["data"], json!({ "path": "main.rs" }));
    let (first, last) = (times[6], times[0]);
    let within = format!("{path}?from={first}&to={last}");
    let within = all(&hub, &owner, &within, 2).await;
    let expected = times.iter().filter(|time| **time < last).count();
    assert_eq!(within.len(), expected);
    let after = format!("{path}?from={}", last + 1);
    assert_eq!(all(&hub, &owner, &after, 2).await, [Value::Null; 0]);
    for wrong in ["limit=0", "after=bm90aGluZw", "from=x"] {
        let refused = owner.get(&hub, &format!("{path}?{wrong}")).await;
        refused.expect(422);
    }
}

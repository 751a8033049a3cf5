//! Channels over REST: publish, history, presence and newest values are those of a session, with its rights and
//! limits.

use futures::future::join_all;
use protocol::{Blob, DeliveryClass};
use serde_json::{Value, json};

use crate::world::people::workspace;
use crate::world::session::publish_as;
use crate::world::{ClientFrame, Encoding, Person, ServerFrame, Session, TestHub};

const ROOM: &str = "room:p1/lobby";

/// The messages of an answer as `/ws` tells them.
async fn history(hub: &TestHub, who: &Person, query: &str) -> Value {
    let path = format!("/api/channels/history?channel={ROOM}{query}");
    who.get(hub, &path).await.expect(200).json()
}

#[tokio::test]
async fn channels_say_over_rest_what_they_say_on_a_session() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let reply = session.subscribe(ROOM, None, true).await;
    assert!(matches!(reply, ServerFrame::Subscribed { .. }), "{reply:?}");
    let send = async |body: Value| {
        let mut message = json!({ "channel": ROOM });
        message
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        owner.post(&hub, "/api/channels/publish", message).await
    };
    for n in 0..5 {
        let sent = send(json!({ "data": { "n": n }, "idempotency_key": format!("k{n}") })).await;
        assert_eq!(sent.expect(200).json()["duplicate"], false);
        assert_eq!(session.message(ROOM).await.1, json!({ "n": n }));
    }
    // A key is the user's, whichever way the message comes.
    let again = send(json!({ "data": 1, "idempotency_key": "k0" })).await;
    assert_eq!(again.expect(200).json()["duplicate"], true);
    let ack = session.request(|id| ClientFrame::Publish {
        id,
        channel: ROOM.into(),
        data: Some(json!(1)),
        bytes: None,
        class: None,
        key: None,
        idempotency_key: Some("k1".into()),
    });
    assert!(matches!(
        ack.await,
        ServerFrame::Ack {
            duplicate: true,
            ..
        }
    ));
    send(json!({ "bytes": "AAH/" })).await.expect(200);
    let value = send(json!({ "data": "new", "class": "latest", "key": "b" })).await;
    assert_eq!(value.expect(200).json()["position"], Value::Null);
    let old = |id| publish_as(id, ROOM, json!("a"), DeliveryClass::Latest, Some("a"));
    session.request(old).await;
    let channel = ROOM.to_owned();
    let told = session.request(|id| ClientFrame::History {
        id,
        channel,
        since: None,
        limit: None,
    });
    let ServerFrame::History {
        epoch,
        offset,
        messages,
        more,
        ..
    } = told.await
    else {
        panic!("no history");
    };
    assert_eq!(messages.len(), 6);
    let over_ws = json!({ "channel": ROOM, "epoch": epoch, "offset": offset, "more": more,
        "messages": messages, "reset": null });
    assert_eq!(history(&hub, &owner, "").await, over_ws);
    // Page by page, from a position on.
    let (mut seen, mut at) = (Vec::new(), 0);
    loop {
        let query = format!("&since_epoch={epoch}&since_offset={at}&limit=4");
        let page = history(&hub, &owner, &query).await;
        seen.extend(page["messages"].as_array().unwrap().clone());
        at = seen.last().unwrap()["offset"].as_u64().unwrap();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(Value::from(seen), over_ws["messages"]);
    let lost = history(&hub, &owner, "&since_epoch=another&since_offset=1").await;
    assert_eq!(
        (&lost["reset"], &lost["messages"], &lost["offset"]),
        (&json!("epoch"), &json!([]), &json!(offset))
    );
    let path = format!("/api/channels/latest?channel={ROOM}");
    let latest = owner.get(&hub, &path).await.expect(200).json();
    let values = latest["values"].as_array().unwrap();
    let values: Vec<(&Value, &Value)> = values.iter().map(|v| (&v["key"], &v["data"])).collect();
    assert_eq!(
        values,
        [(&json!("a"), &json!("a")), (&json!("b"), &json!("new"))]
    );
    let channel = ROOM.to_owned();
    let ServerFrame::Presence { joined, .. } = session
        .request(|id| ClientFrame::Presence { id, channel })
        .await
    else {
        panic!("no presence");
    };
    let path = format!("/api/channels/presence?channel={ROOM}");
    let presence = owner.get(&hub, &path).await.expect(200).json();
    assert_eq!(presence, json!({ "channel": ROOM, "members": joined }));
    assert_eq!(joined.len(), 1);
    let bytes = messages[5].bytes.clone();
    assert_eq!(bytes, Some(Blob::from(vec![0, 1, 255])));
}

#[tokio::test]
async fn messages_over_rest_have_the_rules_and_limits_of_a_session() {
    let hub = TestHub::start(&[
        ("TANDEM_RATE_ENABLED", "true"),
        ("TANDEM_RATE_WRITE_USER", "30"),
        ("TANDEM_SESSION_MESSAGE_BYTES", "2KiB"),
        ("TANDEM_SESSION_HISTORY_PAGE", "3"),
    ])
    .await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    owner.give(&hub, "p1", &other, "editor").await;
    let fresh = hub.person("fresh").await;
    owner.give(&hub, "p1", &fresh, "commenter").await;
    let send = |who: &Person, body: Value| {
        let (who, hub) = (who.clone(), &hub);
        async move { who.post(hub, "/api/channels/publish", body).await }
    };
    for (channel, status) in [
        ("feed:me", 403),
        ("project:p1", 403),
        ("doc:1", 403),
        ("feed:somebody", 422),
        ("room:p1", 422),
        ("nothing", 422),
        ("room:p9/lobby", 404),
    ] {
        let answer = send(&other, json!({ "channel": channel, "data": 1 })).await;
        assert_eq!(answer.status, status, "{channel}: {}", answer.text());
    }
    for wrong in [
        json!({ "channel": ROOM }),
        json!({ "channel": ROOM, "data": 1, "bytes": "AA==" }),
        json!({ "channel": ROOM, "bytes": "%" }),
        json!({ "channel": ROOM, "data": 1, "class": "latest" }),
        json!({ "channel": ROOM, "data": 1, "class": "loud" }),
        json!({ "channel": ROOM, "data": 1, "key": "" }),
        json!({ "channel": ROOM, "data": 1, "idempotency_key": "k".repeat(129) }),
    ] {
        send(&owner, wrong).await.expect(422);
    }
    let large = json!({ "channel": ROOM, "data": "x".repeat(2048) });
    send(&owner, large).await.expect(413);
    let calls = (0..60).map(|n| send(&owner, json!({ "channel": ROOM, "data": n })));
    let (mut taken, mut refused) = (0, 0);
    for answer in join_all(calls).await {
        if answer.status == 200 {
            taken += 1;
        } else {
            assert!(answer.retry_after().is_some_and(|wait| wait >= 1));
            assert_eq!(answer.expect(429).code(), "rate_limited");
            refused += 1;
        }
    }
    assert!(taken >= 4 && refused >= 5, "{taken} {refused}");
    // Another user's rate is another.
    let answer = send(&fresh, json!({ "channel": ROOM, "data": 1 })).await;
    answer.expect(200);
    let page = history(&hub, &owner, "&limit=100").await;
    assert_eq!(
        (page["messages"].as_array().unwrap().len(), &page["more"]),
        (3, &json!(true))
    );
    for wrong in ["&limit=0", "&since_epoch=e", "&since_offset=1"] {
        let path = format!("/api/channels/history?channel={ROOM}{wrong}");
        owner.get(&hub, &path).await.expect(422);
    }
    let feed = owner.get(&hub, "/api/channels/history?channel=feed:me");
    assert_eq!(feed.await.expect(200).json()["channel"], "feed:me");
}

//! Notifications: what happens in a project reaches those whom it concerns, live on all of their devices, once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::desk::Desk;
use crate::world::people::workspace;
use crate::world::{Encoding, Person, ServerFrame, Session, TestHub};

/// The next message of a person's feed.
async fn told(device: &mut Session) -> Value {
    let is_feed = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { channel, .. } if channel.starts_with("feed:"));
    match device.pushed("a message of the feed", is_feed).await {
        ServerFrame::Message { data, .. } => data.unwrap_or_default(),
        other => unreachable!("{other:?} is no message"),
    }
}

async fn device(hub: &TestHub, whom: &Person, encoding: Encoding) -> Session {
    let mut device = Session::open(hub, &whom.log_in(hub).await, encoding).await;
    device.follow("feed:me").await;
    device
}

#[tokio::test]
async fn two_devices_see_what_is_told_and_what_is_read() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let guest = hub.person("guest").await;
    let mut phone = device(&hub, &guest, Encoding::Json).await;
    let mut desktop = device(&hub, &guest, Encoding::MsgPack).await;
    owner.give(&hub, "p1", &guest, "viewer").await;
    let mut ids = Vec::new();
    for device in [&mut phone, &mut desktop] {
        let added = told(device).await;
        assert_eq!(added["type"], "notification.created", "{added}");
        let data = &added["data"];
        assert_eq!(
            (&data["unread"], &data["notification"]["kind"]),
            (&json!(1), &json!("member.added"))
        );
        ids.push(data["notification"]["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    let list = guest
        .get(&hub, "/api/notifications")
        .await
        .expect(200)
        .json();
    assert_eq!(list["items"][0]["id"], ids[0]);
    assert_eq!(list["items"][0]["data"]["role"], "viewer");

    // Named in a document, once, however often it is written in.
    let desk = Desk::new(&hub, &owner, &document);
    for text in ["// ask @guest", "// ask @guest about it"] {
        desk.put(text, &[]).await.expect(200);
    }
    for device in [&mut phone, &mut desktop] {
        let named = told(device).await;
        let one = &named["data"]["notification"];
        assert_eq!(one["kind"], "mention.created", "{named}");
        assert_eq!(one["data"]["document"], json!(document));
        assert_eq!(named["data"]["unread"], 2);
    }
    let read = json!({ "all": true });
    let read = guest.post(&hub, "/api/notifications/read", read).await;
    assert_eq!(
        read.expect(200).json(),
        json!({ "changed": 2, "unread": 0 })
    );
    for device in [&mut phone, &mut desktop] {
        let read = told(device).await;
        assert_eq!(read["type"], "notification.read", "{read}");
        assert_eq!(read["data"], json!({ "all": true, "unread": 0 }));
    }
    let quiet = phone.next_within(Duration::from_secs(1)).await;
    assert!(quiet.is_none(), "{quiet:?}");
}

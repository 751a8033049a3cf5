//! Domain events with nothing configured: what changes in a project is told to its members, once and in
//! order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::people::workspace;
use crate::world::{Encoding, Session, TestHub};

/// The next event on the channel: its type and data.
async fn event(session: &mut Session, channel: &str) -> (String, Value) {
    let (offset, told) = session.message(channel).await;
    assert!(offset.is_some(), "events are reliable: {told}");
    let kind = told["type"].as_str().expect("a type").to_owned();
    (kind, told["data"].clone())
}

#[tokio::test]
async fn members_hear_what_changes_in_their_project() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    session.follow("project:p1").await;
    let other = hub.person("carol").await;
    owner.give(&hub, "p1", &other, "viewer").await;
    owner.give(&hub, "p1", &other, "editor").await;
    // What the workspace was made with may still be on its way.
    let added = loop {
        let (kind, data) = event(&mut session, "project:p1").await;
        if kind == "member.added" && data["role"] == "viewer" {
            break data;
        }
    };
    assert_eq!(added["user"], other.id.as_str());
    let (kind, data) = event(&mut session, "project:p1").await;
    assert_eq!(kind, "member.changed");
    assert_eq!(
        (&data["before"], &data["role"]),
        (&json!("viewer"), &json!("editor"))
    );
    owner.remove(&hub, "p1", &other).await;
    let (kind, data) = event(&mut session, "project:p1").await;
    assert_eq!(
        (kind.as_str(), &data["user"]),
        ("member.removed", &json!(other.id))
    );
    let more = session.next_within(Duration::from_millis(500)).await;
    assert!(more.is_none(), "once: {more:?}");
}

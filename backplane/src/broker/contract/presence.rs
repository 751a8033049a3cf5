//! What a broker guarantees of presence.

use protocol::frame::Member;
use serde_json::json;

use super::{Subject, room, until};
use crate::broker::PresenceChange;

fn member(session: &str) -> Member {
    Member {
        session: session.into(),
        user: format!("user-{session}"),
        name: session.into(),
        state: None,
    }
}

/// Presence tells who joined, changed and left, each once; members are listed by session.
pub async fn presence_follows_sessions(subject: Subject) {
    let channel = room("presence");
    let broker = &subject.broker;
    broker.subscribe(&channel).await.unwrap();
    broker.join(&channel, member("b")).await.unwrap();
    broker.join(&channel, member("a")).await.unwrap();
    broker.join(&channel, member("a")).await.unwrap();
    let typing = Member {
        state: Some(json!({ "typing": true })),
        ..member("a")
    };
    broker.join(&channel, typing.clone()).await.unwrap();
    assert_eq!(
        broker.members(&channel, 10).await.unwrap(),
        [typing.clone(), member("b")]
    );
    assert_eq!(broker.members(&channel, 1).await.unwrap().len(), 1);
    broker.leave(&channel, "b");
    broker.leave(&channel, "b");
    until("4 changes", || {
        subject.recorder.presence(&channel).len() == 4
    })
    .await;
    assert_eq!(
        subject.recorder.presence(&channel),
        [
            PresenceChange::Joined(member("b")),
            PresenceChange::Joined(member("a")),
            PresenceChange::Joined(typing),
            PresenceChange::Left("b".into()),
        ]
    );
}

/// Whoever leaves last leaves the channel vacant: told once, after its leaving.
pub async fn the_last_to_leave_vacates_the_channel(subject: Subject) {
    let channel = room("vacated");
    let broker = &subject.broker;
    broker.subscribe(&channel).await.unwrap();
    broker.join(&channel, member("a")).await.unwrap();
    broker.join(&channel, member("b")).await.unwrap();
    broker.leave(&channel, "a");
    broker.leave(&channel, "b");
    // A session that comes back at once is not hidden by its leaving.
    broker.join(&channel, member("b")).await.unwrap();
    broker.leave(&channel, "b");
    until("the second vacancy", || {
        let told = subject.recorder.presence(&channel);
        told.last() == Some(&PresenceChange::Vacated)
    })
    .await;
    let told = subject.recorder.presence(&channel);
    let left = told
        .iter()
        .rposition(|change| *change == PresenceChange::Left("b".into()));
    assert_eq!(left, Some(told.len() - 2));
    assert!(broker.members(&channel, 10).await.unwrap().is_empty());
}

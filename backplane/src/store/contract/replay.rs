//! What [`Events`](crate::store::Events) promises of its log's old end: how it is cut, and read to be told again.

use protocol::Event;
use serde_json::json;
use uuid::Uuid;

use super::{LONG, NOW, Place, keep};
use crate::store::{EventFilter, Keep, Store};

async fn logged(store: &dyn Store, kind: &str, subject: &str, project: &str, time: u64) -> Event {
    let event = Event::new(Uuid::now_v7(), kind, subject.into(), time)
        .in_project(project)
        .with(json!({ "text": "größer '\"; --" }));
    assert!(store.log_event("log", &event, NOW).await.unwrap());
    event
}

/// What happened before a time goes, however much it is; what happened then stays.
pub async fn housekeeping_cuts_the_log(place: &dyn Place) {
    let store = place.open().await;
    for n in 0..5 {
        logged(&*store, "tested.cut", "doc:a", "engine", NOW - 1 - n).await;
    }
    let stays = logged(&*store, "tested.cut", "doc:a", "engine", NOW).await;
    let keep = Keep {
        logged_since: NOW,
        ..keep(0, 10)
    };
    assert_eq!(store.housekeep(&keep).await.unwrap(), 5);
    assert_eq!(store.housekeep(&keep).await.unwrap(), 0);
    let left = store.logged(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(left, [stays]);
}

/// Oldest first, in pages, by everything that can be asked for.
pub async fn the_log_is_read_from_its_old_end(place: &dyn Place) {
    let store = place.open().await;
    let mut all = Vec::new();
    for n in 0..6_u64 {
        let kind = ["tested.one", "tested.two"][n as usize % 2];
        let subject = ["doc:a", "doc:b", "doc:c"][n as usize % 3];
        let project = ["engine", "other"][usize::from(n >= 4)];
        // Two at a time: the id decides between them.
        all.push(logged(&*store, kind, subject, project, NOW + n / 2).await);
    }
    let filter = EventFilter::default();
    assert_eq!(store.logged_after(&filter, None, 10).await.unwrap(), all);
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store
            .logged_after(&filter, after.as_ref(), 4)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.time, last.id.to_string()));
        pages.push(page);
    }
    assert_eq!(pages, [&all[..4], &all[4..]]);
    let of = async |filter: EventFilter| store.logged_after(&filter, None, 10).await.unwrap();
    let range = EventFilter {
        since: Some(NOW + 1),
        before: Some((NOW + 2, String::new())),
        ..EventFilter::default()
    };
    assert_eq!(of(range).await, all[2..4]);
    let project = EventFilter {
        project: Some("other".into()),
        ..EventFilter::default()
    };
    assert_eq!(of(project).await, all[4..]);
    let narrow = EventFilter {
        kind: Some("tested.one".into()),
        subject: Some("doc:c".into()),
        ..EventFilter::default()
    };
    assert_eq!(of(narrow).await, all[2..3]);
    let wild = EventFilter {
        subject: Some("doc:\0".into()),
        ..EventFilter::default()
    };
    assert_eq!(of(wild).await, []);
}

/// They stand in the outbox again, each once; the consumer that is named takes them once more, and no other.
pub async fn what_is_replayed_is_told_again(place: &dyn Place) {
    let store = place.open().await;
    let first = logged(&*store, "tested.again", "doc:a", "engine", NOW).await;
    let second = logged(&*store, "tested.again", "doc:b", "engine", NOW + 1).await;
    let kept = logged(&*store, "tested.again", "doc:c", "engine", NOW + 2).await;
    assert!(store.log_event("other", &first, NOW).await.unwrap());
    let events = [first, second];
    assert_eq!(store.replay(&events, None).await.unwrap(), 0);
    assert!(!store.log_event("other", &events[0], NOW).await.unwrap());
    assert_eq!(store.replay(&events, Some("other")).await.unwrap(), 1);
    assert!(store.log_event("other", &events[0], NOW).await.unwrap());
    assert_eq!(store.replay(&events, Some("nobody")).await.unwrap(), 0);
    assert_eq!(store.replay(&[], Some("log")).await.unwrap(), 0);
    let waiting = store.outbox(10).await.unwrap();
    let told: Vec<Event> = waiting.iter().map(|one| one.event.clone()).collect();
    assert_eq!(told, events);
    for event in [&events[0], &events[1], &kept] {
        assert!(!store.log_event("log", event, NOW).await.unwrap());
    }
    // Once the bus has them, they may be replayed anew.
    let fence = store.lease("outbox-relay", "node", LONG).await.unwrap();
    let positions: Vec<u64> = waiting.iter().map(|one| one.position).collect();
    store.confirm(&positions, &fence.unwrap()).await.unwrap();
    assert_eq!(store.replay(&events[1..], Some("log")).await.unwrap(), 1);
    assert_eq!(store.outbox(10).await.unwrap().len(), 1);
    assert!(store.log_event("log", &events[1], NOW).await.unwrap());
    assert!(!store.log_event("log", &kept, NOW).await.unwrap());
    let whole = store.logged(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(whole.len(), 3, "what is taken again is not logged twice");
}

//! What [`Events`](crate::store::Events) promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::{Event, Role};
use serde_json::json;
use uuid::Uuid;

use super::{
    LONG, NOW, Place, SHORT, id, is_conflict, is_missing, keep, some_document, some_project,
    some_user,
};
use crate::store::{Buried, Document, EventFilter, Fence, Keep, Project, Store};

/// An event of a type about a subject.
fn event(kind: &str, subject: &str) -> Event {
    Event::new(Uuid::now_v7(), kind, subject.into(), NOW)
        .in_project("engine")
        .by("ada")
        .with(json!({ "text": "größer 👩‍💻 '\"; --", "n": [1, -2, 9_007_199_254_740_991_u64], "none": null }))
}

/// Two events of one change.
fn told(kind: &str) -> [Event; 2] {
    [event(kind, "project:engine"), event(kind, "doc:main")]
}

async fn outbox(store: &dyn Store) -> Vec<Event> {
    let waiting = store.outbox(1000).await.unwrap();
    assert!(
        waiting
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position)
    );
    waiting.into_iter().map(|outgoing| outgoing.event).collect()
}

async fn held(store: &dyn Store) -> Fence {
    let lease = store.lease("outbox-relay", "node", LONG).await.unwrap();
    lease.expect("a free lease")
}

/// Each change that takes events leaves them in the outbox, whole and in order.
pub async fn events_land_with_their_change(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let project = Project {
        id: "engine".into(),
        name: "Engine".into(),
        created_at: NOW,
    };
    let document = Document {
        id: id(),
        project_id: "engine".into(),
        path: "main.rs".into(),
        created_at: NOW,
        updated_at: NOW,
        head: 0,
    };
    let all: Vec<[Event; 2]> = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .map(|name| told(&format!("tested.{name}")))
        .into();
    store.add_project(&project, &ada.id, &all[0]).await.unwrap();
    for (role, told) in [(Role::Viewer, &all[1]), (Role::Editor, &all[2])] {
        let set = store.set_member("engine", &bob.id, role, NOW, told).await;
        set.unwrap();
    }
    let removed = store.remove_member("engine", &bob.id, &all[3]).await;
    removed.unwrap();
    store.add_document(&document, &all[4]).await.unwrap();
    let renamed = store
        .rename_document(&document.id, None, "lib.rs", &all[5])
        .await;
    renamed.unwrap();
    let deleted = store.delete_document(&document.id, &all[6]).await;
    assert!(deleted.unwrap());
    assert!(store.delete_project("engine", &all[7]).await.unwrap());
    assert_eq!(outbox(&*store).await, all.concat());
}

/// A change that is refused, or changes nothing, leaves no event and no change of rights.
pub async fn a_refused_change_leaves_no_event(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "main.rs").await;
    some_document(&*store, &project, "taken.rs").await;
    let orphan = Project {
        id: "orphan".into(),
        ..project.clone()
    };
    let twin = Document {
        id: id(),
        ..document.clone()
    };
    let told = told("tested.refused");
    let head = store.rights_head().await.unwrap();

    assert!(is_conflict(
        store.add_project(&project, &bob.id, &told).await
    ));
    assert!(is_conflict(
        store.add_project(&orphan, "nobody", &told).await
    ));
    let nobody = store
        .set_member("engine", "nobody", Role::Viewer, NOW, &told)
        .await;
    assert!(is_conflict(nobody));
    // The role that she has, and one that would leave the project without an owner.
    for role in [Role::Owner, Role::Viewer] {
        let set = store.set_member("engine", &ada.id, role, NOW, &told).await;
        set.unwrap();
    }
    for user in [&ada.id, &bob.id] {
        store.remove_member("engine", user, &told).await.unwrap();
    }
    assert!(is_conflict(store.add_document(&twin, &told).await));
    let taken = store
        .rename_document(&document.id, None, "taken.rs", &told)
        .await;
    assert!(is_conflict(taken));
    assert!(is_missing(
        store.rename_document("nothing", None, "b.rs", &told).await
    ));
    let same = store
        .rename_document(&document.id, None, "main.rs", &told)
        .await;
    same.unwrap();
    assert!(!store.delete_document("nothing", &told).await.unwrap());
    assert!(!store.delete_project("nothing", &told).await.unwrap());

    assert_eq!(outbox(&*store).await, Vec::new());
    assert_eq!(store.rights_head().await.unwrap(), head);
}

/// The oldest come first, up to a limit; an id that is in the outbox is not added again.
pub async fn the_outbox_is_a_queue(place: &dyn Place) {
    let store = place.open().await;
    let events: Vec<Event> = (0..5)
        .map(|n| event("tested.queue", &format!("doc:{n}")))
        .collect();
    store.emit(&events[..2]).await.unwrap();
    store.emit(&[]).await.unwrap();
    store.emit(&events[1..]).await.unwrap();
    assert_eq!(outbox(&*store).await, events);
    let first = store.outbox(2).await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!((&first[0].event, &first[1].event), (&events[0], &events[1]));

    let fence = held(&*store).await;
    let confirmed = store.confirm(&[first[1].position, 1 << 40], &fence).await;
    confirmed.unwrap();
    store.confirm(&[], &fence).await.unwrap();
    let left = outbox(&*store).await;
    assert_eq!(left, [&events[..1], &events[2..]].concat());
    // What comes later stands behind what was confirmed.
    let all: Vec<u64> = store
        .outbox(10)
        .await
        .unwrap()
        .iter()
        .map(|o| o.position)
        .collect();
    store.confirm(&all, &fence).await.unwrap();
    store.emit(&events[..1]).await.unwrap();
    let next = store.outbox(10).await.unwrap();
    assert!(next[0].position > all[all.len() - 1]);
}

/// Whoever reads the outbox while many write finds each subject's events in the order of their
/// positions, and each writer's in the order in which they were written.
pub async fn the_outbox_keeps_the_order_of_a_subject(place: &dyn Place) {
    const WRITERS: usize = 4;
    const EACH: usize = 20;
    let store = place.open().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..EACH {
                    let mut told = ["doc:one", "doc:two"]
                        .map(|subject| event("tested.order", subject).with(json!([writer, n])));
                    // Some take the subjects the other way round: nobody waits for ever.
                    told.rotate_left(writer % 2);
                    store.emit(&told).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    loop {
        // Asked before the read: what was finished by then must be seen.
        let finished = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let read = store.outbox(1000).await.unwrap();
        for subject in ["doc:one", "doc:two"] {
            let known = seen.entry(subject.into()).or_default();
            let now: Vec<u64> = read
                .iter()
                .filter(|outgoing| outgoing.event.subject == subject)
                .map(|outgoing| outgoing.position)
                .collect();
            assert!(now.starts_with(known), "{subject}: {known:?} then {now:?}");
            *known = now;
        }
        if finished {
            assert_eq!(read.len(), 2 * WRITERS * EACH);
            let mut next = HashMap::new();
            for outgoing in read {
                let event = outgoing.event;
                let n = next
                    .entry((event.subject, event.data[0].as_u64().unwrap()))
                    .or_insert(0);
                assert_eq!(event.data[1], *n);
                *n += 1;
            }
            break;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Only who holds the lease confirms.
pub async fn a_lost_fence_confirms_nothing(place: &dyn Place) {
    let store = place.open().await;
    store.emit(&told("tested.fence")).await.unwrap();
    let positions: Vec<u64> = store
        .outbox(9)
        .await
        .unwrap()
        .iter()
        .map(|o| o.position)
        .collect();
    let never = Fence {
        lease: "outbox-relay".into(),
        number: 1,
    };
    assert!(is_conflict(store.confirm(&positions, &never).await));
    let lost = store.lease("outbox-relay", "one", SHORT).await.unwrap();
    let lost = lost.unwrap();
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    assert!(is_conflict(store.confirm(&positions, &lost).await));
    let held = store.lease("outbox-relay", "two", LONG).await.unwrap();
    let held = held.unwrap();
    assert!(is_conflict(store.confirm(&positions, &lost).await));
    let other = Fence {
        lease: "another".into(),
        ..held.clone()
    };
    assert!(is_conflict(store.confirm(&positions, &other).await));
    assert_eq!(outbox(&*store).await.len(), 2);
    store.confirm(&positions, &held).await.unwrap();
    assert_eq!(outbox(&*store).await.len(), 0);
}

/// However often an event is delivered, and to however many at once, it is taken once per consumer.
pub async fn an_event_is_taken_once_per_consumer(place: &dyn Place) {
    let store = place.open().await;
    let event = event("tested.once", "doc:main");
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (store, event) = (Arc::clone(&store), event.clone());
            tokio::spawn(async move { store.log_event("one", &event, NOW).await.unwrap() })
        })
        .collect();
    let mut taken = 0;
    for call in calls {
        taken += u32::from(call.await.unwrap());
    }
    assert_eq!(taken, 1);
    assert!(store.log_event("two", &event, NOW).await.unwrap());
    assert!(!store.log_event("two", &event, NOW).await.unwrap());
    let logged = store.logged(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(logged, [event]);
}

/// Newest first by the time of the event, then by id; after a cursor, up to a limit, by filter.
pub async fn the_log_is_paged_and_filtered(place: &dyn Place) {
    let store = place.open().await;
    let mut events = Vec::new();
    for n in 0..12_u64 {
        let kind = ["tested.a", "tested.b"][(n % 2) as usize];
        let mut event = event(kind, &format!("doc:{}", n % 3));
        event.project = (n % 4 != 3).then(|| format!("p{}", n % 4));
        // Some happened at the same moment, and they did not come in order.
        event.time = NOW + n / 2;
        events.push(event);
    }
    for n in [5, 0, 11, 3, 7, 1, 9, 2, 10, 4, 8, 6] {
        let event: &Event = &events[n];
        assert!(store.log_event("log", event, NOW).await.unwrap());
    }
    events.reverse();
    let (p1, doc2, kind_b) = (
        Some("p1".to_owned()),
        Some("doc:2".to_owned()),
        Some("tested.b".to_owned()),
    );
    for bits in 0..8 {
        let mut filter = EventFilter {
            project: (bits & 1 > 0).then(|| p1.clone()).flatten(),
            subject: (bits & 2 > 0).then(|| doc2.clone()).flatten(),
            kind: (bits & 4 > 0).then(|| kind_b.clone()).flatten(),
            since: None,
            before: None,
        };
        let expected = events.iter().filter(|event| {
            (filter.project.is_none() || event.project == filter.project)
                && filter
                    .subject
                    .as_ref()
                    .is_none_or(|subject| event.subject == *subject)
                && filter.kind.as_ref().is_none_or(|kind| event.kind == *kind)
        });
        let expected: Vec<Event> = expected.cloned().collect();
        assert!(!expected.is_empty(), "{filter:?} asks for nothing");
        let mut seen = Vec::new();
        loop {
            let page = store.logged(&filter, 2).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            filter.before = Some((last.time, last.id.to_string()));
            seen.extend(page);
        }
        assert_eq!(seen, expected, "{filter:?}");
    }
    // By time: from one on, up to before another.
    for kind in [None, kind_b] {
        let filter = EventFilter {
            kind,
            since: Some(NOW + 2),
            before: Some((NOW + 5, String::new())),
            ..EventFilter::default()
        };
        let within = events.iter().filter(|event| {
            (NOW + 2..NOW + 5).contains(&event.time)
                && filter.kind.as_ref().is_none_or(|kind| event.kind == *kind)
        });
        let within: Vec<Event> = within.cloned().collect();
        assert!(within.len() >= 3);
        assert_eq!(store.logged(&filter, 100).await.unwrap(), within);
    }
    let foreign = EventFilter {
        project: Some("p\0".into()),
        before: Some((u64::MAX, "\0".into())),
        ..EventFilter::default()
    };
    assert_eq!(store.logged(&foreign, 2).await.unwrap(), []);
}

/// What was given up is kept whole, oldest first; an event once per consumer, what has no id each time.
pub async fn what_is_given_up_is_kept(place: &dyn Place) {
    let store = place.open().await;
    let named = Buried {
        consumer: "bridge".into(),
        kind: "tested.poison".into(),
        event_id: Some(id()),
        reason: "the envelope can't be read: größer".into(),
        body: vec![0, 159, 146, 150, 255],
        at: NOW,
    };
    let again = Buried {
        reason: "another".into(),
        ..named.clone()
    };
    let other = Buried {
        consumer: "eventlog".into(),
        ..named.clone()
    };
    let nameless = Buried {
        event_id: None,
        body: Vec::new(),
        ..named.clone()
    };
    for message in [&named, &again, &other, &nameless, &nameless] {
        store.bury(message).await.unwrap();
    }
    let kept = [named, other, nameless.clone(), nameless];
    assert_eq!(store.buried(10).await.unwrap(), kept);
    assert_eq!(store.buried(2).await.unwrap(), kept[..2]);
}

/// Housekeeping forgets who took what long ago, and leaves the log and the outbox alone.
pub async fn housekeeping_forgets_old_deliveries(place: &dyn Place) {
    let store = place.open().await;
    let (old, new) = (event("tested.old", "doc:a"), event("tested.new", "doc:a"));
    store.log_event("log", &old, NOW).await.unwrap();
    store.log_event("log", &new, NOW + 10).await.unwrap();
    store.emit(std::slice::from_ref(&old)).await.unwrap();
    let keep = Keep {
        inbox_since: NOW + 10,
        ..keep(0, 10)
    };
    assert_eq!(store.housekeep(&keep).await.unwrap(), 1);
    assert_eq!(store.housekeep(&keep).await.unwrap(), 0);
    assert!(!store.log_event("log", &new, NOW + 20).await.unwrap());
    assert!(store.log_event("log", &old, NOW + 20).await.unwrap());
    assert_eq!(outbox(&*store).await, [old]);
    let logged = store.logged(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(logged.len(), 2);
}

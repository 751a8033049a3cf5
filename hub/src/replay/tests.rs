//! Replays on SQLite, and the times that people write.

use std::sync::Arc;

use backplane::store::sqlite::SqliteStore;
use backplane::store::{Events as _, Outgoing};
use protocol::Event;
use uuid::Uuid;

use super::*;

#[test]
fn times_are_read_as_people_write_them() {
    for (text, millis) in [
        ("0", 0),
        ("1700000000000", 1_700_000_000_000),
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14 22:13:20.1234Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20.5z", 1_700_000_000_500),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
        ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("2000-03-01T00:00:00Z", 951_868_800_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
    ] {
        assert_eq!(moment(text), Ok(millis), "{text}");
    }
    for wrong in [
        "",
        "yesterday",
        "-1",
        "99999999999999999999",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-02-29T00:00:00Z",
        "2023-13-01T00:00:00Z",
        "2023-11-14T24:00:00Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20+0200",
        "2023-11-14T22:13:20+24:00",
        "2023/11/14T22:13:20Z",
        "1969-12-31T23:59:59Z",
        "2023-11-14T22:13:2üZ",
        "2023-11-14T22:13:20ü",
    ] {
        assert!(moment(wrong).is_err(), "{wrong}");
    }
}

fn asked(from: u64, to: u64) -> Replay {
    Replay {
        from,
        to,
        kind: None,
        project: None,
        subject: None,
        consumer: None,
        dry_run: false,
    }
}

async fn store(folder: &tempfile::TempDir, events: u64) -> (Arc<SqliteStore>, Vec<Event>) {
    let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
    let store = Arc::new(store.unwrap());
    let mut all = Vec::new();
    for n in 0..events {
        let subject = format!("doc:{}", n % 2);
        let event = Event::new(Uuid::now_v7(), "tested.replay", subject, 1000 + n / 3);
        assert!(store.log_event("eventlog", &event, 1).await.unwrap());
        all.push(event);
    }
    (store, all)
}

async fn outbox(store: &SqliteStore) -> Vec<Event> {
    let waiting = store.outbox(10_000).await.unwrap();
    waiting
        .into_iter()
        .map(|Outgoing { event, .. }| event)
        .collect()
}

#[tokio::test]
async fn a_range_is_told_again_oldest_first_over_all_pages() {
    let folder = tempfile::tempdir().unwrap();
    let events = u64::from(PAGE) * 2 + 7;
    let (store, all) = store(&folder, events).await;
    let dry = Replay {
        dry_run: true,
        ..asked(0, 1 << 40)
    };
    let counted = tell_again(&*store, &dry).await.unwrap();
    assert_eq!((counted.events, outbox(&store).await.len()), (events, 0));
    let range = asked(1001, 1000 + events / 3);
    let done = tell_again(&*store, &range).await.unwrap();
    let told = outbox(&store).await;
    let expected: Vec<Event> = all
        .iter()
        .filter(|event| (range.from..range.to).contains(&event.time))
        .cloned()
        .collect();
    assert_eq!(done.events, expected.len() as u64);
    assert_eq!(told, expected);
    // Twice at once is once.
    tell_again(&*store, &range).await.unwrap();
    assert_eq!(outbox(&store).await.len(), expected.len());
    let narrow = Replay {
        subject: Some("doc:1".into()),
        kind: Some("tested.other".into()),
        ..asked(0, 1 << 40)
    };
    let none = tell_again(&*store, &narrow).await.unwrap();
    assert_eq!(none, Done::default());
}

#[tokio::test]
async fn only_the_named_consumer_takes_them_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, all) = store(&folder, 4).await;
    assert!(store.log_event("other", &all[0], 1).await.unwrap());
    let named = Replay {
        consumer: Some("other".into()),
        ..asked(0, 2000)
    };
    let done = tell_again(&*store, &named).await.unwrap();
    assert_eq!((done.events, done.forgotten), (4, 1));
    assert!(done.say(&named).contains("other had taken 1 of them"));
    for event in &all {
        assert!(!store.log_event("eventlog", event, 1).await.unwrap());
        assert!(store.log_event("other", event, 1).await.unwrap());
    }
    let nobody = Replay {
        consumer: Some("nobody".into()),
        ..asked(0, 2000)
    };
    let done = tell_again(&*store, &nobody).await.unwrap();
    assert!(done.say(&nobody).contains("is that a consumer's name?"));
}

#[tokio::test]
async fn a_failure_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = store(&folder, 4).await;
    store.close().await;
    let (done, error) = tell_again(&*store, &asked(0, 2000)).await.unwrap_err();
    assert_eq!(done.events, 0);
    assert!(matches!(error, StoreError::Unavailable(_)));
}

//! The meter: by hour, by user and project, and over a store that fails.

use backplane::store::sqlite::SqliteStore;
use backplane::store::usage::{Granularity, Period};
use backplane::store::{Project, Projects as _, Store, Usage as _, UsageOf, User, Users as _};

use super::*;

/// Ten seconds into an hour.
const NOW: u64 = 472_222 * HOUR + 10_000;

async fn open(folder: &tempfile::TempDir) -> SqliteStore {
    let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
    let store = store.unwrap();
    for name in ["ada", "bob"] {
        let user = User {
            id: name.into(),
            login: name.into(),
            name: name.into(),
            password_hash: "x".into(),
            created_at: NOW,
        };
        store.add_user(&user).await.unwrap();
    }
    let project = Project {
        id: "engine".into(),
        name: "Engine".into(),
        created_at: NOW,
    };
    store.add_project(&project, "ada", &[]).await.unwrap();
    store
}

async fn hours(store: &SqliteStore, of: UsageOf<'_>) -> Vec<Period> {
    let read = store.usage(of, 0, u64::MAX / 2, Granularity::Hour);
    read.await.unwrap()
}

#[test]
fn time_lies_in_the_hours_that_it_was_in() {
    let of = |elapsed, now| hours_of(elapsed, now).collect::<Vec<_>>();
    let hour = hour_of(NOW);
    assert_eq!(of(0, NOW), []);
    assert_eq!(of(10_000, NOW), [(hour, 10_000)]);
    assert_eq!(of(10_001, NOW), [(hour, 10_000), (hour - HOUR, 1)]);
    assert_eq!(of(5, hour), [(hour - HOUR, 5)]);
    let long = of(2 * HOUR + 10_000, NOW);
    assert_eq!(
        long,
        [(hour, 10_000), (hour - HOUR, HOUR), (hour - 2 * HOUR, HOUR)]
    );
    assert_eq!(of(u64::MAX, 7), [(0, 7)]);
    assert_eq!(left_of_hour(NOW), HOUR - 10_000);
    assert_eq!(left_of_hour(hour), HOUR);
}

#[test]
fn a_project_is_the_only_one_or_none() {
    let (engine, again, other): (Arc<str>, Arc<str>, Arc<str>) =
        ("engine".into(), "engine".into(), "other".into());
    assert_eq!(only([].into_iter()), None);
    assert_eq!(only([&engine, &again].into_iter()), Some(&engine));
    assert_eq!(only([&engine, &other].into_iter()), None);
}

#[tokio::test]
async fn everything_is_written_once_in_its_cell() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let meter = Meter::default();
    let (ada, engine): (Arc<str>, Arc<str>) = ("ada".into(), "engine".into());
    let held = meter.tally(&ada, "engine");
    held.message();
    meter.tally(&ada, "engine").edit();
    meter.tally(&"nobody".into(), "engine").edit();
    meter.connected(&ada, Some(&engine), (15_000, NOW), (3, 4));
    meter.connected(&ada, None, (1, NOW), (0, 0));
    for _ in 0..2 {
        meter.write(&store, NOW).await.unwrap();
    }
    let project = hours(&store, UsageOf::Project("engine")).await;
    let before = Amounts {
        connected_ms: 5_000,
        ..Amounts::default()
    };
    let now = Amounts {
        connected_ms: 10_000,
        messages: 1,
        edits: 1,
        bytes_in: 3,
        bytes_out: 4,
        ..Amounts::default()
    };
    let amounts: Vec<Amounts> = project.iter().map(|hour| hour.amounts).collect();
    assert_eq!(amounts, [before, now]);
    let all = hours(&store, UsageOf::User("ada")).await;
    assert_eq!(all[1].amounts.connected_ms, 10_001);
    // A tally that is held counts on; the others are gone.
    assert_eq!(lock(&meter.tallies).len(), 1);
    held.edit();
    drop(held);
    meter.write(&store, NOW).await.unwrap();
    assert!(lock(&meter.tallies).is_empty());
    let all = hours(&store, UsageOf::User("ada")).await;
    assert_eq!(all[1].amounts.edits, 2);
}

#[tokio::test]
async fn what_a_failing_store_does_not_take_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let meter = Meter::default();
    let bob: Arc<str> = "bob".into();
    meter.tally(&bob, "engine").edit();
    meter.connected(&bob, None, (7, NOW), (1, 2));
    let broken = SqliteStore::open(&folder.path().join("other.db")).await;
    let broken = broken.unwrap();
    broken.close().await;
    for _ in 0..2 {
        assert!(meter.write(&broken, NOW).await.is_err());
    }
    // It is of the hour in which it was used.
    meter.write(&store, NOW + HOUR).await.unwrap();
    meter.write(&store, NOW + HOUR).await.unwrap();
    let used = hours(&store, UsageOf::User("bob")).await;
    assert_eq!(used.len(), 1);
    let amounts = used[0].amounts;
    assert_eq!(used[0].start, hour_of(NOW));
    assert_eq!((amounts.edits, amounts.connected_ms), (1, 7));
    assert_eq!((amounts.bytes_in, amounts.bytes_out), (1, 2));
}

#[test]
fn what_waits_is_bounded_and_the_loss_is_known() {
    let mut waiting = Waiting::default();
    let one = Amounts {
        edits: 1,
        ..Amounts::default()
    };
    let cell = |n: u64| (Arc::from(format!("user {n}")), 0, None);
    for n in 0..5 {
        waiting.add(cell(n), &one, 3);
        waiting.add(cell(0), &one, 3);
    }
    assert_eq!((waiting.cells.len(), waiting.lost), (3, 2));
    assert_eq!(waiting.cells[&cell(0)].edits, 6);
}

//! Usage tracking on a real store: exact, however often and wherever an event is delivered.

use std::sync::Arc;

use backplane::bus::{Delivery, Handler, Outcome};
use backplane::store::sqlite::SqliteStore;
use backplane::store::usage::{Granularity, Period};
use backplane::store::{Amounts, Project, Projects, Store, Usage, UsageOf, User, Users};
use protocol::Event;
use protocol::event::kind;
use serde_json::json;
use uuid::Uuid;
use workers::UsageTracking;

/// 30 minutes before the end of an hour.
const NOW: u64 = 1_700_001_000_000;
const EVENTS: u64 = 1_000;

async fn store(folder: &tempfile::TempDir) -> Arc<SqliteStore> {
    let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
    let store = Arc::new(store.unwrap());
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
    for name in ["engine", "other"] {
        let project = Project {
            id: name.into(),
            name: name.into(),
            created_at: NOW,
        };
        store.add_project(&project, "ada", &[]).await.unwrap();
    }
    store
}

fn tracking(store: &Arc<SqliteStore>) -> UsageTracking {
    UsageTracking {
        store: Arc::clone(store) as Arc<dyn Store>,
    }
}

async fn periods(store: &SqliteStore, of: UsageOf<'_>) -> Vec<Period> {
    let read = store.usage(of, 0, u64::MAX / 2, Granularity::Hour);
    read.await.unwrap()
}

async fn total(store: &SqliteStore, of: UsageOf<'_>) -> Amounts {
    let all = periods(store, of).await;
    all.iter()
        .fold(Amounts::default(), |sum, one| sum.plus(&one.amounts))
}

/// The nth event: by ada or bob, in one of two projects, in one of two hours; every fifth asks for a plan.
fn event(n: u64) -> Event {
    let kind = if n.is_multiple_of(5) {
        kind::PLAN_REQUESTED
    } else {
        kind::AI_USED
    };
    let time = NOW + (n % 2) * 3_600_000;
    Event::new(Uuid::now_v7(), kind, format!("plan:{n}"), time)
        .in_project(if n.is_multiple_of(3) {
            "other"
        } else {
            "engine"
        })
        .by(if n.is_multiple_of(7) { "bob" } else { "ada" })
        .with(json!({ "model": "m", "tokens_in": n, "tokens_out": 1, "estimated": false }))
}

/// Mixes by a generator with a fixed seed: the same order each time.
fn shuffle<T>(list: &mut [T]) {
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..list.len()).rev() {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        list.swap(at, (dice % (at as u64 + 1)) as usize);
    }
}

fn expected(which: impl Fn(u64) -> bool) -> Amounts {
    let numbers = (0..EVENTS).filter(|n| which(*n));
    numbers.fold(Amounts::default(), |sum, n| {
        let one = if n.is_multiple_of(5) {
            Amounts {
                plans: 1,
                ..Amounts::default()
            }
        } else {
            Amounts {
                tokens_in: n,
                tokens_out: 1,
                ..Amounts::default()
            }
        };
        sum.plus(&one)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_events_delivered_thrice_to_two_consumers_are_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let events: Vec<Event> = (0..EVENTS).map(event).collect();
    let mut deliveries: Vec<Delivery> = Vec::new();
    for _ in 0..3 {
        deliveries.extend(events.iter().map(|event| Delivery::of(event).unwrap()));
    }
    shuffle(&mut deliveries);
    let mut halves = deliveries.chunks(deliveries.len() / 2).map(<[_]>::to_vec);
    let consume = |deliveries: Vec<Delivery>| {
        let tracking = tracking(&store);
        tokio::spawn(async move {
            for delivery in deliveries {
                assert_eq!(tracking.handle(&delivery).await, Outcome::Done);
            }
        })
    };
    let (one, two) = (
        consume(halves.next().unwrap()),
        consume(halves.next().unwrap()),
    );
    one.await.unwrap();
    two.await.unwrap();
    let ada = total(&store, UsageOf::User("ada")).await;
    assert_eq!(ada, expected(|n| !n.is_multiple_of(7)));
    let bob = total(&store, UsageOf::User("bob")).await;
    assert_eq!(bob, expected(|n| n.is_multiple_of(7)));
    let other = total(&store, UsageOf::Project("other")).await;
    assert_eq!(other, expected(|n| n.is_multiple_of(3)));
    let hours = periods(&store, UsageOf::Project("engine")).await;
    let hours: Vec<Amounts> = hours.into_iter().map(|hour| hour.amounts).collect();
    let engine = |odd: bool| expected(move |n| !n.is_multiple_of(3) && n.is_multiple_of(2) != odd);
    assert_eq!(hours, [engine(false), engine(true)]);
}

#[tokio::test]
async fn who_is_no_user_is_left_out_and_what_is_wrong_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let tracking = tracking(&store);
    let mut nobody = event(1);
    nobody.actor = None;
    let service = event(1).by("planner");
    let gone = event(1).in_project("gone");
    for event in [nobody, service, gone] {
        let delivery = Delivery::of(&event).unwrap();
        assert_eq!(tracking.handle(&delivery).await, Outcome::Done);
    }
    let wrong = event(1).with(json!({ "tokens_in": "many" }));
    let mut early = event(1);
    early.time = u64::MAX;
    for event in [wrong, early] {
        let outcome = tracking.handle(&Delivery::of(&event).unwrap()).await;
        let Outcome::Poison(reason) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            reason.contains("data") || reason.contains("ahead"),
            "{reason}"
        );
    }
    for user in ["ada", "bob"] {
        assert_eq!(periods(&store, UsageOf::User(user)).await, []);
    }
    // What belongs to no project counts for the user all the same.
    let mut alone = event(1);
    alone.project = None;
    let delivery = Delivery::of(&alone).unwrap();
    assert_eq!(tracking.handle(&delivery).await, Outcome::Done);
    assert_eq!(total(&store, UsageOf::User("ada")).await.tokens_in, 1);
}

//! What [`Usage`](crate::store::Usage) promises.

use std::sync::Arc;

use futures::future::join_all;

use super::{NOW, Place, id, some_project, some_user};
use crate::store::usage::{CountedFor, DAY, Granularity, HOUR, Period, hour_of};
use crate::store::{Amounts, Store, UsageOf, Used, User};

/// The first hour of a day.
const MORNING: u64 = NOW - NOW % DAY;

fn amounts(n: u64) -> Amounts {
    Amounts {
        connected_ms: n,
        messages: 2 * n,
        bytes_in: 3 * n,
        bytes_out: 4 * n,
        edits: 5 * n,
        plans: 6 * n,
        tokens_in: 7 * n,
        tokens_out: 8 * n,
    }
}

fn used(user: &User, project: Option<&str>, time: u64, n: u64) -> Used {
    Used {
        user_id: user.id.clone(),
        project_id: project.map(str::to_owned),
        time,
        amounts: amounts(n),
    }
}

fn period(start: u64, n: u64) -> Period {
    Period {
        start,
        amounts: amounts(n),
    }
}

async fn add(store: &dyn Store, all: &[Used]) {
    assert!(store.add_usage(all, None, NOW).await.unwrap());
}

async fn hours(store: &dyn Store, of: UsageOf<'_>) -> Vec<Period> {
    let hours = store.usage(of, 0, u64::MAX, Granularity::Hour);
    hours.await.unwrap()
}

/// Every amount, in the hour of its time, together with what was there.
pub async fn usage_is_added_to_its_hour(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    add(&*store, &[]).await;
    let all = [
        used(&ada, None, MORNING, 1),
        used(&ada, None, MORNING + HOUR - 1, 10),
        used(&ada, None, MORNING + HOUR, 100),
    ];
    add(&*store, &all).await;
    add(&*store, &all[..1]).await;
    let expected = [period(MORNING, 12), period(MORNING + HOUR, 100)];
    assert_eq!(hours(&*store, UsageOf::User(&ada.id)).await, expected);
    assert_eq!(hours(&*store, UsageOf::User("nobody")).await, []);
}

/// However often, and by however many at once; another consumer counts for itself.
pub async fn what_is_counted_for_an_event_is_counted_once(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let event = id();
    let calls = (0..8).map(|_| {
        let (store, event, all) = (
            Arc::clone(&store),
            event.clone(),
            [used(&ada, None, NOW, 1)],
        );
        tokio::spawn(async move {
            let event = CountedFor {
                consumer: "usage",
                event_id: &event,
            };
            store.add_usage(&all, Some(event), NOW).await.unwrap()
        })
    });
    let mut counted = 0;
    for call in join_all(calls).await {
        counted += u32::from(call.unwrap());
    }
    assert_eq!(counted, 1);
    let other = CountedFor {
        consumer: "another",
        event_id: &event,
    };
    let all = [used(&ada, None, NOW, 1)];
    assert!(store.add_usage(&all, Some(other), NOW).await.unwrap());
    let expected = [period(hour_of(NOW), 2)];
    assert_eq!(hours(&*store, UsageOf::User(&ada.id)).await, expected);
}

/// A user's over all projects and none, a project's over all users; by hour, day or in all, within a range.
pub async fn usage_is_summed_by_user_and_project(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    some_project(&*store, "engine", &ada).await;
    some_project(&*store, "other", &ada).await;
    let at = |hour: u64| MORNING + hour * HOUR;
    let all = [
        used(&ada, Some("engine"), at(1), 1),
        used(&ada, Some("other"), at(1), 2),
        used(&ada, None, at(5), 4),
        used(&bob, Some("engine"), at(1), 8),
        used(&ada, Some("engine"), at(24), 16),
        used(&bob, Some("engine"), at(49), 32),
    ];
    add(&*store, &all).await;
    let (user, project) = (UsageOf::User(&ada.id), UsageOf::Project("engine"));
    let ada_hours = [period(at(1), 3), period(at(5), 4), period(at(24), 16)];
    assert_eq!(hours(&*store, user).await, ada_hours);
    let engine_hours = [period(at(1), 9), period(at(24), 16), period(at(49), 32)];
    assert_eq!(hours(&*store, project).await, engine_hours);
    let sum = async |of, from, to, granularity| {
        let sums = store.usage(of, from, to, granularity);
        sums.await.unwrap()
    };
    let days = sum(user, 0, u64::MAX, Granularity::Day).await;
    assert_eq!(days, [period(at(0), 7), period(at(24), 16)]);
    let days = sum(project, at(2), at(49), Granularity::Day).await;
    assert_eq!(days, [period(at(24), 16)]);
    let total = sum(project, at(1), at(49) + 1, Granularity::Total).await;
    assert_eq!(total, [period(0, 57)]);
    assert_eq!(sum(project, at(2), at(24), Granularity::Total).await, []);
}

/// The rest of the batch counts.
pub async fn usage_of_who_is_gone_is_left_out(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let nobody = Used {
        user_id: "nobody".into(),
        ..used(&ada, None, NOW, 1)
    };
    let all = [
        nobody,
        used(&ada, Some("nothing"), NOW, 2),
        used(&ada, Some("engine"), NOW, 4),
        used(&ada, None, NOW, 8),
    ];
    add(&*store, &all).await;
    let now = hour_of(NOW);
    assert_eq!(
        hours(&*store, UsageOf::User(&ada.id)).await,
        [period(now, 12)]
    );
    assert_eq!(hours(&*store, UsageOf::Project("nothing")).await, []);
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(
        hours(&*store, UsageOf::User(&ada.id)).await,
        [period(now, 8)]
    );
}

/// Nodes that add to the same cells in any order lose nothing and never wait for each other for good.
pub async fn cells_are_added_to_from_all_sides(place: &dyn Place) {
    let store = place.open().await;
    let mut users = Vec::new();
    for n in 0..6 {
        users.push(some_user(&*store, &format!("user-{n}")).await);
    }
    some_project(&*store, "engine", &users[0]).await;
    let calls = (0..8_usize).map(|n| {
        let store = Arc::clone(&store);
        let mut all: Vec<Used> = users
            .iter()
            .flat_map(|user| {
                [
                    used(user, Some("engine"), NOW, 1),
                    used(user, None, NOW + HOUR, 1),
                ]
            })
            .collect();
        all.rotate_left(n);
        if n % 2 == 0 {
            all.reverse();
        }
        tokio::spawn(async move {
            for _ in 0..5 {
                add(&*store, &all).await;
            }
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    let now = hour_of(NOW);
    for user in &users {
        let expected = [period(now, 40), period(now + HOUR, 40)];
        assert_eq!(hours(&*store, UsageOf::User(&user.id)).await, expected);
    }
    let all = hours(&*store, UsageOf::Project("engine")).await;
    assert_eq!(all, [period(now, 240)]);
}

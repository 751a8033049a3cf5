//! What [`Nodes`](crate::store::Nodes) promises. Lifetimes go by the database's clock, so these tests
//! wait for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{LONG, Place, SHORT, keep};
use crate::store::{Fence, NodeRecord, Presence, Store};

fn node(id: &str, broker: Option<&str>) -> NodeRecord {
    NodeRecord {
        id: id.into(),
        address: format!("10.0.0.1:{}", id.len()),
        broker: broker.map(str::to_owned),
        version: "0.1.0".into(),
    }
}

async fn enter(store: &dyn Store, node: &NodeRecord, ttl: Duration) -> bool {
    store.enter(node, ttl).await.unwrap() == Presence::Admitted
}

async fn lease(store: &dyn Store, owner: &str, ttl: Duration) -> Option<Fence> {
    store.lease("job", owner, ttl).await.unwrap()
}

/// Until what was given for [`SHORT`] is over.
async fn a_while() {
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
}

/// Of nodes that come at once, and must not meet, those of one kind are admitted; the others are told
/// of one who is there.
pub async fn strangers_that_come_at_once_do_not_meet(place: &dyn Place) {
    let store = place.open().await;
    for (round, brokers) in [
        [None, None, None, None],
        [
            Some("redis:a"),
            Some("redis:b"),
            Some("redis:a"),
            Some("redis:b"),
        ],
        [Some("redis:a"), None, Some("redis:a"), None],
    ]
    .into_iter()
    .enumerate()
    {
        let nodes: Vec<NodeRecord> = (0..8)
            .map(|n| node(&format!("node-{round}-{n}"), brokers[n % 4]))
            .collect();
        let calls = nodes.iter().map(|node| {
            let (store, node) = (Arc::clone(&store), node.clone());
            tokio::spawn(async move { store.enter(&node, LONG).await.unwrap() })
        });
        let answers = join_all(calls).await;
        let alive = store.nodes().await.unwrap();
        let brokers: HashSet<&Option<String>> = alive.iter().map(|node| &node.broker).collect();
        assert_eq!(brokers.len(), 1, "{alive:?}");
        assert!(alive[0].broker.is_some() || alive.len() == 1, "{alive:?}");
        for (node, answer) in nodes.iter().zip(answers) {
            match answer.unwrap() {
                Presence::Admitted => assert!(alive.contains(node), "{node:?}"),
                Presence::Refused(other) => {
                    assert!(alive.contains(&other) && !alive.contains(node), "{node:?}");
                    assert!(node.broker.is_none() || node.broker != other.broker);
                }
            }
        }
        for node in alive {
            store.depart(&node.id).await.unwrap();
        }
    }
}

/// All nodes of one broker are there together, and are listed by id as they last said.
pub async fn nodes_of_one_broker_meet(place: &dyn Place) {
    let store = place.open().await;
    let mut nodes: Vec<NodeRecord> = ["c", "a", "b"].map(|id| node(id, Some("redis:one"))).into();
    for node in &nodes {
        assert!(enter(&*store, node, LONG).await);
    }
    nodes[0].address = "10.0.0.2:1".into();
    assert!(enter(&*store, &nodes[0], LONG).await);
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(store.nodes().await.unwrap(), nodes);
}

/// A node whose time is over is not there any more; renewed in time it is.
pub async fn a_node_lives_until_its_time_is_over(place: &dyn Place) {
    let store = place.open().await;
    let (one, two) = (node("one", None), node("two", None));
    assert!(enter(&*store, &one, SHORT).await);
    assert_eq!(
        store.enter(&two, LONG).await.unwrap(),
        Presence::Refused(one.clone())
    );
    assert!(enter(&*store, &one, SHORT * 4).await);
    a_while().await;
    assert!(!enter(&*store, &two, LONG).await, "the node had renewed");
    tokio::time::sleep(SHORT * 3).await;
    assert_eq!(store.nodes().await.unwrap(), []);
    assert!(enter(&*store, &two, LONG).await);
    assert_eq!(
        store.enter(&one, LONG).await.unwrap(),
        Presence::Refused(two)
    );
}

/// Who departs is gone at once, with its leases; those of others stay.
pub async fn who_departs_leaves_nothing_held(place: &dyn Place) {
    let store = place.open().await;
    assert!(enter(&*store, &node("one", None), LONG).await);
    let held = lease(&*store, "one", LONG).await.unwrap();
    let others = store.lease("other", "two", LONG).await.unwrap();
    store.depart("one").await.unwrap();
    store.depart("one").await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), []);
    assert!(enter(&*store, &node("two", None), LONG).await);
    let taken = lease(&*store, "two", LONG).await.unwrap();
    assert!(taken.number > held.number);
    assert_eq!(store.lease("other", "two", LONG).await.unwrap(), others);
    assert_eq!(store.lease("other", "three", LONG).await.unwrap(), None);
}

/// Of those who want a lease at once one gets it; other leases are other leases.
pub async fn a_lease_is_taken_once(place: &dyn Place) {
    let store = place.open().await;
    let calls = (0..8).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { lease(&*store, &format!("node-{n}"), LONG).await })
    });
    let answers = join_all(calls).await;
    let held: Vec<Fence> = answers
        .into_iter()
        .filter_map(|answer| answer.unwrap())
        .collect();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0].lease, "job");
    let other = store.lease("other", "somebody", LONG).await.unwrap();
    assert_ne!(other.unwrap().lease, held[0].lease);
}

/// A renewed lease keeps its fence, and lasts.
pub async fn a_renewed_lease_keeps_its_fence(place: &dyn Place) {
    let store = place.open().await;
    let held = lease(&*store, "one", SHORT * 2).await.unwrap();
    assert_eq!(lease(&*store, "two", LONG).await, None);
    assert_eq!(lease(&*store, "one", LONG).await, Some(held.clone()));
    tokio::time::sleep(SHORT * 2 + Duration::from_millis(100)).await;
    assert_eq!(lease(&*store, "two", LONG).await, None);
    assert_eq!(lease(&*store, "one", LONG).await, Some(held));
}

/// Every change of holder raises the fence: by time, by release, after housekeeping, and back to who
/// had it.
pub async fn a_new_holder_has_a_higher_fence(place: &dyn Place) {
    let store = place.open().await;
    let mut numbers = vec![lease(&*store, "one", SHORT).await.unwrap().number];
    a_while().await;
    numbers.push(lease(&*store, "two", SHORT).await.unwrap().number);
    a_while().await;
    numbers.push(lease(&*store, "two", SHORT).await.unwrap().number);
    a_while().await;
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 1);
    numbers.push(lease(&*store, "one", LONG).await.unwrap().number);
    store.release("job", "two").await.unwrap();
    assert_eq!(lease(&*store, "two", LONG).await, None, "another's release");
    store.release("job", "one").await.unwrap();
    store.release("job", "one").await.unwrap();
    numbers.push(lease(&*store, "two", LONG).await.unwrap().number);
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "{numbers:?}"
    );
}

/// Housekeeping forgets nodes and leases whose time is over, and no others.
pub async fn housekeeping_forgets_the_dead(place: &dyn Place) {
    let store = place.open().await;
    let (dead, alive) = (
        node("dead", Some("redis:a")),
        node("alive", Some("redis:a")),
    );
    assert!(enter(&*store, &dead, SHORT).await);
    assert!(enter(&*store, &alive, LONG).await);
    store.lease("over", "dead", SHORT).await.unwrap().unwrap();
    let held = lease(&*store, "alive", LONG).await;
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 0);
    a_while().await;
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 2);
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 0);
    assert_eq!(store.nodes().await.unwrap(), [alive]);
    assert_eq!(lease(&*store, "alive", LONG).await, held);
}

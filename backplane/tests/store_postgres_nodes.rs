//! The PostgreSQL store when several nodes write at once.

#[path = "servers/contents.rs"]
mod contents;
#[path = "servers/database.rs"]
mod database;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backplane::store::postgres::PostgresStore;
use backplane::store::{Append, Docs, Events, Nodes, Projects, Rights, Snapshot, Store};
use bytes::Bytes;
use contents::{documents, event, share, text, user};
use database::{Database, run};
use protocol::Role;

/// Four nodes commit groups of overlapping documents in every order: nobody waits for a deadlock to be
/// found, and each document's log has no gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_commits_of_four_nodes_never_lock_each_other_out() {
    const TURNS: usize = 60;
    let place = Database::new().await;
    let first = place.store().await;
    let ids = Arc::new(documents(&first, 12).await);
    let mut nodes = Vec::new();
    for node in 0..4_usize {
        let (store, ids) = (place.store().await, Arc::clone(&ids));
        nodes.push(tokio::spawn(async move {
            for turn in 0..TURNS {
                let mut order: Vec<&String> = ids.iter().collect();
                order.rotate_left((turn * 5 + node * 3) % ids.len());
                if (turn + node) % 2 == 0 {
                    order.reverse();
                }
                let batch: Vec<Append> = order.iter().take(8).map(|id| share(id, 2)).collect();
                let results = store.append(&batch, 2).await.unwrap();
                assert!(results.iter().all(Result::is_ok));
            }
            store.close().await;
        }));
    }
    for node in nodes {
        node.await.unwrap();
    }
    let mut updates = 0;
    for id in ids.iter() {
        let loaded = first.load(id).await.unwrap();
        updates += loaded.document.head as usize;
    }
    assert_eq!(updates, 4 * TURNS * 8 * 2);
    let deadlocks =
        "SELECT deadlocks::text FROM pg_stat_database WHERE datname = current_database()";
    // The server counts with a delay of up to a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(text(&place, deadlocks).await, "0");
}

/// A project is deleted while its documents are written: the commits go on, or miss them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_deleted_under_commits() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    let ids = documents(&store, 20).await;
    let writer = {
        let (store, ids) = (Arc::clone(&store), ids.clone());
        tokio::spawn(async move {
            loop {
                let batch: Vec<Append> = ids.iter().rev().map(|id| share(id, 1)).collect();
                let results = store.append(&batch, 2).await.unwrap();
                let there = results.iter().filter(|result| result.is_ok()).count();
                assert!(there == 0 || there == ids.len(), "{there} of a project");
                if there == 0 {
                    return;
                }
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(store.delete_project("p", &[]).await.unwrap());
    writer.await.unwrap();
}

/// Nodes that start at once on an empty database all come up, and the steps are made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_migrate_once() {
    let place = Database::bare_new().await;
    let nodes: Vec<_> = (0..4)
        .map(|_| tokio::spawn(PostgresStore::connect(place.options())))
        .collect();
    for node in nodes {
        node.await.unwrap().unwrap().close().await;
    }
    let steps = "SELECT count(*)::text FROM _sqlx_migrations WHERE success";
    assert_eq!(text(&place, steps).await, "5");
}

/// Of one subject's events, emitted by nodes at once, whoever commits later has the higher position; and a
/// reader that has seen one position of a subject never finds a lower one later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_has_the_order_of_the_commits() {
    let place = Database::new().await;
    let reader = place.store().await;
    let mut nodes = Vec::new();
    for node in 0..3 {
        let store = place.store().await;
        nodes.push(tokio::spawn(async move {
            for turn in 0..40 {
                // Two subjects, in either order: their locks are taken in one.
                let mut subjects = ["doc:a", "doc:b"];
                if (turn + node) % 2 == 0 {
                    subjects.reverse();
                }
                let events = subjects.map(|subject| event(subject, "document.edited"));
                store.emit(&events).await.unwrap();
            }
        }));
    }
    let (mut seen, mut highest) = (BTreeSet::new(), [0, 0]);
    loop {
        let finished = nodes.iter().all(tokio::task::JoinHandle::is_finished);
        for outgoing in reader.outbox(1000).await.unwrap() {
            let subject = usize::from(outgoing.event.subject == "doc:b");
            if seen.insert(outgoing.position) {
                assert!(outgoing.position > highest[subject], "a late position");
                highest[subject] = outgoing.position;
            }
        }
        if finished {
            break;
        }
    }
    assert_eq!(seen.len(), 3 * 40 * 2);
    for node in nodes {
        node.await.unwrap();
    }
}

/// Changes of rights by several nodes at once: whoever reads change n has all up to n.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_rights_of_many_nodes_have_no_gap() {
    let place = Database::new().await;
    let reader = place.store().await;
    documents(&reader, 0).await;
    for n in 0..3 {
        user(&reader, &format!("m{n}")).await;
    }
    let mut nodes = Vec::new();
    for n in 0..3 {
        let store = place.store().await;
        nodes.push(tokio::spawn(async move {
            for turn in 0..40 {
                let role = [Role::Viewer, Role::Editor][turn % 2];
                let member = format!("m{n}");
                store.set_member("p", &member, role, 1, &[]).await.unwrap();
            }
        }));
    }
    let mut head = 0;
    while head < 3 * 40 {
        let changes = reader.rights_after(head, 1000).await.unwrap();
        for (seq, _) in changes {
            assert_eq!(seq, head + 1, "a gap");
            head = seq;
        }
        assert!(reader.rights_head().await.unwrap() >= head);
    }
    for node in nodes {
        node.await.unwrap();
    }
}

/// While a snapshot is being saved under a lease, nobody else gets the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_not_taken_over_within_what_it_fences() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    let ids = documents(&store, 1).await;
    store.append(&[share(&ids[0], 3)], 2).await.unwrap();
    let ttl = Duration::from_millis(300);
    let fence = store.lease("compact", "a", ttl).await.unwrap().unwrap();
    // The snapshot's transaction has checked its fence and waits here.
    let mut bare = place.bare().await;
    run(&mut bare, "BEGIN").await.unwrap();
    run(&mut bare, "LOCK TABLE collab_snapshots IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let saving = {
        let (store, id) = (Arc::clone(&store), ids[0].clone());
        tokio::spawn(async move {
            let snapshot = Snapshot {
                seq: 3,
                state: Bytes::from_static(b"state"),
            };
            store.save_snapshot(&id, &snapshot, Some(&fence), 3).await
        })
    };
    tokio::time::sleep(ttl * 2).await;
    let taking = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.lease("compact", "b", ttl).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!taking.is_finished(), "taken over under a snapshot");
    run(&mut bare, "COMMIT").await.unwrap();
    assert!(saving.await.unwrap().unwrap());
    assert!(taking.await.unwrap().unwrap().is_some());
}

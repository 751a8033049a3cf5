//! The PostgreSQL store when several nodes write at once.

#[path = "servers/contents.rs"]
mod contents;
#[path = "servers/database.rs"]
mod database;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::store::postgres::{PostgresStore, SCHEMA};
use backplane::store::projects::MemberChange;
use backplane::store::{
    Append, Docs, Events, LoginSession, Nodes, Projects, Refreshed, Rights, Snapshot, Store, Users,
};
use bytes::Bytes;
use contents::{documents, event, share, text, user};
use database::{Database, run};
use protocol::Role;
use sqlx::postgres::PgConnection;

/// A transaction past the stores that holds what they need, so that the test decides who waits for whom.
struct Held {
    holder: PgConnection,
    watcher: PgConnection,
}

impl Held {
    async fn by(place: &Database, statement: &str) -> Self {
        let (mut holder, watcher) = (place.bare().await, place.bare().await);
        run(&mut holder, "BEGIN").await.unwrap();
        run(&mut holder, statement).await.unwrap();
        Self { holder, watcher }
    }

    /// Until so many sessions of stores wait for a lock.
    async fn waiting(&mut self, sessions: i64) {
        let began = Instant::now();
        loop {
            let (waiting,): (i64,) = sqlx::query_as(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name = 'tandem-test' AND wait_event_type = 'Lock'",
            )
            .fetch_one(&mut self.watcher)
            .await
            .unwrap();
            if waiting == sessions {
                return;
            }
            let late = began.elapsed() > Duration::from_secs(10);
            assert!(!late, "{waiting} sessions wait, not {sessions}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(&mut self) {
        run(&mut self.holder, "COMMIT").await.unwrap();
    }

    async fn give_up(&mut self) {
        run(&mut self.holder, "ROLLBACK").await.unwrap();
    }
}

/// How many deadlocks the server has found in the database.
async fn deadlocks(place: &Database) -> String {
    // The server counts with a delay of up to a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    text(
        place,
        "SELECT deadlocks::text FROM pg_stat_database WHERE datname = current_database()",
    )
    .await
}

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
                let mut batch: Vec<Append> = order.iter().take(8).map(|id| share(id, 2)).collect();
                if turn % 3 == 0 {
                    // More than one statement sends.
                    for append in &mut batch {
                        append.updates[0] = Bytes::from(vec![7; 4000]);
                    }
                }
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
    assert_eq!(deadlocks(&place).await, "0");
}

/// A project is deleted while its documents are written: the commit goes through, or misses them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_deleted_under_commits() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    let ids = documents(&store, 9).await;
    let lock = "SELECT 1 FROM collab_documents WHERE id = 'd5' FOR UPDATE";
    let mut held = Held::by(&place, lock).await;
    let commit = {
        let (store, ids) = (Arc::clone(&store), ids.clone());
        tokio::spawn(async move {
            let batch: Vec<Append> = ids.iter().map(|id| share(id, 1)).collect();
            store.append(&batch, 2).await.unwrap()
        })
    };
    held.waiting(1).await;
    let deletion = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.delete_project("p", &[]).await.unwrap() })
    };
    held.waiting(2).await;
    held.end().await;
    let results = commit.await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(deletion.await.unwrap());
    assert_eq!(deadlocks(&place).await, "0");
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
    assert_eq!(text(&place, steps).await, SCHEMA.to_string());
}

/// Whoever has taken a position for a subject's event, and has not committed yet, is waited for by the next
/// event of that subject, and by no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_has_the_order_of_the_commits() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    let ids = documents(&store, 1).await;
    // A deletion notes its change of rights after its events.
    let mut held = Held::by(&place, "SELECT 1 FROM auth_change_head FOR UPDATE").await;
    let deletion = {
        let (store, id) = (Arc::clone(&store), ids[0].clone());
        tokio::spawn(async move {
            let events = [event("doc:b", "first"), event("doc:a", "first")];
            store.delete_document(&id, &events).await.unwrap()
        })
    };
    held.waiting(1).await;
    let next = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let events = [event("doc:a", "second"), event("doc:b", "second")];
            store.emit(&events).await.unwrap();
        })
    };
    held.waiting(2).await;
    store.emit(&[event("doc:c", "other")]).await.unwrap();
    assert_eq!(store.outbox(10).await.unwrap().len(), 1);
    held.end().await;
    assert!(deletion.await.unwrap());
    next.await.unwrap();
    let order: Vec<String> = store
        .outbox(10)
        .await
        .unwrap()
        .into_iter()
        .map(|outgoing| format!("{} {}", outgoing.event.subject, outgoing.event.kind))
        .filter(|told| !told.starts_with("doc:c"))
        .collect();
    let expected = ["doc:b first", "doc:a first", "doc:a second", "doc:b second"];
    assert_eq!(order, expected);
}

/// Of two owners who leave at once on two nodes, the second is told that it is the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_owner_stays_whoever_commits_first() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    documents(&store, 0).await;
    user(&store, "v").await;
    let made = store.set_member("p", "v", Role::Owner, 1, &[]).await;
    made.unwrap();
    let mut held = Held::by(&place, "SELECT 1 FROM auth_change_head FOR UPDATE").await;
    let leave = |owner: &'static str| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.remove_member("p", owner, &[]).await.unwrap() })
    };
    let first = leave("u");
    held.waiting(1).await;
    let second = leave("v");
    held.waiting(2).await;
    held.end().await;
    assert_eq!(first.await.unwrap(), MemberChange::Done(Some(Role::Owner)));
    assert_eq!(second.await.unwrap(), MemberChange::LastOwner);
}

/// A refresh token that a node is rotating is not good for another node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_rotates_once_whoever_commits_first() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    user(&store, "u").await;
    let login = LoginSession {
        id: "l".into(),
        user_id: "u".into(),
        created_at: 1,
        revoked_at: None,
        user_agent: None,
        address: None,
        refreshed_at: None,
    };
    store.open_login(&login, &[1; 32], 1000).await.unwrap();
    // The new hash is being taken by somebody who thinks better of it.
    let taken = "INSERT INTO auth_refresh_tokens SELECT decode(repeat('02', 32), 'hex'), 'l', 1000";
    let mut held = Held::by(&place, taken).await;
    let rotate = |new: u8| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let rotated = store.rotate_refresh(&[1; 32], &[new; 32], 1000, 10).await;
            rotated.unwrap()
        })
    };
    let first = rotate(2);
    held.waiting(1).await;
    let second = rotate(3);
    held.waiting(2).await;
    held.give_up().await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(matches!(first, Refreshed::Rotated { .. }), "{first:?}");
    assert!(matches!(second, Refreshed::Reused { .. }), "{second:?}");
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
    let ttl = Duration::from_millis(800);
    let fence = store.lease("compact", "a", ttl).await.unwrap().unwrap();
    // The snapshot's transaction has checked its fence and waits here.
    let mut held = Held::by(&place, "LOCK TABLE collab_snapshots IN EXCLUSIVE MODE").await;
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
    held.waiting(1).await;
    tokio::time::sleep(ttl).await;
    let taking = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.lease("compact", "b", ttl).await })
    };
    held.waiting(2).await;
    held.end().await;
    assert!(saving.await.unwrap().unwrap());
    assert!(taking.await.unwrap().unwrap().is_some());
}

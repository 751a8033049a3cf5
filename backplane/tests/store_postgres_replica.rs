//! The PostgreSQL store with a read replica: a real one, streaming, whose replay the test holds up.

#[path = "servers/contents.rs"]
mod contents;
#[path = "servers/database.rs"]
mod database;
#[path = "servers/postgres.rs"]
mod postgres;

use std::str::FromStr;
use std::time::{Duration, Instant};

use backplane::store::postgres::{PostgresOptions, PostgresStore};
use backplane::store::{Docs, Document, Nodes, Projects, Rights, Store, Users};
use contents::{documents, share, user};
use database::run;
use postgres::PostgresServer;
use protocol::Role;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};

const HOLD: &str = "SELECT pg_wal_replay_pause()";
const GO_ON: &str = "SELECT pg_wal_replay_resume()";

/// A primary, its replica, the node under test, which reads there, and another node, which does not.
struct World {
    primary: PostgresServer,
    replica: PostgresServer,
    node: PostgresStore,
    other: PostgresStore,
}

impl World {
    async fn new() -> Self {
        let primary = PostgresServer::start();
        let replica = primary.replica();
        let options = database::options(primary.url());
        let other = PostgresStore::connect(options.clone()).await.unwrap();
        let node = PostgresStore::connect(PostgresOptions {
            replica_url: Some(replica.url()),
            ..options
        });
        Self {
            node: node.await.unwrap(),
            primary,
            replica,
            other,
        }
    }

    async fn on_replica(&self) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.replica.url()).unwrap();
        options.connect().await.unwrap()
    }

    /// Until the replica has all that the primary has.
    async fn catch_up(&self) {
        let url = self.primary.url();
        let options = PgConnectOptions::from_str(&url).unwrap();
        let mut primary = options.connect().await.unwrap();
        let (written,): (String,) = sqlx::query_as("SELECT pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut primary)
            .await
            .unwrap();
        let mut replica = self.on_replica().await;
        let since = Instant::now();
        loop {
            let (there,): (bool,) = sqlx::query_as("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn")
                .bind(&written)
                .fetch_one(&mut replica)
                .await
                .unwrap();
            if there {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "no replication");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn hold_replay(&self, hold: &str) {
        run(&mut self.on_replica().await, hold).await.unwrap();
    }

    async fn paths(&self) -> Vec<String> {
        let list = self.node.documents("p", "", 100).await.unwrap();
        list.into_iter().map(|document| document.path).collect()
    }
}

async fn add(store: &PostgresStore, path: &str) {
    let document = Document {
        id: path.into(),
        project_id: "p".into(),
        path: path.into(),
        created_at: 1,
        updated_at: 1,
        head: 0,
    };
    store.add_document(&document, &[]).await.unwrap();
}

/// Lists come from the replica while it has what this node wrote, and never lack a write of this node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_what_it_wrote_and_the_replica_when_it_may() {
    let world = World::new().await;
    documents(&world.node, 0).await;
    world.catch_up().await;
    assert!(world.paths().await.is_empty());

    // What only the primary has, of another node, is not seen: the list was read on the replica.
    world.hold_replay(HOLD).await;
    add(&world.other, "theirs").await;
    assert!(world.paths().await.is_empty(), "not read on the replica");
    // What this node wrote is seen at once, so the list was read on the primary.
    add(&world.node, "ours").await;
    for _ in 0..3 {
        assert_eq!(world.paths().await, ["ours", "theirs"]);
    }
    world
        .node
        .rename_document("ours", None, "mine", &[])
        .await
        .unwrap();
    assert_eq!(world.paths().await, ["mine", "theirs"]);

    world.hold_replay(GO_ON).await;
    world.catch_up().await;
    assert_eq!(world.paths().await, ["mine", "theirs"]);
    world.hold_replay(HOLD).await;
    add(&world.other, "late").await;
    assert_eq!(
        world.paths().await,
        ["mine", "theirs"],
        "not read on the replica again"
    );
    // Group commits come too often to wait for them.
    let appended = world.node.append(&[share("ours", 1)], 2).await.unwrap();
    assert!(matches!(appended[..], [Ok(1)]));
    assert_eq!(world.paths().await, ["mine", "theirs"]);
}

/// Rights, documents as they are loaded, heads and leases are those of the primary, however late the replica is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_decides_is_read_on_the_primary() {
    let world = World::new().await;
    documents(&world.node, 1).await;
    user(&world.node, "m").await;
    world.catch_up().await;
    assert_eq!(world.node.members("p", "", 10).await.unwrap().len(), 1);
    world.hold_replay(HOLD).await;
    let other = &world.other;
    other
        .set_member("p", "m", Role::Viewer, 1, &[])
        .await
        .unwrap();
    other.append(&[share("d0", 2)], 2).await.unwrap();
    other
        .lease("relay", "other", Duration::from_secs(60))
        .await
        .unwrap();

    let node = &world.node;
    assert_eq!(node.members("p", "", 10).await.unwrap().len(), 1, "a list");
    let on_primary = std::sync::Arc::new(node.clone()).on_primary();
    assert_eq!(on_primary.members("p", "", 10).await.unwrap().len(), 2);
    assert_eq!(node.role("p", "m").await.unwrap(), Some(Role::Viewer));
    assert_eq!(
        node.rights_head().await.unwrap(),
        other.rights_head().await.unwrap()
    );
    assert_eq!(node.load("d0").await.unwrap().document.head, 2);
    assert_eq!(node.log_after("d0", 0, 100).await.unwrap().len(), 1);
    assert_eq!(
        node.heads(&["d0".into()]).await.unwrap(),
        [("d0".into(), 2)]
    );
    assert!(node.user("m").await.unwrap().is_some());
    let lease = node.lease("relay", "node", Duration::from_secs(60)).await;
    assert_eq!(lease.unwrap(), None);
}

/// A replica that is gone costs nobody a list; one that is back is read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_may_fail_and_come_back() {
    let mut world = World::new().await;
    documents(&world.node, 1).await;
    world.catch_up().await;
    assert_eq!(world.paths().await, ["999.rs"]);
    world.replica.stop();
    for n in 0..20 {
        let began = Instant::now();
        add(&world.other, &format!("while-away-{n:02}")).await;
        assert_eq!(world.paths().await.len(), n + 2);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    world.replica.restart();
    world.catch_up().await;
    world.hold_replay(HOLD).await;
    add(&world.other, "unseen").await;
    let since = Instant::now();
    while world.paths().await.contains(&"unseen".to_owned()) {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "never read again"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.node.close().await;
}

/// An address of something else than a replica, or of nothing, is not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_replica_is_not_read() {
    let primary = PostgresServer::start();
    for replica_url in [primary.url(), "postgres://nobody@127.0.0.1:1/x".into()] {
        let store = PostgresStore::connect(PostgresOptions {
            replica_url: Some(replica_url),
            ..database::options(primary.url())
        });
        let store = store.await.unwrap();
        if store.project("p").await.unwrap().is_none() {
            documents(&store, 1).await;
        }
        assert_eq!(store.documents("p", "", 10).await.unwrap().len(), 1);
        store.close().await;
    }
    let replica = primary.replica();
    let refused = PostgresStore::connect(database::options(replica.url())).await;
    let why = refused
        .expect_err("a store that can't be written")
        .to_string();
    assert!(why.contains("replica"), "{why}");
}

//! Who may run on one database: nodes that would not hear each other refuse to start.

use tempfile::TempDir;

use crate::world::{Cluster, TestHub};

/// Starts a hub on a database with those settings, which must refuse; what it said.
async fn refused(database: String, env: Vec<(&'static str, String)>) -> String {
    let run = tokio::task::spawn_blocking(move || {
        let data = TempDir::new().expect("a temporary folder");
        let mut all = vec![("TANDEM_DATABASE_URL", database.as_str())];
        all.extend(env.iter().map(|(name, value)| (*name, value.as_str())));
        TestHub::run(&all, data.path(), &[])
    });
    let output = run.await.expect("it does not panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it ran: {said}");
    said
}

#[tokio::test]
async fn a_node_that_would_not_hear_the_others_refuses_to_start() {
    let mut cluster = Cluster::start(1).await;
    let database = cluster.postgres.url();
    let elsewhere = vec![
        ("TANDEM_REDIS_URL", cluster.redis.url()),
        ("TANDEM_REDIS_PREFIX", "elsewhere".to_owned()),
    ];
    // One has its broker inside; one has the same Redis under another prefix, which is another broker.
    let (inside, elsewhere) = tokio::join!(
        refused(database.clone(), Vec::new()),
        refused(database, elsewhere)
    );
    let address = cluster.hub(0).address().to_string();
    for said in [inside, elsewhere] {
        assert!(said.contains(&address) && said.contains("Redis"), "{said}");
    }
    let second = cluster.add().await;
    cluster.ready(second).await;
}

#[tokio::test]
async fn two_nodes_with_a_broker_inside_do_not_share_a_database() {
    let mut cluster = Cluster::start(0).await;
    let database = cluster.postgres.url();
    let mut first = TestHub::start(&[("TANDEM_DATABASE_URL", &database)]).await;
    first.ready().await;
    let said = refused(database.clone(), Vec::new()).await;
    assert!(said.contains(&first.address().to_string()), "{said}");
    // The place of one that was killed is taken over, without anybody's help.
    first.kill9().await;
    let second = TestHub::start(&[("TANDEM_DATABASE_URL", &database)]).await;
    second.ready().await;
    drop(second);
    cluster.postgres.stop().await;
}

//! Who may run on one database: nodes that would not hear each other refuse to start.

use tempfile::TempDir;

use crate::world::{Cluster, TestHub};

/// Starts a hub on the cluster's database with those settings, which must refuse; what it said.
fn refused(cluster: &Cluster, env: &[(&str, &str)]) -> String {
    let data = TempDir::new().expect("a temporary folder");
    let database = cluster.postgres.url();
    let mut all = vec![("TANDEM_DATABASE_URL", database.as_str())];
    all.extend_from_slice(env);
    let output = TestHub::run(&all, data.path(), &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it ran: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_would_not_hear_the_others_refuses_to_start() {
    let cluster = Cluster::start(1).await;
    // Its broker would be inside it.
    let said = tokio::task::block_in_place(|| refused(&cluster, &[]));
    assert!(said.to_lowercase().contains("redis"), "{said}");
    // The same Redis under another prefix is another broker.
    let redis = cluster.redis.url();
    let elsewhere = [
        ("TANDEM_REDIS_URL", redis.as_str()),
        ("TANDEM_REDIS_PREFIX", "elsewhere"),
    ];
    let said = tokio::task::block_in_place(|| refused(&cluster, &elsewhere));
    assert!(!said.is_empty());
    let mut cluster = cluster;
    let second = cluster.add().await;
    cluster.ready(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_a_broker_inside_do_not_share_a_database() {
    let mut cluster = Cluster::start(0).await;
    let database = cluster.postgres.url();
    let mut first = TestHub::start(&[("TANDEM_DATABASE_URL", &database)]).await;
    first.ready().await;
    let said = tokio::task::block_in_place(|| refused(&cluster, &[]));
    assert!(
        said.contains(&first.address().to_string()) || said.contains("node"),
        "{said}"
    );
    // The place of one that was killed is taken over, by itself or by another, without anybody's help.
    first.kill9().await;
    let second = TestHub::start(&[("TANDEM_DATABASE_URL", &database)]).await;
    second.ready().await;
    drop(second);
    cluster.postgres.stop().await;
}

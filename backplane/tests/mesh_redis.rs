//! The mesh contract over Redis, and what is true only of a mesh that can lose its connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::mesh::contract::{Listener, Subject};
use backplane::mesh::redis::RedisMesh;
use backplane::mesh::{Mesh, MeshEvent};
use backplane::redis::LinkOptions;
use uuid::Uuid;

mod servers {
    pub mod proxy;
    pub mod redis;
}
use servers::proxy::Proxy;
use servers::redis::RedisServer;

fn options(url: &str) -> LinkOptions {
    LinkOptions {
        urls: vec![url.to_owned()],
        ca: None,
        prefix: format!("test-mesh-{}", Uuid::now_v7()),
        command_timeout: Duration::from_secs(2),
        watchdog: Duration::from_secs(1),
    }
}

async fn node(options: &LinkOptions) -> RedisMesh {
    let name = Uuid::now_v7().to_string();
    RedisMesh::connect(options.clone(), name.into())
        .await
        .unwrap()
}

async fn redis() -> Subject {
    let options = options("redis://127.0.0.1:6379");
    let nodes = [
        node(&options).await,
        node(&options).await,
        node(&options).await,
    ];
    Subject {
        nodes: nodes.map(|node| Arc::new(node) as Arc<dyn Mesh>),
    }
}

backplane::mesh_contract!(redis);

/// Sends until something is heard: the two nodes need not be back at the same time.
async fn until_heard(sender: &RedisMesh, listener: &mut Listener, topic: &str) {
    for _ in 0..100 {
        sender.send(topic, "again".into());
        let next = tokio::time::timeout(Duration::from_millis(50), listener.event());
        if let Ok(MeshEvent::Message { .. }) = next.await {
            return;
        }
    }
    panic!("nothing is heard within five seconds");
}

#[tokio::test]
async fn after_a_crash_members_are_told_and_messages_flow_again() {
    let mut server = RedisServer::start(&[]);
    let options = options(&server.url());
    let (one, two) = (node(&options).await, node(&options).await);
    let mut listener = Listener::join(&two, "doc:1").await;
    one.send("doc:1", "before".into());
    assert_eq!(listener.message().await.1, "before");

    server.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    one.send("doc:1", "into nothing".into());
    assert_eq!(one.dropped(), 1);
    server.restart();
    let since = Instant::now();
    assert_eq!(listener.event().await, MeshEvent::Restored);
    until_heard(&one, &mut listener, "doc:1").await;
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test]
async fn a_join_without_a_connection_returns_and_is_restored() {
    let mut server = RedisServer::start(&[]);
    let options = options(&server.url());
    let (one, two) = (node(&options).await, node(&options).await);
    server.kill();
    let since = Instant::now();
    let mut listener = Listener::join(&two, "doc:2").await;
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    server.restart();
    assert_eq!(listener.event().await, MeshEvent::Restored);
    until_heard(&one, &mut listener, "doc:2").await;
}

/// Waits until the mesh hears itself.
async fn until_it_hears_itself(mesh: &RedisMesh) {
    let since = Instant::now();
    while mesh.silence() > Duration::from_millis(600) {
        assert!(since.elapsed() < Duration::from_secs(8), "it stays deaf");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn silence_grows_while_redis_is_down_and_ends_with_it() {
    let mut server = RedisServer::start(&[]);
    let mesh = node(&options(&server.url())).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    until_it_hears_itself(&mesh).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(mesh.silence() > Duration::from_millis(1200));
    server.restart();
    until_it_hears_itself(&mesh).await;
}

#[tokio::test]
async fn a_connection_that_no_longer_hears_itself_is_made_anew() {
    let server = RedisServer::start(&[]);
    // Commands work, but what is published on the heartbeat's channel comes back under another name.
    let proxy = Proxy::start(server.port(), Some(("mesh:{beat:", "mesh:{lost:"))).await;
    let mesh = node(&options(&proxy.url())).await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert_eq!(proxy.connections(), 1);
    assert!(
        mesh.silence() > Duration::from_millis(1500),
        "{:?}",
        mesh.silence()
    );
    until_it_hears_itself(&mesh).await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_flood_beyond_the_bound_is_dropped_and_counted() {
    let server = RedisServer::start(&[]);
    let options = options(&server.url());
    let (one, two) = (node(&options).await, node(&options).await);
    let mut listener = Listener::join(&two, "flood").await;
    let payload = bytes::Bytes::from(vec![7; 1 << 20]);
    // Nothing is taken off while this runs: the runtime of a test has one thread.
    for _ in 0..64 {
        one.send("flood", payload.clone());
    }
    let dropped = one.dropped();
    assert!((20..50).contains(&dropped), "{dropped} dropped");
    one.send("flood", "small".into());
    for _ in dropped..64 {
        assert_eq!(listener.message().await.1.len(), 1 << 20);
    }
}

//! Presence on Redis when Redis, a connection or a node fails: who is there is never said to have left, and who is gone
//! is, in time.

use std::process::Command;
use std::time::{Duration, Instant};

use backplane::broker::{Broker, PresenceChange};
use protocol::ChannelName;

mod servers {
    pub mod nodes;
    pub mod proxy;
    pub mod redis;
}
use servers::nodes::{Node, connected, member, room, until};
use servers::proxy::Proxy;
use servers::redis::RedisServer;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_dead_nodes_members_vanish_within_fifteen_seconds() {
    let server = RedisServer::start(&[]);
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channels = [room("left"), room("mixed")];
    for channel in &channels {
        a.join_surely(channel, "a1").await;
        b.broker.subscribe(channel).await.unwrap();
    }
    b.join_surely(&channels[1], "b1").await;
    let c = Node::connect(&server.url(), "c").await;
    c.broker.subscribe(&channels[0]).await.unwrap();
    let since = Instant::now();
    drop(a);
    for channel in &channels {
        until("the leaving", Duration::from_secs(15), async || {
            b.lefts(channel, "a1") > 0
        })
        .await;
    }
    assert!(since.elapsed() < Duration::from_secs(15));
    until("the vacancy", SOON, async || {
        c.recorder.presence(&channels[0])
            == [PresenceChange::Left("a1".into()), PresenceChange::Vacated]
    })
    .await;
    assert_eq!(
        b.broker.members(&channels[1], 10).await.unwrap(),
        [member("b1")]
    );
    assert_eq!(b.lefts(&channels[1], "b1"), 0);
    assert_eq!(b.lefts(&channels[1], "a1"), 1);
}

#[tokio::test]
async fn a_node_that_was_given_up_comes_back_with_its_members() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port(), None).await;
    let (a, b) = (
        Node::connect(&proxy.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channel = room("back");
    a.join_surely(&channel, "a1").await;
    a.join_surely(&channel, "a2").await;
    b.join_surely(&channel, "b1").await;
    proxy.stall(true);
    until("the leaving", Duration::from_secs(20), async || {
        b.lefts(&channel, "a1") + b.lefts(&channel, "a2") == 2
    })
    .await;
    // This one leaves while its node is cut off.
    a.broker.leave(&channel, "a2");
    proxy.stall(false);
    until("the return", SOON, async || {
        b.broker.members(&channel, 10).await.unwrap() == [member("a1"), member("b1")]
    })
    .await;
    assert_eq!(
        b.recorder.presence(&channel).last(),
        Some(&PresenceChange::Joined(member("a1")))
    );
    assert_eq!(a.lefts(&channel, "b1"), 0);
    // It has a lease again, which ends as the first one did.
    drop(a);
    until("the second leaving", Duration::from_secs(15), async || {
        b.lefts(&channel, "a1") == 2
    })
    .await;
}

fn signal(server: &RedisServer, name: &str) {
    let sent = Command::new("kill")
        .args([name, &server.pid().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

async fn nobody_left(nodes: [&Node; 2], channel: &ChannelName) {
    let all = [member("a1"), member("b1")];
    for node in nodes {
        until("all members", SOON, async || {
            let members = node.broker.members(channel, 10).await;
            members.is_ok_and(|members| members == all)
        })
        .await;
        for session in ["a1", "b1"] {
            assert_eq!(
                node.lefts(channel, session),
                0,
                "{session} was there all the time"
            );
        }
    }
}

#[tokio::test]
async fn an_outage_of_redis_makes_nobody_leave() {
    let mut server = RedisServer::start(&[]);
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channel = room("outage");
    a.join_surely(&channel, "a1").await;
    b.join_surely(&channel, "b1").await;
    // Past the time in which a new node sweeps nobody anyway.
    tokio::time::sleep(Duration::from_secs(11)).await;

    signal(&server, "-STOP");
    tokio::time::sleep(Duration::from_secs(20)).await;
    signal(&server, "-CONT");
    connected(&a).await;
    connected(&b).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    nobody_left([&a, &b], &channel).await;

    // This time its data go as well.
    server.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart();
    connected(&a).await;
    connected(&b).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    nobody_left([&a, &b], &channel).await;
}

//! The broker on Redis when Redis, a connection or a node fails: nothing is lost in silence, nothing doubled, and
//! nobody is said to have left who is there.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backplane::broker::contract::RETENTION;
use backplane::broker::local::Retention;
use backplane::broker::{Broker, PresenceChange, Publish};
use protocol::frame::ResetReason;
use protocol::{ChannelName, DeliveryClass};

mod servers {
    pub mod nodes;
    pub mod proxy;
    pub mod redis;
}
use servers::nodes::{Node, member, numbered, room, until};
use servers::proxy::Proxy;
use servers::redis::RedisServer;

const SOON: Duration = Duration::from_secs(10);
const PERSISTENT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Room for all that a test sends.
const ROOMY: Retention = Retention {
    messages: 100_000,
    bytes: 64 << 20,
    ..RETENTION
};

async fn connected(node: &Node) {
    until("a connection", SOON, async || node.broker.is_connected()).await;
}

/// Everything that a node was told of a channel since `broken` hears of the loss, and is then in one new epoch.
async fn goes_on_in_a_new_epoch(node: &Node, channel: &ChannelName, before: &str) {
    until("the break", SOON, async || {
        node.recorder.broken(channel) > 0
    })
    .await;
    connected(node).await;
    let after = node.broker.position(channel).await.unwrap();
    assert_ne!(after.epoch, before);
    let old = protocol::Position {
        epoch: before.to_owned(),
        offset: 1,
    };
    let page = node.broker.history(channel, Some(&old), 10).await.unwrap();
    assert_eq!(page.reset, Some(ResetReason::Epoch));
    let heard = node.recorder.messages(channel).len();
    let published = node.broker.publish(channel, numbered(99)).await.unwrap();
    assert_eq!(published.position.offset, after.offset + 1);
    until("a delivery in the new epoch", SOON, async || {
        node.recorder.messages(channel).len() == heard + 1
    })
    .await;
}

#[tokio::test]
async fn a_restart_without_its_data_is_another_epoch() {
    let mut server = RedisServer::start(&[]);
    let node = Node::connect(&server.url(), "a").await;
    let channel = room("restart");
    node.broker.subscribe(&channel).await.unwrap();
    for n in 0..5 {
        node.broker.publish(&channel, numbered(n)).await.unwrap();
    }
    let before = node.broker.position(&channel).await.unwrap();
    server.kill();
    let gone = node.broker.publish(&channel, numbered(5)).await;
    assert!(gone.is_err(), "nothing is taken while Redis is away");
    server.restart();
    goes_on_in_a_new_epoch(&node, &channel, &before.epoch).await;
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn a_restart_from_an_old_file_is_another_epoch() {
    let mut server = RedisServer::start(&PERSISTENT);
    let node = Node::connect(&server.url(), "a").await;
    let channel = room("old-file");
    node.broker.subscribe(&channel).await.unwrap();
    for n in 0..5 {
        node.broker.publish(&channel, numbered(n)).await.unwrap();
    }
    let before = node.broker.position(&channel).await.unwrap();
    let (live, aside) = (
        server.dir().join("appendonlydir"),
        server.dir().join("aside"),
    );
    copy(&live, &aside);
    for n in 5..9 {
        node.broker.publish(&channel, numbered(n)).await.unwrap();
    }
    server.kill();
    std::fs::remove_dir_all(&live).unwrap();
    copy(&aside, &live);
    server.restart();
    goes_on_in_a_new_epoch(&node, &channel, &before.epoch).await;
}

#[tokio::test]
async fn what_was_taken_before_a_kill_is_not_taken_again_after_it() {
    let mut server = RedisServer::start(&PERSISTENT);
    let (a, b) = (
        Node::with(&server.url(), "a", ROOMY).await,
        Node::with(&server.url(), "b", ROOMY).await,
    );
    let channel = room("kill");
    b.broker.subscribe(&channel).await.unwrap();
    let publishing = AtomicBool::new(true);
    let publisher = async {
        let mut places = Vec::new();
        for n in 0..3000 {
            places.push(a.publish_surely(&channel, n).await.position);
        }
        publishing.store(false, Ordering::Relaxed);
        places
    };
    let killer = async {
        let mut kills = 0;
        while publishing.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(150)).await;
            server.kill();
            server.restart();
            kills += 1;
            connected(&a).await;
        }
        kills
    };
    let (places, kills) = tokio::join!(publisher, killer);
    assert!(kills > 1, "{kills} kills");
    let mut distinct: Vec<_> = places.iter().map(|at| (&at.epoch, at.offset)).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3000, "each message has a place of its own");
    for n in [0, 1500, 2999] {
        let again = a.publish_surely(&channel, n).await;
        assert!(again.duplicate);
        assert_eq!(again.position, places[n as usize]);
    }
    let mut heard = b.numbers(&channel);
    let count = heard.len();
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(heard.len(), count, "nothing is delivered twice");
    assert!(b.recorder.broken(&channel) > 0);
}

#[tokio::test]
async fn cut_connections_lose_and_double_nothing() {
    let server = RedisServer::start(&[]);
    let (a, b) = (
        Node::with(&server.url(), "a", ROOMY).await,
        Node::with(&server.url(), "b", ROOMY).await,
    );
    let channel = room("cut");
    a.broker.subscribe(&channel).await.unwrap();
    b.broker.subscribe(&channel).await.unwrap();
    let publishing = AtomicBool::new(true);
    let publisher = async {
        for n in 0..6000 {
            a.publish_surely(&channel, n).await;
            if n % 100 == 0 {
                let value = Publish {
                    class: DeliveryClass::Latest,
                    key: Some("k".into()),
                    idempotency_key: Some(format!("value-{n}").into()),
                    ..numbered(1_000_000 + n)
                };
                // One that is lost is followed by a newer one.
                let _ = a.broker.publish(&channel, value).await;
            }
        }
        publishing.store(false, Ordering::Relaxed);
    };
    let cutter = async {
        let client = redis::Client::open(server.url()).unwrap();
        let mut cuts = 0;
        while publishing.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut own = client.get_multiplexed_async_connection().await.unwrap();
            for kind in ["pubsub", "normal"] {
                let mut kill = redis::cmd("CLIENT");
                kill.arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]);
                cuts += kill.query_async::<u64>(&mut own).await.unwrap();
            }
        }
        cuts
    };
    let ((), cuts) = tokio::join!(publisher, cutter);
    assert!(cuts > 4, "{cuts} connections cut");
    let reliable = |node: &Node| {
        let numbers = node.numbers(&channel).into_iter();
        numbers.filter(|n| *n < 1_000_000).collect::<Vec<_>>()
    };
    for node in [&a, &b] {
        until("every delivery", SOON, async || {
            reliable(node).len() >= 6000
        })
        .await;
        assert_eq!(reliable(node), (0..6000).collect::<Vec<_>>());
        assert_eq!(node.recorder.broken(&channel), 0);
        connected(&a).await;
        let newest = a.broker.latest(&channel).await.unwrap();
        until("the newest value", SOON, async || {
            let heard = node.recorder.messages(&channel);
            heard.contains(&newest[0])
        })
        .await;
    }
}

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
    tokio::time::sleep(Duration::from_secs(13)).await;

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

#[tokio::test]
async fn a_subscription_made_during_an_outage_fails_and_leaves_nothing_behind() {
    let mut server = RedisServer::start(&[]);
    let node = Node::connect(&server.url(), "a").await;
    let channel = room("early");
    server.kill();
    until("the outage", SOON, async || !node.broker.is_connected()).await;
    assert!(node.broker.subscribe(&channel).await.is_err());
    assert!(node.broker.join(&channel, member("a1")).await.is_err());
    server.restart();
    connected(&node).await;
    node.broker.publish(&channel, numbered(1)).await.unwrap();
    assert!(node.broker.members(&channel, 10).await.unwrap().is_empty());
    node.join_surely(&channel, "a1").await;
    node.broker.publish(&channel, numbered(2)).await.unwrap();
    until("a delivery", SOON, async || {
        !node.numbers(&channel).is_empty()
    })
    .await;
    assert_eq!(node.numbers(&channel), [2]);
    // A leaving in an outage is carried out after it.
    server.kill();
    node.broker.leave(&channel, "a1");
    server.restart();
    connected(&node).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(node.broker.members(&channel, 10).await.unwrap().is_empty());
}

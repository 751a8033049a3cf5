//! The broker on Redis when Redis or a connection fails: nothing is lost in silence, and nothing doubled.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
use servers::nodes::{Node, connected, member, numbered, room, until};
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

#[tokio::test]
async fn what_came_during_a_cut_is_delivered_when_it_ends() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port(), None).await;
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&proxy.url(), "b").await,
    );
    let channel = room("quiet");
    a.join_surely(&channel, "a1").await;
    b.join_surely(&channel, "b1").await;
    b.broker.members(&channel, 10).await.unwrap();
    proxy.stall(true);
    until("the cut", SOON, async || !b.broker.is_connected()).await;
    for n in 0..20 {
        a.broker.publish(&channel, numbered(n)).await.unwrap();
    }
    let value = Publish {
        class: DeliveryClass::Latest,
        key: Some("k".into()),
        ..numbered(20)
    };
    a.broker.publish(&channel, value).await.unwrap();
    a.broker.join(&channel, member("a2")).await.unwrap();
    a.broker.leave(&channel, "a1");
    proxy.stall(false);
    // No push follows that could show the gap, and this is sooner than the round over all channels.
    connected(&b).await;
    until("the deliveries", Duration::from_secs(2), async || {
        b.numbers(&channel) == (0..=20).collect::<Vec<_>>()
    })
    .await;
    until("the leaving", Duration::from_secs(2), async || {
        b.lefts(&channel, "a1") == 1
    })
    .await;
    let joined = PresenceChange::Joined(member("a2"));
    assert!(b.recorder.presence(&channel).contains(&joined));
    assert_eq!(b.recorder.broken(&channel), 0);
}

/// Takes a message and tells nobody: the way it looks if the server forgets a subscription.
async fn take_in_silence(server: &RedisServer, channel: &ChannelName) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut own = client.get_multiplexed_async_connection().await.unwrap();
    let key = |name: &str| format!("t:{{{channel}}}:{name}");
    let mut state = redis::cmd("GET");
    state.arg(key("meta"));
    let state: String = state.query_async(&mut own).await.unwrap();
    let mut words: Vec<_> = state.split(' ').collect();
    let offset = (words[2].parse::<u64>().unwrap() + 1).to_string();
    let mut frame = format!("mr {} {offset} 0 {} {}\n", words[1], words[7], words[4]).into_bytes();
    // A body without fields.
    frame.push(0x80);
    words[2] = &offset;
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("SET").arg(key("meta")).arg(words.join(" "));
    let entry = pipe.cmd("XADD").arg(key("log")).arg(format!("{offset}-0"));
    entry.arg("f").arg(frame);
    pipe.query_async::<()>(&mut own).await.unwrap();
}

#[tokio::test]
async fn a_message_whose_push_was_lost_is_found() {
    let server = RedisServer::start(&[]);
    let node = Node::connect(&server.url(), "a").await;
    let channel = room("deaf");
    node.broker.subscribe(&channel).await.unwrap();
    node.broker.publish(&channel, numbered(1)).await.unwrap();
    let delivered = || node.recorder.messages(&channel).len();
    take_in_silence(&server, &channel).await;
    let position = node.broker.position(&channel).await.unwrap();
    assert_eq!(
        (position.offset, delivered()),
        (2, 2),
        "whoever asks is told when it is here"
    );
    take_in_silence(&server, &channel).await;
    until("the delivery", Duration::from_secs(20), async || {
        delivered() == 3
    })
    .await;
    // The connection was made anew, and goes on where it was.
    node.publish_surely(&channel, 4).await;
    until("the next one", SOON, async || {
        node.numbers(&channel) == [1, 4]
    })
    .await;
    assert_eq!(node.recorder.messages(&channel)[3].offset, 4);
    assert_eq!(node.recorder.broken(&channel), 0);
}

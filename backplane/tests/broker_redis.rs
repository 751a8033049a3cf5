//! The broker contract on Redis, and what holds between nodes.

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::contract::{RETENTION, Recorder, Subject, retentions};
use backplane::broker::local::Retention;
use backplane::broker::redis::RedisBroker;
use backplane::broker::{Broker, PresenceChange, Publish};
use protocol::DeliveryClass;

mod servers {
    pub mod nodes;
    pub mod proxy;
    pub mod redis;
}
use servers::nodes::{Node, member, numbered, options, room, until};
use servers::proxy::Proxy;
use servers::redis::RedisServer;

const SOON: Duration = Duration::from_secs(5);

async fn redis() -> Subject {
    let server = RedisServer::start(&[]);
    let recorder = Arc::new(Recorder::default());
    let options = options(vec![server.url()]);
    let broker = RedisBroker::connect(options, "n".into(), recorder.clone(), retentions());
    Subject {
        broker: broker.await.expect("a broker"),
        recorder,
        keep: Box::new(server),
    }
}

backplane::broker_contract!(redis);

#[tokio::test]
async fn nodes_share_one_order() {
    let server = RedisServer::start(&[]);
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channel = room("shared");
    a.broker.subscribe(&channel).await.unwrap();
    b.broker.subscribe(&channel).await.unwrap();
    let publish = async |node: &Node, from: u64| {
        for n in from..from + 300 {
            node.broker.publish(&channel, numbered(n)).await.unwrap();
        }
    };
    tokio::join!(publish(&a, 0), publish(&b, 1000), publish(&a, 2000));
    until("900 deliveries on both", SOON, async || {
        [&a, &b]
            .iter()
            .all(|node| node.numbers(&channel).len() == 900)
    })
    .await;
    assert_eq!(a.numbers(&channel), b.numbers(&channel));
    let offsets = a.recorder.messages(&channel);
    assert!(
        offsets
            .iter()
            .zip(1..)
            .all(|(message, n)| message.offset == n)
    );
    assert_eq!(a.recorder.broken(&channel) + b.recorder.broken(&channel), 0);
}

#[tokio::test]
async fn a_key_used_on_one_node_is_used_on_all() {
    let server = RedisServer::start(&[]);
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channel = room("keys");
    let first = a.publish_surely(&channel, 7).await;
    let again = b.publish_surely(&channel, 7).await;
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.position, again.position);
}

#[tokio::test]
async fn presence_and_values_are_seen_by_every_node() {
    let server = RedisServer::start(&[]);
    let (a, b) = (
        Node::connect(&server.url(), "a").await,
        Node::connect(&server.url(), "b").await,
    );
    let channel = room("people");
    a.join_surely(&channel, "one").await;
    b.join_surely(&channel, "two").await;
    assert_eq!(
        b.broker.members(&channel, 10).await.unwrap(),
        [member("one"), member("two")]
    );
    let value = Publish {
        class: DeliveryClass::Latest,
        key: Some("progress".into()),
        ..numbered(1)
    };
    a.broker.publish(&channel, value).await.unwrap();
    assert_eq!(b.broker.latest(&channel).await.unwrap().len(), 1);
    a.broker.leave(&channel, "one");
    until("the leaving on b", SOON, async || {
        b.lefts(&channel, "one") == 1
    })
    .await;
    b.broker.goodbye().await;
    until("the vacancy on a", SOON, async || {
        a.recorder.presence(&channel).last() == Some(&PresenceChange::Vacated)
    })
    .await;
    assert_eq!(a.lefts(&channel, "two"), 1);
    assert_eq!(b.recorder.messages(&channel).len(), 1);
}

#[tokio::test]
async fn history_is_bounded_by_bytes_and_age() {
    let server = RedisServer::start(&[]);
    let retention = Retention {
        bytes: 4000,
        age: Duration::from_millis(800),
        ..RETENTION
    };
    let node = Node::with(&server.url(), "a", retention).await;
    let channel = room("bounded");
    let large = || Publish {
        bytes: Some(vec![7; 1000].into()),
        ..Publish::default()
    };
    for _ in 0..10 {
        node.broker.publish(&channel, large()).await.unwrap();
    }
    let page = node.broker.history(&channel, None, 100).await.unwrap();
    let offsets: Vec<_> = page.messages.iter().map(|message| message.offset).collect();
    assert_eq!(offsets, [8, 9, 10], "as many as have room");
    tokio::time::sleep(Duration::from_millis(900)).await;
    let page = node.broker.history(&channel, None, 100).await.unwrap();
    assert_eq!((page.messages.len(), page.newest.offset), (0, 10));
    // The log has gone by itself by now; what comes next has room again, and the next offset.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    for _ in 0..3 {
        node.broker.publish(&channel, large()).await.unwrap();
    }
    let page = node.broker.history(&channel, None, 100).await.unwrap();
    assert_eq!((page.messages.len(), page.newest.offset), (3, 13));
}

#[tokio::test]
async fn kept_values_are_bounded_by_count_and_bytes() {
    let server = RedisServer::start(&[]);
    let node = Node::connect(&server.url(), "a").await;
    let channel = room("values");
    let value = |key: u64, size: usize| Publish {
        class: DeliveryClass::Latest,
        key: Some(format!("k{key}").into()),
        bytes: Some(vec![7; size].into()),
        ..Publish::default()
    };
    for key in 0..1100 {
        node.broker.publish(&channel, value(key, 1)).await.unwrap();
    }
    let kept = node.broker.latest(&channel).await.unwrap();
    assert!(kept.len() <= 1024);
    assert_eq!(kept.last().unwrap().key.as_deref(), Some("k1099"));
    for key in 0..10 {
        node.broker
            .publish(&channel, value(key, 20_000))
            .await
            .unwrap();
    }
    let kept = node.broker.latest(&channel).await.unwrap();
    assert_eq!(kept.len(), 3, "as many as have room in 64 KiB");
    assert_eq!(kept[0].key.as_deref(), Some("k7"));
}

#[tokio::test]
async fn a_server_without_sharded_pubsub_will_do() {
    let server = RedisServer::start(&[]);
    let old = Some(("redis_version:7", "redis_version:6"));
    let proxy = Proxy::start(server.port(), old).await;
    let node = Node::connect(&proxy.url(), "a").await;
    let channel = room("plain");
    node.join_surely(&channel, "a1").await;
    node.broker.publish(&channel, numbered(1)).await.unwrap();
    until("the delivery", SOON, async || node.numbers(&channel) == [1]).await;
    let joined = PresenceChange::Joined(member("a1"));
    until("the joining", SOON, async || {
        node.recorder.presence(&channel) == [joined.clone()]
    })
    .await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut own = client.get_multiplexed_async_connection().await.unwrap();
    let topic = format!("t:{{{channel}}}");
    let mut plain = redis::cmd("PUBSUB");
    plain.arg("NUMSUB").arg(&topic);
    let plain: (String, u64) = plain.query_async(&mut own).await.unwrap();
    assert_eq!(plain, (topic, 1));
}

//! A link to a cluster of three masters.

use std::time::Duration;

use backplane::redis::Script;
use redis::aio::MultiplexedConnection;

mod servers {
    pub mod ear;
    pub mod redis;
}
use servers::ear::{Ear, Heard, connect, options, publish};
use servers::redis::RedisServer;

static COUNT: Script = Script {
    source: "return {ARGV[1], redis.call('INCRBY', KEYS[1], ARGV[2])}",
};

/// Three masters that know each other, each with a third of the slots.
struct Cluster {
    servers: Vec<RedisServer>,
}

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

impl Cluster {
    async fn start() -> Self {
        let start =
            |_| RedisServer::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
        let cluster = Self {
            servers: SLOTS.iter().map(start).collect(),
        };
        for (server, (from, to)) in cluster.servers.iter().zip(SLOTS) {
            let (from, to) = (from.to_string(), to.to_string());
            ask(server, &["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await;
            let first = cluster.servers[0].port().to_string();
            ask(server, &["CLUSTER", "MEET", "127.0.0.1", &first]).await;
        }
        cluster.settle().await;
        cluster
    }

    async fn settle(&self) {
        for server in &self.servers {
            let mut whole = false;
            for _ in 0..1000 {
                let info = ask(server, &["CLUSTER", "INFO"]).await;
                whole = info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
                if whole {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(whole, "the cluster does not come about");
        }
    }

    fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }
}

async fn ask(server: &RedisServer, words: &[&str]) -> String {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection: MultiplexedConnection =
        client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

async fn all_are_heard(link: &backplane::redis::Link, ear: &Ear, topics: &[String], times: usize) {
    for topic in topics {
        publish(link, topic, "x").await.unwrap();
    }
    let heard = |ear: &Ear| {
        topics
            .iter()
            .all(|topic| ear.messages(topic).len() == times)
    };
    ear.until("every topic is heard", heard).await;
}

#[tokio::test]
async fn a_cluster_serves_every_slot_and_is_found_again() {
    let mut cluster = Cluster::start().await;
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let (link, ear) = connect(options(&urls)).await.unwrap();
    let topics: Vec<String> = (0..60).map(|n| format!("{{t{n}}}")).collect();
    for topic in &topics {
        link.subscribe(topic).await.unwrap();
    }
    all_are_heard(&link, &ear, &topics, 1).await;

    for n in 0..60 {
        let key = [link.key(&format!("{{t{n}}}:count"))];
        let answer = link.script(&COUNT, &key, &[b"2"]).await.unwrap();
        let answer: (String, i64) = redis::from_redis_value(answer).unwrap();
        assert_eq!(answer, (String::new(), 2));
    }

    cluster.servers[1].kill();
    ear.until("lost", |ear| ear.count(&Heard::Lost) >= 1).await;
    cluster.servers[1].restart();
    cluster.settle().await;
    ear.until("connected", |ear| {
        ear.all().last() == Some(&Heard::Connected)
    })
    .await;
    all_are_heard(&link, &ear, &topics, 2).await;
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_subscriptions_along() {
    let cluster = Cluster::start().await;
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let (link, ear) = connect(options(&urls)).await.unwrap();
    let topics: Vec<String> = (0..12).map(|n| format!("{{t{n}}}")).collect();
    for topic in &topics {
        link.subscribe(topic).await.unwrap();
    }
    let (source, target) = (&cluster.servers[0], &cluster.servers[2]);
    let id = ask(target, &["CLUSTER", "MYID"]).await;
    let mut slots = Vec::new();
    for topic in &topics {
        let slot = ask(source, &["CLUSTER", "KEYSLOT", topic]).await;
        slots.extend(slot.parse::<u16>());
    }
    let in_source = slots.iter().find(|slot| **slot <= SLOTS[0].1);
    let slot = in_source
        .expect("one topic lies in the first third")
        .to_string();
    for server in [target, source, &cluster.servers[1]] {
        ask(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
    }
    ear.until("connected", |ear| ear.count(&Heard::Connected) >= 2)
        .await;
    all_are_heard(&link, &ear, &topics, 1).await;
}

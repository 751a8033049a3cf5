//! A link over restarts, stalls and time-outs, and the order of what it does.

use std::time::{Duration, Instant};

use backplane::redis::{LinkError, Script};

mod servers {
    pub mod ear;
    pub mod proxy;
    pub mod redis;
}
use servers::ear::{Heard, connect, options, publish};
use servers::proxy::Proxy;
use servers::redis::RedisServer;

static ARGUMENTS: Script = Script {
    source: "return {ARGV[1], ARGV[2], KEYS[1]}",
};

static FAILS: Script = Script {
    source: "return redis.error_reply('MINE ' .. ARGV[2])",
};

fn strings(value: redis::Value) -> Vec<String> {
    redis::from_redis_value(value).unwrap()
}

#[tokio::test]
async fn a_script_knows_the_servers_run_and_survives_a_forgetful_server() {
    let mut server = RedisServer::start(&[]);
    let (link, ear) = connect(options(&[&server.url()])).await.unwrap();
    let keys = [link.key("{a}:k")];
    let call = || link.script(&ARGUMENTS, &keys, &[b"x\xff"]);
    let info = redis::cmd("INFO").arg("server").to_owned();
    let before: redis::InfoDict =
        redis::from_redis_value(link.command(&info).await.unwrap()).unwrap();
    let before: String = before.get("run_id").unwrap();
    let redis::Value::Array(answer) = call().await.unwrap() else {
        panic!("an array was expected");
    };
    let bulk = |text: &[u8]| redis::Value::BulkString(text.to_vec());
    assert_eq!(
        answer,
        [
            bulk(before.as_bytes()),
            bulk(b"x\xff"),
            bulk(keys[0].as_bytes())
        ]
    );

    let flush = redis::cmd("SCRIPT").arg("FLUSH").to_owned();
    link.command(&flush).await.unwrap();
    call().await.unwrap();

    let error = link.script(&FAILS, &[], &[b"words"]).await.unwrap_err();
    assert_eq!(error, LinkError::Refused("MINE words".to_owned()));

    server.kill();
    ear.until("lost", |ear| ear.count(&Heard::Lost) == 1).await;
    assert!(matches!(call().await, Err(LinkError::Unavailable(_))));
    server.restart();
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    let after = link.script(&ARGUMENTS, &keys, &[b"x"]).await.unwrap();
    assert_ne!(strings(after)[0], before, "another run of the server");
}

#[tokio::test]
async fn every_subscription_is_made_again() {
    let mut server = RedisServer::start(&[]);
    let (link, ear) = connect(options(&[&server.url()])).await.unwrap();
    let topics: Vec<String> = (0..1500).map(|n| format!("{{t{n}}}")).collect();
    let asked: Vec<_> = topics.iter().map(|topic| link.subscribe(topic)).collect();
    for made in asked {
        made.await.unwrap();
    }
    link.unsubscribe(&topics[7]);
    server.kill();
    ear.until("lost", |ear| ear.count(&Heard::Lost) == 1).await;
    assert!(!link.is_connected());
    link.unsubscribe(&topics[8]);
    assert!(matches!(
        link.subscribe("late").await,
        Err(LinkError::Unavailable(_))
    ));
    server.restart();
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    for topic in topics.iter().map(String::as_str).chain(["late"]) {
        publish(&link, topic, "again").await.unwrap();
        let expected = usize::from(topic != topics[7] && topic != topics[8]);
        assert_eq!(ear.messages(topic).len(), expected, "{topic}");
    }
}

#[tokio::test]
async fn the_last_call_on_a_topic_wins() {
    let server = RedisServer::start(&[]);
    let (link, ear) = connect(options(&[&server.url()])).await.unwrap();
    for n in 1..=300 {
        let first = link.subscribe("a");
        link.unsubscribe("a");
        let last = link.subscribe("a");
        last.await.unwrap();
        first.await.unwrap();
        publish(&link, "a", "heard").await.unwrap();
        assert_eq!(ear.messages("a").len(), n);
        link.unsubscribe("a");
    }
    // Whatever is asked for later is done later.
    link.subscribe("b").await.unwrap();
    publish(&link, "a", "unheard").await.unwrap();
    assert_eq!(ear.messages("a").len(), 300);
}

#[tokio::test]
async fn what_came_before_a_reply_was_handed_over_before_it() {
    let server = RedisServer::start(&[]);
    let settings = options(&[&server.url()]);
    let (link, ear) = connect(settings.clone()).await.unwrap();
    let (sender, _) = connect(settings).await.unwrap();
    link.subscribe("a").await.unwrap();
    for n in 1..=500 {
        publish(&sender, "a", "x").await.unwrap();
        link.command(&redis::cmd("PING")).await.unwrap();
        assert_eq!(ear.messages("a").len(), n);
    }
}

#[tokio::test]
async fn a_stalled_connection_is_noticed_and_replaced() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port(), None).await;
    let (link, ear) = connect(options(&[&proxy.url()])).await.unwrap();
    link.subscribe("a").await.unwrap();
    proxy.stall(true);
    let since = Instant::now();
    // Nobody sends anything: only the watchdog can tell.
    ear.until("lost", |ear| ear.count(&Heard::Lost) == 1).await;
    let limit = Duration::from_millis(300 + 300 + 1000 + 1500);
    assert!(since.elapsed() < limit, "{:?}", since.elapsed());
    proxy.stall(false);
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    publish(&link, "a", "again").await.unwrap();
    assert_eq!(ear.messages("a"), ["again"]);
    assert!(proxy.connections() >= 2);
}

#[tokio::test]
async fn a_command_without_an_answer_breaks_the_connection() {
    let server = RedisServer::start(&[]);
    let mut settings = options(&[&server.url()]);
    settings.watchdog = Duration::from_secs(60);
    let (link, ear) = connect(settings.clone()).await.unwrap();
    let (admin, _) = connect(settings).await.unwrap();
    let pause = redis::cmd("CLIENT")
        .arg("PAUSE")
        .arg(3000)
        .arg("ALL")
        .to_owned();
    admin.command(&pause).await.unwrap();
    let since = Instant::now();
    let error = link.command(&redis::cmd("PING")).await.unwrap_err();
    assert!(matches!(error, LinkError::Unavailable(_)), "{error}");
    assert!(
        since.elapsed() < Duration::from_millis(2500),
        "{:?}",
        since.elapsed()
    );
    ear.until("lost", |ear| ear.count(&Heard::Lost) == 1).await;
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    link.command(&redis::cmd("PING")).await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_the_server_ends_is_made_again() {
    let server = RedisServer::start(&[]);
    let (link, ear) = connect(options(&[&server.url()])).await.unwrap();
    let (admin, _) = connect(options(&[&server.url()])).await.unwrap();
    link.subscribe("a").await.unwrap();
    let kill = redis::cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .to_owned();
    admin.command(&kill).await.unwrap();
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    publish(&admin, "other", "x").await.unwrap();
    publish(&link, "a", "again").await.unwrap();
    assert_eq!(ear.messages("a"), ["again"]);
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left_until_it_is_one_again() {
    let master = RedisServer::start(&[]);
    let other = RedisServer::start(&[]);
    let (link, ear) = connect(options(&[&master.url()])).await.unwrap();
    let (admin, _) = connect(options(&[&master.url()])).await.unwrap();
    let follow = |host: &str, port: &str| redis::cmd("REPLICAOF").arg(host).arg(port).to_owned();
    let port = other.port().to_string();
    admin.command(&follow("127.0.0.1", &port)).await.unwrap();
    let set = redis::cmd("SET").arg(link.key("k")).arg(1).to_owned();
    let error = link.command(&set).await.unwrap_err();
    assert!(matches!(error, LinkError::Unavailable(_)), "{error}");
    ear.until("lost", |ear| ear.count(&Heard::Lost) == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!link.is_connected());
    admin.command(&follow("NO", "ONE")).await.unwrap();
    ear.until("connected", |ear| ear.count(&Heard::Connected) == 2)
        .await;
    link.command(&set).await.unwrap();
}

//! The limiter contract over Redis, what nodes promise each other there, and what an outage looks like.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::limiter::contract::{ask, slow, take};
use backplane::limiter::redis::RedisLimiter;
use backplane::limiter::{Limiter, LimiterError, Quota};
use backplane::redis::LinkOptions;
use uuid::Uuid;

mod servers {
    pub mod proxy;
    pub mod redis;
}
use servers::proxy::Proxy;
use servers::redis::RedisServer;

const HERE: &str = "redis://127.0.0.1:6379";
const PATIENCE: Duration = Duration::from_millis(250);

fn options(url: &str) -> LinkOptions {
    LinkOptions {
        urls: vec![url.to_owned()],
        ca: None,
        prefix: format!("test-limiter-{}", Uuid::now_v7()),
        command_timeout: Duration::from_secs(2),
        watchdog: Duration::from_secs(1),
    }
}

async fn connect(options: &LinkOptions, patience: Duration) -> RedisLimiter {
    let limiter = RedisLimiter::connect(options.clone(), patience).await;
    limiter.unwrap()
}

async fn redis() -> Arc<dyn Limiter> {
    Arc::new(connect(&options(HERE), Duration::from_secs(10)).await)
}

backplane::limiter_contract!(redis);

#[tokio::test]
async fn nodes_share_a_bucket() {
    let options = options(HERE);
    let nodes = [
        connect(&options, Duration::from_secs(10)).await,
        connect(&options, Duration::from_secs(10)).await,
    ];
    let takes = (0..60).map(|n| take(&nodes[n % 2], "k", slow(25), 1));
    let decisions = futures::future::join_all(takes).await;
    let allowed = decisions.iter().filter(|decision| decision.allowed);
    assert_eq!(allowed.count(), 25);
}

#[tokio::test]
async fn a_bucket_that_is_full_again_leaves_no_key() {
    let server = RedisServer::start(&[]);
    let limiter = connect(&options(&server.url()), Duration::from_secs(10)).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let quick = Quota::new(5, 5, Duration::from_millis(500)).unwrap();
    take(&limiter, "look", quick, 0).await;
    take(&limiter, "k", quick, 3).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let left: i64 = redis::cmd("PTTL")
        .arg(&keys[0])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!((1..=300).contains(&left), "{left} ms");
    tokio::time::sleep(Duration::from_millis(400)).await;
    let keys: usize = redis::cmd("DBSIZE")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn what_somebody_else_wrote_harms_nobody() {
    let server = RedisServer::start(&[]);
    let options = options(&server.url());
    let limiter = connect(&options, Duration::from_secs(10)).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for value in ["nonsense", "", "-1", "1e300", "99999999999999999999"] {
        let key = format!("{}:limit:{{k}}", options.prefix);
        redis::cmd("SET")
            .arg(key)
            .arg(value)
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
        let quick = Quota::new(2, 2, Duration::from_millis(200)).unwrap();
        let decision = take(&limiter, "k", quick, 1).await;
        assert!(
            decision.retry_after <= Duration::from_millis(200),
            "{value}: {decision:?}"
        );
    }
}

#[tokio::test]
async fn a_limiter_that_cannot_be_reached_says_so_soon_and_comes_back() {
    let mut server = RedisServer::start(&[]);
    let limiter = connect(&options(&server.url()), PATIENCE).await;
    assert!(take(&limiter, "k", slow(5), 1).await.allowed);
    server.kill();
    let since = Instant::now();
    for _ in 0..10 {
        let refused = limiter.take(&[ask("k", slow(5), 1)]).await;
        assert!(
            matches!(refused, Err(LimiterError::Unavailable(_))),
            "{refused:?}"
        );
    }
    assert!(since.elapsed() < 2 * PATIENCE, "{:?}", since.elapsed());
    server.restart();
    let since = Instant::now();
    while limiter.take(&[ask("k", slow(5), 1)]).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(5), "it stays away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_that_is_there_but_silent_is_not_waited_for() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(server.port(), None).await;
    let limiter = connect(&options(&proxy.url()), PATIENCE).await;
    take(&limiter, "k", slow(5), 1).await;
    proxy.stall(true);
    let since = Instant::now();
    assert!(limiter.take(&[ask("k", slow(5), 1)]).await.is_err());
    let waited = since.elapsed();
    assert!(waited >= PATIENCE && waited < 3 * PATIENCE, "{waited:?}");
}

//! The cache contract over Redis, and what two nodes promise each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backplane::cache::Cache;
use backplane::cache::contract::{counted, held};
use backplane::cache::redis::RedisCache;
use backplane::redis::LinkOptions;
use uuid::Uuid;

mod servers {
    pub mod redis;
}
use servers::redis::RedisServer;

const LONG: Duration = Duration::from_secs(60);

fn options(url: &str) -> LinkOptions {
    LinkOptions {
        urls: vec![url.to_owned()],
        ca: None,
        prefix: format!("test-cache-{}", Uuid::now_v7()),
        command_timeout: Duration::from_secs(2),
        watchdog: Duration::from_secs(1),
    }
}

async fn redis() -> Arc<dyn Cache> {
    let options = options("redis://127.0.0.1:6379");
    Arc::new(RedisCache::connect(options).await.unwrap())
}

backplane::cache_contract!(redis);

#[tokio::test]
async fn nodes_share_values_and_removals() {
    let options = options("redis://127.0.0.1:6379");
    let one = RedisCache::connect(options.clone()).await.unwrap();
    let two = Arc::new(RedisCache::connect(options).await.unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    one.get_or_fill("k", LONG.into(), counted(&count, "shared"))
        .await
        .unwrap();
    let found = two
        .get_or_fill("k", LONG.into(), counted(&count, "own"))
        .await;
    assert_eq!(found.unwrap(), "shared");
    assert_eq!(count.load(Ordering::Relaxed), 1);

    one.remove("k").await;
    let (go_on, held) = held();
    let filler = Arc::clone(&two);
    let filling =
        tokio::spawn(async move { filler.get_or_fill("k", LONG.into(), held.fill).await });
    held.begun.await.unwrap();
    one.remove("k").await;
    go_on.send("old".into()).unwrap();
    assert_eq!(filling.await.unwrap().unwrap(), "old");
    assert_eq!(
        one.get("k").await,
        None,
        "the other node's fill came too late"
    );
    let new = one
        .get_or_fill("k", LONG.into(), counted(&count, "new"))
        .await;
    assert_eq!(new.unwrap(), "new");
    assert_eq!(two.get("k").await, Some("new".into()));
}

#[tokio::test]
async fn without_redis_everything_is_made_anew_and_nothing_waits() {
    let mut server = RedisServer::start(&[]);
    let cache = RedisCache::connect(options(&server.url())).await.unwrap();
    cache.put("k", "kept".into(), LONG).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let since = Instant::now();
    assert_eq!(cache.get("k").await, None);
    let made = cache
        .get_or_fill("k", LONG.into(), counted(&Arc::default(), "made"))
        .await;
    assert_eq!(made.unwrap(), "made");
    cache.put("k", "lost".into(), LONG).await;
    cache.remove("k").await;
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
}

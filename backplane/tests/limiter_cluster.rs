//! The limiter on three masters of a Redis Cluster: its contract, but for what one script sees of several keys.

use std::sync::Arc;
use std::time::Duration;

use backplane::limiter::Limiter;
use backplane::limiter::contract::{self, ask, slow, take};
use backplane::limiter::redis::RedisLimiter;
use backplane::redis::LinkOptions;

mod servers {
    pub mod cluster;
    pub mod redis;
}
use servers::cluster::masters;
use servers::redis::RedisServer;

#[tokio::test]
async fn buckets_lie_on_several_servers() {
    let servers = masters().await;
    let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let fresh = async |prefix: &str| {
        let options = LinkOptions {
            urls: urls.clone(),
            ca: None,
            prefix: prefix.to_owned(),
            command_timeout: Duration::from_secs(2),
            watchdog: Duration::from_millis(500),
        };
        let limiter = RedisLimiter::connect(options, Duration::from_secs(10)).await;
        Arc::new(limiter.unwrap()) as Arc<dyn Limiter>
    };
    contract::a_bucket_counts_down(fresh("one").await).await;
    contract::keys_are_apart(fresh("two").await).await;
    contract::costs_are_counted(fresh("three").await).await;
    contract::concurrent_takes_get_what_there_is(fresh("four").await).await;
    contract::nothing_asked_is_allowed(fresh("five").await).await;

    let limiter = fresh("six").await;
    let many: Vec<_> = (0..20).map(|n| ask(&n.to_string(), slow(5), 1)).collect();
    for left in [4, 3] {
        let decisions = limiter.take(&many).await.unwrap();
        assert!(
            decisions
                .iter()
                .all(|one| one.allowed && one.remaining == left)
        );
    }
    take(&*limiter, "7", slow(5), 3).await;
    let decisions = limiter.take(&many).await.unwrap();
    let refused = decisions.iter().filter(|one| !one.allowed);
    assert_eq!(refused.count(), 1, "and the others are charged");
    assert_eq!(take(&*limiter, "8", slow(5), 0).await.remaining, 2);
}

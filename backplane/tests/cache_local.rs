//! The cache contract inside the process, and its bound.

use std::sync::Arc;
use std::time::Duration;

use backplane::cache::Cache;
use backplane::cache::local::LocalCache;

async fn local() -> Arc<dyn Cache> {
    Arc::new(LocalCache::new(16 * 1024 * 1024))
}

backplane::cache_contract!(local);

#[tokio::test]
async fn what_it_keeps_is_bounded() {
    let cache = LocalCache::new(1024 * 1024);
    let value = bytes::Bytes::from(vec![7; 100 * 1024]);
    for n in 0..100 {
        cache
            .put(&n.to_string(), value.clone(), Duration::from_secs(60))
            .await;
    }
    cache.settle().await;
    let mut kept = 0;
    for n in 0..100 {
        kept += usize::from(cache.get(&n.to_string()).await.is_some());
    }
    assert!((1..=10).contains(&kept), "{kept} entries of 100 KiB");
}

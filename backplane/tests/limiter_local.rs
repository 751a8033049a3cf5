//! The limiter contract inside the process, its bound, and what a take costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::limiter::contract::{slow, take};
use backplane::limiter::local::LocalLimiter;
use backplane::limiter::{Limiter, Quota, Take};

async fn local() -> Arc<dyn Limiter> {
    Arc::new(LocalLimiter::new(10_000))
}

backplane::limiter_contract!(local);

#[tokio::test]
async fn resting_buckets_are_forgotten() {
    let limiter = LocalLimiter::new(100_000);
    let quick = Quota::new(10, 10, Duration::from_millis(10)).unwrap();
    for n in 0..50_000 {
        take(&limiter, &format!("guest {n}"), quick, 1).await;
    }
    take(&limiter, "regular", slow(1), 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    limiter.sweep();
    assert_eq!(limiter.len(), 1);
    assert!(!take(&limiter, "regular", slow(1), 1).await.allowed);
    assert!(!limiter.is_empty());
}

#[tokio::test]
async fn a_crowd_is_bounded_and_spares_who_took_most() {
    let limiter = LocalLimiter::new(1000);
    take(&limiter, "busy", slow(10), 10).await;
    for n in 0..20_000 {
        take(&limiter, &format!("guest {n}"), slow(10), 1).await;
        assert!(limiter.len() <= 1000, "{} buckets", limiter.len());
    }
    assert!(limiter.len() >= 400, "{} buckets", limiter.len());
    assert!(!take(&limiter, "busy", slow(10), 1).await.allowed);
}

/// Not a measurement, as tests run beside each other: says what it saw, and fails if it is far off.
#[tokio::test]
async fn a_take_costs_little() {
    let limiter = LocalLimiter::new(200_000);
    let quota = Quota::new(1_000_000, 1_000_000, Duration::from_secs(60)).unwrap();
    let both = |n: u32| {
        let address = format!("read:address:10.0.{}.1", n % 250);
        [
            Take::one(format!("read:user:{n}"), quota),
            Take::one(address, quota),
        ]
    };
    let takes: Vec<_> = (0..10_000).map(both).collect();
    let count = 200_000_u32;
    let since = Instant::now();
    for n in 0..count {
        let decisions = limiter.take(&takes[n as usize % takes.len()]).await;
        assert!(decisions.unwrap()[0].allowed);
    }
    let each = since.elapsed() / count;
    println!("a take from two buckets, of 10,250: {each:?}");
    assert!(each < Duration::from_micros(100), "{each:?}");
}

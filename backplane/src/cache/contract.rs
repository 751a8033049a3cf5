//! The contract of a cache: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`cache_contract!`](crate::cache_contract) with a factory that makes a
//! fresh cache; the same names then pass, or fail, for each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Cache, Fill, FillError, LARGEST, Ttl};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(400);

/// A fill that counts how often it runs.
pub fn counted(count: &Arc<AtomicUsize>, value: &'static str) -> Fill {
    let count = Arc::clone(count);
    let making = async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(value.into())
    };
    making.boxed()
}

/// A fill that waits for its value.
pub struct Held {
    /// The fill.
    pub fill: Fill,
    /// Told when the fill begins.
    pub begun: oneshot::Receiver<()>,
}

/// A fill that returns what is sent.
pub fn held() -> (oneshot::Sender<Bytes>, Held) {
    let (go_on, value) = oneshot::channel();
    let (begin, begun) = oneshot::channel();
    let waiting = async move {
        // Nobody need listen to that.
        let _ = begin.send(());
        value.await.map_err(|error| Arc::new(error) as FillError)
    };
    let fill = waiting.boxed();
    (go_on, Held { fill, begun })
}

fn spawn(
    cache: &Arc<dyn Cache>,
    key: &'static str,
    fill: Fill,
) -> JoinHandle<Result<Bytes, FillError>> {
    let cache = Arc::clone(cache);
    tokio::spawn(async move { cache.get_or_fill(key, LONG.into(), fill).await })
}

/// What was put is there until it is removed, whatever its bytes.
pub async fn values_stay_until_removed(cache: Arc<dyn Cache>) {
    assert_eq!(cache.get("k").await, None);
    for value in [
        Bytes::new(),
        "text".into(),
        Bytes::from_static(b"\0\xff\r\n"),
        vec![7; LARGEST].into(),
    ] {
        cache.put("k", value.clone(), LONG).await;
        assert!(cache.get("k").await == Some(value));
    }
    cache.put("other}", "two".into(), LONG).await;
    cache.remove("k").await;
    assert_eq!(cache.get("k").await, None);
    assert_eq!(cache.get("other}").await, Some("two".into()));
}

/// A value is gone when its own time is over, and a later one's time counts anew.
pub async fn values_end_with_their_time(cache: Arc<dyn Cache>) {
    cache.put("short", "x".into(), SHORT).await;
    cache.put("renewed", "x".into(), SHORT).await;
    cache.put("renewed", "y".into(), LONG).await;
    let filled = cache.get_or_fill("filled", SHORT.into(), counted(&Arc::default(), "x"));
    assert_eq!(filled.await.ok(), Some("x".into()));
    assert_eq!(cache.get("filled").await, Some("x".into()));
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(cache.get("short").await, None);
    assert_eq!(cache.get("filled").await, None);
    assert_eq!(cache.get("renewed").await, Some("y".into()));
}

/// Of many who miss at once one fills; who comes later finds the value.
pub async fn one_fills_for_all(cache: Arc<dyn Cache>) {
    let count = Arc::new(AtomicUsize::new(0));
    let all = (0..50).map(|_| cache.get_or_fill("k", LONG.into(), counted(&count, "made")));
    for value in join_all(all).await {
        assert_eq!(value.ok(), Some("made".into()));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let later = cache
        .get_or_fill("k", LONG.into(), counted(&count, "again"))
        .await;
    assert_eq!(later.ok(), Some("made".into()));
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

/// A failed fill fails for all who waited, and the next one tries again.
pub async fn a_failure_is_not_kept(cache: Arc<dyn Cache>) {
    let fails = || {
        let failing = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(Arc::new(io::Error::other("broken")) as FillError)
        };
        failing.boxed()
    };
    let all = (0..5).map(|_| cache.get_or_fill("k", LONG.into(), fails()));
    for value in join_all(all).await {
        assert_eq!(
            value.map_err(|error| error.to_string()),
            Err("broken".to_owned())
        );
    }
    let next = cache.get_or_fill("k", LONG.into(), counted(&Arc::default(), "fine"));
    assert_eq!(next.await.ok(), Some("fine".into()));
}

/// What was read before a removal is not kept after it, and is not given to who asks after it.
pub async fn a_removal_overtakes_a_fill(cache: Arc<dyn Cache>) {
    let (go_on, held) = held();
    let filling = spawn(&cache, "k", held.fill);
    held.begun.await.expect("the fill begins");
    cache.remove("k").await;
    let new = cache.get_or_fill("k", LONG.into(), counted(&Arc::default(), "new"));
    assert_eq!(new.await.ok(), Some("new".into()));
    cache.remove("k").await;
    go_on.send("old".into()).expect("the fill still waits");
    let old = filling.await.expect("no panic");
    assert_eq!(
        old.ok(),
        Some("old".into()),
        "who asked before gets what was then"
    );
    assert_eq!(cache.get("k").await, None);
}

/// A caller that gives up takes nothing from those who wait with it, and nothing stays behind if it was alone.
pub async fn who_gives_up_harms_nobody(cache: Arc<dyn Cache>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (go_on, held) = held();
    let first = spawn(&cache, "k", held.fill);
    held.begun.await.expect("the first fill begins");
    let second = spawn(&cache, "k", counted(&count, "second"));
    // It has to be waiting before the first gives up.
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    assert!(first.await.is_err());
    go_on.send("first".into()).expect("the first fill goes on");
    let second = second.await.expect("no panic").ok();
    assert_eq!(
        second,
        Some("first".into()),
        "it waited for the first one's"
    );
    assert_eq!(count.load(Ordering::Relaxed), 0);

    let (_never, alone) = self::held();
    let gives_up = spawn(&cache, "alone", alone.fill);
    alone.begun.await.expect("the fill begins");
    gives_up.abort();
    assert!(gives_up.await.is_err());
    let next = cache.get_or_fill("alone", LONG.into(), counted(&count, "next"));
    assert_eq!(next.await.ok(), Some("next".into()));
}

/// What is too large is handed on and not kept.
pub async fn too_large_is_not_kept(cache: Arc<dyn Cache>) {
    let large = Bytes::from(vec![1; LARGEST + 1]);
    cache.put("k", large.clone(), LONG).await;
    assert!(cache.get("k").await.is_none());
    let filled = large.clone();
    let value = cache
        .get_or_fill("k", LONG.into(), async move { Ok(filled) }.boxed())
        .await;
    assert!(value.ok() == Some(large));
    assert!(cache.get("k").await.is_none());
}

/// Nothing is kept for its own time, and with none not at all.
pub async fn nothing_has_a_time_of_its_own(cache: Arc<dyn Cache>) {
    let count = Arc::new(AtomicUsize::new(0));
    let ttl = |nothing| Ttl {
        value: LONG,
        nothing,
    };
    for asked in 0..2 {
        let made = cache.get_or_fill("k", ttl(SHORT), counted(&count, ""));
        assert_eq!(made.await.ok(), Some(Bytes::new()));
        assert_eq!(count.load(Ordering::Relaxed), 1, "asked {asked} times");
    }
    tokio::time::sleep(SHORT * 2).await;
    let found = cache.get_or_fill("k", ttl(SHORT), counted(&count, "found"));
    assert_eq!(found.await.ok(), Some("found".into()));
    for made in 3..5 {
        let none = cache.get_or_fill("none", ttl(Duration::ZERO), counted(&count, ""));
        assert_eq!(none.await.ok(), Some(Bytes::new()));
        assert_eq!(count.load(Ordering::Relaxed), made);
    }
}

/// Makes a test of each guarantee; `$factory` is an async closure or function that makes a fresh cache.
#[macro_export]
macro_rules! cache_contract {
    ($factory:expr) => {
        $crate::cache_contract!($factory;
            values_stay_until_removed,
            values_end_with_their_time,
            one_fills_for_all,
            a_failure_is_not_kept,
            a_removal_overtakes_a_fill,
            who_gives_up_harms_nobody,
            too_large_is_not_kept,
            nothing_has_a_time_of_its_own,
        );
    };
    ($factory:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::cache::contract::$name($factory().await).await;
            }
        )*
    };
}

//! The contract of a limiter: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`limiter_contract!`](crate::limiter_contract) with a factory that makes a
//! fresh limiter; the same names then pass, or fail, for each.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{Decision, Limiter, Quota, Take};

const HOUR: Duration = Duration::from_secs(3600);

/// A bucket that gets back nothing to speak of during a test.
#[must_use]
pub fn slow(burst: u32) -> Quota {
    Quota::new(burst, burst, HOUR * u32::from(u8::MAX)).expect("a quota")
}

/// What is asked of a bucket.
#[must_use]
pub fn ask(key: &str, quota: Quota, cost: u32) -> Take {
    Take {
        key: key.to_owned(),
        quota,
        cost,
    }
}

/// Takes from one bucket.
pub async fn take(limiter: &dyn Limiter, key: &str, quota: Quota, cost: u32) -> Decision {
    let decisions = limiter.take(&[ask(key, quota, cost)]).await;
    decisions.expect("the limiter answers")[0]
}

/// What a bucket holds.
async fn holds(limiter: &dyn Limiter, key: &str, quota: Quota) -> u32 {
    take(limiter, key, quota, 0).await.remaining
}

/// A full bucket gives its burst, one by one, and then says how long to wait.
pub async fn a_bucket_counts_down(limiter: Arc<dyn Limiter>) {
    let quota = Quota::new(3, 3, HOUR).expect("a quota");
    for left in [2, 1, 0] {
        let decision = take(&*limiter, "k", quota, 1).await;
        assert_eq!((decision.allowed, decision.limit), (true, 3));
        assert_eq!(decision.remaining, left);
        assert_eq!(decision.retry_after, Duration::ZERO);
        let lacks = HOUR / 3 * (3 - left);
        let slack = Duration::from_secs(20);
        assert!(
            decision.reset <= lacks && decision.reset > lacks - slack,
            "{decision:?}"
        );
    }
    let decision = take(&*limiter, "k", quota, 1).await;
    assert_eq!((decision.allowed, decision.remaining), (false, 0));
    let (least, most) = (HOUR / 3 - Duration::from_secs(20), HOUR / 3);
    assert!(
        decision.retry_after <= most && decision.retry_after > least,
        "{decision:?}"
    );
    assert!(decision.reset <= HOUR, "{decision:?}");
}

/// What it says to wait is enough; and it never holds more than its burst.
pub async fn it_refills_steadily(limiter: Arc<dyn Limiter>) {
    let quota = Quota::new(2, 10, Duration::from_secs(2)).expect("a quota");
    let mut refused = 0;
    for _ in 0..5 {
        loop {
            let decision = take(&*limiter, "k", quota, 1).await;
            if decision.allowed {
                break;
            }
            refused += 1;
            assert!(decision.retry_after <= Duration::from_millis(200));
            tokio::time::sleep(decision.retry_after + Duration::from_millis(1)).await;
        }
    }
    assert!((1..=5).contains(&refused), "{refused} times of waiting");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let decision = take(&*limiter, "k", quota, 1).await;
    assert_eq!((decision.allowed, decision.remaining), (true, 1));
}

/// A key takes nothing from another, whatever it is written with.
pub async fn keys_are_apart(limiter: Arc<dyn Limiter>) {
    for key in ["a", "b", "a:b", "a}", "{a}", "ä 🙂\0", ""] {
        assert!(take(&*limiter, key, slow(1), 1).await.allowed, "{key:?}");
        assert!(!take(&*limiter, key, slow(1), 1).await.allowed, "{key:?}");
    }
}

/// A take counts its cost; one beyond the burst is the burst, and 0 only looks.
pub async fn costs_are_counted(limiter: Arc<dyn Limiter>) {
    let quota = slow(5);
    assert_eq!(take(&*limiter, "k", quota, 3).await.remaining, 2);
    let refused = take(&*limiter, "k", quota, 3).await;
    assert_eq!((refused.allowed, refused.remaining), (false, 2));
    for _ in 0..3 {
        let look = take(&*limiter, "k", quota, 0).await;
        assert_eq!((look.allowed, look.remaining), (true, 2));
    }
    assert!(take(&*limiter, "k", quota, 2).await.allowed);
    assert!(take(&*limiter, "k", quota, 0).await.allowed);
    assert_eq!(take(&*limiter, "full", quota, 1000).await.remaining, 0);
    assert!(!take(&*limiter, "full", quota, 1000).await.allowed);
}

/// Many at once get what the bucket holds, and not one more.
pub async fn concurrent_takes_get_what_there_is(limiter: Arc<dyn Limiter>) {
    let all = (0..200).map(|_| take(&*limiter, "k", slow(37), 1));
    let decisions = join_all(all).await;
    let allowed = decisions.iter().filter(|decision| decision.allowed);
    assert_eq!(allowed.count(), 37);
}

/// A bucket that was fuller of debt under a larger quota is empty under a smaller one, and no worse.
pub async fn a_new_quota_applies_at_once(limiter: Arc<dyn Limiter>) {
    take(&*limiter, "k", slow(100), 100).await;
    let quick = Quota::new(4, 4, Duration::from_millis(400)).expect("a quota");
    let decision = take(&*limiter, "k", quick, 1).await;
    assert!(!decision.allowed);
    assert!(
        decision.retry_after <= Duration::from_millis(100),
        "{decision:?}"
    );
}

/// No buckets are always enough.
pub async fn nothing_asked_is_allowed(limiter: Arc<dyn Limiter>) {
    assert_eq!(limiter.take(&[]).await, Ok(Vec::new()));
}

/// If one bucket has too little, none is charged; each says how it stands. Only where one script sees all keys.
pub async fn all_or_none(limiter: Arc<dyn Limiter>) {
    let (user, address) = (slow(1), slow(5));
    let both = [ask("u", user, 1), ask("a", address, 1)];
    let first = limiter.take(&both).await.expect("an answer");
    assert_eq!([first[0].remaining, first[1].remaining], [0, 4]);
    for _ in 0..3 {
        let then = limiter.take(&both).await.expect("an answer");
        assert_eq!([then[0].allowed, then[1].allowed], [false, true]);
        assert_eq!([then[0].remaining, then[1].remaining], [0, 4]);
    }
    let other = [ask("u2", user, 1), ask("a", address, 5)];
    let refused = limiter.take(&other).await.expect("an answer");
    assert_eq!([refused[0].allowed, refused[1].allowed], [true, false]);
    assert_eq!(holds(&*limiter, "u2", user).await, 1);
}

/// Makes a test of each guarantee; `$factory` is an async closure or function that makes a fresh limiter.
#[macro_export]
macro_rules! limiter_contract {
    ($factory:expr) => {
        $crate::limiter_contract!($factory;
            a_bucket_counts_down,
            it_refills_steadily,
            keys_are_apart,
            costs_are_counted,
            concurrent_takes_get_what_there_is,
            a_new_quota_applies_at_once,
            nothing_asked_is_allowed,
            all_or_none,
        );
    };
    ($factory:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::limiter::contract::$name($factory().await).await;
            }
        )*
    };
}

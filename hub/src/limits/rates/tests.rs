//! Rates by class, user and address, and their headers.

use async_trait::async_trait;
use backplane::limiter::LimiterError;
use backplane::limiter::local::LocalLimiter;

use super::*;

const HOME: Who<'_> = Who {
    address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    token: None,
};

fn rates(change: impl FnOnce(&mut Rate)) -> Rates {
    let mut settings = Rate::default();
    change(&mut settings);
    Rates::new(Arc::new(LocalLimiter::new(1000)), &settings)
}

async fn count(rates: &Rates, class: Class, user: Option<&str>, address: &str) -> Count {
    let who = Who {
        address: address.parse().unwrap(),
        token: user,
    };
    let count = rates.count(class, who, user).await;
    count.unwrap().unwrap()
}

#[tokio::test]
async fn both_buckets_count_down_and_are_told() {
    let rates = rates(|_| {});
    let first = count(&rates, Class::Read, Some("ann"), "127.0.0.1").await;
    assert_eq!(
        first.policy,
        "\"read\";q=1200;w=60, \"read-address\";q=12000;w=60"
    );
    assert_eq!(
        first.state,
        "\"read\";r=1199;t=1, \"read-address\";r=11999;t=1"
    );
    assert_eq!(first.wait, None);
    let guest = count(&rates, Class::Read, None, "127.0.0.1").await;
    assert_eq!(guest.policy, "\"read-address\";q=12000;w=60");
    assert_eq!(guest.state, "\"read-address\";r=11998;t=1");
    let other = count(&rates, Class::Write, Some("ann"), "127.0.0.1").await;
    assert_eq!(
        other.state,
        "\"write\";r=599;t=1, \"write-address\";r=5999;t=1"
    );
}

#[tokio::test]
async fn users_and_addresses_are_refused_apart() {
    let rates = rates(|settings| {
        (settings.write_user, settings.write_address) = (2, 3);
    });
    for _ in 0..2 {
        let count = count(&rates, Class::Write, Some("ann"), "2001:db8::1").await;
        assert_eq!(count.wait, None);
    }
    let refused = count(&rates, Class::Write, Some("ann"), "192.0.2.1").await;
    let wait = refused.wait.unwrap();
    assert!(wait > Duration::from_secs(29) && wait <= Duration::from_secs(30));
    assert_eq!(
        refused.state,
        "\"write\";r=0;t=60, \"write-address\";r=3;t=0"
    );
    // The network has one left, whoever takes it.
    let bob = count(&rates, Class::Write, Some("bob"), "2001:db8::2").await;
    assert_eq!(bob.wait, None);
    let full = count(&rates, Class::Write, Some("bob"), "2001:db8::3").await;
    assert!(full.wait.is_some());
    let guest = count(&rates, Class::Write, None, "2001:db8::4").await;
    assert!(guest.wait.is_some());
}

#[tokio::test]
async fn who_was_refused_is_refused_again_unasked() {
    let rates = rates(|settings| {
        (settings.read_user, settings.read_address) = (1, 2);
    });
    let who = |address: &str, token| Who {
        address: address.parse().unwrap(),
        token: Some(token),
    };
    let (ann, bob) = (who("192.0.2.1", "ann"), who("192.0.2.1", "bob"));
    count(&rates, Class::Read, ann.token, "192.0.2.1").await;
    assert!(rates.still_refused(Class::Read, ann).is_none());
    count(&rates, Class::Read, ann.token, "192.0.2.1").await;
    // The token is refused from everywhere, the address only once it has had enough itself.
    let repeated = rates.still_refused(Class::Read, who("192.0.2.9", "ann"));
    assert!(repeated.unwrap().wait.unwrap() > Duration::from_secs(58));
    assert!(rates.still_refused(Class::Read, bob).is_none());
    assert!(rates.still_refused(Class::Write, ann).is_none());
    count(&rates, Class::Read, bob.token, "192.0.2.1").await;
    let full = count(&rates, Class::Read, Some("cid"), "192.0.2.1").await;
    assert!(full.wait.is_some());
    for token in ["bob", "cid", "never seen"] {
        let repeated = rates.still_refused(Class::Read, who("192.0.2.1", token));
        assert_eq!(repeated.unwrap().state, full.state, "{token}");
    }
    assert!(
        rates
            .still_refused(Class::Read, who("192.0.2.9", "bob"))
            .is_none()
    );
}

#[tokio::test]
async fn a_burst_is_a_part_of_the_minute() {
    let rates = rates(|settings| {
        settings.read_burst = Duration::from_secs(10);
        settings.read_address = 0;
    });
    let first = count(&rates, Class::Read, Some("ann"), "127.0.0.1").await;
    assert_eq!(first.policy, "\"read\";q=200;w=10");
    assert_eq!(first.state, "\"read\";r=199;t=1");
    let small = Policy::new("x".to_owned(), 3, Duration::from_secs(1), false).unwrap();
    assert_eq!(small.told, "\"x\";q=1;w=1");
    assert!(Policy::new("x".to_owned(), 0, MINUTE, false).is_none());
}

#[tokio::test]
async fn no_limit_is_not_counted() {
    let one = rates(|settings| (settings.read_user, settings.read_address) = (0, 0));
    assert!(!one.is_counted(Class::Read) && one.is_counted(Class::Write));
    let counted = one.count(Class::Read, HOME, Some("ann")).await;
    assert!(counted.unwrap().is_none());
    let off = rates(|settings| settings.enabled = false);
    assert!(Class::ALL.into_iter().all(|class| !off.is_counted(class)));
}

struct Away;

#[async_trait]
impl Limiter for Away {
    async fn take(&self, _: &[Take]) -> Result<Vec<Decision>, LimiterError> {
        Err(LimiterError::Unavailable("away".to_owned()))
    }
}

#[tokio::test]
async fn without_a_limiter_a_class_is_open_or_closed() {
    let mut settings = Rate::default();
    (settings.read_outage, settings.write_outage) = (Outage::Open, Outage::Closed);
    let rates = Rates::new(Arc::new(Away), &settings);
    let open = rates.count(Class::Read, HOME, Some("ann")).await;
    assert!(open.unwrap().is_none());
    let closed = rates.count(Class::Write, HOME, None).await.unwrap_err();
    assert_eq!(closed.code, ErrorCode::Unavailable);
    assert_eq!(closed.retry_after, Some(Duration::from_secs(1)));
}

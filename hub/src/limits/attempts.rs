//! Attempts to log in: so many per account and per address, counted by all nodes together.
//!
//! Both are counted in one go, before a password is looked at. Never knows whether one was right.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use backplane::limiter::{Limiter, LimiterError, Quota, Take};

use super::network_of;
use crate::config::{self, Outage};

const MINUTE: Duration = Duration::from_secs(60);

/// Why an attempt is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TooMany {
    /// There were too many; how long to wait.
    Wait(Duration),
    /// Nobody can count them, and no attempt is let through uncounted.
    Uncounted(LimiterError),
}

/// The limits on attempts.
pub struct Attempts {
    limiter: Arc<dyn Limiter>,
    account: Option<Quota>,
    address: Option<Quota>,
    outage: Outage,
}

impl Attempts {
    /// Limits by these settings, counted there.
    #[must_use]
    pub fn new(limiter: Arc<dyn Limiter>, settings: &config::Auth) -> Self {
        let from_one_address = settings.login_per_minute_address;
        Self {
            limiter,
            account: Quota::new(settings.login_burst, settings.login_per_minute, MINUTE),
            address: Quota::new(from_one_address, from_one_address, MINUTE),
            outage: settings.login_outage,
        }
    }

    /// Counts an attempt from an address, on an account if it names one (in ASCII; case makes no difference).
    ///
    /// # Errors
    /// [`TooMany`].
    pub async fn count(&self, account: Option<&str>, address: IpAddr) -> Result<(), TooMany> {
        let mut takes = Vec::with_capacity(2);
        if let (Some(quota), Some(account)) = (self.account, account) {
            let key = format!("login:account:{}", account.to_ascii_lowercase());
            takes.push(Take::one(key, quota));
        }
        if let Some(quota) = self.address {
            let key = format!("login:address:{}", network_of(address));
            takes.push(Take::one(key, quota));
        }
        match self.limiter.take(&takes).await {
            Ok(decisions) => {
                let refused = decisions.iter().filter(|decision| !decision.allowed);
                let wait = refused.map(|decision| decision.retry_after).max();
                wait.map_or(Ok(()), |wait| Err(TooMany::Wait(wait)))
            }
            Err(error) => match self.outage {
                Outage::Open => Ok(()),
                Outage::Closed => Err(TooMany::Uncounted(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use backplane::limiter::Decision;
    use backplane::limiter::local::LocalLimiter;

    use super::*;

    fn settings(change: impl FnOnce(&mut config::Auth)) -> config::Auth {
        let mut settings = config::Auth::default();
        (settings.login_burst, settings.login_per_minute) = (2, 1);
        settings.login_per_minute_address = 5;
        change(&mut settings);
        settings
    }

    fn from(network: u8) -> IpAddr {
        [192, 0, 2, network].into()
    }

    #[tokio::test]
    async fn accounts_and_addresses_have_their_own_count() {
        let limiter = Arc::new(LocalLimiter::new(100));
        let attempts = Attempts::new(limiter, &settings(|_| {}));
        for login in ["ann", "ANN"] {
            assert_eq!(attempts.count(Some(login), from(1)).await, Ok(()));
        }
        // Neither another spelling nor another address helps.
        for (login, network) in [("ann", 1), ("aNn", 2), ("Ann", 3)] {
            let refused = attempts.count(Some(login), from(network)).await;
            let Err(TooMany::Wait(wait)) = refused else {
                panic!("{login}: {refused:?}")
            };
            assert!(wait > Duration::from_secs(59) && wait <= MINUTE, "{wait:?}");
        }
        for login in [Some("bob"), Some("cid"), None] {
            assert_eq!(attempts.count(login, from(1)).await, Ok(()));
        }
        assert!(attempts.count(Some("dan"), from(1)).await.is_err());
        assert_eq!(attempts.count(Some("dan"), from(2)).await, Ok(()));
    }

    #[tokio::test]
    async fn no_limit_asks_nobody() {
        let none = settings(|settings| {
            (settings.login_per_minute, settings.login_per_minute_address) = (0, 0);
        });
        let attempts = Attempts::new(Arc::new(LocalLimiter::new(100)), &none);
        for _ in 0..100 {
            assert_eq!(attempts.count(Some("ann"), from(1)).await, Ok(()));
        }
    }

    struct Away;

    #[async_trait]
    impl Limiter for Away {
        async fn take(&self, _: &[Take]) -> Result<Vec<Decision>, LimiterError> {
            Err(LimiterError::Unavailable("away".to_owned()))
        }
    }

    #[tokio::test]
    async fn nobody_logs_in_uncounted_unless_that_is_set() {
        let closed = Attempts::new(Arc::new(Away), &settings(|_| {}));
        let refused = closed.count(Some("ann"), from(1)).await;
        assert!(matches!(refused, Err(TooMany::Uncounted(_))), "{refused:?}");
        let open = settings(|settings| settings.login_outage = Outage::Open);
        let open = Attempts::new(Arc::new(Away), &open);
        assert_eq!(open.count(Some("ann"), from(1)).await, Ok(()));
    }
}

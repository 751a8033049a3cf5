//! How many requests of each class a user and an address may make, and how that is told in headers.
//!
//! Two buckets per request, taken in one go: that of the user, if the token says who it is, and that of the address.
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-10. Never reads a request.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backplane::limiter::{Decision, Limiter, Quota, Take};
use http::HeaderValue;
use protocol::ErrorCode;

use super::classes::Class;
use super::network_of;
use super::refusals::Refusals;
use crate::config::{Outage, Rate};
use crate::error::ApiError;

/// The header that says what the limits are.
pub const POLICY: &str = "ratelimit-policy";
/// The header that says what is left of them.
pub const STATE: &str = "ratelimit";

const MINUTE: Duration = Duration::from_secs(60);

/// The rates of every class.
pub struct Rates {
    limiter: Arc<dyn Limiter>,
    classes: [Limits; Class::ALL.len()],
    refusals: Refusals,
    /// The limiter could not be asked last time: said once.
    down: AtomicBool,
}

/// The limits of one class.
#[derive(Clone)]
struct Limits {
    user: Option<Policy>,
    address: Option<Policy>,
    outage: Outage,
}

/// One limit.
#[derive(Clone)]
struct Policy {
    quota: Quota,
    name: String,
    /// As the header says it.
    told: String,
    is_of_address: bool,
}

impl Policy {
    /// `per_minute` on average, what comes together in `burst` at once.
    fn new(name: String, per_minute: u32, burst: Duration, is_of_address: bool) -> Option<Self> {
        let seconds = burst.as_secs().max(1);
        let at_once = u64::from(per_minute) * seconds / 60;
        let at_once = u32::try_from(at_once).unwrap_or(u32::MAX).max(1);
        let quota = Quota::new(at_once, per_minute, MINUTE)?;
        let told = format!("\"{name}\";q={};w={seconds}", quota.burst());
        Some(Self {
            quota,
            name,
            told,
            is_of_address,
        })
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Where the request comes from.
    pub address: IpAddr,
    /// The token that it brings, good or not.
    pub token: Option<&'a str>,
}

/// What became of a request that was counted.
#[derive(Debug, Clone)]
pub struct Count {
    /// `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// `RateLimit`.
    pub state: HeaderValue,
    /// How long to wait, if it was one too many.
    pub wait: Option<Duration>,
}

impl Rates {
    /// Rates by these settings, counted there.
    #[must_use]
    pub fn new(limiter: Arc<dyn Limiter>, settings: &Rate) -> Self {
        Self {
            limiter,
            classes: Class::ALL.map(|class| limits_of(settings, class)),
            refusals: Refusals::default(),
            down: AtomicBool::new(false),
        }
    }

    /// Whether any request of that class is counted.
    #[must_use]
    pub fn is_counted(&self, class: Class) -> bool {
        let limits = self.of(class);
        limits.user.is_some() || limits.address.is_some()
    }

    /// The refusal of a request whose like was refused a moment ago: nobody need be asked who its user is.
    #[must_use]
    pub fn still_refused(&self, class: Class, who: Who<'_>) -> Option<Count> {
        let token = who.token.and_then(|token| self.refusals.of((class, token)));
        token.or_else(|| self.refusals.of((class, network_of(who.address))))
    }

    /// Counts a request of a user, if its token says whose it is. `None` if no limit applies, or if the limiter can't be
    /// asked and the class is open then.
    ///
    /// # Errors
    /// `unavailable`: the limiter can't be asked, and the class is closed then.
    pub async fn count(
        &self,
        class: Class,
        who: Who<'_>,
        user: Option<&str>,
    ) -> Result<Option<Count>, ApiError> {
        let limits = self.of(class);
        let (name, network) = (class.name(), network_of(who.address));
        let mut policies = Vec::with_capacity(2);
        let mut takes = Vec::with_capacity(2);
        if let (Some(policy), Some(user)) = (&limits.user, user) {
            policies.push(policy);
            takes.push(Take::one(format!("{name}:user:{user}"), policy.quota));
        }
        if let Some(policy) = &limits.address {
            policies.push(policy);
            let key = format!("{name}:address:{network}");
            takes.push(Take::one(key, policy.quota));
        }
        if takes.is_empty() {
            return Ok(None);
        }
        match self.limiter.take(&takes).await {
            Ok(decisions) => {
                if self.down.swap(false, Ordering::Relaxed) {
                    tracing::info!("requests are counted again");
                }
                let count = told(&policies, &decisions);
                for (policy, decision) in policies.iter().zip(&decisions) {
                    let wait = decision.retry_after;
                    match (decision.allowed, policy.is_of_address, who.token) {
                        (false, true, _) => self.refusals.keep((class, network), &count, wait),
                        (false, false, Some(token)) => {
                            self.refusals.keep((class, token), &count, wait);
                        }
                        _ => {}
                    }
                }
                Ok(Some(count))
            }
            Err(error) => {
                if !self.down.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "requests can't be counted: classes are open or closed as set");
                }
                match limits.outage {
                    Outage::Open => Ok(None),
                    Outage::Closed => Err(uncounted(error)),
                }
            }
        }
    }

    fn of(&self, class: Class) -> &Limits {
        &self.classes[class as usize]
    }
}

fn limits_of(settings: &Rate, class: Class) -> Limits {
    let (user, address, burst, outage) = match class {
        Class::Auth => (
            settings.auth_user,
            settings.auth_address,
            settings.auth_burst,
            settings.auth_outage,
        ),
        Class::Read => (
            settings.read_user,
            settings.read_address,
            settings.read_burst,
            settings.read_outage,
        ),
        Class::Write => (
            settings.write_user,
            settings.write_address,
            settings.write_burst,
            settings.write_outage,
        ),
        Class::Connect => (
            settings.connect_user,
            settings.connect_address,
            settings.connect_burst,
            settings.connect_outage,
        ),
        Class::Gateway => (
            settings.gateway_user,
            settings.gateway_address,
            settings.gateway_burst,
            settings.gateway_outage,
        ),
    };
    let name = class.name();
    let policy = |name: String, per_minute, is_of_address| {
        let policy = Policy::new(name, per_minute, burst, is_of_address);
        policy.filter(|_| settings.enabled)
    };
    Limits {
        user: policy(name.to_owned(), user, false),
        address: policy(format!("{name}-address"), address, true),
        outage,
    }
}

/// What is refused because nobody can count it.
fn uncounted(error: backplane::limiter::LimiterError) -> ApiError {
    let detail = "requests can't be counted just now: try again";
    ApiError::new(ErrorCode::Unavailable, detail)
        .retry_after(Duration::from_secs(1))
        .caused_by(error)
}

fn told(policies: &[&Policy], decisions: &[Decision]) -> Count {
    let (mut policy, mut state) = (String::new(), String::new());
    for (n, (one, decision)) in policies.iter().zip(decisions).enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        let full_in = decision.reset.as_millis().div_ceil(1000);
        // Writing to a string can't fail.
        let _ = write!(policy, "{comma}{}", one.told);
        let _ = write!(
            state,
            "{comma}\"{}\";r={};t={full_in}",
            one.name, decision.remaining
        );
    }
    let refused = decisions.iter().filter(|decision| !decision.allowed);
    Count {
        policy: value(&policy),
        state: value(&state),
        wait: refused.map(|decision| decision.retry_after).max(),
    }
}

fn value(text: &str) -> HeaderValue {
    // Names and numbers only.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;

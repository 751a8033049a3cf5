//! What a user may still use of a day: plans and tokens of language models (`usage.*` settings).
//!
//! Owns the day (of UTC) and the answer of whoever has used it up. Plans are counted in the transaction that adds one, so
//! exactly; tokens as usage has them, so without those that are under way. Never counts anything itself.

use std::sync::Arc;
use std::time::Duration;

use backplane::store::plans::{AskedLimit, PlanLimits};
use backplane::store::usage::{DAY, Granularity};
use backplane::store::{Amounts, UsageOf};
use protocol::ErrorCode;

use crate::app::App;
use crate::config::Exceeded;
use crate::error::ApiError;

/// What a user may still use today.
pub(super) struct Quota {
    /// How many plans, if there is a limit; none once the tokens are used up.
    plans: Option<AskedLimit>,
    /// The limit that is in the way, in words.
    limit: String,
    answer: Exceeded,
    /// To the next day.
    wait: Duration,
}

impl Quota {
    /// A user's, as it is now.
    ///
    /// # Errors
    /// The store can't be asked.
    pub(super) async fn of(app: &App, user: &str, now: u64) -> Result<Self, ApiError> {
        let settings = &app.settings.usage;
        let since = now - now % DAY;
        let most = settings.plans_per_day;
        let mut quota = Self {
            plans: (most > 0).then_some(AskedLimit { since, most }),
            limit: format!("a user asks for at most {most} plans a day"),
            answer: settings.exceeded,
            wait: Duration::from_millis(since + DAY - now),
        };
        let most = settings.tokens_per_day;
        if most > 0 {
            // A replica may lack what the other nodes have counted.
            let store = Arc::clone(&app.store).on_primary();
            let of = UsageOf::User(user);
            let read = store.usage(of, since, since + DAY, Granularity::Total);
            let read = read.await?;
            let used = read.iter().map(|period| tokens(&period.amounts));
            if used.fold(0, u64::saturating_add) >= most {
                quota.plans = Some(AskedLimit { since, most: 0 });
                quota.limit =
                    format!("a user takes at most {most} tokens of language models a day");
            }
        }
        Ok(quota)
    }

    /// As limits of a new plan, beside that of its project.
    pub(super) fn limits(&self, open: u32) -> PlanLimits {
        PlanLimits {
            open,
            asked: self.plans,
        }
    }

    /// What is answered when it is used up.
    pub(super) fn exceeded(&self) -> ApiError {
        match self.answer {
            Exceeded::Wait => {
                let detail = format!("{}: wait for the next day of UTC", self.limit);
                ApiError::new(ErrorCode::QuotaExceeded, detail).retry_after(self.wait)
            }
            Exceeded::Pay => {
                let detail = format!("{}: more has to be paid for", self.limit);
                ApiError::new(ErrorCode::PaymentRequired, detail)
            }
        }
    }
}

fn tokens(amounts: &Amounts) -> u64 {
    amounts.tokens_in.saturating_add(amounts.tokens_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_answered_as_is_set() {
        let quota = |answer| Quota {
            plans: None,
            limit: "a user asks for at most 3 plans a day".into(),
            answer,
            wait: Duration::from_secs(7),
        };
        let wait = quota(Exceeded::Wait).exceeded();
        assert_eq!(wait.code.http_status(), 429);
        assert_eq!(wait.retry_after, Some(Duration::from_secs(7)));
        let pay = quota(Exceeded::Pay).exceeded();
        assert_eq!(pay.code.http_status(), 402);
        assert_eq!(pay.retry_after, None);
        assert!(pay.detail.contains("3 plans"));
    }
}

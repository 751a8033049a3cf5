//! `/api/usage`: what was used, by the caller or in a project.
//!
//! Owns the shape of this request and answer. Never counts anything.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use backplane::store::usage::{DAY, Granularity, HOUR, Period, hour_of};
use backplane::store::{Amounts, UsageOf};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Params};
use crate::now_ms;

/// What is told of if no time is asked for.
const USUAL: u64 = 30 * DAY;
/// The longest time by hour, and otherwise.
const MOST_BY_HOUR: u64 = 31 * DAY;
const MOST: u64 = 366 * DAY;
/// Times lie before this one, some ten thousand years from now.
const LATEST: u64 = 1 << 48;

/// The route.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(usage))
}

/// How long each period of an answer is.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    #[default]
    Day,
    /// There are none but all of it.
    Total,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// Of all members in that project, for its owners; the caller's own, in all projects and in none, if it is left
    /// out.
    #[param(example = "my-app")]
    project: Option<String>,
    /// From the hour of that time on, milliseconds since the Unix epoch; 30 days before `to` if it is left out.
    #[param(minimum = 0, maximum = 281474976710655_u64)]
    from: Option<u64>,
    /// To the end of the hour of that time; now if it is left out. By hour at most 31 days after `from`, else 366.
    #[param(minimum = 0, maximum = 281474976710655_u64)]
    to: Option<u64>,
    /// `day` if it is left out.
    #[param(inline)]
    granularity: Option<Each>,
}

/// What was used.
#[derive(Serialize, ToSchema)]
struct AmountsView {
    /// Time of connections, milliseconds.
    connected_ms: u64,
    /// Messages sent.
    messages: u64,
    /// Bytes that came in.
    bytes_in: u64,
    /// Bytes that went out.
    bytes_out: u64,
    /// Edits of documents.
    edits: u64,
    /// Plans asked for.
    plans: u64,
    /// Tokens given to language models.
    tokens_in: u64,
    /// Tokens that they gave.
    tokens_out: u64,
}

impl From<Amounts> for AmountsView {
    fn from(amounts: Amounts) -> Self {
        let Amounts {
            connected_ms,
            messages,
            bytes_in,
            bytes_out,
            edits,
            plans,
            tokens_in,
            tokens_out,
        } = amounts;
        Self {
            connected_ms,
            messages,
            bytes_in,
            bytes_out,
            edits,
            plans,
            tokens_in,
            tokens_out,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct PeriodView {
    /// When it begins.
    start: u64,
    #[serde(flatten)]
    amounts: AmountsView,
}

/// What was used in some time.
#[derive(Serialize, ToSchema)]
struct UsageView {
    /// From when on.
    from: u64,
    /// Before when.
    to: u64,
    granularity: Each,
    /// In all of it.
    total: AmountsView,
    /// In each hour or day in which something was, oldest first.
    periods: Vec<PeriodView>,
}

/// Reads what was used, in hours that are over and in the one that is under way.
#[utoipa::path(get, path = "/api/usage", tag = "usage", params(UsageQuery),
    responses((status = 200, description = "What was used.", body = UsageView)))]
async fn usage(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<UsageQuery>,
) -> Result<Json<UsageView>, ApiError> {
    let each = query.granularity.unwrap_or_default();
    let (from, to) = range(query.from, query.to, each, now_ms())?;
    let of = match &query.project {
        Some(project) => {
            app.auth
                .authorize(&caller.user, project, Operation::ReadUsage)
                .await?;
            UsageOf::Project(project)
        }
        None => UsageOf::User(&caller.user),
    };
    let granularity = match each {
        Each::Hour => Granularity::Hour,
        Each::Day => Granularity::Day,
        Each::Total => Granularity::Total,
    };
    let read = app.store.usage(of, from, to, granularity).await?;
    let sum = |sum: Amounts, period: &Period| sum.plus(&period.amounts);
    let total = read.iter().fold(Amounts::default(), sum);
    let periods = match each {
        Each::Total => Vec::new(),
        Each::Hour | Each::Day => read,
    };
    let view = |period: Period| PeriodView {
        start: period.start,
        amounts: period.amounts.into(),
    };
    Ok(Json(UsageView {
        from,
        to,
        granularity: each,
        total: total.into(),
        periods: periods.into_iter().map(view).collect(),
    }))
}

/// Whole hours: from the beginning of the first to the end of the last.
fn range(from: Option<u64>, to: Option<u64>, each: Each, now: u64) -> Result<(u64, u64), ApiError> {
    for (name, time) in [("from", from), ("to", to)] {
        if time.is_some_and(|time| time >= LATEST) {
            return Err(ApiError::invalid(name, "is no time"));
        }
    }
    let to = hour_of(to.unwrap_or(now)) + HOUR;
    let from = hour_of(from.unwrap_or(to.saturating_sub(USUAL)));
    if from >= to {
        return Err(ApiError::invalid("to", "lies before from"));
    }
    let (most, days) = match each {
        Each::Hour => (MOST_BY_HOUR, 31),
        Each::Day | Each::Total => (MOST, 366),
    };
    if to - from > most {
        let reason = format!("lies more than {days} days after from");
        return Err(ApiError::invalid("to", reason));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_of_whole_hours_and_bounded() {
        let now = 1_000 * DAY + 5 * HOUR + 7;
        let end = 1_000 * DAY + 6 * HOUR;
        let day = |from, to| range(from, to, Each::Day, now);
        assert_eq!(day(None, None).unwrap(), (end - USUAL, end));
        assert_eq!(
            day(Some(now), Some(now)).unwrap(),
            (hour_of(now), hour_of(now) + HOUR)
        );
        assert_eq!(day(None, Some(0)).unwrap(), (0, HOUR));
        assert_eq!(day(Some(end - MOST), None).unwrap(), (end - MOST, end));
        assert!(day(Some(end - MOST - 1), None).is_err());
        assert!(day(Some(end), None).is_err());
        assert!(day(Some(now), Some(now - HOUR)).is_err());
        for wild in [LATEST, u64::MAX] {
            assert!(day(Some(wild), None).is_err());
            assert!(day(None, Some(wild)).is_err());
        }
        let hour = |from| range(Some(from), None, Each::Hour, now);
        assert!(hour(end - MOST_BY_HOUR).is_ok());
        assert!(hour(end - MOST_BY_HOUR - 1).is_err());
    }
}

//! Rows of plans, notifications and usage, as both databases give them, and what they stand for.
//!
//! Owns the order of the columns that the statements select. Knows no database.

use super::StoreError;
use super::notifications::{NewNotification, Notification};
use super::plans::{Plan, PlanStatus, Step, StepStatus};
use super::usage::{Amounts, Period};

/// Stands after every id, as no text sorts behind it.
pub(crate) const END: &str = "\u{10ffff}";

/// The columns of a plan; the request may be cut and the body left out.
pub(crate) type PlanRow = (
    String,
    String,
    Option<String>,
    String,
    String,
    Option<String>,
    i64,
    Option<String>,
    i64,
    i64,
    i64,
    Option<i64>,
);

/// The columns of a step, without its plan.
pub(crate) type StepRow = (
    i64,
    i64,
    String,
    String,
    String,
    String,
    String,
    Option<i64>,
    i64,
);

/// The columns of a notification.
pub(crate) type NotificationRow = (
    String,
    String,
    Option<String>,
    String,
    String,
    Option<String>,
    i64,
    String,
    i64,
    Option<i64>,
);

/// The columns of a notification that is held, without those that it was found by.
pub(crate) type HeldRow = (
    Option<String>,
    String,
    String,
    Option<String>,
    i64,
    String,
    i64,
);

/// When a period begins, and its sums.
pub(crate) type PeriodRow = (i64, i64, i64, i64, i64, i64, i64, i64, i64);

fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| out_of_bounds(stored))
}

fn small(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| out_of_bounds(stored))
}

fn out_of_bounds(stored: i64) -> StoreError {
    StoreError::Corrupt(format!("{stored} is out of its bounds"))
}

fn unreadable(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt(format!("{what}: {error}"))
}

pub(crate) fn plan(row: PlanRow) -> Result<Plan, StoreError> {
    let (
        id,
        project_id,
        requested_by,
        request,
        status,
        reason,
        attempt,
        body,
        tokens,
        created_at,
        updated_at,
        finished_at,
    ) = row;
    let body = body.as_deref().map(serde_json::from_str);
    Ok(Plan {
        id,
        project_id,
        requested_by,
        request,
        status: PlanStatus::stored(&status)?,
        reason,
        attempt: number(attempt)?,
        body: body
            .transpose()
            .map_err(|error| unreadable("the body of a plan", &error))?,
        tokens_used: number(tokens)?,
        created_at: number(created_at)?,
        updated_at: number(updated_at)?,
        finished_at: finished_at.map(number).transpose()?,
    })
}

pub(crate) fn step(row: StepRow) -> Result<Step, StoreError> {
    let (position, attempt, title, detail, status, files, depends_on, minutes, updated_at) = row;
    Ok(Step {
        position: small(position)?,
        attempt: number(attempt)?,
        title,
        detail,
        status: StepStatus::stored(&status)?,
        files: serde_json::from_str(&files)
            .map_err(|error| unreadable("the files of a step", &error))?,
        depends_on: serde_json::from_str(&depends_on)
            .map_err(|error| unreadable("what a step rests on", &error))?,
        minutes: minutes.map(small).transpose()?,
        updated_at: number(updated_at)?,
    })
}

pub(crate) fn notification(row: NotificationRow) -> Result<Notification, StoreError> {
    let (id, user_id, project_id, event_id, kind, group_key, grouped, data, created_at, read_at) =
        row;
    Ok(Notification {
        id,
        user_id,
        project_id,
        event_id,
        kind,
        group_key,
        grouped: number(grouped)?,
        data: serde_json::from_str(&data)
            .map_err(|error| unreadable("the data of a notification", &error))?,
        created_at: number(created_at)?,
        read_at: read_at.map(number).transpose()?,
    })
}

/// A notification that was held, as it is told.
pub(crate) struct Held {
    pub(crate) new: NewNotification,
    pub(crate) event_id: String,
    pub(crate) grouped: i64,
    pub(crate) created_at: i64,
}

pub(crate) fn held(row: HeldRow, user_id: &str, id: &str) -> Result<Held, StoreError> {
    let (project_id, event_id, kind, group_key, grouped, data, created_at) = row;
    Ok(Held {
        new: NewNotification {
            id: id.to_owned(),
            user_id: user_id.to_owned(),
            project_id,
            kind,
            group_key,
            data: serde_json::from_str(&data)
                .map_err(|error| unreadable("the data of a notification", &error))?,
            held_until: None,
        },
        event_id,
        grouped,
        created_at,
    })
}

pub(crate) fn period(row: PeriodRow) -> Result<Period, StoreError> {
    let (start, a, b, c, d, e, f, g, h) = row;
    let mut columns = [0; 8];
    for (column, stored) in columns.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *column = number(stored)?;
    }
    Ok(Period {
        start: number(start)?,
        amounts: Amounts::of(columns),
    })
}

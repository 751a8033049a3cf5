//! Plans and their steps (`planning_` tables): asked for, taken by a worker, finished or cancelled.
//!
//! A plan is queued, then running under a worker's lease, then done, failed or cancelled for good. Each
//! taking raises its attempt; whoever writes names the attempt that it holds, so that a worker that was given up
//! changes nothing any more. Leases go by the database's clock.

use std::time::Duration;

use async_trait::async_trait;
use protocol::Event;
use serde_json::Value;

use super::StoreError;

/// Characters of a plan's request that lists show.
pub const LISTED_CHARS: u32 = 200;

/// Where a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanStatus {
    /// Waits for a worker.
    Queued,
    /// A worker is at it.
    Running,
    /// Made.
    Done,
    /// Could not be made.
    Failed,
    /// Given up by a person.
    Cancelled,
}

impl PlanStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The name used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name, as a store has it.
    pub(crate) fn stored(name: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Corrupt(format!("unknown status of a plan `{name}`"));
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == name)
            .ok_or_else(unknown)
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepStatus {
    /// To come.
    Pending,
    /// Being worked out.
    Running,
    /// Worked out.
    Done,
    /// Could not be worked out.
    Failed,
    /// Left out.
    Skipped,
}

impl StepStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Skipped,
    ];

    /// The name used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// The status of that name, as a store has it.
    pub(crate) fn stored(name: &str) -> Result<Self, StoreError> {
        let unknown = || StoreError::Corrupt(format!("unknown status of a step `{name}`"));
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == name)
            .ok_or_else(unknown)
    }
}

/// A plan, without its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// UUID v7: later plans have higher ones.
    pub id: String,
    /// The project that it is for.
    pub project_id: String,
    /// Who asked for it; none once that user is gone.
    pub requested_by: Option<String>,
    /// What is wanted, in words.
    pub request: String,
    /// Where it stands.
    pub status: PlanStatus,
    /// Why it failed; only then.
    pub reason: Option<String>,
    /// How often a worker has taken it.
    pub attempt: u64,
    /// What it rests on and says beyond its steps; what is in it is the planning worker's.
    pub body: Option<Value>,
    /// Tokens of language models that it took, of all attempts.
    pub tokens_used: u64,
    /// Asked for at.
    pub created_at: u64,
    /// Last changed at.
    pub updated_at: u64,
    /// Done, failed or cancelled at.
    pub finished_at: Option<u64>,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place, from 0.
    pub position: u32,
    /// The attempt that wrote it.
    pub attempt: u64,
    /// In a few words.
    pub title: String,
    /// In more.
    pub detail: String,
    /// Where it stands.
    pub status: StepStatus,
    /// Paths that it touches.
    pub files: Vec<String>,
    /// Positions of the steps that it rests on.
    pub depends_on: Vec<u32>,
    /// How long it may take a person, in minutes.
    pub minutes: Option<u32>,
    /// Last changed at.
    pub updated_at: u64,
}

/// What became of a request for a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanAdded {
    /// It is queued.
    Queued,
    /// The requester had used the key in this project before: the plan of that time, as it is now.
    Existing(Box<Plan>),
    /// Refused: the project has as many plans open as it may.
    Full,
    /// Refused: the requester has asked for as many in that time as they may.
    Spent,
}

/// How many plans there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Of the project, that have not ended.
    pub open: u32,
    /// That the requester has asked for, in all projects, from a time on; none: as many as they like.
    pub asked: Option<AskedLimit>,
}

/// How many plans a user may ask for in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedLimit {
    /// From when on they count, by their time of creation.
    pub since: u64,
    /// At most so many; 0: none.
    pub most: u64,
}

/// What became of a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanCancelled {
    /// By this call.
    Now(Plan),
    /// It had ended before, and is as it was.
    Before(Plan),
}

/// How a worker's attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanEnd {
    /// With a plan.
    Done {
        /// What it rests on and says beyond its steps.
        body: Value,
    },
    /// Without one.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

impl PlanEnd {
    /// Status, reason and body, as a store has them.
    pub(crate) fn columns(&self) -> (&'static str, Option<&str>, Option<String>) {
        match self {
            Self::Done { body } => (PlanStatus::Done.as_str(), None, Some(body.to_string())),
            Self::Failed { reason } => (PlanStatus::Failed.as_str(), Some(reason), None),
        }
    }
}

/// Plans.
#[async_trait]
pub trait Plans {
    /// Adds a queued plan and the events to the outbox, in one transaction. Of any number of calls with one
    /// requester, project and key, however many at once, one adds a plan; the others get that. A project has
    /// at most `most_open` plans that have not ended.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the project or the requester does not exist.
    async fn add_plan(
        &self,
        plan: &Plan,
        key: Option<&str>,
        most_open: u32,
        events: &[Event],
    ) -> Result<PlanAdded, StoreError>;

    /// As [`Plans::add_plan`], with a limit on what the requester asks for as well: exact, however many ask at once.
    /// A plan that the key finds counts as nothing new. Plans of projects that were deleted do not count.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the project or the requester does not exist.
    async fn add_plan_within(
        &self,
        plan: &Plan,
        key: Option<&str>,
        limits: &PlanLimits,
        events: &[Event],
    ) -> Result<PlanAdded, StoreError>;

    /// A plan and its steps by position, as they are at one moment.
    async fn plan(&self, id: &str) -> Result<Option<(Plan, Vec<Step>)>, StoreError>;

    /// The plans of a project, newest first, after the id `before` (from the newest if absent), at most `limit`;
    /// each with the first [`LISTED_CHARS`] characters of its request and no body.
    async fn plans_of(
        &self,
        project_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Plan>, StoreError>;

    /// Cancels a plan that has not ended; the events are kept if this call did it. `None` if there is no such plan.
    async fn cancel_plan(
        &self,
        id: &str,
        now: u64,
        events: &[Event],
    ) -> Result<Option<PlanCancelled>, StoreError>;

    /// Plans that may be taken, at most `limit`: first those whose worker let its lease run out, then the
    /// queued ones, oldest first.
    async fn waiting_plans(&self, limit: u32) -> Result<Vec<String>, StoreError>;

    /// Takes a plan for `ttl`, if it is queued or its lease has run out: it is running, its attempt is one
    /// higher, and the steps of earlier attempts are gone. `None` if it may not be taken, or is not there. Of any number
    /// of calls at once one gets it.
    async fn take_plan(
        &self,
        id: &str,
        owner: &str,
        ttl: Duration,
        now: u64,
    ) -> Result<Option<Plan>, StoreError>;

    /// Prolongs the lease to `ttl` from now; `false` if the attempt no longer holds the plan: another has
    /// taken it, or it has ended. A lease that ran out may be prolonged as long as nobody has taken the plan.
    async fn hold_plan(&self, id: &str, attempt: u64, ttl: Duration) -> Result<bool, StoreError>;

    /// Writes steps, each over the one at its position, and the events, in one transaction; nothing of it and `false` if
    /// the attempt no longer holds the plan. What the steps themselves say of attempt and time does not count.
    async fn put_steps(
        &self,
        id: &str,
        attempt: u64,
        steps: &[Step],
        now: u64,
        events: &[Event],
    ) -> Result<bool, StoreError>;

    /// Ends a plan, adds to its tokens, and writes the events, in one transaction; nothing of it and `false` if the
    /// attempt no longer holds the plan.
    async fn end_plan(
        &self,
        id: &str,
        attempt: u64,
        end: &PlanEnd,
        tokens: u64,
        now: u64,
        events: &[Event],
    ) -> Result<bool, StoreError>;
}

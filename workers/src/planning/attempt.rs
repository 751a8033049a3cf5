//! One attempt at one plan, from its lease to its end.
//!
//! Owns the attempt's life: the lease is renewed beside the work, and once it is lost nothing of the attempt goes on.
//! A plan that is finished is never given up because the store is away for a while: it is kept, with its lease, until
//! the store has it or another attempt has the plan. Never writes a plan itself.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::now_ms;
use backplane::store::plans::PlanEnd;
use backplane::store::{Plan, Step, StepStatus, StoreError};
use futures::FutureExt as _;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use super::schema::{Draft, DraftStep};
use super::told::{self, Stage, Voice};
use super::{AtWork, Planning, material, outline};
use crate::context::Found;

/// How often a plan is taken before it is given up: something about it ends its workers.
const MOST_ATTEMPTS: u64 = 10;
/// How often the lease is renewed; more often if it is short.
const RENEW: Duration = Duration::from_secs(1);
/// How long a finished plan's end may take when the worker is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// How long what was used is tried to be told once the attempt is over.
const USAGE_WITHIN: Duration = Duration::from_secs(30);
/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Why an attempt has no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Another has the plan, or it has ended: nothing is to be written any more.
    #[error("the plan is no longer held")]
    Lost,
    /// The plan fails.
    #[error("{0}")]
    Reason(String),
}

/// A plan that was worked out.
pub(super) struct Made {
    pub(super) draft: Draft,
    pub(super) chunks: Vec<Found>,
    /// Not at the first go.
    pub(super) repaired: bool,
}

/// The attempt.
pub(super) struct Attempt {
    pub(super) planning: Arc<Planning>,
    pub(super) plan: Plan,
    pub(super) voice: Voice,
    pub(super) meter: Meter,
    /// When the plan must be worked out.
    pub(super) deadline: Instant,
    at_work: AtWork,
    /// The steps that the store has; none for one that was left out again.
    written: Mutex<BTreeMap<u32, Option<DraftStep>>>,
    /// What is left is to tell the store.
    ends: AtomicBool,
}

impl Attempt {
    /// An attempt at a plan that was just taken.
    pub(super) fn new(planning: Arc<Planning>, plan: Plan) -> Self {
        Self {
            voice: Voice::new(Arc::clone(&planning.broker), &plan),
            meter: Meter::default(),
            deadline: Instant::now() + planning.options.timeout,
            at_work: planning.nudge.at_work(&plan.id),
            written: Mutex::default(),
            ends: AtomicBool::new(false),
            planning,
            plan,
        }
    }

    /// Runs to the end, or until the plan is lost, or until `stop`: then it is given back.
    pub(super) async fn run(self, stop: CancellationToken) {
        let stopped = self.run_until(&stop).await;
        self.meter.ends(&self.plan, crate::ai::Tokens::default());
        if stopped {
            let plan = &self.plan;
            let given = self
                .planning
                .store
                .hold_plan(&plan.id, plan.attempt, Duration::ZERO);
            if let Ok(Err(error)) = timeout(STOP_WITHIN, given).await {
                tracing::debug!(plan = plan.id, %error, "a plan is not given back; its lease runs out");
            }
        }
        self.tell_all_usage(if stopped { STOP_WITHIN } else { USAGE_WITHIN })
            .await;
    }

    /// `true` if it was stopped before it had ended.
    async fn run_until(&self, stop: &CancellationToken) -> bool {
        let mut work = Box::pin(self.carry_out());
        let mut hold = Box::pin(self.hold());
        let mut until = None;
        loop {
            tokio::select! {
                biased;
                () = &mut hold => {
                    tracing::debug!(plan = self.plan.id, attempt = self.plan.attempt, "a plan is lost to its worker");
                    return false;
                }
                () = &mut work => return false,
                () = stop.cancelled(), if until.is_none() => {
                    if !self.ends.load(Ordering::Relaxed) {
                        return true;
                    }
                    until = Some(Instant::now() + STOP_WITHIN);
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return true,
            }
        }
    }

    /// Renews the lease; returns once it is lost. A store that is away loses nothing: writes are fenced, and a lease that
    /// ran out is prolonged as long as nobody has taken the plan.
    async fn hold(&self) {
        let lease = self.planning.options.lease;
        loop {
            tokio::select! {
                () = sleep(RENEW.min(lease / 3)) => {}
                () = self.at_work.waker.notified() => {}
            }
            let store = &self.planning.store;
            let held = store.hold_plan(&self.plan.id, self.plan.attempt, lease);
            match timeout(lease, held).await {
                Ok(Ok(false)) => return,
                Ok(Ok(true)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(plan = self.plan.id, %error, "a plan's lease is not renewed");
                }
                Err(_) => {
                    tracing::debug!(plan = self.plan.id, "the store takes too long for a lease");
                }
            }
        }
    }

    /// Makes the plan and ends it. A panic on the way is this attempt's alone.
    async fn carry_out(&self) {
        let making = AssertUnwindSafe(Box::pin(self.make())).catch_unwind();
        let made = match timeout_at(self.deadline, making).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => {
                tracing::error!(plan = self.plan.id, "a planning worker has panicked");
                let reason = "the planning worker failed while it made this plan".to_owned();
                Err(Failure::Reason(reason))
            }
            Err(_) => {
                let most = self.planning.options.timeout;
                let reason = format!("the plan was not made within the {most:?} that it may take");
                Err(Failure::Reason(reason))
            }
        };
        self.ends.store(true, Ordering::Relaxed);
        // A request that was dropped midway counts in what the plan took.
        self.meter.ends(&self.plan, crate::ai::Tokens::default());
        self.tell_usage().await;
        match made {
            Err(Failure::Lost) => {}
            Err(Failure::Reason(reason)) => self.fail(reason).await,
            Ok(made) => self.finish(made).await,
        }
    }

    async fn make(&self) -> Result<Made, Failure> {
        if self.plan.attempt > MOST_ATTEMPTS {
            let reason = format!("given up: {MOST_ATTEMPTS} workers were lost while they made it");
            return Err(Failure::Reason(reason));
        }
        self.voice.stage(Stage::Context).await;
        let search = &*self.planning.search;
        let (project, request) = (&self.plan.project_id, &self.plan.request);
        let found = material::gather(search, project, request).await;
        match &self.planning.model {
            Some(model) => self.write(&**model, found).await,
            None => self.outline(found).await,
        }
    }

    /// Makes the plan without a model.
    async fn outline(&self, found: material::Material) -> Result<Made, Failure> {
        let search = &*self.planning.search;
        let (project, request) = (&self.plan.project_id, &self.plan.request);
        let chunks = found.chunks.clone();
        let draft = outline::plan(search, project, request, found.chunks, found.outline).await;
        self.voice.stage(Stage::Writing).await;
        for (position, step) in (0..).zip(&draft.steps) {
            self.voice.whole_step(position, step).await;
            let one = BTreeMap::from([(position, step.clone())]);
            // What is not written now is when the plan is finished.
            if let Ok(false) = self.put(&one).await {
                return Err(Failure::Lost);
            }
        }
        Ok(Made {
            draft,
            chunks,
            repaired: false,
        })
    }

    /// Writes steps down, with their events; `false` if the plan is lost.
    pub(super) async fn put(&self, steps: &BTreeMap<u32, DraftStep>) -> Result<bool, StoreError> {
        let steps = steps
            .iter()
            .map(|(&position, step)| (position, Some(step.clone())));
        self.put_as(steps.collect()).await
    }

    /// As [`put`](Self::put); what is none is left out.
    async fn put_as(&self, steps: BTreeMap<u32, Option<DraftStep>>) -> Result<bool, StoreError> {
        let now = now_ms();
        let (mut rows, mut events) = (Vec::new(), Vec::new());
        for (&position, step) in &steps {
            let status = match step {
                Some(_) => StepStatus::Done,
                None => StepStatus::Skipped,
            };
            let step = step.clone().or_else(|| self.written_at(position));
            let step = step.unwrap_or_default();
            events.push(told::step(&self.plan, position, &step, status.as_str()));
            rows.push(Step {
                position,
                attempt: self.plan.attempt,
                title: step.title,
                detail: step.detail,
                status,
                files: step.files,
                depends_on: step.depends_on,
                minutes: step.minutes,
                updated_at: now,
            });
        }
        let (id, attempt) = (&self.plan.id, self.plan.attempt);
        let store = &self.planning.store;
        let held = store.put_steps(id, attempt, &rows, now, &events).await?;
        if held {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend(steps);
        }
        Ok(held)
    }

    fn written_at(&self, position: u32) -> Option<DraftStep> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&position).cloned().flatten()
    }

    /// What has to be written so that the store has this plan's steps and no others.
    fn unsettled(&self, draft: &Draft) -> BTreeMap<u32, Option<DraftStep>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let count = draft.steps.len() as u32;
        let missing = (0..)
            .zip(&draft.steps)
            .filter(|(position, step)| written.get(position) != Some(&Some((*step).clone())))
            .map(|(position, step)| (position, Some(step.clone())));
        let surplus = written.range(count..).filter(|(_, step)| step.is_some());
        missing
            .chain(surplus.map(|(&position, _)| (position, None)))
            .collect()
    }

    async fn finish(&self, made: Made) {
        let model = self.planning.model.as_ref().map(|model| model.name());
        let by = match model {
            Some(name) => json!({ "kind": "model", "name": name }),
            None => json!({ "kind": "outline" }),
        };
        let draft = &made.draft;
        let body = json!({
            "summary": draft.summary, "by": by,
            "context": material::named(&made.chunks), "repaired": made.repaired,
        });
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            let unsettled = self.unsettled(draft);
            if unsettled.is_empty() {
                break;
            }
            match self.put_as(unsettled).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(StoreError::Unavailable(reason)) => {
                    tracing::debug!(plan = self.plan.id, reason, "a finished plan waits");
                    sleep(backoff.delay()).await;
                }
                Err(error) => return self.refused(&error).await,
            }
        }
        let by = model.unwrap_or("outline");
        let created = told::created(&self.plan, &draft.summary, draft.steps.len(), by);
        if let Err(error) = self.end(&PlanEnd::Done { body }, created).await {
            self.refused(&error).await;
        }
    }

    /// The store does not take the finished plan, and never will.
    async fn refused(&self, error: &StoreError) {
        tracing::error!(plan = self.plan.id, %error, "the store refuses a plan");
        self.fail("the plan was made, but could not be stored".to_owned())
            .await;
    }

    async fn fail(&self, reason: String) {
        let failed = told::failed(&self.plan, &reason);
        if let Err(error) = self.end(&PlanEnd::Failed { reason }, failed).await {
            tracing::error!(plan = self.plan.id, %error, "a plan can't be ended; its lease runs out");
        }
    }

    /// Ends the plan, for as long as it takes. One that is lost meanwhile is another's.
    async fn end(&self, end: &PlanEnd, event: protocol::Event) -> Result<(), StoreError> {
        let (id, attempt, store) = (&self.plan.id, self.plan.attempt, &self.planning.store);
        let (spent, events) = (self.meter.spent(), [event]);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            let ended = store.end_plan(id, attempt, end, spent, now_ms(), &events);
            match ended.await {
                Ok(_) => return Ok(()),
                Err(StoreError::Unavailable(reason)) => {
                    tracing::debug!(plan = id, reason, "a plan's end waits for the store");
                    sleep(backoff.delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells what models have taken, once; `true` if nothing is left to tell.
    pub(super) async fn tell_usage(&self) -> bool {
        let owed = self.meter.owed();
        if owed.is_empty() {
            return true;
        }
        let told = self.planning.store.emit(&owed).await;
        if told.is_ok() {
            self.meter.paid(&owed);
        }
        told.is_ok()
    }

    async fn tell_all_usage(&self, within: Duration) {
        let telling = async {
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
            while !self.tell_usage().await {
                sleep(backoff.delay()).await;
            }
        };
        if timeout(within, telling).await.is_err() {
            for event in self.meter.owed() {
                tracing::warn!(plan = self.plan.id, data = %event.data, "what a plan has used is not told");
            }
        }
    }
}

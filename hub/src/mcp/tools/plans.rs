//! Tools for plans: asking for one, reading it, cancelling it.

use backplane::store::{Plan, Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Call;
use crate::error::ApiError;
use crate::rest::plans::{ask, give_up, is_key, readable};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateArgs {
    /// The id of the project that it is for.
    #[schemars(length(min = 1, max = 64))]
    project: String,
    /// What is wanted, in words.
    #[schemars(length(min = 1, max = 16384))]
    request: String,
    /// Makes a repeated call the same plan: visible ASCII characters.
    #[schemars(length(min = 1, max = 128))]
    idempotency_key: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanArgs {
    /// The plan's id.
    #[schemars(length(min = 1, max = 64))]
    id: String,
}

#[derive(Serialize, JsonSchema)]
struct StepShape {
    /// Its place, from 0.
    position: u32,
    title: String,
    detail: String,
    /// pending, running, done, failed or skipped.
    status: String,
    /// Paths that it touches.
    files: Vec<String>,
    /// Positions of the steps that it rests on.
    depends_on: Vec<u32>,
    /// How long it may take a person.
    minutes: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct PlanShape {
    id: String,
    /// The project's id.
    project: String,
    /// What is wanted.
    request: String,
    /// queued, running, done, failed or cancelled.
    status: String,
    /// Why it failed.
    reason: Option<String>,
    /// What it rests on and says beyond its steps; `null` until it is worked out.
    body: Option<Value>,
    /// By position; empty until some are worked out.
    steps: Vec<StepShape>,
    created_at: u64,
    updated_at: u64,
    finished_at: Option<u64>,
}

impl From<(Plan, Vec<Step>)> for PlanShape {
    fn from((plan, steps): (Plan, Vec<Step>)) -> Self {
        let steps = steps.into_iter().map(|step| StepShape {
            position: step.position,
            title: step.title,
            detail: step.detail,
            status: step.status.as_str().to_owned(),
            files: step.files,
            depends_on: step.depends_on,
            minutes: step.minutes,
        });
        Self {
            steps: steps.collect(),
            id: plan.id,
            project: plan.project_id,
            request: plan.request,
            status: plan.status.as_str().to_owned(),
            reason: plan.reason,
            body: plan.body,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
            finished_at: plan.finished_at,
        }
    }
}

/// The plan as it is given, and noted as what the call is about.
fn noted(call: &Call, found: (Plan, Vec<Step>)) -> PlanShape {
    let (plan, _) = &found;
    call.is_about(&plan.project_id, format!("plan:{}", plan.id));
    found.into()
}

pub(super) async fn create(call: &Call, args: CreateArgs) -> Result<PlanShape, ApiError> {
    let key = args.idempotency_key.as_deref();
    if key.is_some_and(|key| !is_key(key)) {
        let reason = "has 1 to 128 visible ASCII characters";
        return Err(ApiError::invalid("idempotency_key", reason));
    }
    let asked = ask(&call.app, call.user(), args.project, args.request, key);
    Ok(noted(call, asked.await?))
}

pub(super) async fn get(call: &Call, args: PlanArgs) -> Result<PlanShape, ApiError> {
    let found = readable(&call.app, call.user(), &args.id).await?;
    Ok(noted(call, found))
}

pub(super) async fn cancel(call: &Call, args: PlanArgs) -> Result<PlanShape, ApiError> {
    let cancelled = give_up(&call.app, call.user(), &args.id).await?;
    Ok(noted(call, cancelled))
}

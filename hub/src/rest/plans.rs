//! `/api/plans`: asking for a plan, reading it, cancelling it.
//!
//! Owns the shapes of these requests and answers. Never makes a plan: it is queued with the event that asks for
//! it, and a planning worker takes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::store::plans::{PlanAdded, PlanCancelled};
use backplane::store::{Plan, PlanStatus, Step, StepStatus, StoreError};
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::quota::Quota;
use super::{Caller, Listing, PageQuery, field};
use crate::app::App;
use crate::auth::rbac::{Operation, allows};
use crate::channels::publish::MAX_KEY_BYTES;
use crate::error::{ApiError, Body, Params, Problem, Segments};
use crate::events;
use crate::now_ms;

/// Longest request for a plan, characters.
const REQUEST_CHARS: usize = 16 * 1024;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read))
        .routes(routes!(list))
        .routes(routes!(cancel))
}

#[derive(Deserialize, ToSchema)]
struct NewPlan {
    /// The id of the project that it is for.
    #[schema(min_length = 1, max_length = 64, example = "my-app")]
    project: String,
    /// What is wanted, in words; every character but NUL.
    #[schema(
        min_length = 1,
        max_length = 16384,
        pattern = "^[^\\x00]+$",
        example = "Add a dark theme"
    )]
    request: String,
}

/// Where a plan stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlanState {
    /// Waits for a planning worker.
    Queued,
    /// A worker is at it.
    Running,
    /// Made.
    Done,
    /// Could not be made; `reason` says why.
    Failed,
    /// Given up by a member.
    Cancelled,
}

impl From<PlanStatus> for PlanState {
    fn from(status: PlanStatus) -> Self {
        match status {
            PlanStatus::Queued => Self::Queued,
            PlanStatus::Running => Self::Running,
            PlanStatus::Done => Self::Done,
            PlanStatus::Failed => Self::Failed,
            PlanStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// Where a step stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
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

impl From<StepStatus> for StepState {
    fn from(status: StepStatus) -> Self {
        match status {
            StepStatus::Pending => Self::Pending,
            StepStatus::Running => Self::Running,
            StepStatus::Done => Self::Done,
            StepStatus::Failed => Self::Failed,
            StepStatus::Skipped => Self::Skipped,
        }
    }
}

/// A step of a plan.
#[derive(Serialize, ToSchema)]
struct StepView {
    /// Its place, from 0.
    position: u32,
    title: String,
    detail: String,
    status: StepState,
    /// Paths that it touches.
    files: Vec<String>,
    /// Positions of the steps that it rests on.
    depends_on: Vec<u32>,
    /// How long it may take a person.
    minutes: Option<u32>,
    updated_at: u64,
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        Self {
            position: step.position,
            title: step.title,
            detail: step.detail,
            status: step.status.into(),
            files: step.files,
            depends_on: step.depends_on,
            minutes: step.minutes,
            updated_at: step.updated_at,
        }
    }
}

/// A plan as lists show it.
#[derive(Serialize, ToSchema)]
struct PlanLine {
    id: String,
    /// The project's id.
    project: String,
    /// The id of the user who asked for it; `null` once they are gone.
    requested_by: Option<String>,
    /// What is wanted; in lists its first 200 characters.
    request: String,
    status: PlanState,
    /// Why it failed.
    reason: Option<String>,
    /// How often a worker has taken it.
    attempt: u64,
    /// Tokens of language models that it took.
    tokens_used: u64,
    created_at: u64,
    updated_at: u64,
    /// When it was done, failed or cancelled.
    finished_at: Option<u64>,
}

impl From<Plan> for PlanLine {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.id,
            project: plan.project_id,
            requested_by: plan.requested_by,
            request: plan.request,
            status: plan.status.into(),
            reason: plan.reason,
            attempt: plan.attempt,
            tokens_used: plan.tokens_used,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
            finished_at: plan.finished_at,
        }
    }
}

/// A plan, whole.
#[derive(Serialize, ToSchema)]
struct PlanView {
    #[serde(flatten)]
    line: PlanLine,
    /// What it rests on and says beyond its steps, as the planning worker wrote it; left out until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    body: Option<Value>,
    /// By position; empty until a worker has written some.
    steps: Vec<StepView>,
}

impl PlanView {
    fn new(mut plan: Plan, steps: Vec<Step>) -> Self {
        let body = plan.body.take();
        Self {
            line: plan.into(),
            body,
            steps: steps.into_iter().map(StepView::from).collect(),
        }
    }
}

/// Asks for a plan.
///
/// It is queued, and `plan.requested` told; a planning worker takes it up. A repeated request with the same
/// `Idempotency-Key` is answered with the plan that the first one made, as it is now.
#[utoipa::path(post, path = "/api/plans", tag = "plans", request_body = NewPlan,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "Makes a repeated request of the caller in the project the same plan, for as long as that exists.",
        min_length = 1, max_length = 128, pattern = "^[!-~]+$")),
    responses(
        (status = 202, description = "Queued, or found.", body = PlanView,
            headers(("Location" = String, description = "Its path."))),
        (status = 402, description = "The day's quota is used up; more has to be paid for.", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "The project has as many open plans as it may.", body = Problem,
            content_type = "application/problem+json"),
    ))]
async fn create(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Body(asked): Body<NewPlan>,
) -> Result<Response, ApiError> {
    let key = idempotency_key(&headers)?;
    let (plan, steps) = ask(&app, &caller.user, asked.project, asked.request, key).await?;
    let location = format!("/api/plans/{}", plan.id);
    let answer = (
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(PlanView::new(plan, steps)),
    );
    Ok(answer.into_response())
}

/// Queues a plan for a user, or finds the one that they asked for with the same key.
pub(crate) async fn ask(
    app: &App,
    user: &str,
    project: String,
    request: String,
    key: Option<&str>,
) -> Result<(Plan, Vec<Step>), ApiError> {
    field("request", check_request(&request))?;
    app.auth
        .authorize(user, &project, Operation::CreatePlan)
        .await?;
    let now = now_ms();
    let plan = Plan {
        id: uuid::Uuid::now_v7().to_string(),
        project_id: project,
        requested_by: Some(user.to_owned()),
        request,
        status: PlanStatus::Queued,
        reason: None,
        attempt: 0,
        body: None,
        tokens_used: 0,
        created_at: now,
        updated_at: now,
        finished_at: None,
    };
    let told = [events::plan_requested(&plan, user)];
    let most = app.settings.plans.open_per_project;
    let quota = Quota::of(app, user, now).await?;
    let limits = quota.limits(most);
    match app.store.add_plan_within(&plan, key, &limits, &told).await {
        Ok(PlanAdded::Queued) => Ok((plan, Vec::new())),
        Ok(PlanAdded::Existing(before)) if before.request == plan.request => {
            whole(app, &before.id).await
        }
        Ok(PlanAdded::Existing(_)) => Err(ApiError::new(ErrorCode::IdempotencyConflict, "")),
        Ok(PlanAdded::Full) => Err(ApiError::new(
            ErrorCode::LimitReached,
            format!("a project has at most {most} plans that have not ended"),
        )),
        Ok(PlanAdded::Spent) => Err(quota.exceeded()),
        // The project was there a moment ago.
        Err(StoreError::Conflict(_)) => Err(ApiError::not_found()),
        Err(other) => Err(other.into()),
    }
}

fn check_request(text: &str) -> Result<(), std::borrow::Cow<'static, str>> {
    if text.is_empty() || text.chars().count() > REQUEST_CHARS {
        return Err(format!("has 1 to {REQUEST_CHARS} characters").into());
    }
    if text.contains('\0') {
        return Err("has no NUL character".into());
    }
    Ok(())
}

/// Whether a repeated request may be known by this key.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// The key by which a repeated request is known.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| is_key(key));
    let wrong = || {
        let reason = format!("has 1 to {MAX_KEY_BYTES} visible ASCII characters");
        ApiError::invalid("Idempotency-Key", reason)
    };
    key.map(Some).ok_or_else(wrong)
}

async fn whole(app: &App, id: &str) -> Result<(Plan, Vec<Step>), ApiError> {
    let found = app.store.plan(id).await?;
    found.ok_or_else(ApiError::not_found)
}

/// A plan with its steps, if the user may read it.
pub(crate) async fn readable(
    app: &App,
    user: &str,
    id: &str,
) -> Result<(Plan, Vec<Step>), ApiError> {
    let (plan, steps) = whole(app, id).await?;
    app.auth
        .authorize(user, &plan.project_id, Operation::ReadPlan)
        .await?;
    Ok((plan, steps))
}

/// Reads a plan with its steps.
#[utoipa::path(get, path = "/api/plans/{id}", tag = "plans",
    params(("id" = String, Path, description = "The plan's id.")),
    responses((status = 200, description = "The plan.", body = PlanView)))]
async fn read(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<PlanView>, ApiError> {
    let (plan, steps) = readable(&app, &caller.user, &id).await?;
    Ok(Json(PlanView::new(plan, steps)))
}

/// Lists the plans of a project, newest first.
#[utoipa::path(get, path = "/api/projects/{project}/plans", tag = "plans",
    params(("project" = String, Path, description = "The project's id."), PageQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<PlanLine>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Listing<PlanLine>>, ApiError> {
    let page = query.page()?;
    app.auth
        .authorize(&caller.user, &project, Operation::ReadPlan)
        .await?;
    let read = app.store.plans_of(&project, page.seen(), page.read());
    Ok(page.of(read.await?, |plan| &plan.id, PlanLine::from))
}

/// Cancels a plan that has not ended.
///
/// For whoever asked for it, and for editors. A plan that is cancelled already is answered as it is.
#[utoipa::path(post, path = "/api/plans/{id}/cancel", tag = "plans",
    params(("id" = String, Path, description = "The plan's id.")),
    responses(
        (status = 200, description = "It is cancelled.", body = PlanView),
        (status = 409, description = "It is done or has failed.", body = Problem,
            content_type = "application/problem+json"),
    ))]
async fn cancel(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<PlanView>, ApiError> {
    let (plan, steps) = give_up(&app, &caller.user, &id).await?;
    Ok(Json(PlanView::new(plan, steps)))
}

/// Cancels a plan on a user's behalf; the plan as it is then.
pub(crate) async fn give_up(
    app: &App,
    user: &str,
    id: &str,
) -> Result<(Plan, Vec<Step>), ApiError> {
    let (plan, _) = whole(app, id).await?;
    let role = app
        .auth
        .authorize(user, &plan.project_id, Operation::ReadPlan)
        .await?;
    let is_own = plan.requested_by.as_deref() == Some(user);
    if !is_own && !allows(role, Operation::CancelPlan) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "only who asked for a plan, and editors, may cancel it",
        ));
    }
    let told = [events::plan_cancelled(&plan, user)];
    match app.store.cancel_plan(id, now_ms(), &told).await? {
        None => Err(ApiError::not_found()),
        Some(PlanCancelled::Before(plan)) if plan.status != PlanStatus::Cancelled => {
            let text = format!("the plan has ended: it is {}", plan.status.as_str());
            Err(ApiError::new(ErrorCode::Conflict, text))
        }
        Some(_) => whole(app, id).await,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_has_its_bounds() {
        for right in ["x", " ", "größer\n🙂", &"ü".repeat(REQUEST_CHARS)] {
            assert!(check_request(right).is_ok(), "{right}");
        }
        for wrong in ["", "a\0b", &"x".repeat(REQUEST_CHARS + 1)] {
            assert!(check_request(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let key = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            let headers = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), value)]);
            let found = idempotency_key(&headers);
            found.map(|key| key.map(str::to_owned))
        };
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        let longest = "k".repeat(MAX_KEY_BYTES);
        for right in ["k", "\"8e03978e-40d5\"", longest.as_str()] {
            assert_eq!(key(right.as_bytes()).unwrap().as_deref(), Some(right));
        }
        for wrong in [&b""[..], b"a b", b"\xfc", &[b'k'; MAX_KEY_BYTES + 1]] {
            assert_eq!(key(wrong).unwrap_err().code, ErrorCode::Invalid);
        }
    }
}

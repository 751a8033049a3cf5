//! What differs between two versions of a document, or a version and now: for people and as a patch.
//!
//! Owns the bounds of that: texts of a size, a time after which the difference is right but coarser. Runs off the
//! runtime's threads.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use super::content::{read_version, root_name};
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Params, Problem, Segments};

/// Largest text that is compared, bytes.
const TEXT_BYTES: usize = 4 << 20;
/// How long the search for a small difference may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Lines around a difference.
const CONTEXT: usize = 3;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(diff))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DiffFormat {
    #[default]
    Unified,
    Json,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// What the version is compared with: the id of another, or `current`, as is if it is left out.
    #[param(max_length = 64, example = "current")]
    against: Option<String>,
    /// A unified diff, as if it is left out, or JSON.
    #[param(inline)]
    format: Option<DiffFormat>,
    /// The root type that holds the text; `text` if it is left out.
    #[param(min_length = 1, max_length = 128, example = "text")]
    root: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct LineView {
    /// Whether the line is in both texts, only in the first or only in the second.
    #[schema(pattern = "^(equal|delete|insert)$", example = "insert")]
    tag: &'static str,
    /// The line with its end.
    text: String,
}

#[derive(Serialize, ToSchema)]
struct HunkView {
    /// The first of its lines in the first text, from 0.
    old_start: usize,
    old_lines: usize,
    /// The first of its lines in the second text, from 0.
    new_start: usize,
    new_lines: usize,
    lines: Vec<LineView>,
}

#[derive(Serialize, ToSchema)]
struct DiffView {
    /// The version's id.
    from: String,
    /// The other's id, or `current`.
    to: String,
    /// Where they differ, in order.
    hunks: Vec<HunkView>,
}

/// Compares a version with another or with the document as it is now.
///
/// The unified form leads from the version to the other, and can be applied with `PATCH …/text`.
#[utoipa::path(get, path = "/api/documents/{id}/versions/{version}/diff", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("version" = String, Path, description = "The version's id."), Asked),
    responses(
        (status = 200, description = "What differs.", content((String = "text/x-diff"), (DiffView = "application/json"))),
        (status = 409, description = "A text is too large to be compared.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn diff(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments((id, version)): Segments<(String, String)>,
    Params(asked): Params<Asked>,
) -> Result<Response, ApiError> {
    let root = root_name(asked.root)?;
    let against = asked.against.unwrap_or_else(|| "current".to_owned());
    app.auth
        .authorize_document(&caller.user, &id, Operation::ReadVersions)
        .await?;
    let (_, from) = read_version(&app, &id, &version).await?;
    let to = match against.as_str() {
        "current" => app.documents.capture(&id).await?.state,
        other => read_version(&app, &id, other).await?.1,
    };
    let from = app.reads.text_of(from, root.clone()).await?;
    let to = app.reads.text_of(to, root).await?;
    if from.len().max(to.len()) > TEXT_BYTES {
        let text = format!("texts of more than {TEXT_BYTES} bytes are not compared");
        return Err(ApiError::new(ErrorCode::LimitReached, text));
    }
    let format = asked.format.unwrap_or_default();
    let made = tokio::task::spawn_blocking(move || compared(format, version, &from, against, &to));
    made.await.map_err(ApiError::internal)
}

fn compared(format: DiffFormat, from: String, old: &str, to: String, new: &str) -> Response {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    match format {
        DiffFormat::Unified => {
            let mut unified = diff.unified_diff();
            let text = unified
                .context_radius(CONTEXT)
                .header(&from, &to)
                .to_string();
            ([(header::CONTENT_TYPE, "text/x-diff; charset=utf-8")], text).into_response()
        }
        DiffFormat::Json => {
            let hunks = diff.grouped_ops(CONTEXT).into_iter().map(|ops| {
                let (first, last) = (&ops[0], &ops[ops.len() - 1]);
                let old = first.old_range().start..last.old_range().end;
                let new = first.new_range().start..last.new_range().end;
                let changes = ops.iter().flat_map(|op| diff.iter_changes(op));
                let lines = changes.map(|change| LineView {
                    tag: match change.tag() {
                        ChangeTag::Equal => "equal",
                        ChangeTag::Delete => "delete",
                        ChangeTag::Insert => "insert",
                    },
                    text: change.value().to_owned(),
                });
                HunkView {
                    old_start: old.start,
                    old_lines: old.len(),
                    new_start: new.start,
                    new_lines: new.len(),
                    lines: lines.collect(),
                }
            });
            let hunks = hunks.collect();
            Json(DiffView { from, to, hunks }).into_response()
        }
    }
}

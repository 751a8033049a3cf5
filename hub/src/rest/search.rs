//! `/api/projects/{project}/search` and `/outline`: what is known of a project's code.
//!
//! Owns the shape of these requests and answers. What is found, and in which order, is `workers::context`'s.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use workers::context::{Defined, Found, Source};

use super::Caller;
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Params, Segments};

/// Longest words of a search, characters.
const WORDS: usize = 512;
/// What is found of a search that says no limit, and at most.
const USUAL: u32 = 10;
const MOST: u32 = 50;
/// Longest path of an outline, bytes.
const PATH: usize = 1024;
/// Most definitions of one answer.
const DEFINITIONS: u32 = 1000;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(outline))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// What is looked for, in words or as it stands in the code.
    #[param(min_length = 1, max_length = 512, example = "where are tokens checked")]
    q: String,
    /// At most so many chunks; 10 if it is left out.
    #[param(minimum = 1, maximum = 50, example = 10)]
    limit: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OutlineQuery {
    /// Of the file at this path; of all files if it is left out.
    #[param(min_length = 1, max_length = 1024, example = "src/main.rs")]
    path: Option<String>,
}

/// A piece of a document or of a file in the project's repository.
#[derive(Serialize, ToSchema)]
struct FoundView {
    /// The document's id; `null` for a file of the repository.
    document: Option<String>,
    #[schema(example = "src/main.rs")]
    path: String,
    /// From 1.
    first_line: u32,
    last_line: u32,
    /// What it belongs to, if that is a definition.
    #[schema(example = "fn parse")]
    symbol: Option<String>,
    text: String,
    /// How well it fits; only to be compared within one answer.
    score: f64,
}

impl From<Found> for FoundView {
    fn from(found: Found) -> Self {
        Self {
            document: match found.source {
                Source::Document { id } => Some(id),
                Source::Repository => None,
            },
            path: found.path,
            first_line: found.first_line,
            last_line: found.last_line,
            symbol: found.symbol,
            text: found.text,
            score: found.score,
        }
    }
}

/// What was found, best first.
#[derive(Serialize, ToSchema)]
struct FoundList {
    items: Vec<FoundView>,
}

#[derive(Serialize, ToSchema)]
struct DefinedView {
    #[schema(example = "src/main.rs")]
    path: String,
    #[schema(example = "fn parse")]
    symbol: String,
    /// Its first line, from 1.
    line: u32,
}

impl From<Defined> for DefinedView {
    fn from(defined: Defined) -> Self {
        Self {
            path: defined.path,
            symbol: defined.symbol,
            line: defined.line,
        }
    }
}

/// Definitions by path and line, the first 1,000.
#[derive(Serialize, ToSchema)]
struct Outline {
    items: Vec<DefinedView>,
}

/// Finds pieces of a project's documents and of its repository. What was written a moment ago is found a second or two
/// later.
#[utoipa::path(get, path = "/api/projects/{project}/search", tag = "search",
    params(("project" = String, Path, description = "The project's id."), SearchQuery),
    responses((status = 200, description = "What fits, best first.", body = FoundList)))]
async fn search(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<SearchQuery>,
) -> Result<Json<FoundList>, ApiError> {
    let words = query.q.trim();
    if words.is_empty() || query.q.chars().count() > WORDS {
        let reason = format!("has 1 to {WORDS} characters");
        return Err(ApiError::invalid("q", reason));
    }
    let limit = query.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("must be 1 to {MOST}")));
    }
    app.auth
        .authorize(&caller.user, &project, Operation::ReadDocument)
        .await?;
    let found = app.search.search(&project, words, limit).await?;
    let items = found.into_iter().map(FoundView::from).collect();
    Ok(Json(FoundList { items }))
}

/// Lists what a file, or the whole project, defines.
#[utoipa::path(get, path = "/api/projects/{project}/outline", tag = "search",
    params(("project" = String, Path, description = "The project's id."), OutlineQuery),
    responses((status = 200, description = "The definitions.", body = Outline)))]
async fn outline(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<OutlineQuery>,
) -> Result<Json<Outline>, ApiError> {
    if query
        .path
        .as_ref()
        .is_some_and(|path| path.is_empty() || path.len() > PATH)
    {
        return Err(ApiError::invalid("path", format!("has 1 to {PATH} bytes")));
    }
    app.auth
        .authorize(&caller.user, &project, Operation::ReadDocument)
        .await?;
    let paths: Vec<String> = query.path.into_iter().collect();
    let defined = app.search.outline(&project, &paths, DEFINITIONS).await?;
    let items = defined.into_iter().map(DefinedView::from).collect();
    Ok(Json(Outline { items }))
}

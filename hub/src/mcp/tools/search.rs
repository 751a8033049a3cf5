//! The tool that searches a project's code: its documents and its repository.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use workers::context::{Found, Source};

use super::Call;
use crate::auth::rbac::Operation;
use crate::error::ApiError;

/// Longest words of a search, characters.
const WORDS: usize = 512;
/// What is found if nothing is said, and at most.
const USUAL: u32 = 10;
const MOST: u32 = 50;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchArgs {
    /// The project's id.
    #[schemars(length(min = 1, max = 64))]
    project: String,
    /// What is looked for, in words or as it stands in the code.
    #[schemars(length(min = 1, max = 512))]
    query: String,
    /// At most so many pieces; 10 if it is left out.
    #[schemars(range(min = 1, max = 50))]
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct PieceShape {
    /// The document's id; `null` for a file of the repository.
    document: Option<String>,
    path: String,
    /// From 1.
    first_line: u32,
    last_line: u32,
    /// What it belongs to, if that is a definition.
    symbol: Option<String>,
    text: String,
    /// How well it fits; only to be compared within one answer.
    score: f64,
}

impl From<Found> for PieceShape {
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

#[derive(Serialize, JsonSchema)]
pub(super) struct Pieces {
    /// Best first.
    items: Vec<PieceShape>,
}

pub(super) async fn search(call: &Call, args: SearchArgs) -> Result<Pieces, ApiError> {
    let words = args.query.trim();
    if words.is_empty() || words.chars().count() > WORDS {
        let reason = format!("has 1 to {WORDS} characters");
        return Err(ApiError::invalid("query", reason));
    }
    let limit = args.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("must be 1 to {MOST}")));
    }
    let project = &args.project;
    call.app
        .auth
        .authorize(call.user(), project, Operation::ReadDocument)
        .await?;
    call.is_about(project, format!("project:{project}"));
    let found = call.app.search.search(project, words, limit).await?;
    Ok(Pieces {
        items: found.into_iter().map(PieceShape::from).collect(),
    })
}

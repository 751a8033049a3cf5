//! Tools for one document: reading it, editing it.
//!
//! An edit goes the way of an edit over REST, its key included, with the agent's name on it, so that people in the
//! document see who edits.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::response::{IntoResponse as _, Response};
use backplane::store::Document;
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::part::part;
use super::{Call, given, taken};
use crate::auth::rbac::Operation;
use crate::collab::{OnlyIf, TextChange, Work};
use crate::error::{ApiError, failure_of};
use crate::mcp::visit::{agent_of, cleaned};
use crate::rest::Caller;
use crate::rest::conditions::{content_of, content_tag, quoted, unquoted};
use crate::rest::content::root_name;
use crate::rest::edits::{EditView, Terms, carry_out, change_of, patch_of};
use crate::rest::idempotency::{KEY_LENGTH, Keyed, carried_out, is_key, new_request};

/// Lines of a text if nothing is said.
const DEFAULT_LINES: u32 = 500;
/// Most lines of a text in one call.
const LINES: u32 = 10_000;
/// Bytes of a text if nothing is said.
const DEFAULT_BYTES: u32 = 64 << 10;
/// Most bytes of a text in one call.
const BYTES: u32 = 256 << 10;
/// Largest answer of an edit, bytes.
const ANSWER: usize = 64 << 10;

/// The document that is named by its id, or by project and path, if the caller may do that with it.
async fn found(
    call: &Call,
    id: Option<String>,
    at: (Option<String>, Option<String>),
    operation: Operation,
) -> Result<Document, ApiError> {
    let auth = &call.app.auth;
    let document = match (id, at) {
        (Some(id), (None, None)) => {
            let found = auth.authorize_document(call.user(), &id, operation).await;
            found?.0
        }
        (None, (Some(project), Some(path))) => {
            auth.authorize(call.user(), &project, operation).await?;
            let found = call.app.store.document_at(&project, &path).await?;
            found.ok_or_else(ApiError::not_found)?
        }
        _ => {
            let reason = "name the document by its id alone, or by project and path";
            return Err(ApiError::invalid("id", reason));
        }
    };
    call.is_about(&document.project_id, format!("doc:{}", document.id));
    Ok(document)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadArgs {
    /// The document's id; or project and path.
    #[schemars(length(min = 1, max = 64))]
    id: Option<String>,
    /// The id of its project.
    #[schemars(length(min = 1, max = 64))]
    project: Option<String>,
    /// Its path in the project.
    #[schemars(length(min = 1, max = 512))]
    path: Option<String>,
    /// The root type that holds the text; `text` if it is left out.
    #[schemars(length(min = 1, max = 128))]
    root: Option<String>,
    /// The first line to read, from 1; 1 if it is left out.
    #[schemars(range(min = 1))]
    first_line: Option<u32>,
    /// At most so many lines; 500 if it is left out.
    #[schemars(range(min = 1, max = 10000))]
    lines: Option<u32>,
    /// At most so many bytes; 65536 if it is left out.
    #[schemars(range(min = 1, max = 262_144))]
    max_bytes: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Read {
    id: String,
    /// The project's id.
    project: String,
    path: String,
    /// Stands for the whole content: pass it as `if_match` to edit exactly this.
    etag: String,
    /// The first line of `text`, from 1.
    first_line: u32,
    /// The last line of `text`; less than the first if there is none.
    last_line: u64,
    /// How many lines the document has.
    total_lines: u64,
    /// The last line was too long, and is cut.
    cut: bool,
    text: String,
}

/// What was asked for, within its bounds.
fn within(
    field: &'static str,
    asked: Option<u32>,
    default: u32,
    most: u32,
) -> Result<u32, ApiError> {
    let asked = asked.unwrap_or(default);
    match (1..=most).contains(&asked) {
        true => Ok(asked),
        false => Err(ApiError::invalid(field, format!("must be 1 to {most}"))),
    }
}

pub(super) async fn read(call: &Call, args: ReadArgs) -> Result<Read, ApiError> {
    let first = within("first_line", args.first_line, 1, u32::MAX)?;
    let count = within("lines", args.lines, DEFAULT_LINES, LINES)?;
    let most = within("max_bytes", args.max_bytes, DEFAULT_BYTES, BYTES)?;
    let root = root_name(args.root)?;
    let at = (args.project, args.path);
    let document = found(call, args.id, at, Operation::ReadDocument).await?;
    let captured = call.app.documents.capture(&document.id).await?;
    let text = call.app.reads.text_of(captured.state, root).await?;
    let part = part(&text, first as usize, count as usize, most as usize);
    Ok(Read {
        id: document.id,
        project: document.project_id,
        path: document.path,
        etag: quoted(&content_tag(captured.tag)),
        first_line: first,
        last_line: part.last as u64,
        total_lines: part.lines as u64,
        cut: part.is_cut,
        text: part.text,
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditArgs {
    /// The document's id; or project and path.
    #[schemars(length(min = 1, max = 64))]
    id: Option<String>,
    /// The id of its project.
    #[schemars(length(min = 1, max = 64))]
    project: Option<String>,
    /// Its path in the project.
    #[schemars(length(min = 1, max = 512))]
    path: Option<String>,
    /// The root type that holds the text; `text` if it is left out.
    #[schemars(length(min = 1, max = 128))]
    root: Option<String>,
    /// Edits, all or none; each sees what those before it made. Places count UTF-16 units from 0.
    #[schemars(length(min = 1, max = 1000))]
    edits: Option<Vec<EditView>>,
    /// A unified diff of this one file; each hunk must find its lines exactly.
    patch: Option<String>,
    /// The whole new text: what differs is changed.
    text: Option<String>,
    /// Edit only if the content still has this `etag`.
    #[schemars(length(min = 1, max = 64))]
    if_match: Option<String>,
    /// Makes a repeated call one edit: visible ASCII characters, the user's own.
    #[schemars(length(min = 1, max = 255))]
    idempotency_key: Option<String>,
    /// What people see the agent called; by default as the client calls itself.
    #[schemars(length(min = 1, max = 64))]
    agent: Option<String>,
}

/// What an edit has made.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Edited {
    /// The log has it by this sequence: it is durable.
    seq: u64,
    /// Stands for the content that it made; `null` if a repeated call found the edit made and its answer lost.
    etag: Option<String>,
    /// How many updates it took; 0 if there was nothing to change.
    updates: u32,
}

fn change(
    edits: Option<Vec<EditView>>,
    patch: Option<String>,
    text: Option<String>,
) -> Result<TextChange, ApiError> {
    match (edits, patch, text) {
        (Some(edits), None, None) => change_of(edits),
        (None, Some(patch), None) => patch_of(&patch, "patch"),
        (None, None, Some(text)) => Ok(TextChange::Whole(text)),
        _ => Err(ApiError::invalid(
            "edits",
            "say exactly one of edits, patch and text",
        )),
    }
}

/// Stands for what is asked, to know a repeated call by.
fn fingerprint(arguments: &JsonObject) -> Result<[u8; 32], ApiError> {
    let bytes = serde_json::to_vec(arguments).map_err(ApiError::internal)?;
    let digest = Sha256::new().chain_update(b"mcp edit_document ");
    Ok(digest.chain_update(bytes).finalize().into())
}

pub(super) async fn edit(call: &Call, arguments: JsonObject) -> Result<Value, ApiError> {
    let fingerprint = fingerprint(&arguments)?;
    let args: EditArgs = taken(arguments)?;
    if args
        .idempotency_key
        .as_deref()
        .is_some_and(|key| !is_key(key))
    {
        let reason = format!("has 1 to {KEY_LENGTH} visible ASCII characters");
        return Err(ApiError::invalid("idempotency_key", reason));
    }
    let root = root_name(args.root)?;
    let change = change(args.edits, args.patch, args.text)?;
    let at = (args.project, args.path);
    let document = found(call, args.id, at, Operation::EditDocument).await?;
    let only_if = args.if_match.map(|tag| {
        let known = content_of(unquoted(&tag));
        OnlyIf::Tag(known.into_iter().collect())
    });
    let agent = args.agent.as_deref().and_then(cleaned);
    let agent = agent_of(&call.caller, agent.as_deref().unwrap_or(&call.agent));
    let (app, caller) = (Arc::clone(&call.app), call.caller.clone());
    let work = move |keyed: Keyed| async move {
        let terms = Terms {
            caller: Caller(caller),
            operation: Operation::EditDocument,
            only_if,
            keyed,
            agent: Some(Arc::new(agent)),
        };
        let work = Work::Text { root, change };
        let done = Box::pin(carry_out(&app, &document.id, terms, work)).await;
        done.into_response()
    };
    let answer = match args.idempotency_key {
        Some(key) => {
            let request = new_request(call.user(), key, fingerprint);
            carried_out(Arc::clone(&call.app), request, work).await
        }
        None => work(Keyed::default()).await,
    };
    given(&told(answer).await?)
}

/// What REST's answer says.
async fn told(answer: Response) -> Result<Edited, ApiError> {
    if let Some(failure) = failure_of(&answer) {
        let mut error = ApiError::new(failure.code, failure.detail.clone());
        error.errors.clone_from(&failure.errors);
        error.retry_after = failure.retry_after;
        error.cause = failure.cause.as_ref().map(|cause| cause.to_string().into());
        return Err(error);
    }
    let body = to_bytes(answer.into_body(), ANSWER).await;
    let body = body.map_err(ApiError::internal)?;
    serde_json::from_slice(&body).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edit_is_said_in_one_way() {
        let of = |args: Value| {
            let args: EditArgs = serde_json::from_value(args).unwrap();
            change(args.edits, args.patch, args.text)
        };
        assert!(matches!(
            of(json!({ "text": "x" })),
            Ok(TextChange::Whole(_))
        ));
        let edits = json!({ "edits": [{ "op": "insert", "at": 0, "text": "x" }] });
        assert!(matches!(of(edits), Ok(TextChange::Edits(_))));
        for wrong in [
            json!({}),
            json!({ "text": "x", "patch": "y" }),
            json!({ "edits": [] }),
            json!({ "patch": "no diff" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(within("lines", None, 5, 10).unwrap(), 5);
        assert_eq!(within("lines", Some(10), 5, 10).unwrap(), 10);
        assert!(within("lines", Some(0), 5, 10).is_err());
        assert!(within("lines", Some(11), 5, 10).is_err());
    }
}

//! Edits of a document over REST: its whole text, single edits, a patch, Yjs updates.
//!
//! Owns the shapes of these requests and answers. All of it enters by the document's own task and is seen by
//! everyone in the document; it is answered once it is durable.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backplane::text::edits::{TextEdit, Unit};
use backplane::text::patch::Patch;
use protocol::ErrorCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use super::conditions::{self, Conditions};
use super::content::{Root, root_name};
use super::idempotency::Keyed;
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::collab::{Agent, OnlyIf, Order, TextChange, Work};
use crate::config::Settings;
use crate::error::{ApiError, Body, Params, Problem, Segments};

/// Most edits of one request.
const EDITS: usize = 1_000;
/// How often an order goes back to have its right read again: each time it was in line for most of a second.
const LAPS: usize = 20;

/// The routes; a text or an update may be as large as an update of a socket.
pub(super) fn routes(settings: &Settings) -> OpenApiRouter<Arc<App>> {
    let most = settings.http.body_bytes.max(settings.collab.update_bytes);
    OpenApiRouter::new()
        .routes(routes!(put_text, patch_text))
        .routes(routes!(edit))
        .routes(routes!(update))
        .layer(DefaultBodyLimit::max(most))
}

/// What became of an edit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EditedView {
    /// The log has the edit by this sequence.
    seq: u64,
    /// The tag of the content that the edit made, as in the header `ETag`; `null` if a retry after a crash found the edit
    /// made and its answer lost.
    #[schema(example = "\"c-00f3a9d1c0b7e842\"")]
    etag: Option<String>,
    /// How many updates it took; 0 if there was nothing to change.
    #[schema(maximum = 1)]
    updates: u32,
}

/// On what terms an edit is made.
pub(crate) struct Terms {
    pub(crate) caller: Caller,
    pub(crate) operation: Operation,
    pub(crate) only_if: Option<OnlyIf>,
    pub(crate) keyed: Keyed,
    /// The agent that makes it for the caller.
    pub(crate) agent: Option<Arc<Agent>>,
}

/// Carries an edit out if the caller has the right to it.
pub(crate) async fn carry_out(
    app: &App,
    id: &str,
    terms: Terms,
    work: Work,
) -> Result<Response, ApiError> {
    let mut order = Order::new(work);
    order.only_if = terms.only_if;
    order.receipt = terms.keyed.receipt();
    order.on_behalf = terms.agent;
    for _ in 0..LAPS {
        // Before the right is read: it may be lost while the answer is on its way.
        order.authorized = Instant::now();
        let user = &terms.caller.0.user;
        let (document, _) = app
            .auth
            .authorize_document(user, id, terms.operation)
            .await?;
        if let Some(seq) = terms.keyed.applied() {
            let view = EditedView {
                seq,
                etag: None,
                updates: 1,
            };
            return Ok(Json(view).into_response());
        }
        if let Some(edited) = app.documents.edit(id, &order).await? {
            if edited.updates > 0 {
                let meter = app.connections.meter();
                meter.tally(user, &document.project_id).edit();
            }
            let tag = conditions::content_tag(edited.tag);
            let view = EditedView {
                seq: edited.seq,
                etag: Some(conditions::quoted(&tag)),
                updates: edited.updates,
            };
            let mut response = Json(view).into_response();
            conditions::mark(&mut response, &tag);
            return Ok(response);
        }
    }
    let text = "so many edits of this document wait that rights can't be checked in time";
    Err(ApiError::new(ErrorCode::Unavailable, text).retry_after(std::time::Duration::from_secs(1)))
}

/// A body of one of these content types, whole.
async fn raw(request: Request, app: &Arc<App>, kinds: &[&str]) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !kinds
        .iter()
        .any(|wanted| wanted.eq_ignore_ascii_case(essence))
    {
        let text = format!("the body must have the content type {}", kinds.join(" or "));
        return Err(ApiError::new(ErrorCode::UnsupportedMedia, text));
    }
    Bytes::from_request(request, app).await.map_err(|error| {
        let (code, text) = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is over the limit"),
            _ => (ErrorCode::BadRequest, "the body could not be read"),
        };
        ApiError::new(code, text).caused_by(error)
    })
}

async fn raw_text(request: Request, app: &Arc<App>, kinds: &[&str]) -> Result<String, ApiError> {
    let bytes = raw(request, app, kinds).await?;
    String::from_utf8(bytes.into()).map_err(|_| ApiError::invalid("body", "is not UTF-8"))
}

/// Makes a document's text the body, by changing what differs and nothing else.
///
/// People in the document see it at once and keep their place. With `If-Match` it is done only if the content is still
/// what has that tag; of several such requests at once, on whatever nodes, one is done.
#[utoipa::path(put, path = "/api/documents/{id}/text", tag = "documents", params(("id" = String, Path, description = "The document's id."), Root, ("If-Match" = Option<String>, Header, description = "Tags of the content that it is to be done on.")),
    request_body(content = String, content_type = "text/plain", description = "The whole text, UTF-8."),
    responses(
        (status = 200, description = "Done, and durable.", body = EditedView, headers(("ETag" = String, description = "The tag of the content that it made."))),
        (status = 409, description = "The text holds embedded objects.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The content is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn put_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(root): Params<Root>,
    conditions: Conditions,
    keyed: Keyed,
    request: Request,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    let text = raw_text(request, &app, &["text/plain"]).await?;
    let change = TextChange::Whole(text);
    let terms = editing(caller, conditions.only_if(), keyed);
    carry_out(&app, &id, terms, Work::Text { root, change }).await
}

/// Applies a patch to a document's text, whole or not at all.
///
/// Each hunk must find its lines exactly; it may stand up to 200 lines from where it says.
#[utoipa::path(patch, path = "/api/documents/{id}/text", tag = "documents", params(("id" = String, Path, description = "The document's id."), Root, ("If-Match" = Option<String>, Header, description = "Tags of the content that it is to be done on.")),
    request_body(content = String, content_type = "text/x-diff", description = "A unified diff of one file; `text/x-patch` is taken too."),
    responses(
        (status = 200, description = "Done, and durable.", body = EditedView, headers(("ETag" = String, description = "The tag of the content that it made."))),
        (status = 409, description = "A hunk's lines are not there; `errors` names the hunk, from 1.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The content is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn patch_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    Params(root): Params<Root>,
    conditions: Conditions,
    keyed: Keyed,
    request: Request,
) -> Result<Response, ApiError> {
    let root = root.name()?;
    let text = raw_text(request, &app, &["text/x-diff", "text/x-patch"]).await?;
    let change = patch_of(&text, "body")?;
    let terms = editing(caller, conditions.only_if(), keyed);
    carry_out(&app, &id, terms, Work::Text { root, change }).await
}

/// A patch as a change; `field` is where it stood.
pub(crate) fn patch_of(text: &str, field: &'static str) -> Result<TextChange, ApiError> {
    let patch = Patch::parse(text).map_err(|error| ApiError::invalid(field, error.to_string()))?;
    Ok(TextChange::Patch(patch))
}

fn editing(caller: Caller, only_if: Option<OnlyIf>, keyed: Keyed) -> Terms {
    Terms {
        caller,
        operation: Operation::EditDocument,
        only_if,
        keyed,
        agent: None,
    }
}

/// What an offset counts.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnitName {
    /// UTF-16 units, as editors in browsers count.
    #[default]
    Utf16,
    /// Unicode code points.
    CodePoint,
}

impl From<UnitName> for Unit {
    fn from(name: UnitName) -> Self {
        match name {
            UnitName::Utf16 => Self::Utf16,
            UnitName::CodePoint => Self::CodePoint,
        }
    }
}

/// One edit; it sees what those before it in the list made.
#[derive(Debug, Deserialize, JsonSchema, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum EditView {
    /// Inserts at a place.
    Insert {
        at: u64,
        text: String,
        #[serde(default)]
        unit: UnitName,
    },
    /// Deletes what lies between two places.
    Delete {
        from: u64,
        to: u64,
        #[serde(default)]
        unit: UnitName,
    },
    /// Replaces what lies between two places.
    Replace {
        from: u64,
        to: u64,
        text: String,
        #[serde(default)]
        unit: UnitName,
    },
    /// Replaces a phrase.
    ReplaceText {
        #[schema(min_length = 1)]
        find: String,
        replace: String,
        /// Which one of several, from 1; without it there must be only one.
        #[schema(minimum = 1)]
        occurrence: Option<u32>,
    },
    /// Adds at the end.
    Append { text: String },
}

impl From<EditView> for TextEdit {
    fn from(edit: EditView) -> Self {
        let at = |from, to, unit: UnitName, text| Self::At {
            from,
            to,
            unit: unit.into(),
            text,
        };
        match edit {
            EditView::Insert {
                at: place,
                text,
                unit,
            } => at(place, place, unit, text),
            EditView::Delete { from, to, unit } => at(from, to, unit, String::new()),
            EditView::Replace {
                from,
                to,
                text,
                unit,
            } => at(from, to, unit, text),
            EditView::ReplaceText {
                find,
                replace,
                occurrence,
            } => Self::Phrase {
                find,
                replace,
                occurrence,
            },
            EditView::Append { text } => Self::Append(text),
        }
    }
}

/// Edits as a change.
pub(crate) fn change_of(edits: Vec<EditView>) -> Result<TextChange, ApiError> {
    if !(1..=EDITS).contains(&edits.len()) {
        return Err(ApiError::invalid(
            "edits",
            format!("has 1 to {EDITS} edits"),
        ));
    }
    let edits = edits.into_iter().map(TextEdit::from);
    Ok(TextChange::Edits(edits.collect()))
}

/// What the places in a list of edits refer to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum EditBase {
    /// The sequence at which the log must end.
    Seq(u64),
    /// The tag that the content must have.
    Etag(String),
}

#[derive(Debug, Deserialize, ToSchema)]
struct EditsView {
    /// The root type that holds the text; `text` if it is left out.
    #[schema(min_length = 1, max_length = 128, example = "text")]
    root: Option<String>,
    /// If the edits are to be made on that content alone: its sequence or tag. Or `If-Match`.
    base: Option<EditBase>,
    /// In order.
    #[schema(min_items = 1, max_items = 1000)]
    edits: Vec<EditView>,
}

/// Makes edits in a document's text: all of them, or none.
///
/// A place outside of the text, a phrase that is not there or there more than once, is a 409, and `errors` names the edit
/// by its index.
#[utoipa::path(post, path = "/api/documents/{id}/edits", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("If-Match" = Option<String>, Header, description = "Tags of the content that it is to be done on.")),
    request_body(content = EditsView, example = json!({ "edits": [{ "op": "replace_text", "find": "colour", "replace": "color" }, { "op": "append", "text": "\n" }] })),
    responses(
        (status = 200, description = "Done, and durable.", body = EditedView, headers(("ETag" = String, description = "The tag of the content that it made."))),
        (status = 409, description = "An edit can't be made in the text as it is; `errors` names it by its index, from 0.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The content is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
    keyed: Keyed,
    Body(asked): Body<EditsView>,
) -> Result<Response, ApiError> {
    let root = root_name(asked.root)?;
    let change = change_of(asked.edits)?;
    let only_if = match (asked.base, conditions.only_if()) {
        (None, only_if) => only_if,
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("base", "say it here or in If-Match"));
        }
        (Some(EditBase::Seq(seq)), None) => Some(OnlyIf::Seq(seq)),
        (Some(EditBase::Etag(tag)), None) => {
            let known = conditions::content_of(conditions::unquoted(&tag));
            Some(OnlyIf::Tag(known.into_iter().collect()))
        }
    };
    let terms = editing(caller, only_if, keyed);
    carry_out(&app, &id, terms, Work::Text { root, change }).await
}

/// Applies a Yjs update to a document.
///
/// The same again changes nothing. One that rests on changes which the document lacks is a 409: send those first, or read
/// the state and make the update anew.
#[utoipa::path(post, path = "/api/documents/{id}/updates", tag = "documents", params(("id" = String, Path, description = "The document's id."), ("If-Match" = Option<String>, Header, description = "Tags of the content that it is to be done on.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A Yjs v1 update."),
    responses(
        (status = 200, description = "Done, and durable.", body = EditedView, headers(("ETag" = String, description = "The tag of the content that it made."))),
        (status = 409, description = "It rests on changes that are missing.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The content is another.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<String>,
    conditions: Conditions,
    keyed: Keyed,
    request: Request,
) -> Result<Response, ApiError> {
    let update = raw(request, &app, &["application/octet-stream"]).await?;
    let terms = editing(caller, conditions.only_if(), keyed);
    carry_out(&app, &id, terms, Work::Update(update)).await
}

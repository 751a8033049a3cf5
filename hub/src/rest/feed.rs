//! `/api/notifications`: a user's own notifications and what they want to be told of.
//!
//! Owns the shapes of these requests and answers. What changes here is told on the user's feed by the event that
//! the store keeps with the change, so that their other devices follow. Never decides who is notified of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backplane::store::Notification;
use backplane::store::notifications::{Feed, Mode, Read, Reading};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{Caller, Listing, PageQuery};
use crate::app::App;
use crate::error::{ApiError, Body, Params, Segments};
use crate::events;
use crate::now_ms;

/// Most kinds that a user may have a preference for.
const PREFERENCES: usize = 100;
/// Longest name of a kind, bytes.
const KIND_BYTES: usize = 64;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(unread))
        .routes(routes!(read_one))
        .routes(routes!(read_all))
        .routes(routes!(remove))
        .routes(routes!(preferences, set_preferences))
}

/// A notification.
#[derive(Serialize, ToSchema)]
struct NotificationView {
    /// Another one each time that its group grows.
    id: String,
    #[schema(example = "plan.created")]
    kind: String,
    /// The id of the project that it is about.
    project: Option<String>,
    /// The id of the event that caused it, the last one of a group.
    event: String,
    /// How many events are told by it.
    #[schema(minimum = 1)]
    count: u64,
    /// What it says; what is in it goes by the kind.
    #[schema(value_type = Value)]
    data: Value,
    created_at: u64,
    /// `null` while it is unread.
    read_at: Option<u64>,
}

impl From<Notification> for NotificationView {
    fn from(one: Notification) -> Self {
        Self {
            id: one.id,
            kind: one.kind,
            project: one.project_id,
            event: one.event_id,
            count: one.grouped,
            data: one.data,
            created_at: one.created_at,
            read_at: one.read_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FeedQuery {
    /// At most so many items; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// Where to read on: the `next` of the page before.
    after: Option<String>,
    /// Only those that were not read.
    unread_only: Option<bool>,
    /// Only those of that kind.
    #[param(example = "plan.created")]
    kind: Option<String>,
}

/// Lists the caller's notifications, newest first.
#[utoipa::path(get, path = "/api/notifications", tag = "notifications", params(FeedQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<NotificationView>)))]
async fn list(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(query): Params<FeedQuery>,
) -> Result<Json<Listing<NotificationView>>, ApiError> {
    let page = PageQuery {
        limit: query.limit,
        after: query.after,
    }
    .page()?;
    let feed = Feed {
        unread: query.unread_only.unwrap_or(false),
        kind: query.kind,
        before: page.seen().map(str::to_owned),
    };
    let read = app.store.notifications(&caller.user, &feed, page.read());
    Ok(page.of(read.await?, |one| &one.id, NotificationView::from))
}

#[derive(Serialize, ToSchema)]
struct Unread {
    /// How many are unread.
    unread: u64,
}

/// Counts the caller's unread notifications.
#[utoipa::path(get, path = "/api/notifications/unread", tag = "notifications",
    responses((status = 200, description = "How many.", body = Unread)))]
async fn unread(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
) -> Result<Json<Unread>, ApiError> {
    let unread = app.store.unread(&caller.user).await?;
    Ok(Json(Unread { unread }))
}

/// What a reading changed.
#[derive(Serialize, ToSchema)]
struct ReadView {
    /// How many were unread before.
    changed: u64,
    /// How many are unread now.
    unread: u64,
}

impl From<Read> for ReadView {
    fn from(read: Read) -> Self {
        let Read { changed, unread } = read;
        Self { changed, unread }
    }
}

async fn mark(app: &App, user: &str, which: Reading<'_>) -> Result<Json<ReadView>, ApiError> {
    let tell = |unread| events::notifications_read(user, which, unread);
    let read = app
        .store
        .read_notifications(user, which, now_ms(), &tell)
        .await?;
    let read = read.ok_or_else(ApiError::not_found)?;
    Ok(Json(read.into()))
}

/// Marks one of the caller's notifications as read.
#[utoipa::path(post, path = "/api/notifications/{id}/read", tag = "notifications",
    params(("id" = String, Path, description = "The notification's id.")),
    responses((status = 200, description = "It is read.", body = ReadView)))]
async fn read_one(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<ReadView>, ApiError> {
    mark(&app, &caller.user, Reading::One(&id)).await
}

#[derive(Deserialize)]
struct Seen {
    up_to: Option<Uuid>,
    all: Option<bool>,
}

/// Which notifications were read: exactly one of the two.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape of `Seen`, for the description alone")]
enum SeenShape {
    /// All up to that one: those that came since stay unread.
    UpTo {
        /// The id of the newest that was seen.
        up_to: Uuid,
    },
    /// All.
    All {
        #[schema(schema_with = only_true)]
        all: bool,
    },
}

fn only_true() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([true]))
        .build()
}

/// Marks the caller's notifications as read, all or up to one.
#[utoipa::path(post, path = "/api/notifications/read", tag = "notifications", request_body = SeenShape,
    responses((status = 200, description = "They are read.", body = ReadView)))]
async fn read_all(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Body(seen): Body<Seen>,
) -> Result<Json<ReadView>, ApiError> {
    match (seen.up_to, seen.all) {
        (Some(id), None) => {
            let id = id.to_string();
            mark(&app, &caller.user, Reading::UpTo(&id)).await
        }
        (None, Some(true)) => mark(&app, &caller.user, Reading::All).await,
        _ => Err(ApiError::invalid(
            "up_to",
            "send either up_to with an id, or all with true",
        )),
    }
}

/// Deletes one of the caller's notifications.
#[utoipa::path(delete, path = "/api/notifications/{id}", tag = "notifications",
    params(("id" = String, Path, description = "The notification's id.")),
    responses((status = 204, description = "It is gone.")))]
async fn remove(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let tell = |unread| events::notification_deleted(&caller.user, &id, unread);
    let deleted = app
        .store
        .delete_notification(&caller.user, &id, &tell)
        .await?;
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found())
    }
}

/// How somebody wants to be told.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// At once.
    Live,
    /// Gathered by kind and group for a time, then told as one.
    Digest,
    /// Not at all.
    Off,
}

impl From<Mode> for ModeName {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Live => Self::Live,
            Mode::Digest => Self::Digest,
            Mode::Off => Self::Off,
        }
    }
}

impl From<ModeName> for Mode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Live => Self::Live,
            ModeName::Digest => Self::Digest,
            ModeName::Off => Self::Off,
        }
    }
}

/// How somebody wants to be told of a kind.
#[derive(Serialize, Deserialize, ToSchema)]
struct Preference {
    /// One of the hub's own (`plan.created`, `plan.failed`, `plan.cancelled`, `member.added`, `member.changed`,
    /// `member.removed`, `mention.created`), or of a service.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[a-z0-9_]+(\\.[a-z0-9_]+)*$",
        example = "plan.created"
    )]
    kind: String,
    mode: ModeName,
}

/// How somebody wants to be told of what; kinds that are not named are told at once.
#[derive(Serialize, Deserialize, ToSchema)]
struct Preferences {
    #[schema(max_items = 100)]
    kinds: Vec<Preference>,
}

impl Preferences {
    fn check(&self) -> Result<(), ApiError> {
        if self.kinds.len() > PREFERENCES {
            let reason = format!("has at most {PREFERENCES} kinds");
            return Err(ApiError::invalid("kinds", reason));
        }
        let is_part = |part: &str| {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            !part.is_empty() && part.bytes().all(allowed)
        };
        let is_kind = |kind: &str| kind.len() <= KIND_BYTES && kind.split('.').all(is_part);
        if self.kinds.iter().all(|one| is_kind(&one.kind)) {
            return Ok(());
        }
        let reason = format!(
            "each has 1 to {KIND_BYTES} small letters, digits and _, in parts with a . between"
        );
        Err(ApiError::invalid("kind", reason))
    }
}

/// Reads what the caller wants to be told of.
#[utoipa::path(get, path = "/api/notifications/preferences", tag = "notifications",
    responses((status = 200, description = "By kind.", body = Preferences)))]
async fn preferences(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
) -> Result<Json<Preferences>, ApiError> {
    let chosen = app.store.preferences(&caller.user).await?;
    let kinds = chosen.into_iter().map(|(kind, mode)| Preference {
        kind,
        mode: mode.into(),
    });
    Ok(Json(Preferences {
        kinds: kinds.collect(),
    }))
}

/// Replaces what the caller wants to be told of, whole.
///
/// Of a kind that is named twice the last counts.
#[utoipa::path(put, path = "/api/notifications/preferences", tag = "notifications", request_body = Preferences,
    responses((status = 200, description = "As they are now.", body = Preferences)))]
async fn set_preferences(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Body(asked): Body<Preferences>,
) -> Result<Json<Preferences>, ApiError> {
    asked.check()?;
    let chosen: BTreeMap<String, Mode> = asked
        .kinds
        .into_iter()
        .map(|one| (one.kind, one.mode.into()))
        .collect();
    app.store.set_preferences(&caller.user, &chosen).await?;
    preferences(State(app), Caller(caller)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kinds: &[&str]) -> Result<(), ApiError> {
        let kinds = kinds.iter().map(|kind| Preference {
            kind: (*kind).to_owned(),
            mode: ModeName::Off,
        });
        Preferences {
            kinds: kinds.collect(),
        }
        .check()
    }

    #[test]
    fn every_kind_of_the_hub_is_described() {
        let schema = <Preference as utoipa::PartialSchema>::schema();
        let schema = serde_json::to_string(&schema).unwrap();
        for (kind, _) in workers::notifications::rules::KINDS {
            assert!(wanted(&[kind]).is_ok());
            assert!(schema.contains(&format!("`{kind}`")), "{kind}: {schema}");
        }
    }

    #[test]
    fn kinds_are_dotted_words() {
        assert!(wanted(&[]).is_ok());
        let longest = "k".repeat(KIND_BYTES);
        assert!(wanted(&["plan.created", "a", "a_1.b.c", &longest]).is_ok());
        let long = "k".repeat(KIND_BYTES + 1);
        for wrong in ["", ".", "a.", ".a", "a..b", "A", "a b", "ä", "a\0", &long] {
            assert!(wanted(&["plan.created", wrong]).is_err(), "{wrong:?}");
        }
        assert!(wanted(&["a"; PREFERENCES]).is_ok());
        assert!(wanted(&["a"; PREFERENCES + 1]).is_err());
    }
}

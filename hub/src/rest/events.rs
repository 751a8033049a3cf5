//! `/api/projects/{project}/events`: the log of a project's domain events.
//!
//! Owns the shape of this request and answer. The log is written by its own consumer of the bus: an event stands
//! there some moments after the change that it tells of.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use backplane::store::EventFilter;
use protocol::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Caller, Listing, PageQuery};
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Params, Segments};

/// The route.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(event_log))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventQuery {
    /// At most so many items; 100 if it is left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// Where to read on: the `next` of the page before.
    after: Option<String>,
    /// Only those of that type.
    #[param(example = "document.created")]
    r#type: Option<String>,
    /// Only those about that: `plan:<id>`, `doc:<id>` or `project:<id>`.
    #[param(example = "project:my-app")]
    subject: Option<String>,
    /// Only those that happened at that time or later, milliseconds since the Unix epoch.
    from: Option<u64>,
    /// Only those that happened before that time.
    to: Option<u64>,
}

/// An event.
#[derive(Serialize, ToSchema)]
struct EventView {
    /// A UUID.
    id: String,
    #[schema(example = "document.created")]
    r#type: String,
    /// What it is about.
    #[schema(example = "doc:0198c0de-0000-7000-8000-000000000001")]
    subject: String,
    /// The user or service that caused it.
    actor: Option<String>,
    /// When it happened, milliseconds since the Unix epoch.
    time: u64,
    /// What its type says it carries.
    #[schema(value_type = Value)]
    data: Value,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.to_string(),
            r#type: event.kind,
            subject: event.subject,
            actor: event.actor,
            time: event.time,
            data: event.data,
        }
    }
}

/// Where an event stands in the log, as a cursor names it.
fn place(event: &Event) -> String {
    format!("{}/{}", event.time, event.id)
}

/// Reads a place.
fn placed(place: &str) -> Option<(u64, String)> {
    let (time, id) = place.split_once('/')?;
    Some((time.parse().ok()?, id.to_owned()))
}

/// Lists the events of a project, newest first.
///
/// The log has an event some moments after the change that it tells of.
#[utoipa::path(get, path = "/api/projects/{project}/events", tag = "projects",
    params(("project" = String, Path, description = "The project's id."), EventQuery),
    responses((status = 200, description = "A part of the list.", body = Listing<EventView>)))]
async fn event_log(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    Params(query): Params<EventQuery>,
) -> Result<Json<Listing<EventView>>, ApiError> {
    let page = PageQuery {
        limit: query.limit,
        after: query.after,
    }
    .page()?;
    let wrong = || ApiError::invalid("after", "is not a cursor of this list");
    let seen = page.seen().map(|seen| placed(seen).ok_or_else(wrong));
    let until = query.to.map(|to| (to, String::new()));
    let before = match (seen.transpose()?, until) {
        (Some(seen), Some(until)) => Some(seen.min(until)),
        (seen, until) => seen.or(until),
    };
    app.auth
        .authorize(&caller.user, &project, Operation::ReadEvents)
        .await?;
    let filter = EventFilter {
        project: Some(project),
        subject: query.subject,
        kind: query.r#type,
        since: query.from,
        before,
    };
    let read = app.store.logged(&filter, page.read()).await?;
    let read: Vec<(String, Event)> = read
        .into_iter()
        .map(|event| (place(&event), event))
        .collect();
    Ok(page.of(
        read,
        |(place, _)| place,
        |(_, event)| EventView::from(event),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let event = Event::new(uuid::Uuid::now_v7(), "a.b", "doc:1".into(), 17);
        assert_eq!(placed(&place(&event)), Some((17, event.id.to_string())));
        for wrong in ["", "/", "x/y", "17", "-1/a", "99999999999999999999/a"] {
            assert_eq!(placed(wrong), None, "{wrong}");
        }
    }
}

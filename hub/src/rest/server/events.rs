//! Domain events of services: the way onto the event bus for those that speak no AMQP, also where there is none.
//!
//! Owns what a service may say: types of its own, about what its key reaches. An event is in the outbox when this
//! answers; who hears it is not known here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::ChannelName;
use protocol::event::{Event, kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::super::Service;
use super::channel_of;
use crate::app::App;
use crate::auth::services::{Permission, ServiceKey};
use crate::error::{ApiError, Body};
use crate::now_ms;

/// Longest type, bytes.
const MAX_TYPE_BYTES: usize = 128;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(emit))
}

#[derive(Deserialize, ToSchema)]
struct ServerEvent {
    /// A UUID that is the event's own: sent again with it, the event takes effect once. Made if it is left out.
    id: Option<Uuid>,
    /// Dotted; none of the hub's own.
    #[serde(rename = "type")]
    #[schema(
        max_length = 128,
        pattern = "^[a-z0-9_]+([.][a-z0-9_]+)+$",
        example = "build.finished"
    )]
    kind: String,
    /// What it is about: `project:<id>`, `doc:<id>`, `plan:<id>` or `user:<id>`.
    #[schema(max_length = 255, example = "project:my-app")]
    subject: String,
    /// What it carries.
    #[serde(default)]
    #[schema(value_type = Option<Value>, example = json!({ "state": "passed" }))]
    data: Value,
}

#[derive(Serialize, ToSchema)]
struct ServerEmitted {
    /// The event's id.
    id: Uuid,
}

fn check_type(name: &str) -> Result<(), ApiError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let parts = name.split('.');
    let is_dotted = name.contains('.') && name.len() <= MAX_TYPE_BYTES;
    let are_names = parts
        .into_iter()
        .all(|part| !part.is_empty() && part.bytes().all(allowed));
    if !is_dotted || !are_names {
        return Err(ApiError::invalid(
            "type",
            "has two or more parts of small letters, digits and _ with dots between, 128 bytes at most",
        ));
    }
    if kind::ALL.iter().any(|(own, _)| *own == name) {
        return Err(ApiError::invalid("type", "is one of the hub's own events"));
    }
    Ok(())
}

/// The subject as it is told, and the project that it lies in.
async fn subject_of(
    app: &App,
    key: &ServiceKey,
    text: &str,
) -> Result<(String, Option<Arc<str>>), ApiError> {
    let channel = match text.split_once(':') {
        Some(("user", id)) => format!("feed:{id}"),
        Some(("project" | "doc" | "plan", _)) => text.to_owned(),
        _ => {
            let reason = "begins with project:, doc:, plan: or user:";
            return Err(ApiError::invalid("subject", reason));
        }
    };
    match channel_of(app, key, &channel).await? {
        ChannelName::Feed(user) => Ok((format!("user:{user}"), key.project.clone())),
        name => {
            let project = app.sessions.channels.project_of(&name).await?;
            Ok((name.to_string(), project))
        }
    }
}

/// Publishes a domain event, as from `key:<id>`.
///
/// It is kept when this answers, and reaches every consumer once. Sessions hear of it if its type is one that
/// `bridge.types` lets through. Needs the permission `events`.
#[utoipa::path(post, path = "/api/server/events", tag = "server", request_body = ServerEvent,
    responses((status = 202, description = "Kept, and on its way.", body = ServerEmitted)))]
async fn emit(
    State(app): State<Arc<App>>,
    Service(key): Service,
    Body(asked): Body<ServerEvent>,
) -> Result<(StatusCode, Json<ServerEmitted>), ApiError> {
    key.check(Permission::Events)?;
    check_type(&asked.kind)?;
    let (subject, project) = subject_of(&app, &key, &asked.subject).await?;
    let id = asked.id.unwrap_or_else(Uuid::now_v7);
    let mut event = Event::new(id, &asked.kind, subject, now_ms())
        .by(&key.sender())
        .with(asked.data);
    event.project = project.map(|project| project.to_string());
    app.store.emit(&[event]).await?;
    Ok((StatusCode::ACCEPTED, Json(ServerEmitted { id })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_dotted_and_not_the_hub_s() {
        for right in ["build.finished", "a.b.c_2"] {
            assert!(check_type(right).is_ok(), "{right}");
        }
        let long = format!("a.{}", "b".repeat(127));
        for wrong in [
            "",
            "build",
            ".a",
            "a.",
            "a..b",
            "A.b",
            "a.b c",
            "member.added",
            &long,
        ] {
            assert!(check_type(wrong).is_err(), "{wrong}");
        }
    }
}

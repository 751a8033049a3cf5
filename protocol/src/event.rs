//! The domain event envelope: what services publish and the event log keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;
use uuid::Uuid;

/// Version of the envelope written by this build.
pub const SCHEMA_VERSION: u16 = 1;

/// Something that happened, told once to whoever it concerns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
pub struct Event {
    /// UUID v7 (RFC 9562): unique, and ordered by time of creation. Consumers deduplicate by it.
    pub id: Uuid,
    /// Dotted type, also the routing key: `plan.created`, `document.opened`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The project that it happened in; none for events of a user alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The user or service that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it is about: `plan:<id>`, `doc:<id>`, `project:<id>`, `user:<id>`.
    pub subject: String,
    /// When it happened, milliseconds since the Unix epoch.
    pub time: u64,
    /// W3C trace context (`traceparent`), if the cause was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Version of this envelope; readers accept any up to [`SCHEMA_VERSION`].
    pub schema_version: u16,
    /// What the type says it carries.
    #[ts(type = "unknown")]
    pub data: Value,
}

impl Event {
    /// An event of a type about a subject, that happened at `time` (milliseconds since the Unix epoch); of no
    /// project, caused by nobody, with no data.
    #[must_use]
    pub fn new(id: Uuid, kind: &str, subject: String, time: u64) -> Self {
        Self {
            id,
            kind: kind.to_owned(),
            project: None,
            actor: None,
            subject,
            time,
            traceparent: None,
            schema_version: SCHEMA_VERSION,
            data: Value::Null,
        }
    }

    /// The same event, in a project.
    #[must_use]
    pub fn in_project(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    /// The same event, caused by a user or service.
    #[must_use]
    pub fn by(mut self, actor: &str) -> Self {
        self.actor = Some(actor.to_owned());
        self
    }

    /// The same event with data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

/// Declares the types of events with what they tell, as constants and as one list.
macro_rules! kinds {
    ($($name:ident = $kind:literal, $meaning:literal;)+) => {
        /// The types of the hub's own events. Services have types of their own.
        pub mod kind {
            $(#[doc = $meaning] pub const $name: &str = $kind;)+

            /// Every type with what it tells and carries.
            pub const ALL: &[(&str, &str)] = &[$(($name, $meaning)),+];
        }
    };
}

kinds! {
    PROJECT_CREATED = "project.created",
        "A project was made by its first owner. Data: its `name`.";
    PROJECT_DELETED = "project.deleted",
        "A project was deleted with all that was in it. No data.";
    MEMBER_ADDED = "member.added",
        "A project has a new member. Data: the `user` and the `role`.";
    MEMBER_CHANGED = "member.changed",
        "A member has another role. Data: the `user`, the `role`, and the role `before`.";
    MEMBER_REMOVED = "member.removed",
        "A member was removed or left. Data: the `user`.";
    DOCUMENT_CREATED = "document.created",
        "A project has a new document. Data: its `path`.";
    DOCUMENT_RENAMED = "document.renamed",
        "A document has another path. Data: the `path`, and the path `before`.";
    DOCUMENT_DELETED = "document.deleted",
        "A document was deleted with its versions. Data: its `path`.";
    PLAN_REQUESTED = "plan.requested",
        "A plan was asked for; it is queued. Data: the `request`.";
    PLAN_CANCELLED = "plan.cancelled",
        "A plan that had not ended was cancelled. No data.";
    PLAN_PROGRESS = "plan.progress",
        "A worker has come further with a plan. Data: the `attempt`, and the `stage`, or a `step` that is worked out.";
    PLAN_CREATED = "plan.created",
        "A plan is made. Data: the `attempt`, its `summary`, how many `steps`, who made it (`by`).";
    PLAN_FAILED = "plan.failed",
        "A plan could not be made. Data: the `attempt` and the `reason`.";
    AI_USED = "ai.used",
        "A model was asked. Data: the `model`, `tokens_in`, `tokens_out`, whether they are `estimated`, and what it was `for`.";
    MENTION_CREATED = "mention.created",
        "A document names a member who was not named there before. Data: the `user`, the `document`, its `path`, the `line` and its text (`excerpt`).";
    NOTIFICATION_CREATED = "notification.created",
        "A user has a new notification, or one that grew. Data: the `notification`, the id that it `replaced`, how many are `unread`.";
    MCP_CALLED = "mcp.called",
        "An agent has used a tool. Data: the `agent`, the `tool`, and the `error` if it failed.";
    NOTIFICATION_READ = "notification.read",
        "A user has read notifications. Data: the `id` of one, or the id `up_to` which all were, or `all`; how many are left `unread`.";
    NOTIFICATION_DELETED = "notification.deleted",
        "A user has deleted a notification. Data: its `id`; how many are left `unread`.";
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_written_as_its_readers_expect() {
        let event = Event::new(
            Uuid::nil(),
            kind::DOCUMENT_RENAMED,
            "doc:1".into(),
            1_700_000_000_000,
        )
        .in_project("engine")
        .by("ada")
        .with(json!({ "path": "b.rs", "before": "a.rs" }));
        let written = serde_json::to_value(&event).unwrap();
        assert_eq!(
            written,
            json!({
                "id": "00000000-0000-0000-0000-000000000000",
                "type": "document.renamed",
                "project": "engine",
                "actor": "ada",
                "subject": "doc:1",
                "time": 1_700_000_000_000_u64,
                "schema_version": 1,
                "data": { "path": "b.rs", "before": "a.rs" },
            })
        );
        assert_eq!(serde_json::from_value::<Event>(written).unwrap(), event);
    }

    #[test]
    fn types_are_dotted_and_told_apart() {
        for (at, (kind, meaning)) in kind::ALL.iter().enumerate() {
            assert!(kind.contains('.') && meaning.ends_with('.'), "{kind}");
            assert!(kind::ALL[..at].iter().all(|(other, _)| other != kind));
        }
    }
}

//! The domain event envelope: what services publish and the event log keeps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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
    pub data: serde_json::Value,
}

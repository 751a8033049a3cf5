//! A delivery as it came: an event of ours, or whatever a foreign producer sent.
//!
//! Owns how an event is written into a message and read out of one. Never decides what becomes of a
//! message that can't be read: its consumer does.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::event::{Event, SCHEMA_VERSION};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/json";
/// Header with the W3C trace context.
pub const TRACE_HEADER: &str = "traceparent";

/// A message handed to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Routing key: the event's type.
    pub kind: String,
    /// AMQP `message_id`; events of ours carry their id here too.
    pub message_id: Option<String>,
    /// AMQP `content_type`.
    pub content_type: Option<String>,
    /// AMQP `timestamp`, seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// String headers, trace context (`traceparent`) among them.
    pub headers: BTreeMap<String, String>,
    /// The body: a JSON envelope, or bytes of the producer's own.
    pub body: Bytes,
    /// It may have been handled before.
    pub redelivered: bool,
}

/// Why a delivery is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Neither its envelope nor its properties name an id.
    #[error("the event has no id")]
    NoId,
    /// Its body is JSON by its content type, and no envelope.
    #[error("the envelope can't be read: {0}")]
    Envelope(String),
    /// A binary event whose headers don't say what it is about.
    #[error("the header or property {0} is missing or wrong")]
    Header(&'static str),
    /// Written by a newer Tandem.
    #[error("schema version {0} is newer than this build reads")]
    Version(u16),
}

/// The envelope as foreign producers write it: what the message's properties say may be left out.
#[derive(Deserialize)]
struct Envelope {
    id: Option<Uuid>,
    #[serde(rename = "type")]
    kind: Option<String>,
    project: Option<String>,
    actor: Option<String>,
    subject: Option<String>,
    time: Option<u64>,
    traceparent: Option<String>,
    schema_version: Option<u16>,
    #[serde(default)]
    data: Value,
}

impl Delivery {
    /// An event as it travels: the whole envelope in the body, and in the properties what a consumer
    /// needs to know before reading it.
    ///
    /// # Errors
    /// The event's data can't be written as JSON.
    pub fn of(event: &Event) -> Result<Self, serde_json::Error> {
        let trace = event.traceparent.iter();
        Ok(Self {
            kind: event.kind.clone(),
            message_id: Some(event.id.to_string()),
            content_type: Some(CONTENT_TYPE.to_owned()),
            timestamp: Some(event.time / 1000),
            headers: trace
                .map(|trace| (TRACE_HEADER.to_owned(), trace.clone()))
                .collect(),
            body: serde_json::to_vec(event)?.into(),
            redelivered: false,
        })
    }

    /// The event, and its binary payload if it has one.
    ///
    /// A body whose content type is JSON, or is not said, is an envelope. What the envelope leaves out
    /// is taken from the message: `id` from the property `message_id`, `type` from the routing key,
    /// `subject`, `project`, `actor` and `traceparent` from headers of those names, `time` from the
    /// property `timestamp`. Any other body is the payload, and all of it comes from there.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn event(&self) -> Result<(Event, Option<Bytes>), Unreadable> {
        if !self.is_json() {
            return Ok((self.binary()?, Some(self.body.clone())));
        }
        let envelope: Envelope = serde_json::from_slice(&self.body)
            .map_err(|error| Unreadable::Envelope(error.to_string()))?;
        let version = envelope.schema_version.unwrap_or(SCHEMA_VERSION);
        if version > SCHEMA_VERSION {
            return Err(Unreadable::Version(version));
        }
        // Who binds to a routing key must not get an event of another type.
        if let Some(kind) = envelope.kind.filter(|kind| *kind != self.kind) {
            let reason = format!("its type is {kind}, its routing key {}", self.kind);
            return Err(Unreadable::Envelope(reason));
        }
        let missing = |field: &str| Unreadable::Envelope(format!("{field} is missing"));
        let event = Event {
            id: envelope.id.map_or_else(|| self.id(), Ok)?,
            kind: self.kind.clone(),
            project: envelope.project.or_else(|| self.header("project")),
            actor: envelope.actor.or_else(|| self.header("actor")),
            subject: envelope
                .subject
                .or_else(|| self.header("subject"))
                .ok_or_else(|| missing("subject"))?,
            time: envelope
                .time
                .or_else(|| self.milliseconds())
                .ok_or_else(|| missing("time"))?,
            traceparent: envelope.traceparent.or_else(|| self.header(TRACE_HEADER)),
            schema_version: version,
            data: envelope.data,
        };
        Ok((event, None))
    }

    fn binary(&self) -> Result<Event, Unreadable> {
        Ok(Event {
            id: self.id()?,
            kind: self.kind.clone(),
            project: self.header("project"),
            actor: self.header("actor"),
            subject: self
                .header("subject")
                .ok_or(Unreadable::Header("subject"))?,
            time: self.milliseconds().ok_or(Unreadable::Header("timestamp"))?,
            traceparent: self.header(TRACE_HEADER),
            schema_version: SCHEMA_VERSION,
            data: Value::Null,
        })
    }

    fn is_json(&self) -> bool {
        let Some(content_type) = &self.content_type else {
            return true;
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(CONTENT_TYPE)
            || essence.to_ascii_lowercase().ends_with("+json")
    }

    fn id(&self) -> Result<Uuid, Unreadable> {
        let id = self.message_id.as_deref().ok_or(Unreadable::NoId)?;
        id.parse().map_err(|_| Unreadable::Header("message_id"))
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    fn milliseconds(&self) -> Option<u64> {
        self.timestamp.map(|seconds| seconds.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Event {
        Event {
            id: Uuid::now_v7(),
            kind: "plan.progress".into(),
            project: Some("p1".into()),
            actor: Some("u1".into()),
            subject: "plan:7".into(),
            time: 1_785_000_000_123,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            schema_version: SCHEMA_VERSION,
            data: json!({ "step": 3 }),
        }
    }

    fn json_delivery(body: &Value) -> Delivery {
        Delivery {
            kind: "plan.progress".into(),
            body: body.to_string().into(),
            ..Delivery::default()
        }
    }

    #[test]
    fn an_event_comes_back_as_it_was() {
        let event = event();
        let delivery = Delivery::of(&event).unwrap();
        assert_eq!(delivery.message_id, Some(event.id.to_string()));
        assert_eq!(delivery.event(), Ok((event, None)));
    }

    #[test]
    fn what_an_envelope_leaves_out_is_taken_from_the_message() {
        let id = Uuid::now_v7();
        let mut delivery = json_delivery(&json!({ "subject": "plan:7", "data": 1 }));
        delivery.message_id = Some(id.to_string());
        delivery.timestamp = Some(1_785_000_000);
        delivery.headers.insert("project".into(), "p1".into());
        let (event, payload) = delivery.event().unwrap();
        assert_eq!((event.id, payload), (id, None));
        assert_eq!(event.kind, "plan.progress");
        assert_eq!(event.project.as_deref(), Some("p1"));
        assert_eq!(event.time, 1_785_000_000_000);
        assert_eq!(event.schema_version, SCHEMA_VERSION);
    }

    #[test]
    fn a_binary_body_is_a_payload_described_by_headers() {
        let id = Uuid::now_v7();
        let mut delivery = Delivery {
            kind: "plan.progress".into(),
            message_id: Some(id.to_string()),
            content_type: Some("application/octet-stream".into()),
            timestamp: Some(5),
            body: Bytes::from_static(&[0, 159, 146, 150]),
            ..Delivery::default()
        };
        assert_eq!(delivery.event(), Err(Unreadable::Header("subject")));
        delivery.headers.insert("subject".into(), "doc:1".into());
        let (event, payload) = delivery.event().unwrap();
        assert_eq!(payload, Some(Bytes::from_static(&[0, 159, 146, 150])));
        assert_eq!((event.subject.as_str(), event.time), ("doc:1", 5000));
        delivery.timestamp = None;
        assert_eq!(delivery.event(), Err(Unreadable::Header("timestamp")));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let whole = json!({ "subject": "plan:7", "time": 1 });
        assert_eq!(json_delivery(&whole).event(), Err(Unreadable::NoId));

        let mut odd_id = json_delivery(&whole);
        odd_id.message_id = Some("order-17".into());
        assert_eq!(odd_id.event(), Err(Unreadable::Header("message_id")));

        let envelope = |body: Value| match json_delivery(&body).event() {
            Err(Unreadable::Envelope(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let id = Uuid::now_v7();
        assert_eq!(
            envelope(json!({ "id": id, "time": 1 })),
            "subject is missing"
        );
        assert_eq!(
            envelope(json!({ "id": id, "subject": "plan:7" })),
            "time is missing"
        );
        let other = json!({ "id": id, "type": "plan.created", "subject": "plan:7", "time": 1 });
        assert!(envelope(other).contains("plan.created"));
        assert!(!envelope(json!(["no envelope"])).is_empty());

        let newer =
            json!({ "id": id, "subject": "s", "time": 1, "schema_version": SCHEMA_VERSION + 1 });
        assert_eq!(
            json_delivery(&newer).event(),
            Err(Unreadable::Version(SCHEMA_VERSION + 1))
        );
        let mut no_json = json_delivery(&whole);
        no_json.body = Bytes::from_static(b"\xff\x00");
        assert!(matches!(no_json.event(), Err(Unreadable::Envelope(_))));
    }
}

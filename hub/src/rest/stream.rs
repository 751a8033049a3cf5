//! `/api/stream` and `/api/poll`: channels and documents for clients that can't hold a WebSocket.
//!
//! The flow: the query says what is followed and from where (`cursor`) → every name is checked → a session
//! without a socket (`crate::session::follow`) follows it all → `line` turns its frames into events, each with
//! the cursor behind it → this file writes them as server-sent events, `poll` as one answer. The frames are those
//! of `tandem.v1.json`; a client may go from one transport to another, and to another node, at any event.

mod cursor;
mod line;
mod poll;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{Stream, unfold};
use protocol::{ChannelName, ErrorCode, Position};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use crate::app::App;
use crate::error::{ApiError, Params};
use crate::session::follow::{Follow, FollowLog};
use cursor::Cursor;
use line::{Event, Heard, Line};

/// A comment goes out when nothing else did for this long, so that proxies and clients know that it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest cursor, bytes: it must fit into any proxy's limit of a line.
const CURSOR_BYTES: usize = 4096;
/// The first bytes of a stream: some proxies and browsers hold back less than this.
const PADDING: usize = 2048;
/// How long a client waits before it comes back when it was not told otherwise, milliseconds.
const RETRY_MS: u64 = 1000;
/// What `/api/stream/probe` sends, and how far apart.
const PROBE_EVENTS: u32 = 5;
const PROBE_GAP: Duration = Duration::from_millis(200);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(stream))
        .routes(routes!(probe))
        .routes(routes!(poll::poll))
}

/// What is followed, and from where.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Following {
    /// Channels, with commas between.
    #[param(example = "feed:me,room:demo/lobby")]
    channels: Option<String>,
    /// Ids of documents, with commas between.
    documents: Option<String>,
    /// Those of the channels in which the client is to be seen, with commas between.
    presence: Option<String>,
    /// Where to go on: the `id` of the last event, or the `cursor` of the last answer. `Last-Event-ID` goes before it.
    #[param(max_length = 4096)]
    cursor: Option<String>,
    /// Where to go on in channels that a WebSocket session followed before: a JSON object of positions by channel, as
    /// in a `connect` frame. The cursor goes before it.
    #[param(example = "{\"feed:me\":{\"epoch\":\"e1\",\"offset\":41}}")]
    resume: Option<String>,
}

/// What a request asks for, read and within its bounds.
struct Asked {
    channels: Vec<Follow>,
    documents: Vec<FollowLog>,
    cursor: Cursor,
}

fn names(list: Option<&str>) -> Vec<&str> {
    let names = list.unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).collect()
}

impl Following {
    fn read(&self, user: &str, last_event: Option<&str>) -> Result<Asked, ApiError> {
        let given = last_event
            .or(self.cursor.as_deref())
            .filter(|given| !given.is_empty());
        let cursor = match given {
            Some(text) => Cursor::decode(text)
                .ok_or_else(|| ApiError::invalid("cursor", "is none of this hub's"))?,
            None => self.resumed()?,
        };
        let (channels, documents) = (self.channels.as_deref(), self.documents.as_deref());
        let (channels, documents) = (names(channels), names(documents));
        let channels = channels
            .into_iter()
            .map(|name| public(name, user))
            .collect::<Result<Vec<String>, ApiError>>()?;
        if channels.is_empty() && documents.is_empty() {
            let text = "name at least one channel or document to follow";
            return Err(ApiError::invalid("channels", text));
        }
        let mut distinct = std::collections::HashSet::new();
        let mut all = channels
            .iter()
            .map(String::as_str)
            .chain(documents.iter().copied());
        let twice = all.find(|name| !distinct.insert(*name));
        if let Some(name) = twice {
            return Err(ApiError::invalid(
                "channels",
                format!("{name} stands twice"),
            ));
        }
        let present = names(self.presence.as_deref()).into_iter();
        let present = present
            .map(|name| public(name, user))
            .collect::<Result<Vec<String>, ApiError>>()?;
        if let Some(name) = present.iter().find(|name| !channels.contains(name)) {
            return Err(ApiError::invalid(
                "presence",
                format!("{name} is not followed"),
            ));
        }
        let cursor = cursor.only(&channels, &documents);
        Ok(Asked {
            channels: channels
                .into_iter()
                .map(|channel| Follow {
                    position: cursor.position(&channel),
                    presence: present.contains(&channel),
                    channel,
                })
                .collect(),
            documents: documents
                .into_iter()
                .map(|document| FollowLog {
                    document: document.to_owned(),
                    seq: cursor.seq(document),
                })
                .collect(),
            cursor,
        })
    }

    fn resumed(&self) -> Result<Cursor, ApiError> {
        let Some(text) = self.resume.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(Cursor::default());
        };
        let positions: BTreeMap<String, Position> =
            serde_json::from_str(text).map_err(|error| {
                ApiError::invalid("resume", format!("is no map of positions: {error}"))
            })?;
        Ok(Cursor::of(positions))
    }
}

/// A channel's name as frames have it.
fn public(name: &str, user: &str) -> Result<String, ApiError> {
    let parsed = ChannelName::parse(name, user);
    let parsed =
        parsed.map_err(|error| ApiError::invalid("channels", format!("{name}: {error}")))?;
    Ok(parsed.public())
}

/// A cursor that the next request could not carry.
fn too_many() -> ApiError {
    ApiError::new(
        ErrorCode::LimitReached,
        format!(
            "the cursor of so many channels and documents passes {CURSOR_BYTES} bytes: follow fewer at once"
        ),
    )
}

/// Streams channels and documents as server-sent events.
///
/// Each event's `data` is a frame as on `/ws` in JSON; its `id` is the cursor behind it. Go on from any event, on
/// any node and by any transport, with `Last-Event-ID` or `cursor`. A document comes as `doc` frames whose `n` is
/// the sequence in its log. Ends with the token's time, with the rights, or when the node leaves.
#[utoipa::path(get, path = "/api/stream", tag = "fallback",
    params(Following, ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event seen.")),
    responses(
        (status = 200, description = "Events, until the client or the hub ends it.", body = String, content_type = "text/event-stream"),
        (status = 409, description = "More channels or documents than one session may follow.", body = crate::error::Problem, content_type = "application/problem+json"),
    ))]
async fn stream(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    headers: HeaderMap,
    Params(following): Params<Following>,
) -> Result<Response, ApiError> {
    let last = headers
        .get(LAST_EVENT_ID)
        .and_then(|value| value.to_str().ok());
    let asked = following.read(&caller.user, last)?;
    let line = Line::open(&app, caller, asked).await?;
    let stall = app.settings.session.write_timeout;
    // One chunk ahead: what the client does not read stays in the session's own bounded queue.
    let (chunks, received) = mpsc::channel(1);
    tokio::spawn(write_events(line, chunks, stall));
    Ok(events(unfold(received, |mut received| async move {
        let chunk: Bytes = received.recv().await?;
        Some((Ok::<_, Infallible>(chunk), received))
    })))
}

/// The answer that carries a stream of events.
fn events(chunks: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-transform"),
        // What nginx and those that imitate it go by.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// Writes a line's events until it ends, the client goes, or takes nothing for too long.
async fn write_events(mut line: Line, chunks: mpsc::Sender<Bytes>, stall: Duration) {
    let mut chunk = format!(":{}\nretry: {RETRY_MS}\n\n", " ".repeat(PADDING));
    loop {
        let full = std::mem::take(&mut chunk);
        if !full.is_empty() {
            let sent = tokio::time::timeout(stall, chunks.send(full.into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
        let heard = tokio::select! {
            heard = tokio::time::timeout(KEEPALIVE, line.next()) => heard,
            () = chunks.closed() => return,
        };
        match heard {
            Err(_) => chunk.push_str(":\n\n"),
            Ok(Heard::Events(events)) => events.iter().for_each(|event| append(&mut chunk, event)),
            Ok(Heard::Closed(event)) => {
                append(&mut chunk, &event);
                // Whether it arrives is the client's matter: the stream ends here.
                let _ = tokio::time::timeout(stall, chunks.send(chunk.into())).await;
                return;
            }
        }
    }
}

/// Writes one event as the HTML standard has it (9.2.6); a frame's JSON holds no line break.
fn append(chunk: &mut String, event: &Event) {
    if let Some(after_ms) = event.retry_ms {
        chunk.push_str(&format!("retry: {after_ms}\n"));
    }
    if let Some(id) = &event.cursor {
        chunk.push_str("id: ");
        chunk.push_str(id);
        chunk.push('\n');
    }
    chunk.push_str("data: ");
    chunk.push_str(&event.json);
    chunk.push_str("\n\n");
}

/// Sends five small events, 200 ms apart, each with the hub's time.
///
/// A client that gets them all at once is behind a proxy that buffers: it should poll.
#[utoipa::path(get, path = "/api/stream/probe", tag = "fallback", security(()), responses(
    (status = 200, description = "Five events.", body = String, content_type = "text/event-stream")))]
async fn probe() -> Response {
    events(unfold(0, |sent| async move {
        if sent == PROBE_EVENTS {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(PROBE_GAP).await;
        }
        let event = format!(
            "data: {{\"n\":{},\"time\":{}}}\n\n",
            sent + 1,
            crate::now_ms()
        );
        Some((Ok(Bytes::from(event)), sent + 1))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_refused_by_its_field() {
        let asked = |channels: &str, cursor: &str, resume: &str| {
            let following = Following {
                channels: Some(channels.to_owned()),
                cursor: Some(cursor.to_owned()),
                resume: Some(resume.to_owned()),
                ..Following::default()
            };
            following.read("u1", None)
        };
        let field = |result: Result<Asked, ApiError>| {
            result.err().map(|error| error.errors[0].field.to_string())
        };
        assert_eq!(field(asked("", "", "")), Some("channels".into()));
        assert_eq!(
            field(asked("feed:me,feed:u1", "", "")),
            Some("channels".into())
        );
        assert_eq!(field(asked("feed:u2", "", "")), Some("channels".into()));
        assert_eq!(field(asked("feed:me", "%%%", "")), Some("cursor".into()));
        assert_eq!(field(asked("feed:me", "", "[1]")), Some("resume".into()));
        let resume = r#"{"feed:me":{"epoch":"e","offset":4},"room:p/x":{"epoch":"f","offset":9}}"#;
        let Ok(asked) = asked(" feed:me , ,room:p/y", "", resume) else {
            panic!("it is right");
        };
        let positions: Vec<_> = asked
            .channels
            .iter()
            .map(|one| one.position.clone())
            .collect();
        let first = Position {
            epoch: "e".into(),
            offset: 4,
        };
        assert_eq!(positions, [Some(first), None]);
    }

    #[test]
    fn an_event_is_written_as_the_standard_has_it() {
        let mut chunk = String::new();
        let event = Event {
            json: r#"{"type":"ping"}"#.into(),
            cursor: Some("abc".into()),
            retry_ms: Some(250),
            matters: true,
        };
        append(&mut chunk, &event);
        assert_eq!(chunk, "retry: 250\nid: abc\ndata: {\"type\":\"ping\"}\n\n");
    }
}

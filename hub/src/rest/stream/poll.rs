//! `/api/poll`: the same as the stream, an answer at a time.
//!
//! A request without a cursor says where one stands now; one with a cursor waits until there is something behind it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Following;
use super::line::{Event, Heard, Line};
use crate::app::App;
use crate::error::{ApiError, Params, Problem};
use crate::rest::Caller;

/// How long a request waits when it does not say, seconds.
const WAIT: u64 = 25;
/// What reading takes is given also to a request that does not want to wait.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// The longest that one may wait, seconds.
const MOST_WAIT: u64 = 55;
/// How much earlier than the limit of a request an answer goes out.
const MARGIN: Duration = Duration::from_secs(1);
/// Bytes of frames after which an answer goes out though more waits.
const ANSWER_BYTES: usize = 1024 * 1024;
/// How long an answer that has something waits for more of it.
const GATHER: Duration = Duration::from_millis(5);
/// How long it waits for the logs of documents to be looked at: else a busy channel would answer every poll before
/// a document comes to speak.
const LOOK: Duration = Duration::from_millis(25);
/// How long it waits for the states of documents that its client has nothing of.
const STATES: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// How long to wait for something, seconds; 25 if it is left out. A request without a cursor does not wait.
    #[param(minimum = 0, maximum = 55, example = 25)]
    wait: Option<u64>,
}

/// What a poll brings.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Polled {
    /// Frames as on `/ws` in JSON, oldest first; empty if nothing came in time.
    #[schema(value_type = Vec<serde_json::Value>)]
    frames: Vec<Box<RawValue>>,
    /// Where to go on.
    cursor: String,
    /// More is there: ask again at once.
    more: bool,
}

/// Waits for what comes in channels and documents, and answers with all that is there.
///
/// For clients that can hold neither a WebSocket nor a stream. The first request, without `cursor`, answers at once
/// with where the channels stand and the documents' states. Messages of class `lossy` between two polls are not seen.
#[utoipa::path(get, path = "/api/poll", tag = "fallback", params(Following, Patience), responses(
    (status = 200, description = "What came, or nothing after the time to wait.", body = Polled),
    (status = 409, description = "More channels or documents than a cursor or a session may hold.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Params(following): Params<Following>,
    Params(patience): Params<Patience>,
) -> Result<impl IntoResponse, ApiError> {
    let wait = patience.wait.unwrap_or(WAIT);
    if wait > MOST_WAIT {
        return Err(ApiError::invalid(
            "wait",
            format!("must be 0 to {MOST_WAIT}"),
        ));
    }
    let most = app.settings.http.request_timeout.saturating_sub(MARGIN);
    let wait = Duration::from_secs(wait).min(most).max(LEAST_WAIT);
    let until = Instant::now() + wait;
    if following.presence.is_some() {
        let reason = "a client that polls is not there between two polls";
        return Err(ApiError::invalid("presence", reason));
    }
    let asked = following.read(&caller.user, None)?;
    let mut line = Line::open(&app, caller, asked).await?;
    let polled = gather(&mut line, until).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(polled)))
}

/// Takes what there is, waiting until `until` for the first of it.
async fn gather(line: &mut Line, until: Instant) -> Result<Polled, ApiError> {
    let (mut frames, mut bytes, mut more) = (Vec::new(), 0, false);
    let began = Instant::now();
    loop {
        let soon = match (line.owes_state(), line.is_reading()) {
            (true, _) => (began + STATES).max(Instant::now() + GATHER),
            (false, true) => (began + LOOK).max(Instant::now() + GATHER),
            (false, false) => Instant::now() + GATHER,
        };
        let by = if frames.is_empty() {
            until
        } else {
            soon.min(until)
        };
        let Ok(heard) = tokio::time::timeout_at(by, line.next()).await else {
            break;
        };
        let (events, ended) = match heard {
            Heard::Events(events) => (events, false),
            Heard::Closed(event) => (vec![event], true),
        };
        // What only answers the request itself is of no use to who asks anew each time.
        let events = events.into_iter().filter(|event| event.matters);
        for Event { json, .. } in events {
            bytes += json.len();
            // It came out of the same encoder: it is JSON.
            frames.push(RawValue::from_string(json).map_err(ApiError::internal)?);
        }
        if ended {
            break;
        }
        if bytes >= ANSWER_BYTES {
            more = true;
            break;
        }
    }
    Ok(Polled {
        frames,
        cursor: line.cursor(),
        more,
    })
}

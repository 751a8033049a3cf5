//! A client that holds no WebSocket: server-sent events and long polls.
//!
//! Reads events as the HTML standard says (9.2.6), and remembers the last id as a browser does.

use std::time::Duration;

use protocol::Position;
use serde_json::Value;

use super::people::ask;
use super::{Person, TestHub, soon};

/// An open stream of events.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
    /// The id of the last event that had one.
    pub(crate) last: Option<String>,
    /// The stream has ended.
    pub(crate) ended: bool,
}

impl Events {
    /// Opens a stream; `query` without the question mark.
    pub(crate) async fn open(hub: &TestHub, who: &Person, query: &str, last: Option<&str>) -> Self {
        let url = hub.url(&format!("/api/stream?{query}"));
        let mut request = reqwest::Client::new().get(url).bearer_auth(&who.token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = soon("a stream", request.send()).await.expect("an answer");
        assert_eq!(response.status(), 200, "{query}");
        let kind = response.headers()["content-type"].to_str().expect("text");
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self {
            response,
            text: String::new(),
            last: last.map(str::to_owned),
            ended: false,
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match soon("an event", self.response.chunk()).await {
                Ok(Some(chunk)) => self
                    .text
                    .push_str(std::str::from_utf8(&chunk).expect("UTF-8")),
                Ok(None) | Err(_) => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    /// As [`Self::next`], if it comes in time.
    pub(crate) async fn next_within(&mut self, most: Duration) -> Option<Value> {
        tokio::time::timeout(most, self.next()).await.ok().flatten()
    }

    /// The next frame of that type, others skipped.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self
                .next()
                .await
                .unwrap_or_else(|| panic!("no {kind} came"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Takes a whole event off what was read, if there is one with data.
    fn take(&mut self) -> Option<Value> {
        while let Some((event, rest)) = self.text.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            self.text = rest;
            let mut data = String::new();
            for line in event.lines() {
                match line.split_once(':') {
                    Some(("id", id)) => self.last = Some(id.trim_start().to_owned()),
                    Some(("data", part)) => data.push_str(part.trim_start()),
                    Some(("", _) | ("retry", _)) => {}
                    other => panic!("a line that is none of an event stream: {other:?}"),
                }
            }
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).expect("a frame"));
            }
        }
        None
    }
}

/// A client that polls.
pub(crate) struct Poller {
    query: String,
    /// Where it stands.
    pub(crate) cursor: Option<String>,
}

impl Poller {
    pub(crate) fn new(query: &str, cursor: Option<String>) -> Self {
        let query = query.to_owned();
        Self { query, cursor }
    }

    /// One poll: its frames.
    pub(crate) async fn poll(&mut self, hub: &TestHub, who: &Person, wait: u32) -> Vec<Value> {
        let cursor = self.cursor.as_deref().unwrap_or_default();
        let path = format!("/api/poll?{}&wait={wait}&cursor={cursor}", self.query);
        let answer = ask(hub, Some(&who.token), reqwest::Method::GET, &path, None).await;
        let answer = answer.expect(200).json();
        self.cursor = answer["cursor"].as_str().map(str::to_owned);
        answer["frames"].as_array().expect("frames").clone()
    }
}

/// Positions as the query parameter `resume`.
pub(crate) fn resume(channel: &str, position: &Position) -> String {
    let positions = serde_json::json!({ channel: position }).to_string();
    let escaped: String = positions
        .bytes()
        .map(|byte| format!("%{byte:02x}"))
        .collect();
    format!("resume={escaped}")
}

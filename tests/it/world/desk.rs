//! A document on one's desk: how it is edited and read over REST.
//!
//! Owns the requests; an unexpected status is the caller's to judge.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::people::Answer;
use super::{Person, TestHub, soon};

/// A request with headers and a body of any kind.
pub(crate) async fn send(
    hub: &TestHub,
    person: &Person,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Answer {
    let mut request = Client::new()
        .request(method, hub.url(path))
        .bearer_auth(&person.token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = soon(path, request.body(body).send()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = soon(path, answer.bytes()).await.expect("a body").to_vec();
    Answer {
        status,
        headers,
        body,
    }
}

/// Content types.
pub(crate) const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const DIFF: (&str, &str) = ("content-type", "text/x-diff");
pub(crate) const BYTES: (&str, &str) = ("content-type", "application/octet-stream");

/// A header of an answer; empty if it has none.
pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers.get(name);
    value.map_or("", |value| value.to_str().expect("a header"))
}

/// A document, and how it is edited over REST.
pub(crate) struct Desk<'a> {
    pub(crate) hub: &'a TestHub,
    pub(crate) person: &'a Person,
    pub(crate) path: String,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(hub: &'a TestHub, person: &'a Person, document: &str) -> Self {
        Self {
            hub,
            person,
            path: format!("/api/documents/{document}"),
        }
    }

    pub(crate) async fn put(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[TEXT], headers].concat();
        let path = format!("{}/text", self.path);
        send(
            self.hub,
            self.person,
            (Method::PUT, &path),
            &headers,
            text.to_owned(),
        )
        .await
    }

    pub(crate) async fn patch(&self, patch: &str) -> Answer {
        let path = format!("{}/text", self.path);
        send(
            self.hub,
            self.person,
            (Method::PATCH, &path),
            &[DIFF],
            patch.to_owned(),
        )
        .await
    }

    pub(crate) async fn edit(&self, body: Value, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[JSON], headers].concat();
        let path = format!("{}/edits", self.path);
        let body = body.to_string();
        send(self.hub, self.person, (Method::POST, &path), &headers, body).await
    }

    pub(crate) async fn append(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let body = json!({ "edits": [{ "op": "append", "text": text }] });
        self.edit(body, headers).await
    }

    pub(crate) async fn update(&self, update: &[u8]) -> Answer {
        let path = format!("{}/updates", self.path);
        send(
            self.hub,
            self.person,
            (Method::POST, &path),
            &[BYTES],
            update.to_vec(),
        )
        .await
    }

    pub(crate) async fn get(&self, what: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("{}{what}", self.path);
        send(self.hub, self.person, (Method::GET, &path), headers, "").await
    }

    pub(crate) async fn text(&self) -> String {
        self.get("/text", &[]).await.expect(200).text()
    }
}

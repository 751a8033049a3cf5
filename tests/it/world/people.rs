//! People and what they ask over REST.
//!
//! Owns tokens and requests; an unexpected status fails the test with the body.

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{TestHub, soon};

/// The password of everyone whom a test registers.
pub(crate) const PASSWORD: &str = "a long enough passphrase 7";

/// An answer over REST.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Seconds of `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
    }

    /// Itself, if it has that status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The code of a problem document.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request to the hub, with a token or without.
pub(crate) async fn ask(
    hub: &TestHub,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let mut request = Client::new().request(method, hub.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = soon(path, request.send()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = soon(path, answer.bytes()).await;
    let body = body
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .to_vec();
    Answer {
        status,
        headers,
        body,
    }
}

/// A signed-in user.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) login: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl Person {
    fn from(answer: &Answer) -> Self {
        let answer = answer.json();
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        Self {
            id: text(&answer["user"]["id"]),
            login: text(&answer["user"]["login"]),
            token: text(&answer["access_token"]),
            refresh_token: text(&answer["refresh_token"]),
        }
    }

    /// Registers a user.
    pub(crate) async fn register(hub: &TestHub, login: &str) -> Self {
        let body = json!({ "login": login, "password": PASSWORD, "name": login });
        let answer = ask(hub, None, Method::POST, "/api/auth/register", Some(body)).await;
        Self::from(&answer.expect(201))
    }

    /// Signs the same user in once more.
    pub(crate) async fn log_in(&self, hub: &TestHub) -> Self {
        Self::log_in_as(hub, &self.login, PASSWORD).await
    }

    /// Signs a user in.
    pub(crate) async fn log_in_as(hub: &TestHub, login: &str, password: &str) -> Self {
        let body = json!({ "login": login, "password": password });
        let answer = ask(hub, None, Method::POST, "/api/auth/login", Some(body)).await;
        Self::from(&answer.expect(200))
    }

    /// Trades the refresh token for new tokens.
    pub(crate) async fn refresh(&self, hub: &TestHub) -> Answer {
        let body = json!({ "refresh_token": self.refresh_token });
        ask(hub, None, Method::POST, "/api/auth/refresh", Some(body)).await
    }

    /// The same person with the tokens of a refresh.
    pub(crate) async fn refreshed(&self, hub: &TestHub) -> Self {
        Self::from(&self.refresh(hub).await.expect(200))
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, hub: &TestHub, path: &str) -> Answer {
        ask(hub, Some(&self.token), Method::GET, path, None).await
    }

    /// Sends a POST.
    pub(crate) async fn post(&self, hub: &TestHub, path: &str, body: Value) -> Answer {
        ask(hub, Some(&self.token), Method::POST, path, Some(body)).await
    }

    /// Sends a PUT.
    pub(crate) async fn put(&self, hub: &TestHub, path: &str, body: Value) -> Answer {
        ask(hub, Some(&self.token), Method::PUT, path, Some(body)).await
    }

    /// Sends a DELETE.
    pub(crate) async fn delete(&self, hub: &TestHub, path: &str) -> Answer {
        ask(hub, Some(&self.token), Method::DELETE, path, None).await
    }

    /// Makes a project of that id.
    pub(crate) async fn project(&self, hub: &TestHub, id: &str) {
        let body = json!({ "id": id, "name": id });
        self.post(hub, "/api/projects", body).await.expect(201);
    }

    /// Gives somebody a role.
    pub(crate) async fn give(&self, hub: &TestHub, project: &str, whom: &Person, role: &str) {
        let path = format!("/api/projects/{project}/members/{}", whom.id);
        self.put(hub, &path, json!({ "role": role }))
            .await
            .expect(200);
    }

    /// Takes somebody out of a project.
    pub(crate) async fn remove(&self, hub: &TestHub, project: &str, whom: &Person) {
        let path = format!("/api/projects/{project}/members/{}", whom.id);
        self.delete(hub, &path).await.expect(204);
    }

    /// Makes a document and gives its id.
    pub(crate) async fn document(&self, hub: &TestHub, project: &str, path: &str) -> String {
        let url = format!("/api/projects/{project}/documents");
        let answer = self
            .post(hub, &url, json!({ "path": path }))
            .await
            .expect(201);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The text of a document.
    pub(crate) async fn text(&self, hub: &TestHub, document: &str) -> String {
        let path = format!("/api/documents/{document}/text");
        self.get(hub, &path).await.expect(200).text()
    }

    /// The Yjs state of a document.
    pub(crate) async fn state(&self, hub: &TestHub, document: &str) -> Vec<u8> {
        let path = format!("/api/documents/{document}/state");
        self.get(hub, &path).await.expect(200).body
    }
}

/// An owner with a project `p` and a document in it.
pub(crate) async fn workspace(hub: &TestHub) -> (Person, String) {
    let owner = hub.person("owner").await;
    owner.project(hub, "p1").await;
    let document = owner.document(hub, "p1", "main.rs").await;
    (owner, document)
}

//! The hub's REST calls that a measurement needs: log in, make a document, read its text.
//!
//! Never opens a WebSocket: `client` and `trace::link` do.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// A logged-in user of one hub.
#[derive(Debug, Clone)]
pub(crate) struct Rest {
    http: Client,
    base: String,
    user: String,
    password: String,
    login: Login,
    since: Instant,
}

#[derive(Debug, Clone, Deserialize)]
struct Login {
    access_token: String,
    /// Seconds.
    expires_in: u64,
    user: User,
}

#[derive(Debug, Clone, Deserialize)]
struct User {
    id: String,
}

/// A document or a plan.
#[derive(Deserialize)]
struct Made {
    id: String,
}

/// Pieces of code, or definitions.
#[derive(Deserialize)]
struct Pieces {
    items: Vec<Piece>,
}

#[derive(Deserialize)]
struct Piece {
    path: String,
    symbol: Option<String>,
}

impl Rest {
    /// Logs in at the hub whose address is `base`.
    pub(crate) async fn login(base: &str, user: &str, password: &str) -> Result<Self> {
        let http = Client::new();
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self {
            login: log_in(&http, &base, user, password).await?,
            since: Instant::now(),
            http,
            base,
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    /// Registers a user at a hub and logs in as that user.
    pub(crate) async fn register(base: &str, user: &str, password: &str) -> Result<Self> {
        let url = format!("{}/api/auth/register", base.trim_end_matches('/'));
        let body = json!({ "login": user, "password": password, "name": user });
        send("registering", Client::new().post(url).json(&body)).await?;
        Self::login(base, user, password).await
    }

    /// The id of the user.
    pub(crate) fn user_id(&self) -> &str {
        &self.login.user.id
    }

    /// Makes a project of that id.
    pub(crate) async fn create_project(&self, id: &str) -> Result<()> {
        let url = format!("{}/api/projects", self.base);
        let request = self.http.post(url).json(&json!({ "id": id, "name": id }));
        let request = request.bearer_auth(self.valid_token().await?);
        send("making a project", request).await?;
        Ok(())
    }

    /// The access token of the login.
    pub(crate) fn token(&self) -> &str {
        &self.login.access_token
    }

    /// Logs in once more, for a session that outlives its token.
    pub(crate) async fn fresh_token(&self) -> Result<String> {
        let login = log_in(&self.http, &self.base, &self.user, &self.password).await?;
        Ok(login.access_token)
    }

    /// A token that is still good for a request: logins are few, as hubs limit them.
    async fn valid_token(&self) -> Result<String> {
        let half_life = Duration::from_secs(self.login.expires_in / 2);
        if self.since.elapsed() < half_life {
            return Ok(self.login.access_token.clone());
        }
        self.fresh_token().await
    }

    /// Makes a document in a project; returns its id.
    pub(crate) async fn create_document(&self, project: &str, path: &str) -> Result<String> {
        let url = format!("{}/api/projects/{project}/documents", self.base);
        let request = self.http.post(url).json(&json!({ "path": path }));
        let answer = send(
            "making a document",
            request.bearer_auth(self.valid_token().await?),
        )
        .await?;
        Ok(answer.json::<Made>().await?.id)
    }

    /// Asks for a plan in a project; returns its id.
    pub(crate) async fn ask_for_plan(&self, project: &str, request: &str) -> Result<String> {
        let url = format!("{}/api/plans", self.base);
        let body = json!({ "project": project, "request": request });
        let asking = self.http.post(url).json(&body);
        let asking = asking.bearer_auth(self.valid_token().await?);
        let answer = send("asking for a plan", asking).await?;
        Ok(answer.json::<Made>().await?.id)
    }

    /// The text of a document as the server holds it.
    pub(crate) async fn text(&self, document: &str) -> Result<String> {
        let token = self.valid_token().await?;
        let url = format!("{}/api/documents/{document}/text?root=text", self.base);
        let answer = send("reading a text", self.http.get(url).bearer_auth(token)).await?;
        Ok(answer.text().await?)
    }

    /// Makes a document's text this one.
    pub(crate) async fn put_text(&self, document: &str, text: &str) -> Result<()> {
        let token = self.valid_token().await?;
        let url = format!("{}/api/documents/{document}/text?root=text", self.base);
        let request = self.http.put(url).bearer_auth(token);
        let request = request.header("content-type", "text/plain; charset=utf-8");
        send("writing a text", request.body(text.to_owned())).await?;
        Ok(())
    }

    /// What a search finds: path and symbol of each piece, best first.
    pub(crate) async fn search(
        &self,
        project: &str,
        words: &str,
        limit: u32,
    ) -> Result<Vec<(String, Option<String>)>> {
        let token = self.valid_token().await?;
        let mut url = self.of_project(project, "search")?;
        url.query_pairs_mut()
            .append_pair("q", words)
            .append_pair("limit", &limit.to_string());
        let answer = send("searching", self.http.get(url).bearer_auth(token)).await?;
        let found: Pieces = answer.json().await?;
        let pieces = found.items.into_iter();
        Ok(pieces.map(|piece| (piece.path, piece.symbol)).collect())
    }

    /// What a project defines: path and symbol of each definition.
    pub(crate) async fn outline(&self, project: &str) -> Result<Vec<(String, String)>> {
        let token = self.valid_token().await?;
        let url = self.of_project(project, "outline")?;
        let answer = send("reading an outline", self.http.get(url).bearer_auth(token)).await?;
        let found: Pieces = answer.json().await?;
        let pieces = found.items.into_iter();
        Ok(pieces
            .filter_map(|piece| Some((piece.path, piece.symbol?)))
            .collect())
    }

    fn of_project(&self, project: &str, what: &str) -> Result<reqwest::Url> {
        let url = format!("{}/api/projects/{project}/{what}", self.base);
        url.parse()
            .map_err(|error| Error::Argument(format!("{url}: {error}")))
    }

    /// Deletes a document.
    pub(crate) async fn delete_document(&self, document: &str) -> Result<()> {
        let token = self.valid_token().await?;
        let url = format!("{}/api/documents/{document}", self.base);
        send(
            "deleting a document",
            self.http.delete(url).bearer_auth(token),
        )
        .await?;
        Ok(())
    }
}

async fn log_in(http: &Client, base: &str, user: &str, password: &str) -> Result<Login> {
    let url = format!("{base}/api/auth/login");
    let body = json!({ "login": user, "password": password });
    let answer = send("login", http.post(url).json(&body)).await?;
    Ok(answer.json().await?)
}

/// Sends a request; anything but success becomes an error that quotes the problem document.
async fn send(what: &str, request: RequestBuilder) -> Result<Response> {
    let answer = request.send().await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()))
        .unwrap_or_else(|| body.chars().take(200).collect());
    Err(Error::Refused {
        what: what.to_owned(),
        answer: format!("{status}: {detail}"),
    })
}

//! `tandem mcp`: the protocol on stdin and stdout, for clients that start their servers themselves.
//!
//! A client of a running hub: it hands each message on to `POST /mcp` and writes down what comes back, byte for byte.
//! Owns the session's id and the version that were agreed on. Never writes anything but protocol to stdout, and
//! knows no tool. Ends when stdin does, once what is under way is answered.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Longest message, bytes, either way.
const MESSAGE: usize = 16 << 20;
/// Most requests under way at once.
const AT_ONCE: usize = 16;
/// Messages that may wait to be written.
const WAITING: usize = 64;
/// How long a request may take; the hub's own limit is shorter.
const REQUEST: Duration = Duration::from_secs(300);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// For how long answers are waited for when stdin has ended.
const LAST: Duration = Duration::from_secs(30);
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// JSON-RPC: not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: the server's own errors begin here.
const SERVER_ERROR: i32 = -32000;

/// Where the access token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// It was given.
    Given(String),
    /// It stands in this file, now this one and then another.
    File(PathBuf),
}

impl Token {
    async fn read(&self) -> Result<String, String> {
        match self {
            Self::Given(token) => Ok(token.clone()),
            Self::File(file) => {
                let token = tokio::fs::read_to_string(file).await;
                let token = token.map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(token.trim().to_owned())
            }
        }
    }
}

/// Serves until stdin ends.
///
/// # Errors
/// In words: the address is none, there is no token, or stdout can't be written to.
pub async fn run(url: &str, token: Token) -> Result<(), String> {
    let hub = Hub::new(url, token)?;
    hub.token.read().await?;
    serve(Arc::new(hub), tokio::io::stdin(), tokio::io::stdout()).await
}

/// What a message says of itself.
#[derive(Deserialize)]
struct Head {
    id: Option<Value>,
    method: Option<String>,
}

/// The hub, and what was agreed on with it.
struct Hub {
    client: Client,
    url: Url,
    token: Token,
    /// Headers of the session, once there is one.
    agreed: Mutex<HeaderMap>,
}

impl Hub {
    fn new(url: &str, token: Token) -> Result<Self, String> {
        let base = format!("{}{}", url.trim_end_matches('/'), super::PATH);
        let url: Url = base.parse().map_err(|error| format!("{base}: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{base}: is no http or https address"));
        }
        let builder = Client::builder().connect_timeout(CONNECT).timeout(REQUEST);
        // A proxy does not reach this machine.
        let is_near = url
            .host_str()
            .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
        let builder = match is_near {
            true => builder.no_proxy(),
            false => builder,
        };
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            url,
            token,
            agreed: Mutex::default(),
        })
    }

    fn agreed(&self) -> HeaderMap {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.clone()
    }

    /// Hands a message on, and what comes back to `out`.
    async fn hand_on(&self, message: Bytes, head: &Head, out: &mpsc::Sender<Bytes>) {
        let Err(why) = self.try_hand_on(message, head, out).await else {
            return;
        };
        eprintln!("tandem mcp: {why}");
        // Whoever waits for an answer is told as well.
        if let (Some(id), Some(_)) = (&head.id, &head.method) {
            let _ = out.send(error(id, SERVER_ERROR, &why)).await;
        }
    }

    async fn try_hand_on(
        &self,
        message: Bytes,
        head: &Head,
        out: &mpsc::Sender<Bytes>,
    ) -> Result<(), String> {
        let request = self
            .client
            .post(self.url.clone())
            .bearer_auth(self.token.read().await?)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .headers(self.agreed())
            .body(message);
        let answer = request.send().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            format!("the hub at {} can't be reached: {cause}", self.url)
        })?;
        let status = answer.status();
        let session = answer.headers().get(SESSION).cloned();
        let kind = answer.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (is_json, is_stream) = (
            kind.starts_with("application/json"),
            kind.starts_with("text/event-stream"),
        );
        if is_stream && status.is_success() {
            return events(answer, out).await;
        }
        let body = whole(answer).await?;
        if is_json && (status.is_success() || is_message(&body)) {
            if head.method.as_deref() == Some("initialize") {
                self.agree(session, &body);
            }
            // Who reads them may have gone.
            let _ = out.send(one_line(&body)).await;
            return Ok(());
        }
        match status.is_success() {
            true => Ok(()),
            false => Err(refused(status, &body)),
        }
    }

    /// Keeps what `initialize` was answered with: every message after it says so.
    fn agree(&self, session: Option<HeaderValue>, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let version = answer["result"]["protocolVersion"].as_str();
        let version = version.and_then(|version| HeaderValue::from_str(version).ok());
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.clear();
        agreed.extend(
            [(SESSION, session), (VERSION, version)]
                .into_iter()
                .filter_map(|(name, value)| value.map(|value| (name, value))),
        );
    }
}

fn is_message(body: &[u8]) -> bool {
    let message: Result<Value, _> = serde_json::from_slice(body);
    message.is_ok_and(|message| message["jsonrpc"].is_string())
}

/// What a refusal of the hub says.
fn refused(status: StatusCode, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = problem["detail"].as_str().map(str::to_owned);
    let words = words.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        text.chars().take(200).collect()
    });
    match status {
        StatusCode::UNAUTHORIZED => format!("the hub refuses the access token: {words}"),
        StatusCode::NOT_FOUND => format!("the hub says {status}: {words} (is mcp.enabled on?)"),
        _ => format!("the hub says {status}: {words}"),
    }
}

fn error(id: &Value, code: i32, message: &str) -> Bytes {
    let error =
        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    error.to_string().into()
}

/// JSON on one line: a line break in it stands between its parts, never within one.
fn one_line(json: &[u8]) -> Bytes {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let line = json
        .iter()
        .map(|byte| if is_break(byte) { b' ' } else { *byte });
    line.collect::<Vec<u8>>().into()
}

async fn whole(answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| format!("the hub's answer broke off: {error}"))?;
        if body.len() + chunk.len() > MESSAGE {
            return Err("the hub's answer is over the limit".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Writes down the messages of an event stream as they come.
async fn events(answer: Response, out: &mpsc::Sender<Bytes>) -> Result<(), String> {
    let mut lines = Lines::default();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| format!("the hub's answer broke off: {error}"))?;
        for message in lines.take(&chunk)? {
            let _ = out.send(message).await;
        }
    }
    Ok(())
}

/// The data of an event stream.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Lines {
    /// The messages that are whole with these bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, String> {
        let mut messages = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > MESSAGE {
                    return Err("a message of the hub is over the limit".to_owned());
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    messages.push(one_line(&data));
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                self.data.extend_from_slice(data);
                self.data.push(b' ');
            }
        }
        Ok(messages)
    }
}

async fn serve(
    hub: Arc<Hub>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), String> {
    let (out, waiting) = mpsc::channel(WAITING);
    let writer = tokio::spawn(write(waiting, output));
    let read = read(&hub, input, &out).await;
    drop(out);
    let written = writer.await.map_err(|error| error.to_string())?;
    read.and(written)
}

/// Reads messages and hands them on: `initialize` by itself, as all others rest on it, the rest side by side.
async fn read(
    hub: &Arc<Hub>,
    input: impl AsyncRead + Unpin,
    out: &mpsc::Sender<Bytes>,
) -> Result<(), String> {
    let mut input = BufReader::new(input);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    while !out.is_closed() {
        let mut line = Vec::new();
        let mut bounded = (&mut input).take(MESSAGE as u64 + 1);
        let read = tokio::select! {
            read = bounded.read_until(b'\n', &mut line) => read,
            () = out.closed() => break,
        };
        if read.map_err(|error| format!("stdin: {error}"))? == 0 {
            break;
        }
        if line.len() > MESSAGE {
            return Err(format!("a message has more than {MESSAGE} bytes"));
        }
        let message = Bytes::from(line);
        if message.trim_ascii().is_empty() {
            continue;
        }
        let Ok(head) = serde_json::from_slice::<Head>(&message) else {
            let _ = out
                .send(error(&Value::Null, PARSE_ERROR, "not a message"))
                .await;
            continue;
        };
        if head.method.as_deref() == Some("initialize") {
            hub.hand_on(message, &head, out).await;
            continue;
        }
        // It is never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        let (hub, out) = (Arc::clone(hub), out.clone());
        under_way.spawn(async move {
            hub.hand_on(message, &head, &out).await;
            drop(place);
        });
        while under_way.try_join_next().is_some() {}
    }
    let rest = async { while under_way.join_next().await.is_some() {} };
    match tokio::time::timeout(LAST, rest).await {
        Ok(()) => Ok(()),
        Err(_) => Err("the hub did not answer in time".to_owned()),
    }
}

async fn write(
    mut waiting: mpsc::Receiver<Bytes>,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), String> {
    while let Some(message) = waiting.recv().await {
        let written = async {
            output.write_all(&message).await?;
            output.write_all(b"\n").await?;
            output.flush().await
        };
        written.await.map_err(|error| format!("stdout: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

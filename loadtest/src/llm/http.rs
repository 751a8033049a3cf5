//! One connection: requests read whole, answers written as HTTP/1.1 with every byte where the script wants it.
//!
//! Knows of HTTP what clients of such an API use: a length or nothing, no upgrade, no trailers.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::script::Refusal;

/// Longest head.
const HEAD: usize = 64 * 1024;
/// Longest body.
const BODY: usize = 64 * 1024 * 1024;

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    have: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            have: Vec::new(),
        }
    }

    /// The next request; none once the client has closed.
    pub(super) async fn request(&mut self) -> io::Result<Option<Asked>> {
        let end = loop {
            if let Some(at) = self.have.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.have.len() > HEAD {
                return Err(io::Error::other("a head without end"));
            }
            if self.stream.read_buf(&mut self.have).await? == 0 {
                return Ok(None);
            }
        };
        let mut asked = head(&String::from_utf8_lossy(&self.have[..end]));
        self.have.drain(..end + 4);
        let length = asked.headers.get("content-length");
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if length > BODY {
            return Err(io::Error::other("too large a body"));
        }
        while self.have.len() < length {
            if self.stream.read_buf(&mut self.have).await? == 0 {
                return Ok(None);
            }
        }
        asked.body = self.have.drain(..length).collect();
        Ok(Some(asked))
    }

    /// Waits; an error as soon as the client is gone.
    pub(super) async fn pause(&mut self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + time;
        let mut byte = [0];
        match tokio::time::timeout_at(until, self.stream.peek(&mut byte)).await {
            Ok(Ok(0)) => Err(io::ErrorKind::BrokenPipe.into()),
            // It sends ahead: whether it is still there, writing will tell.
            Ok(Ok(_)) => {
                tokio::time::sleep_until(until).await;
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// A whole answer.
    pub(super) async fn whole(&mut self, status: u16, extra: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{extra}\r\n",
            reason(status),
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await
    }

    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        let after = refusal.retry_after.iter();
        let mut lines: Vec<String> = after.map(|after| format!("retry-after: {after}")).collect();
        lines.extend(refusal.headers.iter().cloned());
        let extra: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.whole(refusal.status, &extra, refusal.body.as_bytes())
            .await
    }

    /// Begins a stream of events.
    pub(super) async fn begin(&mut self) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await
    }

    /// Writes bytes of a stream, in pieces of that many.
    pub(super) async fn write(&mut self, bytes: &[u8], pieces: Option<usize>) -> io::Result<()> {
        for piece in bytes.chunks(pieces.unwrap_or(bytes.len()).max(1)) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            self.stream.write_all(&chunk).await?;
        }
        Ok(())
    }

    /// Ends a stream.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n").await
    }
}

fn head(text: &str) -> Asked {
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    Asked {
        method: word(),
        path: word(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

//! Requests over kept connections, timed: a client so thin that what it measures is the other side.
//!
//! Reads answers with a `Content-Length` only, which is what the bare service sends and the gateway passes
//! on. Never follows, retries or tidies anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::report::histogram;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a head, if it is whole.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// The length that a head announces.
pub(super) fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

fn status(head: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Where requests go, and what is sent.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) path: &'static str,
    /// For the gateway.
    pub(super) token: Option<String>,
}

impl Way {
    fn request(&self, address: SocketAddr) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nhost: {address}\r\n", self.path);
        if let Some(token) = &self.token {
            text.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// What a round found.
#[derive(Debug)]
pub(super) struct Round {
    /// Of the answers with 200.
    pub(super) times: Histogram<u64>,
    pub(super) took: Duration,
    /// Answers with another status, and connections that were cut.
    pub(super) failed: u64,
    /// The first of those.
    pub(super) first: Option<String>,
}

impl Round {
    /// Answers with 200 in a second.
    pub(super) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }
}

/// Sends so many requests, as many at a time as `concurrency` says. `done` counts those that have ended.
pub(super) async fn round(
    way: &Way,
    requests: usize,
    concurrency: usize,
    done: &Arc<AtomicUsize>,
) -> Result<Round> {
    let left = Arc::new(AtomicUsize::new(requests));
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..concurrency {
        let address = way.addresses[lane % way.addresses.len()];
        let (request, left, done) = (way.request(address), Arc::clone(&left), Arc::clone(done));
        lanes.spawn(async move { run_lane(address, &request, &left, &done).await });
    }
    let mut found = Round {
        times: histogram(),
        took: Duration::ZERO,
        failed: 0,
        first: None,
    };
    while let Some(lane) = lanes.join_next().await {
        let lane = lane.map_err(|error| Error::Server(format!("a lane failed: {error}")))??;
        let added = found.times.add(&lane.times);
        added.map_err(|error| Error::Argument(error.to_string()))?;
        found.failed += lane.failed;
        found.first = found.first.or(lane.first);
    }
    found.took = began.elapsed();
    Ok(found)
}

async fn run_lane(
    address: SocketAddr,
    request: &[u8],
    left: &AtomicUsize,
    done: &AtomicUsize,
) -> Result<Round> {
    let mut found = Round {
        times: histogram(),
        took: Duration::ZERO,
        failed: 0,
        first: None,
    };
    let mut connection = None;
    let take = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let stream = match &mut connection {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await;
                let stream = stream.map_err(Error::io("connecting"))?;
                stream.set_nodelay(true).map_err(Error::io("connecting"))?;
                connection.insert(stream)
            }
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, ask(stream, request)).await;
        let why = match answer {
            Ok(Ok((200, _))) => {
                found
                    .times
                    .saturating_record(began.elapsed().as_micros() as u64);
                None
            }
            Ok(Ok((status, body))) => Some(format!("{status}: {body}")),
            Ok(Err(error)) => {
                connection = None;
                Some(format!("cut: {error}"))
            }
            Err(_) => {
                connection = None;
                Some(format!("no answer in {PATIENCE:?}"))
            }
        };
        if let Some(why) = why {
            found.failed += 1;
            found.first.get_or_insert(why);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(found)
}

/// Sends a request and reads the whole answer: its status, and the body if it is not 200.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<(u16, String)> {
    stream.write_all(request).await?;
    let mut have = Vec::with_capacity(2048);
    let mut scratch = [0; 4096];
    let odd = || std::io::Error::other("an answer without status or length");
    loop {
        let read = stream.read(&mut scratch).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        have.extend_from_slice(&scratch[..read]);
        let Some(end) = head_end(&have) else {
            continue;
        };
        let length = content_length(&have[..end]).ok_or_else(odd)?;
        if have.len() < end + length {
            continue;
        }
        let status = status(&have[..end]).ok_or_else(odd)?;
        let body = match status {
            200 => String::new(),
            _ => String::from_utf8_lossy(&have[end..]).into_owned(),
        };
        return Ok((status, body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 12\r\nx: y\r\n\r\nbody";
        let end = head_end(head).unwrap();
        assert_eq!(&head[end..], b"body");
        assert_eq!(content_length(&head[..end]), Some(12));
        assert_eq!(status(&head[..end]), Some(503));
        assert_eq!(head_end(b"HTTP/1.1 200 OK\r\n"), None);
    }
}

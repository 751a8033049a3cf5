//! What clients of an OpenAI-compatible provider share: the request with its key, what a refusal means, and how
//! often and after what time it is asked again.
//!
//! Owns the HTTP client and its bounds. The key leaves only in the header: no error and no log line has it. Never
//! knows what is asked for.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use backplane::backoff::Backoff;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::AiError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of a refusal's body that are read.
const REFUSAL_BYTES: usize = 64 * 1024;
/// Longest reason, characters.
const REASON_CHARS: usize = 300;
/// The wait after a first failure, and the longest one that nobody asked for.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(20);

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The same will be refused again.
    Refused { status: StatusCode, reason: String },
    /// Too much at present.
    Overloaded { after: Option<Duration> },
    /// It can't be reached, or fails.
    Unavailable {
        reason: String,
        after: Option<Duration>,
    },
}

impl Failure {
    /// As callers get it.
    pub(crate) fn into_error(self) -> AiError {
        match self {
            Self::Refused { reason, .. } => AiError::Refused { reason },
            Self::Overloaded { after } => AiError::Overloaded { retry_after: after },
            Self::Unavailable { reason, .. } => AiError::Unavailable { reason },
        }
    }

    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            after: None,
        }
    }
}

/// A path of a provider's API.
pub(crate) struct Provider {
    http: Client,
    url: Url,
    key: Option<String>,
}

impl Provider {
    /// The path below an API's address, asked with that key.
    ///
    /// # Errors
    /// [`AiError::Refused`]: the address or the key can't be used. [`AiError::Unavailable`]: the certificate
    /// authorities of this machine can't be had.
    pub(crate) fn new(base: &str, path: &str, key: Option<&str>) -> Result<Self, AiError> {
        let refused = |reason: &str| AiError::Refused {
            reason: reason.to_owned(),
        };
        let url = format!("{}/{path}", base.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| refused("its address is none"))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let value = HeaderValue::try_from(format!("Bearer {key}"));
            let mut value = value.map_err(|_| refused("the key can't be sent in a header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // The key is for this address alone: a redirect would carry it elsewhere.
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .default_headers(headers)
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| AiError::Unavailable {
                reason: chain(error),
            })?;
        Ok(Self {
            http,
            url,
            key: key.map(str::to_owned),
        })
    }

    /// Sends a request; its answer once that has begun well, within that time.
    pub(crate) async fn post(&self, body: &Value, within: Duration) -> Result<Response, Failure> {
        let sent = self.http.post(self.url.clone()).json(body).send();
        let answer = match tokio::time::timeout(within, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Failure::unavailable(self.cut(&chain(error)))),
            Err(_) => return Err(Failure::unavailable(format!("no answer in {within:?}"))),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let after = retry_after(answer.headers(), SystemTime::now());
        if status.is_redirection() {
            let to = answer.headers().get(LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let reason = self.cut(&format!("it redirects to {to}; that is not followed"));
            return Err(Failure::Refused { status, reason });
        }
        let body = tokio::time::timeout(within, beginning(answer)).await;
        Err(self.refusal(status, after, &body.unwrap_or_default()))
    }

    /// What a status and its body mean.
    fn refusal(&self, status: StatusCode, after: Option<Duration>, body: &[u8]) -> Failure {
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let reason = match message(&json) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(body).into_owned(),
        };
        let reason = match self.cut(&reason) {
            reason if reason.is_empty() => status.to_string(),
            reason => format!("{}: {reason}", status.as_u16()),
        };
        // What is paid for is used up: no waiting helps.
        let is_spent = json["error"]["code"] == "insufficient_quota";
        match status.as_u16() {
            429 if is_spent => Failure::Refused { status, reason },
            429 | 503 | 529 => Failure::Overloaded { after },
            408 | 409 | 425 | 500.. => Failure::Unavailable { reason, after },
            _ => Failure::Refused { status, reason },
        }
    }

    /// A provider's words as one line of bounded length, without the key.
    pub(crate) fn cut(&self, text: &str) -> String {
        let hidden = match &self.key {
            Some(key) if !key.is_empty() => text.replace(key, "…"),
            _ => text.to_owned(),
        };
        let line = hidden.lines().map(str::trim).find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        let seen = line.chars().filter(|c| !c.is_control());
        seen.take(REASON_CHARS).collect()
    }
}

/// The message of an error object: OpenAI's, or one of those that others have.
pub(crate) fn message(json: &Value) -> Option<&str> {
    let error = &json["error"];
    let found = error["message"].as_str().or_else(|| error.as_str());
    found.or_else(|| json["message"].as_str())
}

/// The first bytes of a refusal's body, as many as came.
async fn beginning(mut answer: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = REFUSAL_BYTES - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if bytes.len() == REFUSAL_BYTES {
            break;
        }
    }
    bytes
}

/// A body of at most so many bytes; why it can't be had.
pub(crate) async fn whole(mut answer: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(chain)? {
        if bytes.len() + chunk.len() > most {
            return Err(format!("it has over {most} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Whether an answer is JSON by its own word.
pub(super) fn is_json(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// An error with its causes, without the address.
pub(crate) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// After how long one may ask again, by the header (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // A date that has passed asks for no wait.
    Some(date.duration_since(now).unwrap_or_default())
}

/// How often something may still be tried again.
pub(crate) struct Tries {
    left: u32,
    backoff: Backoff,
    /// No wait goes beyond it.
    until: Option<Instant>,
}

impl Tries {
    /// So many, in that time from now.
    pub(crate) fn new(retries: u32, within: Duration) -> Self {
        Self {
            left: retries,
            backoff: Backoff::new(RETRY_FIRST, RETRY_MOST),
            until: Instant::now().checked_add(within),
        }
    }

    /// Takes one and waits, at least for `after`; `false`: there is none left, or no time.
    pub(crate) async fn again(&mut self, after: Option<Duration>) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        // Those who are told the same time do not all come at that moment.
        let delay = after
            .unwrap_or_default()
            .saturating_add(self.backoff.delay());
        let Some(at) = Instant::now().checked_add(delay) else {
            return false;
        };
        if self.until.is_some_and(|until| at >= until) {
            return false;
        }
        tokio::time::sleep_until(at).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_is_seconds_or_a_date() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(
                &headers,
                SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            )
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        let date = "Sun, 06 Nov 1994 08:49:47 GMT";
        assert_eq!(read(date), Some(Duration::from_secs(10)));
        let passed = "Sun, 06 Nov 1994 08:49:00 GMT";
        assert_eq!(read(passed), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }

    #[test]
    fn reasons_are_a_line_without_the_key() {
        let provider = Provider::new("http://127.0.0.1:1/v1", "x", Some("sk-secret")).unwrap();
        let cut = provider.cut("\n  wrong key sk-secret\x07 given\nmore");
        assert_eq!(cut, "wrong key … given");
        assert_eq!(
            provider.cut(&"ü".repeat(1000)).chars().count(),
            REASON_CHARS
        );
        let key = format!("{}sk-secret", "x".repeat(REASON_CHARS - 4));
        assert!(!provider.cut(&key).contains("sk-"));
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        let provider = Provider::new("http://127.0.0.1:1/v1/", "x", None).unwrap();
        assert_eq!(provider.url.path(), "/v1/x");
        let of = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            provider.refusal(status, None, body.as_bytes()).into_error()
        };
        let refused = |reason: &str| AiError::Refused {
            reason: reason.to_owned(),
        };
        assert_eq!(of(401, r#"{"error":{"message":"no"}}"#), refused("401: no"));
        assert_eq!(of(404, r#"{"error":"gone"}"#), refused("404: gone"));
        assert_eq!(of(422, "<html>\n"), refused("422: <html>"));
        assert_eq!(of(400, ""), refused("400 Bad Request"));
        let spent = r#"{"error":{"message":"paid up","code":"insufficient_quota"}}"#;
        assert_eq!(of(429, spent), refused("429: paid up"));
        for status in [429, 503] {
            assert_eq!(of(status, "x"), AiError::Overloaded { retry_after: None });
        }
        for status in [408, 500, 502, 504] {
            assert!(matches!(of(status, "x"), AiError::Unavailable { .. }));
        }
    }

    #[test]
    fn what_can_not_be_sent_is_refused() {
        for (base, key) in [("nowhere", None), ("http://127.0.0.1:1", Some("a\nb"))] {
            let made = Provider::new(base, "x", key);
            assert!(
                matches!(made.err(), Some(AiError::Refused { .. })),
                "{base}"
            );
        }
    }
}

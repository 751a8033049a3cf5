//! How a request is answered: well by default, and each way of failing that real providers have.

use std::time::Duration;

use serde_json::json;

use super::http::Asked;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The `Retry-After` header: seconds, or a date.
    pub retry_after: Option<String>,
    /// Further headers, as whole lines without their ends.
    pub headers: Vec<String>,
    /// The body.
    pub body: String,
}

impl Refusal {
    /// A refusal with a body as OpenAI's.
    #[must_use]
    pub fn new(status: u16, message: &str) -> Self {
        let (kind, code) = match status {
            401 => ("invalid_request_error", "invalid_api_key"),
            429 => ("requests", "rate_limit_exceeded"),
            500.. => ("server_error", "server_error"),
            _ => ("invalid_request_error", "invalid_request"),
        };
        let body = json!({ "error": {
            "message": message, "type": kind, "param": null, "code": code,
        } });
        Self {
            status,
            retry_after: None,
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// The same, with `Retry-After`.
    #[must_use]
    pub fn after(mut self, retry_after: impl Into<String>) -> Self {
        self.retry_after = Some(retry_after.into());
        self
    }
}

/// How a stream ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Break {
    /// The connection is closed.
    Cut,
    /// The body ends as if all were said.
    Stop,
    /// A chunk comes that is no JSON.
    Malformed,
    /// An `error` object comes in a chunk's place.
    Error {
        /// What it says.
        message: String,
        /// Its type.
        kind: String,
    },
    /// A line comes that never ends; so many bytes of it.
    Endless(usize),
}

/// Why a stream says that it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Finish {
    /// The model was done.
    #[default]
    Stop,
    /// It had reached the most tokens.
    Length,
    /// A filter stopped it.
    Filter,
    /// It says nothing of it.
    Unsaid,
}

impl Finish {
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some("stop"),
            Self::Length => Some("length"),
            Self::Filter => Some("content_filter"),
            Self::Unsaid => None,
        }
    }
}

/// What is wrong with vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// One is missing.
    Missing,
    /// One has fewer numbers than the others.
    Short,
    /// One is all zero.
    Zero,
    /// One has a number that no `f32` can hold.
    Huge,
    /// Two have the same index.
    Twice,
    /// The answer is no JSON.
    Malformed,
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Nothing is answered for that long.
    pub delay: Duration,
    /// It is refused.
    pub refusal: Option<Refusal>,
    /// It is refused with 400 if its body has one of these fields.
    pub unknown: Vec<&'static str>,
    /// What is said; without it a plan that is made of the request.
    pub text: Option<String>,
    /// Words of each step of such a plan, each with a mark by which it is known again; 0: none, but a sentence.
    pub marked: u32,
    /// How long each token takes.
    pub pace: Duration,
    /// Before that token nothing comes for that long.
    pub silence: Option<(usize, Duration)>,
    /// In place of that token the stream breaks.
    pub breaks: Option<(usize, Break)>,
    /// The stream comes in pieces of so many bytes, wherever they cut it.
    pub pieces: Option<usize>,
    /// It is said whole, though a stream was asked for.
    pub whole: bool,
    /// Lines end with CR and LF.
    pub crlf: bool,
    /// Comments and fields that nobody knows come between the chunks.
    pub comments: bool,
    /// Why it ends.
    pub finish: Finish,
    /// Whether it tells what it took if asked to.
    pub usage: bool,
    /// Whether it ends with `[DONE]`.
    pub done: bool,
    /// What is wrong with the vectors.
    pub flaw: Option<Flaw>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            refusal: None,
            unknown: Vec::new(),
            text: None,
            marked: 0,
            pace: Duration::ZERO,
            silence: None,
            breaks: None,
            pieces: None,
            whole: false,
            crlf: false,
            comments: false,
            finish: Finish::Stop,
            usage: true,
            done: true,
            flaw: None,
        }
    }
}

impl Behaviour {
    /// Says a text.
    #[must_use]
    pub fn says(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..Self::default()
        }
    }

    /// Refuses.
    #[must_use]
    pub fn refuses(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    /// Says a text whose stream breaks in place of a token.
    #[must_use]
    pub fn breaks(text: &str, token: usize, how: Break) -> Self {
        Self {
            breaks: Some((token, how)),
            ..Self::says(text)
        }
    }

    /// Makes vectors with a flaw.
    #[must_use]
    pub fn flawed(flaw: Flaw) -> Self {
        Self {
            flaw: Some(flaw),
            ..Self::default()
        }
    }

    /// How a request is refused, if it is.
    pub(super) fn refusal_of(&self, asked: &Asked) -> Option<Refusal> {
        if self.refusal.is_some() {
            return self.refusal.clone();
        }
        let body = asked.json();
        let field = self.unknown.iter().find(|field| !body[**field].is_null())?;
        let message = format!("Unrecognized request argument supplied: {field}");
        Some(Refusal::new(400, &message))
    }
}

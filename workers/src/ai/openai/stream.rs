//! One answer as it comes: chunks of a stream, or a whole one from a provider that does not stream.
//!
//! Owns what a chunk is, and when an answer is whole. Never asks for another.

use std::time::Duration;

use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;

use super::super::provider::{Failure, Provider, chain, message, whole};
use super::super::sse::Events;
use super::super::{Answer, Chat, Listen};
use super::tally::Tally;

/// Most bytes of one event.
const EVENT_BYTES: usize = 1024 * 1024;
/// Most bytes of an answer for each token that it may have, and in all.
const TOKEN_BYTES: usize = 64;
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// What surrounds the text of an answer that comes whole.
const ENVELOPE_BYTES: usize = 1024 * 1024;
/// How long what comes after the answer's end, its figures, is waited for.
const EPILOGUE: Duration = Duration::from_secs(5);

/// Why there is no answer from one request.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It never began.
    Failed(Failure),
    /// It broke off; whether it may be had by asking again.
    Broke { reason: String, again: bool },
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn broke(reason: impl Into<String>) -> Trouble {
    Trouble::Broke {
        reason: reason.into(),
        again: true,
    }
}

fn lost(reason: impl Into<String>) -> Trouble {
    Trouble::Broke {
        reason: reason.into(),
        again: false,
    }
}

/// What of a chunk, or of a whole answer, is read.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    /// In a stream.
    delta: Option<Said>,
    /// In a whole answer.
    message: Option<Said>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// An answer that is being read.
pub(super) struct Reading<'a> {
    provider: &'a Provider,
    listen: &'a mut dyn Listen,
    tally: &'a mut Tally,
    /// Most bytes of text.
    most: usize,
    text: String,
    finish: Option<String>,
    done: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        provider: &'a Provider,
        chat: &Chat,
        listen: &'a mut dyn Listen,
        tally: &'a mut Tally,
    ) -> Self {
        let tokens = usize::try_from(chat.max_tokens).unwrap_or(usize::MAX);
        Self {
            provider,
            listen,
            tally,
            most: tokens.saturating_mul(TOKEN_BYTES).min(ANSWER_BYTES),
            text: String::new(),
            finish: None,
            done: false,
        }
    }

    /// Reads a stream to its end; `silence` is how long nothing may come.
    pub(super) async fn stream(
        mut self,
        mut answer: Response,
        silence: Duration,
    ) -> Result<Answer, Trouble> {
        let mut events = Events::new(EVENT_BYTES);
        loop {
            let patience = match self.finish {
                Some(_) => silence.min(EPILOGUE),
                None => silence,
            };
            match tokio::time::timeout(patience, answer.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    events.feed(&bytes).map_err(|e| lost(e.to_string()))?;
                    while let Some(data) = events.next() {
                        self.take(&data)?;
                    }
                }
                Ok(Ok(None)) => {
                    if let Some(data) = events.end() {
                        self.take(&data)?;
                    }
                    return self.over("the stream ended before the answer did");
                }
                Ok(Err(error)) => return self.over(&chain(error)),
                Err(_) => return self.over(&format!("nothing came for {patience:?}")),
            }
            if self.done {
                return Ok(self.made());
            }
        }
    }

    /// Reads an answer that comes in one piece.
    pub(super) async fn whole(
        mut self,
        answer: Response,
        silence: Duration,
    ) -> Result<Answer, Trouble> {
        let most = self.most.saturating_mul(2).saturating_add(ENVELOPE_BYTES);
        let body = tokio::time::timeout(silence, whole(answer, most)).await;
        let body = body.map_err(|_| broke(format!("no whole answer in {silence:?}")))?;
        self.take(&body.map_err(broke)?)?;
        self.over("the answer does not say that it is whole")
    }

    /// No more comes.
    fn over(self, why: &str) -> Result<Answer, Trouble> {
        // What a connection does after the answer's end is nobody's loss.
        if self.done || self.finish.is_some() {
            return Ok(self.made());
        }
        Err(broke(why))
    }

    fn made(self) -> Answer {
        Answer {
            text: self.text,
            tokens: self.tally.total(),
            cut_short: self.finish.as_deref() == Some("length"),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Trouble> {
        let data = data.trim_ascii();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(data)
            .map_err(|error| broke(format!("a part of it can't be read: {error}")))?;
        if let Some(error) = chunk.error {
            return Err(self.error(error));
        }
        if let Some(usage) = chunk.usage
            && let (Some(input), Some(output)) = (usage.prompt_tokens, usage.completion_tokens)
        {
            self.tally.told(input, output);
        }
        // One answer was asked for.
        match chunk.choices.into_iter().flatten().next() {
            Some(choice) => self.choice(choice),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: Choice) -> Result<(), Trouble> {
        let said = choice.delta.or(choice.message);
        if let Some(text) = said.and_then(|said| said.content)
            && !text.is_empty()
        {
            if self.text.len() + text.len() > self.most {
                return Err(lost(format!("it has over {} bytes", self.most)));
            }
            self.tally.said(text.len());
            self.text.push_str(&text);
            self.listen.text(&text);
        }
        match choice.finish_reason.as_deref() {
            Some("content_filter") => Err(lost("the provider's filter stopped it")),
            Some("error") => Err(broke("the provider failed while it answered")),
            Some(reason) => {
                self.finish = Some(reason.to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An error in the place of a chunk.
    fn error(&self, error: Value) -> Trouble {
        let kind = error["type"].as_str().unwrap_or_default();
        // The same request would meet the same error.
        let definite = matches!(
            kind,
            "invalid_request_error"
                | "authentication_error"
                | "permission_error"
                | "not_found_error"
                | "insufficient_quota"
        );
        let whole = serde_json::json!({ "error": error });
        let reason = message(&whole).unwrap_or("an error without a message");
        Trouble::Broke {
            reason: self.provider.cut(reason),
            again: !definite,
        }
    }
}

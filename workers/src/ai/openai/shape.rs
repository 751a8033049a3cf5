//! What a request has beyond the chat itself. Providers that call themselves compatible refuse some of it; this is
//! what is left out then, and in which order it is tried.

use serde_json::{Value, json};

use super::super::provider::Failure;
use super::super::{Chat, Speaker};

/// The options of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// `stream_options`: to be told what it took.
    usage: bool,
    /// `response_format`: to get JSON.
    json: bool,
    /// The limit is named `max_completion_tokens`, as newer models of OpenAI want it.
    completion: bool,
}

impl Shape {
    /// With everything.
    pub(super) const FULL: Self = Self {
        usage: true,
        json: true,
        completion: false,
    };

    /// What of it a chat needs.
    pub(super) fn of(self, chat: &Chat) -> Self {
        Self {
            json: self.json && chat.json,
            ..self
        }
    }

    /// What is tried after a refusal, if the options may be to blame; `first` is what was tried first. One that is
    /// named is left out; if none is, each of them, then both.
    pub(super) fn after(self, first: Self, failure: &Failure) -> Option<Self> {
        let Failure::Refused { status, reason } = failure else {
            return None;
        };
        if !matches!(status.as_u16(), 400 | 422) {
            return None;
        }
        let names = |words: [&str; 2]| words.iter().any(|word| reason.contains(word));
        if !self.completion && reason.contains("max_completion_tokens") {
            return Some(Self {
                completion: true,
                ..self
            });
        }
        if self.usage && names(["stream_options", "include_usage"]) {
            return Some(Self {
                usage: false,
                ..self
            });
        }
        if self.json && names(["response_format", "json_object"]) {
            return Some(Self {
                json: false,
                ..self
            });
        }
        let (usage, json) = match (self.usage, self.json) {
            (true, true) => (false, true),
            (false, true) if first.usage => (true, false),
            (false, true) | (true, false) => (false, false),
            (false, false) => return None,
        };
        Some(Self {
            usage,
            json,
            ..self
        })
    }

    /// The same without what `took` lacks that `first` had.
    pub(super) fn less(self, first: Self, took: Self) -> Self {
        Self {
            usage: self.usage && (took.usage || !first.usage),
            json: self.json && (took.json || !first.json),
            completion: self.completion || took.completion,
        }
    }

    /// The request.
    pub(super) fn body(self, model: &str, chat: &Chat) -> Value {
        let said = chat.messages.iter().map(|message| {
            let role = match message.by {
                Speaker::System => "system",
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            json!({ "role": role, "content": message.text })
        });
        let messages: Vec<Value> = said.collect();
        let mut body = json!({ "model": model, "messages": messages, "stream": true });
        let limit = if self.completion {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body[limit] = chat.max_tokens.into();
        if self.usage {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if self.json {
            body["response_format"] = json!({ "type": "json_object" });
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn refused(reason: &str) -> Failure {
        Failure::Refused {
            status: StatusCode::BAD_REQUEST,
            reason: reason.to_owned(),
        }
    }

    fn all(reason: &str) -> Vec<(bool, bool)> {
        let mut tried = vec![Shape::FULL];
        while let Some(next) = tried[tried.len() - 1].after(Shape::FULL, &refused(reason)) {
            tried.push(next);
        }
        tried
            .iter()
            .map(|shape| (shape.usage, shape.json))
            .collect()
    }

    #[test]
    fn a_named_option_goes_first_and_then_all() {
        let whole = [(true, true), (false, true), (true, false), (false, false)];
        assert_eq!(all("no"), whole);
        let json = [(true, true), (true, false), (false, false)];
        assert_eq!(all("unknown response_format"), json);
        assert!(all("stream_options")[1..].iter().any(|(usage, _)| !usage));
        assert_eq!(all("stream_options")[1], (false, true));
        let limit = Shape::FULL.after(Shape::FULL, &refused("use max_completion_tokens"));
        assert!(limit.is_some_and(|shape| shape.completion && shape.usage));
    }

    #[test]
    fn other_failures_are_not_the_options_fault() {
        let other = Failure::Refused {
            status: StatusCode::UNAUTHORIZED,
            reason: "stream_options".to_owned(),
        };
        assert_eq!(Shape::FULL.after(Shape::FULL, &other), None);
        let busy = Failure::Overloaded { after: None };
        assert_eq!(Shape::FULL.after(Shape::FULL, &busy), None);
    }

    #[test]
    fn what_a_chat_did_not_need_is_not_unlearned() {
        let first = Shape {
            json: false,
            ..Shape::FULL
        };
        let took = Shape {
            usage: false,
            ..first
        };
        let known = Shape::FULL.less(first, took);
        assert!(known.json && !known.usage);
    }
}

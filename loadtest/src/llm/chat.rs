//! `POST /v1/chat/completions`: the plan that is made of a request, cut into tokens, as a stream or whole.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::http::Connection;
use super::script::{Behaviour, Break};
use super::vectors::hash;
use super::{Shared, lock};

/// Words of a request that its plan's titles quote.
const QUOTED: usize = 6;
/// Fewest and most steps of a plan.
const STEPS: (u64, u64) = (3, 6);

/// A part of an answer that is written at once.
struct Token {
    text: String,
    mark: Option<u64>,
}

/// A plan, its fields in the order in which a model would write them.
#[derive(Serialize)]
struct Plan {
    summary: String,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    title: String,
    detail: String,
    files: Vec<String>,
    depends_on: Vec<u64>,
    minutes: u64,
}

/// The plan that is made of what a user asks for, as JSON. Each step's detail has so many words; `word` makes them.
#[must_use]
pub fn plan(request: &str, words: u32, mut word: impl FnMut() -> String) -> String {
    // What is asked for may have a heading.
    let lines = request.lines().skip_while(|line| line.ends_with(':'));
    let quoted: Vec<&str> = lines.flat_map(str::split_whitespace).take(QUOTED).collect();
    let quoted = quoted.join(" ");
    let count = STEPS.0 + hash(request.as_bytes()) % (STEPS.1 - STEPS.0 + 1);
    let steps = (0..count).map(|step| {
        let mut detail = format!("Work out part {} of “{quoted}”.", step + 1);
        for _ in 0..words {
            detail.push(' ');
            detail.push_str(&word());
        }
        Step {
            title: format!("Part {} of: {quoted}", step + 1),
            detail,
            files: Vec::new(),
            depends_on: step.checked_sub(1).into_iter().collect(),
            minutes: 15 * (step + 1),
        }
    });
    let plan = Plan {
        summary: format!("A plan in {count} steps for: {quoted}"),
        steps: steps.collect(),
    };
    serde_json::to_string(&plan).unwrap_or_default()
}

/// What the last user in a chat says.
fn request(body: &Value) -> String {
    let messages = body["messages"].as_array();
    let mut last = messages.into_iter().flatten().rev();
    let user = last.find(|message| message["role"] == "user");
    let text = user.and_then(|message| message["content"].as_str());
    text.unwrap_or_default().to_owned()
}

/// Cuts a text behind its spaces.
fn tokens(text: &str) -> Vec<Token> {
    let parts = text.split_inclusive(' ');
    parts
        .map(|part| Token {
            mark: mark(part.trim_end()),
            text: part.to_owned(),
        })
        .collect()
}

/// The number in a mark like `m17z`, wherever it stands in a word.
fn mark(word: &str) -> Option<u64> {
    let (_, rest) = word.split_once('m')?;
    rest.split_once('z')?.0.parse().ok()
}

/// How many tokens the model takes a text for.
fn weight(text: &str) -> usize {
    text.split_inclusive(' ').count()
}

fn usage(body: &Value, said: usize) -> Value {
    let messages = body["messages"].as_array();
    let given = messages.into_iter().flatten();
    let given = given.filter_map(|message| message["content"].as_str());
    let given: usize = given.map(weight).sum();
    json!({ "prompt_tokens": given, "completion_tokens": said, "total_tokens": given + said })
}

/// Answers; whether the connection may be used again.
pub(super) async fn answer(
    connection: &mut Connection,
    body: &Value,
    behaviour: &Behaviour,
    shared: &Shared,
) -> io::Result<bool> {
    let text = behaviour.text.clone().unwrap_or_else(|| {
        plan(&request(body), behaviour.marked, || {
            format!("m{}z", shared.marks.fetch_add(1, Ordering::Relaxed))
        })
    });
    let said = Said {
        body,
        behaviour,
        tokens: tokens(&text),
    };
    if body["stream"] == true && !behaviour.whole {
        return said.stream(connection, shared).await;
    }
    for _ in &said.tokens {
        connection.pause(behaviour.pace).await?;
    }
    let mut whole = said.chunk("message", &json!({ "role": "assistant", "content": text }));
    whole["object"] = "chat.completion".into();
    whole["choices"][0]["finish_reason"] = behaviour.finish.word().into();
    if behaviour.usage {
        whole["usage"] = usage(body, said.tokens.len());
    }
    let whole = whole.to_string();
    connection.whole(200, "", whole.as_bytes()).await?;
    Ok(true)
}

/// An answer that is being given.
struct Said<'a> {
    body: &'a Value,
    behaviour: &'a Behaviour,
    tokens: Vec<Token>,
}

impl Said<'_> {
    /// A chunk with one choice.
    fn chunk(&self, name: &str, what: &Value) -> Value {
        let mut chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": self.body["model"],
            "choices": [{ "index": 0, "finish_reason": null }],
        });
        chunk["choices"][0][name] = what.clone();
        chunk
    }

    async fn event(&self, connection: &mut Connection, data: &str) -> io::Result<()> {
        let mut event = format!("data: {data}\n\n");
        if self.behaviour.comments {
            event = format!(": ping\n\nid: 7\nevent: message\nretry: 10\n{event}: ping\n\n");
        }
        if self.behaviour.crlf {
            event = event.replace('\n', "\r\n");
        }
        connection
            .write(event.as_bytes(), self.behaviour.pieces)
            .await
    }

    async fn stream(&self, connection: &mut Connection, shared: &Shared) -> io::Result<bool> {
        let behaviour = self.behaviour;
        connection.begin().await?;
        let first = self.chunk("delta", &json!({ "role": "assistant", "content": "" }));
        self.event(connection, &first.to_string()).await?;
        for (at, token) in self.tokens.iter().enumerate() {
            if let Some((when, time)) = behaviour.silence
                && when == at
            {
                connection.pause(time).await?;
            }
            connection.pause(behaviour.pace).await?;
            if let Some((when, how)) = &behaviour.breaks
                && *when == at
            {
                return self.break_off(connection, how).await;
            }
            if let Some(mark) = token.mark {
                lock(&shared.written).insert(mark, Instant::now());
            }
            let chunk = self.chunk("delta", &json!({ "content": token.text }));
            self.event(connection, &chunk.to_string()).await?;
        }
        let mut last = self.chunk("delta", &json!({}));
        last["choices"][0]["finish_reason"] = behaviour.finish.word().into();
        self.event(connection, &last.to_string()).await?;
        if behaviour.usage && self.body["stream_options"]["include_usage"] == true {
            let mut told = self.chunk("delta", &json!({}));
            told["choices"] = json!([]);
            told["usage"] = usage(self.body, self.tokens.len());
            self.event(connection, &told.to_string()).await?;
        }
        if behaviour.done {
            self.event(connection, "[DONE]").await?;
        }
        connection.end().await?;
        Ok(true)
    }

    async fn break_off(&self, connection: &mut Connection, how: &Break) -> io::Result<bool> {
        match how {
            Break::Cut => return Ok(false),
            Break::Stop => {}
            Break::Malformed => self.event(connection, "{\"choices\":[{\"del").await?,
            Break::Error { message, kind } => {
                let error = json!({ "error": { "message": message, "type": kind } });
                self.event(connection, &error.to_string()).await?;
            }
            Break::Endless(bytes) => {
                let line = format!("data: {}", "x".repeat(*bytes));
                connection.write(line.as_bytes(), Some(16 * 1024)).await?;
            }
        }
        connection.end().await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_made_of_its_request() {
        let word = || "word".to_owned();
        let made = plan("The request:\nAdd a dark theme", 2, word);
        let read: Value = serde_json::from_str(&made).unwrap();
        let steps = read["steps"].as_array().unwrap();
        assert!((3..=6).contains(&steps.len()));
        assert_eq!(steps[0]["title"], "Part 1 of: Add a dark theme");
        assert!(
            steps[1]["detail"]
                .as_str()
                .unwrap()
                .ends_with(". word word")
        );
        assert_eq!(steps[1]["depends_on"], json!([0]));
        assert_eq!(made, plan("The request:\nAdd a dark theme", 2, word));
        assert_ne!(made, plan("Add a light theme", 2, word));
    }

    #[test]
    fn tokens_are_the_whole_text_and_know_their_marks() {
        let text = "Part 1: m0z m12z größer";
        let cut = tokens(text);
        let joined: String = cut.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(joined, text);
        let marks: Vec<_> = cut.iter().filter_map(|token| token.mark).collect();
        assert_eq!(marks, [0, 12]);
        assert_eq!(mark("m5z\",\"files\":[],"), Some(5));
        assert_eq!(mark("summary"), None);
    }
}

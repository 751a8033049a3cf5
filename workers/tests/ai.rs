//! The client of language models against a provider that fails in every way that real ones do.

#[path = "ai/faults.rs"]
mod faults;

use std::time::{Duration, Instant};

use futures::future::join_all;
use loadtest::llm::{Behaviour, Finish, Llm, Refusal};
use workers::ai::openai::{OpenAi, Options};
use workers::ai::{Answer, Chat, Listen, Message, Model, Speaker};

const KEY: &str = "sk-a-key-that-stays-here";
const MINUTE: Duration = Duration::from_secs(60);
const TEXT: &str = "Ein größerer Plan 🙂 kommt, in “Wörtern”.";

/// Keeps what it hears.
#[derive(Default)]
struct Ear {
    heard: String,
    anew: u32,
}

impl Listen for Ear {
    fn text(&mut self, more: &str) {
        assert!(!more.is_empty());
        self.heard.push_str(more);
    }

    fn anew(&mut self) {
        self.heard.clear();
        self.anew += 1;
    }
}

fn options(llm: &Llm) -> Options {
    Options {
        url: llm.url(),
        key: Some(KEY.to_owned()),
        model: "a-model".to_owned(),
        concurrency: 4,
        silence: Duration::from_secs(10),
        retries: 4,
    }
}

fn model(llm: &Llm) -> OpenAi {
    OpenAi::new(options(llm)).unwrap()
}

fn chat() -> Chat {
    let said = |by, text: &str| Message {
        by,
        text: text.to_owned(),
    };
    Chat {
        messages: vec![
            said(Speaker::System, "You make plans."),
            said(Speaker::User, "Add a dark theme"),
        ],
        max_tokens: 1000,
        json: true,
    }
}

/// Asks, and checks that what was heard is the answer.
async fn ask(model: &OpenAi) -> (Answer, u32) {
    let mut ear = Ear::default();
    let answer = model.ask(&chat(), MINUTE, &mut ear).await.unwrap();
    assert_eq!(ear.heard, answer.text);
    (answer, ear.anew)
}

#[tokio::test]
async fn an_answer_is_heard_as_it_comes_and_counted_by_the_provider() {
    let llm = Llm::start().await.unwrap();
    let model = model(&llm);
    let (answer, anew) = ask(&model).await;
    let plan: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
    assert!(plan["summary"].as_str().unwrap().contains("dark theme"));
    assert_eq!((anew, answer.cut_short), (0, false));
    let tokens = answer.tokens;
    assert_eq!((tokens.input, tokens.estimated), (7, false));
    assert_eq!(
        tokens.output as usize,
        answer.text.split_inclusive(' ').count()
    );

    let asked = llm.asked();
    let body = asked[0].json();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/v1/chat/completions");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(body["model"], "a-model");
    assert_eq!(body["max_tokens"], 1000);
    assert_eq!(body["messages"][0]["role"], "system");
    assert_eq!(body["messages"][1]["content"], "Add a dark theme");
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(body["response_format"]["type"], "json_object");
    assert_eq!(model.name(), "a-model");
}

#[tokio::test]
async fn a_text_may_be_cut_anywhere() {
    let llm = Llm::start().await.unwrap();
    let model = model(&llm);
    for pieces in [1, 2, 3, 5, 7, 64] {
        for (crlf, comments) in [(false, false), (true, false), (false, true), (true, true)] {
            llm.then([Behaviour {
                pieces: Some(pieces),
                crlf,
                comments,
                ..Behaviour::says(TEXT)
            }]);
            let (answer, anew) = ask(&model).await;
            assert_eq!((answer.text.as_str(), anew), (TEXT, 0), "{pieces} {crlf}");
            assert!(!answer.tokens.estimated);
        }
    }
}

#[tokio::test]
async fn what_the_provider_does_not_say_is_estimated() {
    let llm = Llm::start().await.unwrap();
    llm.then([Behaviour {
        usage: false,
        ..Behaviour::says("12345678 0")
    }]);
    let (answer, _) = ask(&model(&llm)).await;
    assert!(answer.tokens.estimated);
    // 31 bytes were given, and 10 came.
    assert_eq!((answer.tokens.input, answer.tokens.output), (8, 3));
}

#[tokio::test]
async fn an_answer_ends_in_more_than_one_way() {
    let llm = Llm::start().await.unwrap();
    let model = model(&llm);
    let said = Behaviour::says(TEXT);
    let length = Behaviour {
        finish: Finish::Length,
        ..said.clone()
    };
    let silent = Behaviour {
        done: false,
        ..said.clone()
    };
    let unsaid = Behaviour {
        finish: Finish::Unsaid,
        ..said.clone()
    };
    let whole = Behaviour {
        whole: true,
        ..said.clone()
    };
    llm.then([length, silent, unsaid, whole]);
    for cut_short in [true, false, false, false] {
        let (answer, anew) = ask(&model).await;
        assert_eq!(answer.text, TEXT);
        assert_eq!((answer.cut_short, anew), (cut_short, 0));
        assert!(!answer.tokens.estimated);
    }
    assert_eq!(llm.asked().len(), 4);
}

#[tokio::test]
async fn options_that_a_provider_does_not_know_are_left_out_from_then_on() {
    for unknown in [
        vec!["stream_options"],
        vec!["response_format"],
        vec!["stream_options", "response_format"],
        vec!["max_tokens"],
    ] {
        let llm = Llm::start().await.unwrap();
        let mut behaviour = Behaviour {
            unknown: unknown.clone(),
            ..Behaviour::says(TEXT)
        };
        if unknown == ["max_tokens"] {
            // In the words of who wants it.
            behaviour.unknown.clear();
            let reason = "'max_tokens' is not supported: use 'max_completion_tokens' instead.";
            llm.then([Behaviour::refuses(Refusal::new(400, reason))]);
        }
        llm.always(behaviour);
        let model = model(&llm);
        let (answer, _) = ask(&model).await;
        assert_eq!(answer.text, TEXT);
        assert_eq!(
            answer.tokens.estimated,
            unknown.contains(&"stream_options"),
            "{unknown:?}"
        );
        let before = llm.asked().len();
        ask(&model).await;
        let asked = llm.asked();
        assert_eq!(asked.len(), before + 1, "{unknown:?}");
        let body = asked[before].json();
        assert!(unknown.iter().all(|field| body[*field].is_null()));
    }
}

#[tokio::test]
async fn only_so_many_are_asked_at_once() {
    let llm = Llm::start().await.unwrap();
    llm.always(Behaviour {
        pace: Duration::from_millis(10),
        ..Behaviour::says(TEXT)
    });
    let model = OpenAi::new(Options {
        concurrency: 2,
        ..options(&llm)
    });
    let model = model.unwrap();
    let all = join_all((0..8).map(|_| ask(&model))).await;
    assert_eq!(all.len(), 8);
    assert_eq!(llm.most_at_once(), 2);
}

#[tokio::test]
async fn a_dropped_question_ends_the_connection() {
    let llm = Llm::start().await.unwrap();
    llm.always(Behaviour {
        pace: Duration::from_millis(20),
        ..Behaviour::says(&"word ".repeat(10_000))
    });
    let model = OpenAi::new(Options {
        concurrency: 1,
        ..options(&llm)
    });
    let model = model.unwrap();
    let mut ear = Ear::default();
    let chat = chat();
    let asking = model.ask(&chat, MINUTE, &mut ear);
    let dropped = tokio::time::timeout(Duration::from_millis(300), asking).await;
    assert!(dropped.is_err() && ear.heard.contains("word"));
    let since = Instant::now();
    while llm.left() == 0 {
        assert!(since.elapsed() < Duration::from_secs(5), "it reads on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its permit is free.
    llm.always(Behaviour::says(TEXT));
    assert_eq!(ask(&model).await.0.text, TEXT);
}

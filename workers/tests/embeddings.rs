//! The client of embedding models against a provider that shuffles, fails and errs.

use std::time::{Duration, Instant};

use loadtest::llm::{Behaviour, DIMENSIONS, Flaw, Llm, Refusal, vector};
use workers::ai::AiError;
use workers::embeddings::Embedder;
use workers::embeddings::openai::{OpenAiEmbedder, Options};

const KEY: &str = "sk-a-key-that-stays-here";

fn embedder(llm: &Llm, batch: usize) -> OpenAiEmbedder {
    let options = Options {
        url: llm.url(),
        key: Some(KEY.to_owned()),
        model: "vectors".to_owned(),
        batch,
        timeout: Duration::from_secs(10),
        retries: 3,
    };
    OpenAiEmbedder::new(options).unwrap()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text number {n}")).collect()
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts() {
    let llm = Llm::start().await.unwrap();
    let embedder = embedder(&llm, 4);
    let texts = texts(10);
    let made = embedder.embed(&texts).await.unwrap();
    assert_eq!(made.vectors.len(), texts.len());
    for (text, found) in texts.iter().zip(&made.vectors) {
        let raw = vector(text);
        let length = raw.iter().map(|n| n * n).sum::<f32>().sqrt();
        assert_eq!(found.len(), DIMENSIONS);
        for (found, raw) in found.iter().zip(&raw) {
            assert!((found - raw / length).abs() < 1e-6, "{text}");
        }
    }
    assert_eq!((made.tokens.input, made.tokens.output), (30, 0));
    assert!(!made.tokens.estimated);
    let asked = llm.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].path, "/v1/embeddings");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {KEY}"));
    let body = asked[2].json();
    assert_eq!(body["model"], "vectors");
    assert_eq!(body["input"].as_array().unwrap().len(), 2);
    assert_eq!(embedder.model(), "vectors");
}

#[tokio::test]
async fn no_texts_take_no_request() {
    let llm = Llm::start().await.unwrap();
    let made = embedder(&llm, 4).embed(&[]).await.unwrap();
    assert!(made.vectors.is_empty() && llm.asked().is_empty());
}

#[tokio::test]
async fn figures_that_are_not_told_are_estimated() {
    let llm = Llm::start().await.unwrap();
    llm.always(Behaviour {
        usage: false,
        ..Behaviour::default()
    });
    let made = embedder(&llm, 4).embed(&["12345".to_owned()]).await;
    let tokens = made.unwrap().tokens;
    assert_eq!((tokens.input, tokens.estimated), (2, true));
}

#[tokio::test]
async fn failures_are_tried_again() {
    let llm = Llm::start().await.unwrap();
    let overload = Refusal::new(429, "Rate limit reached").after("1");
    llm.then([
        Behaviour::refuses(overload),
        Behaviour::refuses(Refusal::new(500, "oops")),
        Behaviour::flawed(Flaw::Malformed),
    ]);
    let since = Instant::now();
    let made = embedder(&llm, 16).embed(&texts(3)).await.unwrap();
    assert_eq!(made.vectors.len(), 3);
    assert!(since.elapsed() >= Duration::from_secs(1));
    assert_eq!(llm.asked().len(), 4);

    llm.always(Behaviour::refuses(Refusal::new(500, "oops")));
    let error = embedder(&llm, 16).embed(&texts(3)).await.unwrap_err();
    let reason = "500: oops".to_owned();
    assert_eq!(error, AiError::Unavailable { reason });
    assert_eq!(llm.asked().len(), 8);
}

#[tokio::test]
async fn refusals_and_long_waits_are_told_at_once() {
    let llm = Llm::start().await.unwrap();
    let message = format!("no key like {KEY}");
    llm.then([Behaviour::refuses(Refusal::new(401, &message))]);
    let error = embedder(&llm, 16).embed(&texts(1)).await.unwrap_err();
    let reason = "401: no key like …".to_owned();
    assert_eq!(error, AiError::Refused { reason });

    let later = Refusal::new(429, "later").after("3600");
    llm.then([Behaviour::refuses(later)]);
    let error = embedder(&llm, 16).embed(&texts(1)).await.unwrap_err();
    let retry_after = Some(Duration::from_secs(3600));
    assert_eq!(error, AiError::Overloaded { retry_after });
    assert_eq!(llm.asked().len(), 2);
}

#[tokio::test]
async fn vectors_that_are_none_are_refused_and_counted() {
    let llm = Llm::start().await.unwrap();
    let embedder = embedder(&llm, 16);
    for flaw in [
        Flaw::Missing,
        Flaw::Short,
        Flaw::Zero,
        Flaw::Huge,
        Flaw::Twice,
    ] {
        let before = llm.asked().len();
        llm.then([Behaviour::flawed(flaw)]);
        match embedder.embed(&texts(5)).await {
            Err(AiError::Broken { tokens, .. }) => assert!(tokens.input > 0),
            other => panic!("{flaw:?}: {other:?}"),
        }
        assert_eq!(llm.asked().len(), before + 1, "{flaw:?}");
    }
}

#[tokio::test]
async fn a_request_has_its_time() {
    let llm = Llm::start().await.unwrap();
    llm.always(Behaviour {
        delay: Duration::from_secs(30),
        ..Behaviour::default()
    });
    let options = Options {
        url: llm.url(),
        key: None,
        model: "vectors".to_owned(),
        batch: 4,
        timeout: Duration::from_millis(200),
        retries: 1,
    };
    let embedder = OpenAiEmbedder::new(options).unwrap();
    let since = Instant::now();
    let error = embedder.embed(&texts(1)).await.unwrap_err();
    assert!(matches!(error, AiError::Unavailable { .. }), "{error}");
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(!llm.asked()[0].headers.contains_key("authorization"));
}

//! Refusals, overload, streams that break: what is tried again, how often, and what is told in the end.

use std::time::{Duration, Instant, SystemTime};

use loadtest::llm::{Behaviour, Break, Finish, Llm, Refusal};
use workers::ai::openai::{OpenAi, Options};
use workers::ai::{AiError, Model};

use super::{Ear, KEY, MINUTE, TEXT, ask, chat, model, options};

fn refuses(status: u16, message: &str) -> Behaviour {
    Behaviour::refuses(Refusal::new(status, message))
}

/// Asks, and gives the error.
async fn fail(model: &OpenAi, within: Duration) -> AiError {
    let mut ear = Ear::default();
    model.ask(&chat(), within, &mut ear).await.unwrap_err()
}

fn with_retries(llm: &Llm, retries: u32) -> OpenAi {
    let options = Options {
        retries,
        ..options(llm)
    };
    OpenAi::new(options).unwrap()
}

#[tokio::test]
async fn overload_is_waited_for_as_long_as_the_provider_says() {
    let llm = Llm::start().await.unwrap();
    let model = model(&llm);
    let in_two = SystemTime::now() + Duration::from_secs(3);
    for after in ["1".to_owned(), httpdate::fmt_http_date(in_two)] {
        let refusal = Refusal::new(429, "Rate limit reached").after(after);
        llm.then([Behaviour::refuses(refusal)]);
        let since = Instant::now();
        let (_, anew) = ask(&model).await;
        assert!(since.elapsed() >= Duration::from_secs(1));
        assert_eq!(anew, 0);
    }
    assert_eq!(llm.asked().len(), 4);
}

#[tokio::test]
async fn a_wait_beyond_the_time_that_is_left_is_told_at_once() {
    let llm = Llm::start().await.unwrap();
    for status in [429, 503] {
        let refusal = Refusal::new(status, "later").after("3600");
        llm.then([Behaviour::refuses(refusal)]);
        let since = Instant::now();
        let error = fail(&model(&llm), MINUTE).await;
        let retry_after = Some(Duration::from_secs(3600));
        assert_eq!(error, AiError::Overloaded { retry_after });
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn failures_are_tried_again_and_not_for_ever() {
    let llm = Llm::start().await.unwrap();
    llm.then([refuses(500, "oops"), refuses(503, "busy"), refuses(502, "")]);
    let (_, anew) = ask(&model(&llm)).await;
    assert_eq!((anew, llm.asked().len()), (0, 4));

    llm.always(refuses(500, "oops"));
    let error = fail(&with_retries(&llm, 2), MINUTE).await;
    let reason = "500: oops".to_owned();
    assert_eq!(error, AiError::Unavailable { reason });
    assert_eq!(llm.asked().len(), 7);

    llm.always(refuses(503, "busy"));
    let error = fail(&with_retries(&llm, 0), MINUTE).await;
    assert_eq!(error, AiError::Overloaded { retry_after: None });
    assert_eq!(llm.asked().len(), 8);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_providers_words_and_never_with_the_key() {
    let llm = Llm::start().await.unwrap();
    for status in [401, 403, 404, 422] {
        let message = format!("Incorrect API key: {KEY}.\nSee our site.");
        llm.always(refuses(status, &message));
        let before = llm.asked().len();
        let error = fail(&model(&llm), MINUTE).await;
        let reason = format!("{status}: Incorrect API key: ….");
        assert_eq!(error, AiError::Refused { reason });
        let tries = if status == 422 { 4 } else { 1 };
        assert_eq!(llm.asked().len(), before + tries, "{status}");
    }
    let shown = format!("{:?}", options(&llm));
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let llm = Llm::start().await.unwrap();
    let mut refusal = Refusal::new(307, "elsewhere");
    let to = format!("{}/chat/completions", llm.url());
    refusal.headers.push(format!("location: {to}"));
    llm.then([Behaviour::refuses(refusal)]);
    let error = fail(&model(&llm), MINUTE).await;
    assert!(matches!(&error, AiError::Refused { reason } if reason.contains(&to)));
    assert_eq!(llm.asked().len(), 1);
}

#[tokio::test]
async fn nobody_at_the_address_is_unavailable() {
    let llm = Llm::start().await.unwrap();
    let gone = Options {
        url: llm.url(),
        retries: 1,
        ..options(&llm)
    };
    drop(llm);
    // The port is free once the server's task has ended.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = fail(&OpenAi::new(gone).unwrap(), MINUTE).await;
    assert!(matches!(error, AiError::Unavailable { .. }), "{error}");
}

fn breaks() -> Vec<Break> {
    let error = Break::Error {
        message: "The server had an error".to_owned(),
        kind: "server_error".to_owned(),
    };
    vec![Break::Cut, Break::Stop, Break::Malformed, error]
}

#[tokio::test]
async fn an_answer_that_breaks_off_begins_anew() {
    let llm = Llm::start().await.unwrap();
    let model = model(&llm);
    for how in breaks() {
        let before = llm.asked().len();
        llm.then([
            Behaviour::breaks(TEXT, 3, how.clone()),
            // Nothing was heard of this one, so that nothing is void.
            Behaviour::breaks(TEXT, 0, how.clone()),
            Behaviour::says(TEXT),
        ]);
        let (answer, anew) = ask(&model).await;
        assert_eq!((answer.text.as_str(), anew), (TEXT, 1), "{how:?}");
        assert_eq!(llm.asked().len(), before + 3);
        // What broke off was paid for too.
        assert!(
            answer.tokens.estimated && answer.tokens.input > 14,
            "{how:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_keeps_breaking_off_is_broken() {
    let llm = Llm::start().await.unwrap();
    for how in breaks() {
        let before = llm.asked().len();
        llm.always(Behaviour::breaks(TEXT, 3, how.clone()));
        match fail(&model(&llm), MINUTE).await {
            AiError::Broken { tokens, .. } => {
                assert!(tokens.estimated && tokens.output >= 3 * 5, "{tokens:?}");
            }
            other => panic!("{how:?}: {other}"),
        }
        assert_eq!(llm.asked().len(), before + 3);
    }
}

#[tokio::test]
async fn what_would_break_again_is_not_asked_again() {
    let llm = Llm::start().await.unwrap();
    let error = Break::Error {
        message: format!("no such thing, {KEY}"),
        kind: "invalid_request_error".to_owned(),
    };
    let filtered = Behaviour {
        finish: Finish::Filter,
        ..Behaviour::says(TEXT)
    };
    let endless = Break::Endless(3 * 1024 * 1024);
    let long = Behaviour::says(&"x".repeat(65 * 1000));
    let cases = [
        (Behaviour::breaks(TEXT, 3, error), "no such thing, …"),
        (Behaviour::breaks(TEXT, 3, endless), "an event has over"),
        (filtered, "filter"),
        (long, "it has over 64000 bytes"),
    ];
    for (behaviour, wanted) in cases {
        let before = llm.asked().len();
        llm.then([behaviour]);
        match fail(&model(&llm), MINUTE).await {
            AiError::Broken { reason, .. } => assert!(reason.contains(wanted), "{reason}"),
            other => panic!("{wanted}: {other}"),
        }
        assert_eq!(llm.asked().len(), before + 1, "{wanted}");
    }
}

#[tokio::test]
async fn silence_ends_a_request_before_and_within_its_answer() {
    let llm = Llm::start().await.unwrap();
    let long = Duration::from_secs(30);
    let model = OpenAi::new(Options {
        silence: Duration::from_secs(1),
        ..options(&llm)
    });
    let model = model.unwrap();
    let late = Behaviour {
        delay: long,
        ..Behaviour::says(TEXT)
    };
    let silent = Behaviour {
        silence: Some((2, long)),
        ..Behaviour::says(TEXT)
    };
    // Slow is not silent.
    let slow = Behaviour {
        pace: Duration::from_millis(250),
        ..Behaviour::says(TEXT)
    };
    llm.then([late, silent, slow]);
    let since = Instant::now();
    let (answer, anew) = ask(&model).await;
    assert_eq!((answer.text.as_str(), anew), (TEXT, 1));
    assert!(since.elapsed() < Duration::from_secs(15));
    assert_eq!(llm.left(), 2);
}

#[tokio::test]
async fn the_whole_time_has_a_bound() {
    let llm = Llm::start().await.unwrap();
    llm.always(Behaviour {
        pace: Duration::from_millis(20),
        ..Behaviour::says(&"word ".repeat(10_000))
    });
    let since = Instant::now();
    match fail(&model(&llm), Duration::from_millis(500)).await {
        AiError::Late { tokens } => assert!(tokens.input > 0 && tokens.output > 3),
        other => panic!("{other}"),
    }
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_a_broken_answer_took_is_told_with_the_failure_that_follows() {
    let llm = Llm::start().await.unwrap();
    llm.then([
        Behaviour::breaks(TEXT, 3, Break::Cut),
        refuses(401, "the key was withdrawn"),
    ]);
    let error = fail(&model(&llm), MINUTE).await;
    assert!(error.to_string().contains("withdrawn"), "{error}");
    assert!(error.tokens().input > 0);
}

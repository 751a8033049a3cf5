//! The keys of an outside issuer: rotation in mid-session, withdrawal, an issuer that is away or answers
//! nonsense, and what `tandem doctor` and `check-config` say of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::issuer::{Key, Mood, TestIssuer};
use crate::world::people::{Answer, ask};
use crate::world::{
    ClientFrame, CloseCode, Encoding, ServerFrame, Session, TestHub, eventually, now_ms,
};

async fn hub_for(issuer: &TestIssuer, more: &str) -> TestHub {
    TestHub::start(&[("TANDEM_AUTH_ISSUERS_FILE", &issuer.file(more))]).await
}

async fn me(hub: &TestHub, token: &str) -> Answer {
    ask(hub, Some(token), Method::GET, "/api/auth/me", None).await
}

#[tokio::test]
async fn keys_rotate_in_mid_session_and_withdrawn_ones_end() {
    let (old, new) = (Key::ed25519("old"), Key::p256("new"));
    let issuer = TestIssuer::start(&[&old]).await;
    let hub = hub_for(&issuer, "refetch = '1s'\nrefresh = '1h'\ngrace = '4s'\n").await;
    let before = issuer.token(&old, "s1", json!({ "sid": "x" }));
    me(&hub, &before).await.expect(200);
    let mut session = Session::open_as_browser(&hub, &before, Encoding::Json).await;
    session.next().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The old key is gone from the set, and the new one in use at once: nobody has to wait for the next round.
    issuer.list(&[&new]);
    let after = issuer.token(&new, "s1", json!({ "sid": "x" }));
    let withdrawn = now_ms();
    let refreshed = session
        .request(|id| ClientFrame::Refresh {
            id,
            token: after.clone(),
        })
        .await;
    assert!(
        matches!(refreshed, ServerFrame::Ack { .. }),
        "{refreshed:?}"
    );
    me(&hub, &after).await.expect(200);
    me(&hub, &before).await.expect(200);
    eventually("the withdrawn key ends", || async {
        me(&hub, &before).await.status == 401
    })
    .await;
    let lasted = now_ms() - withdrawn;
    assert!((3_500..8_000).contains(&lasted), "{lasted} ms");
    session.ping().await;
    me(&hub, &after).await.expect(200);
}

#[tokio::test]
async fn forged_tokens_do_not_make_the_hub_knock() {
    let (key, forger) = (Key::ed25519("k"), Key::ed25519("forged"));
    let issuer = TestIssuer::start(&[&key]).await;
    let hub = hub_for(&issuer, "refetch = '5m'\n").await;
    me(&hub, &issuer.token(&key, "s1", json!({})))
        .await
        .expect(200);
    let asked = issuer.asked();
    let forged: Vec<String> = (0..40)
        .map(|n| issuer.token(&forger, &format!("s{n}"), json!({})))
        .collect();
    let tries = forged.iter().map(|token| me(&hub, token));
    for answer in futures::future::join_all(tries).await {
        answer.expect(401);
    }
    assert_eq!(
        issuer.asked(),
        asked,
        "fetched for a forged token, so soon after the start"
    );
}

#[tokio::test]
async fn many_who_bring_a_new_key_share_one_fetch() {
    let (old, new) = (Key::ed25519("old"), Key::ed25519("new"));
    let issuer = TestIssuer::start(&[&old]).await;
    let hub = hub_for(&issuer, "refetch = '1s'\nrefresh = '1h'\n").await;
    me(&hub, &issuer.token(&old, "s1", json!({})))
        .await
        .expect(200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    issuer.list(&[&old, &new]);
    let asked = issuer.asked();
    let tokens: Vec<String> = (0..20)
        .map(|n| issuer.token(&new, &format!("s{n}"), json!({})))
        .collect();
    for answer in futures::future::join_all(tokens.iter().map(|token| me(&hub, token))).await {
        answer.expect(200);
    }
    assert_eq!(issuer.asked(), asked + 1);
}

#[tokio::test]
async fn an_issuer_that_is_away_stops_neither_the_start_nor_known_keys_for_a_while() {
    let key = Key::rsa("r");
    let issuer = TestIssuer::start(&[&key]).await;
    issuer.is(Mood::Down);
    let more = "refetch = '1s'\nrefresh = '1s'\noutage = '4s'\n";
    let hub = hub_for(&issuer, more).await;
    hub.ready().await;
    let local = hub.person("local").await;
    let token = issuer.token(&key, "s1", json!({}));
    let refused = me(&hub, &token).await.expect(503);
    assert_eq!(
        (refused.code(), refused.retry_after()),
        ("unavailable".to_owned(), Some(1))
    );
    let mut session = Session::open_as_browser(&hub, &token, Encoding::Json).await;
    assert_eq!(session.close_code().await, CloseCode::Failed.code());
    // What is wrong by itself is refused for good.
    let foreign = issuer.token(&key, "s1", json!({ "aud": "other" }));
    me(&hub, &foreign).await.expect(401);
    local.get(&hub, "/api/auth/me").await.expect(200);
    issuer.is(Mood::Well);
    eventually("its tokens are accepted", || async {
        me(&hub, &token).await.status == 200
    })
    .await;
    issuer.is(Mood::Slow);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    me(&hub, &token).await.expect(200);
    let mut unknown = Key::rsa("unknown");
    unknown.kid = "unknown".to_owned();
    me(&hub, &issuer.token(&unknown, "s1", json!({})))
        .await
        .expect(503);
    issuer.is(Mood::Down);
    eventually("known keys are no longer good", || async {
        me(&hub, &token).await.status == 503
    })
    .await;
    issuer.is(Mood::Well);
    eventually("and are again", || async {
        me(&hub, &token).await.status == 200
    })
    .await;
}

/// What the doctor says of the issuer: the verdict, and the finding with its hint.
async fn doctor(file: &str) -> (String, String) {
    let file = file.to_owned();
    let run = move || {
        let data = TempDir::new().expect("a temporary folder");
        let env = [("TANDEM_AUTH_ISSUERS_FILE", file.as_str())];
        TestHub::run(&env, data.path(), &["doctor", "--json"])
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the doctor");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    let about = findings.iter().find(|one| one["service"] == "issuers");
    let about = about.unwrap_or_else(|| panic!("nothing about the issuer: {report}"));
    let text = |name: &str| about[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(output.status.success(), text("verdict") != "fail");
    (
        text("verdict"),
        format!("{} ({})", text("says"), text("hint")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_every_issuer() {
    let key = Key::rsa("r");
    let issuer = TestIssuer::start(&[&key]).await;
    let file = issuer.file("");
    let (verdict, says) = doctor(&file).await;
    assert_eq!(verdict, "ok", "{says}");
    assert!(says.contains("1 key at"), "{says}");
    let elsewhere = format!("{}/elsewhere", issuer.url());
    let cases = [
        (Mood::Down, "can't be reached"),
        (Mood::Slow, "did not answer within 5 s"),
        (Mood::Redirect(elsewhere), "redirects are not followed"),
        (Mood::Huge, "larger than 256 KiB"),
        (Mood::Status(404), "answered 404"),
        (Mood::Page, "is no discovery document"),
        (
            Mood::Named("https://evil.example.org".to_owned()),
            "of the issuer https://evil.example.org",
        ),
        (
            Mood::KeysAt("http://10.0.0.1/keys".to_owned()),
            "jwks_uri is no address: it must be https",
        ),
    ];
    for (mood, words) in cases {
        issuer.is(mood.clone());
        let (verdict, says) = doctor(&file).await;
        assert_eq!(verdict, "fail", "{mood:?}: {says}");
        assert!(says.contains(words), "{mood:?}: {says}");
    }
    issuer.is(Mood::Well);
    let file = issuer.file("algorithms = ['ES384']\n");
    let (verdict, says) = doctor(&file).await;
    assert_eq!(verdict, "fail", "{says}");
    assert!(says.contains("goes with the allowed algorithms"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_behind_tls_is_checked_by_its_authority() {
    let key = Key::rsa("r");
    let issuer = TestIssuer::start_tls(&[&key]).await;
    let (verdict, says) = doctor(&issuer.file("")).await;
    assert_eq!(verdict, "fail", "{says}");
    assert!(says.contains("`ca`"), "{says}");
    issuer.is(Mood::KeysAt("http://127.0.0.1:1/keys".to_owned()));
    let more = format!("ca = '{}'\n", issuer.ca().display());
    let (_, says) = doctor(&issuer.file(&more)).await;
    assert!(says.contains("from HTTPS to plain HTTP"), "{says}");
    issuer.is(Mood::Well);
    let (verdict, says) = doctor(&issuer.file(&more)).await;
    assert_eq!(verdict, "ok", "{says}");
    let hub = hub_for(&issuer, &more).await;
    me(&hub, &issuer.token(&key, "s1", json!({})))
        .await
        .expect(200);
}

#[tokio::test]
async fn the_file_is_checked_with_the_settings() {
    let data = TempDir::new().expect("a temporary folder");
    let file = data.path().join("issuers.toml");
    let text = "[[issuers]]\nissuer = 'http://id.example.org'\nalgorithms = ['HS256', 'none']\nroles = 3\n";
    std::fs::write(&file, text).expect("a file");
    let name = file.display().to_string();
    let env = [("TANDEM_AUTH_ISSUERS_FILE", name.as_str())];
    let output = TestHub::run(&env, data.path(), &["check-config"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for key in ["issuer", "audience", "algorithms", "roles"] {
        let line = format!("{name}: issuers[0].{key}: ");
        assert!(said.contains(&line), "{line} is not in {said}");
    }
    std::fs::write(
        &file,
        "[[issuers]]\nissuer = 'https://id.example.org'\naudience = 'x'\n",
    )
    .expect("a file");
    let output = TestHub::run(&env, data.path(), &["check-config"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

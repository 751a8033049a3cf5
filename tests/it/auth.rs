//! Accounts and logins over REST: register, log in, refresh, log out, public keys, limits, and the
//! shape of every refusal.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use protocol::Claims;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::people::{Answer, PASSWORD, ask};
use crate::world::{Encoding, Person, Session, TestHub};

async fn post(hub: &TestHub, path: &str, body: Value) -> Answer {
    ask(hub, None, Method::POST, path, Some(body)).await
}

#[tokio::test]
async fn an_account_is_made_and_logged_into() {
    let hub = TestHub::start(&[]).await;
    let body = json!({ "login": "Alice", "password": PASSWORD, "name": "Alice A." });
    let made = post(&hub, "/api/auth/register", body.clone())
        .await
        .expect(201);
    let (headers, made) = (made.headers.clone(), made.json());
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(made["user"]["login"], "Alice");
    assert_eq!(made["user"]["name"], "Alice A.");
    assert_eq!(made["expires_in"], 900);
    post(&hub, "/api/auth/register", body).await.expect(409);
    let other_case = json!({ "login": "alice", "password": PASSWORD });
    post(&hub, "/api/auth/register", other_case)
        .await
        .expect(409);

    let alice = Person::log_in_as(&hub, "alice", PASSWORD).await;
    let me = alice.get(&hub, "/api/auth/me").await.expect(200).json();
    assert_eq!(me["user"], made["user"]);
    for (login, password) in [
        ("alice", "wrong wrong wrong"),
        ("nobody", PASSWORD),
        ("", ""),
    ] {
        let refused = post(
            &hub,
            "/api/auth/login",
            json!({ "login": login, "password": password }),
        );
        let refused = refused.await.expect(401);
        assert_eq!(refused.code(), "unauthorized");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn registration_can_be_closed() {
    let hub = TestHub::start(&[("TANDEM_AUTH_REGISTRATION", "false")]).await;
    let body = json!({ "login": "alice", "password": PASSWORD });
    post(&hub, "/api/auth/register", body).await.expect(403);
}

#[tokio::test]
async fn a_refresh_rotates_and_a_reuse_ends_the_login() {
    let hub = TestHub::start(&[]).await;
    let first = hub.person("alice").await;
    let other_login = first.log_in(&hub).await;
    let second = first.refreshed(&hub).await;
    assert_ne!(first.refresh_token, second.refresh_token);
    let third = second.refreshed(&hub).await;
    third.get(&hub, "/api/auth/me").await.expect(200);
    let reuse = first.refresh(&hub).await.expect(401);
    assert_eq!(reuse.code(), "unauthorized");
    third.get(&hub, "/api/auth/me").await.expect(401);
    third.refresh(&hub).await.expect(401);
    other_login.get(&hub, "/api/auth/me").await.expect(200);
    for nonsense in ["", "x", &"y".repeat(5000)] {
        post(
            &hub,
            "/api/auth/refresh",
            json!({ "refresh_token": nonsense }),
        )
        .await
        .expect(401);
    }
}

#[tokio::test]
async fn a_logout_ends_one_login_or_all() {
    let hub = TestHub::start(&[]).await;
    let one = hub.person("alice").await;
    let (two, three) = (one.log_in(&hub).await, one.log_in(&hub).await);
    one.post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    one.get(&hub, "/api/auth/me").await.expect(401);
    one.refresh(&hub).await.expect(401);
    two.get(&hub, "/api/auth/me").await.expect(200);
    two.post(&hub, "/api/auth/logout?all=true", json!({}))
        .await
        .expect(204);
    for ended in [&two, &three] {
        ended.get(&hub, "/api/auth/me").await.expect(401);
        ended.refresh(&hub).await.expect(401);
    }
    one.log_in(&hub)
        .await
        .get(&hub, "/api/auth/me")
        .await
        .expect(200);
}

async fn keys(hub: &TestHub) -> JwkSet {
    let mut sets = Vec::new();
    for path in ["/api/auth/jwks", "/.well-known/jwks.json"] {
        let answer = ask(hub, None, Method::GET, path, None).await.expect(200);
        assert!(
            !answer.text().contains("\"d\""),
            "a private key is published"
        );
        sets.push(answer.json());
    }
    assert_eq!(sets[0], sets[1]);
    serde_json::from_value(sets.remove(0)).expect("a JWK set")
}

fn verify(token: &str, keys: &JwkSet) -> Result<Claims, jsonwebtoken::errors::Error> {
    let header = decode_header(token)?;
    let kid = header.kid.expect("a key id");
    let key = DecodingKey::from_jwk(keys.find(&kid).expect("the key is published"))?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["tandem"]);
    validation.set_audience(&["tandem"]);
    decode::<Claims>(token, &key, &validation).map(|decoded| decoded.claims)
}

#[tokio::test]
async fn tokens_verify_with_the_published_key_and_outlive_a_restart() {
    let mut hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let before = keys(&hub).await;
    let claims = verify(&alice.token, &before).expect("a token that verifies");
    assert_eq!(claims.sub, alice.id);
    assert_eq!(claims.exp - claims.iat, 900);
    hub.kill9().await;
    hub.restart().await;
    assert_eq!(keys(&hub).await, before, "the keys are kept");
    alice.get(&hub, "/api/auth/me").await.expect(200);
    Session::open(&hub, &alice, Encoding::Json)
        .await
        .ping()
        .await;
    let newer = alice.refreshed(&hub).await;
    verify(&newer.token, &before).expect("a token that verifies");
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let hub = TestHub::start(&[]).await;
    let other = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let foreign = other.person("alice").await;
    let parts: Vec<&str> = alice.token.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = encode(json!({ "alg": "none", "typ": "JWT" }));
    let hs256 = encode(json!({ "alg": "HS256", "typ": "JWT" }));
    let mut claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64")).expect("JSON");
    claims["exp"] = json!(9_999_999_999_u64);
    let longer = encode(claims);
    for token in [
        foreign.token.clone(),
        format!("{none}.{}.", parts[1]),
        format!("{hs256}.{}.{}", parts[1], parts[2]),
        format!("{}.{longer}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        "x".repeat(10_000),
    ] {
        let answer = ask(&hub, Some(&token), Method::GET, "/api/auth/me", None).await;
        answer.expect(401);
        let mut session = Session::open_as_browser(&hub, &token, Encoding::Json).await;
        assert_eq!(session.close_code().await, 4401);
    }
    alice.get(&hub, "/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn logins_are_limited_per_account_and_per_address() {
    let hub = TestHub::start(&[
        ("TANDEM_AUTH_LOGIN_BURST", "3"),
        ("TANDEM_AUTH_LOGIN_PER_MINUTE", "6"),
    ])
    .await;
    let (_, bob) = (hub.person("alice").await, hub.person("bob").await);
    let wrong = json!({ "login": "alice", "password": "wrong wrong wrong" });
    for _ in 0..3 {
        post(&hub, "/api/auth/login", wrong.clone())
            .await
            .expect(401);
    }
    let right = json!({ "login": "ALICE", "password": PASSWORD });
    let limited = post(&hub, "/api/auth/login", right).await.expect(429);
    assert_eq!(limited.code(), "rate_limited");
    let wait = limited.retry_after().expect("Retry-After");
    assert!((1..=10).contains(&wait), "{wait} s");
    bob.log_in(&hub).await;

    let hub = TestHub::start(&[("TANDEM_AUTH_LOGIN_PER_MINUTE_ADDRESS", "5")]).await;
    let mut statuses = Vec::new();
    for n in 0..8 {
        let body = json!({ "login": format!("user{n}"), "password": "wrong wrong wrong" });
        let answer = post(&hub, "/api/auth/login", body).await;
        if answer.status == 429 {
            assert!(
                answer
                    .retry_after()
                    .is_some_and(|wait| (1..=60).contains(&wait))
            );
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
}

/// A problem document as it is, but for its request id.
fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let mut body = answer.json();
    let id = body["request_id"].take();
    assert_eq!(
        id.as_str(),
        answer.headers["x-request-id"].to_str().ok(),
        "the id is in both"
    );
    body["request_id"] = json!("[id]");
    body
}

#[tokio::test]
async fn every_refusal_has_the_same_shape() {
    let hub = TestHub::start(&[]).await;
    let alice = hub.person("alice").await;
    let fields = json!({ "login": "-", "password": "short", "name": "" });
    let refusals = json!({
        "fields": problem(&post(&hub, "/api/auth/register", fields).await),
        "credentials": problem(
            &post(&hub, "/api/auth/login", json!({ "login": "alice", "password": "no" })).await
        ),
        "missing field": problem(&post(&hub, "/api/auth/login", json!({ "login": "alice" })).await),
        "no token": problem(&ask(&hub, None, Method::GET, "/api/auth/me", None).await),
        "no route": problem(&alice.get(&hub, "/api/nowhere").await),
        "no method": problem(&alice.delete(&hub, "/api/auth/me").await),
        "no project": problem(&alice.get(&hub, "/api/projects/none").await),
        "bad id": problem(&alice.post(&hub, "/api/projects", json!({ "id": "A B", "name": "x" })).await),
        "not a socket": problem(&alice.get(&hub, "/ws").await),
    });
    insta::assert_json_snapshot!("refusals", refusals);
}

//! Rates of requests: told in headers, kept per user, address and class, on all nodes together, and what happens
//! while nobody can count.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::world::people::{Answer, PASSWORD, ask};
use crate::world::socket::Opening;
use crate::world::{Cluster, Encoding, Person, Session, TestHub, eventually};

const ON: (&str, &str) = ("TANDEM_RATE_ENABLED", "true");

/// A header of an answer, if it has it.
fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

/// How many are left of a limit.
fn left(answer: &Answer, limit: &str) -> Option<u32> {
    let state = header(answer, "ratelimit")?;
    let start = format!("\"{limit}\";r=");
    let item = state
        .split(", ")
        .find_map(|item| item.strip_prefix(&start))?;
    item.split(';').next()?.parse().ok()
}

/// Checks that it was refused as one too many.
#[track_caller]
fn is_refused(answer: &Answer, limit: &str, most_wait: u64) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.code(), "rate_limited");
    assert_eq!(answer.json()["type"], "urn:tandem:problem:rate_limited");
    let wait = answer.retry_after().expect("Retry-After");
    assert!((1..=most_wait).contains(&wait), "{wait} s");
    assert_eq!(left(answer, limit), Some(0), "{:?}", answer.headers);
}

async fn get(hub: &TestHub, path: &str) -> Answer {
    ask(hub, None, Method::GET, path, None).await
}

async fn post(hub: &TestHub, path: &str, body: Value) -> Answer {
    ask(hub, None, Method::POST, path, Some(body)).await
}

#[tokio::test]
async fn what_is_left_is_told_until_nothing_is() {
    let hub = TestHub::start(&[
        ON,
        ("TANDEM_RATE_READ_USER", "5"),
        ("TANDEM_RATE_READ_ADDRESS", "100"),
    ])
    .await;
    let (alice, bob) = (hub.person("alice").await, hub.person("bob").await);
    for n in 1..=5 {
        let answer = alice.get(&hub, "/api/auth/me").await.expect(200);
        let policy = header(&answer, "ratelimit-policy");
        assert_eq!(
            policy,
            Some("\"read\";q=5;w=60, \"read-address\";q=100;w=60")
        );
        assert_eq!(left(&answer, "read"), Some(5 - n));
        assert_eq!(left(&answer, "read-address"), Some(100 - n));
    }
    let refused = alice.get(&hub, "/api/auth/me").await;
    is_refused(&refused, "read", 12);
    is_refused(&alice.get(&hub, "/api/projects").await, "read", 12);
    // Another login of hers is hers; another class, another user and a guest are not.
    let again = alice.log_in(&hub).await;
    is_refused(&again.get(&hub, "/api/auth/me").await, "read", 12);
    alice.project(&hub, "p1").await;
    let answer = bob.get(&hub, "/api/auth/me").await.expect(200);
    assert_eq!(left(&answer, "read"), Some(4));
    let guest = get(&hub, "/api/info").await.expect(200);
    assert_eq!(left(&guest, "read"), None);
    assert_eq!(left(&guest, "read-address"), Some(93));
}

#[tokio::test]
async fn who_waits_as_told_may_go_on() {
    let hub = TestHub::start(&[
        ON,
        ("TANDEM_RATE_WRITE_USER", "60"),
        ("TANDEM_RATE_WRITE_BURST", "2s"),
    ])
    .await;
    let alice = hub.person("alice").await;
    let mut refused = 0;
    for n in 0..4 {
        let body = json!({ "id": format!("p{n}"), "name": "a project" });
        loop {
            let answer = alice.post(&hub, "/api/projects", body.clone()).await;
            if answer.status == 201 {
                break;
            }
            is_refused(&answer, "write", 2);
            refused += 1;
            let wait = answer.retry_after().expect("Retry-After");
            tokio::time::sleep(Duration::from_secs(wait)).await;
        }
    }
    assert!((1..=2).contains(&refused), "refused {refused} times");
}

#[tokio::test]
async fn each_class_counts_by_itself_and_some_paths_never() {
    let two = |class: &str| {
        let class = class.to_uppercase();
        [("USER", "0"), ("ADDRESS", "2")]
            .map(|(whose, most)| (format!("TANDEM_RATE_{class}_{whose}"), most))
    };
    let limits: Vec<(String, &str)> = ["read", "write", "auth", "connect"]
        .into_iter()
        .flat_map(two)
        .collect();
    let limits = limits.iter().map(|(name, most)| (name.as_str(), *most));
    let settings: Vec<(&str, &str)> = limits.chain([ON]).collect();
    let hub = TestHub::start(&settings).await;
    let nothing = json!({ "refresh_token": "none", "login": "nobody", "password": PASSWORD });
    for (limit, status, method, path) in [
        ("read-address", 200, Method::GET, "/api/info"),
        ("write-address", 401, Method::POST, "/api/auth/refresh"),
        ("auth-address", 401, Method::POST, "/api/auth/login"),
        ("connect-address", 400, Method::GET, "/hocuspocus"),
    ] {
        let body = (method == Method::POST).then(|| nothing.clone());
        for n in [1, 0] {
            let answer = ask(&hub, None, method.clone(), path, body.clone()).await;
            assert_eq!(left(&answer.expect(status), limit), Some(n), "{path}");
        }
        is_refused(&ask(&hub, None, method, path, body).await, limit, 30);
    }
    // What is not there is counted too, or it could be searched for without end.
    is_refused(&get(&hub, "/api/nowhere").await, "read-address", 30);
    for path in ["/ws", "/collab/p1/main.rs", "/hocuspocus"] {
        let opened = Opening::default().open(&hub, path).await;
        assert_eq!(opened.err(), Some(429), "{path}: before the upgrade");
    }
    for path in ["/healthz", "/readyz", "/", "/assets/app.js"] {
        for _ in 0..5 {
            let answer = get(&hub, path).await.expect(200);
            assert_eq!(header(&answer, "ratelimit"), None, "{path}");
        }
    }
}

#[tokio::test]
async fn connections_are_counted_per_user() {
    let hub = TestHub::start(&[ON, ("TANDEM_RATE_CONNECT_USER", "2")]).await;
    let (alice, bob) = (hub.person("alice").await, hub.person("bob").await);
    let open = async |person: &Person, as_browser: bool| {
        let subprotocol = "tandem.v1.json";
        let opening = match as_browser {
            true => {
                let token = format!("bearer.{}", person.token);
                Opening::default().offer(&[subprotocol, &token])
            }
            false => Opening::default()
                .offer(&[subprotocol])
                .header("authorization", format!("Bearer {}", person.token)),
        };
        opening.open(&hub, "/ws").await.err()
    };
    assert_eq!(open(&alice, false).await, None);
    assert_eq!(open(&alice, true).await, None);
    for as_browser in [false, true] {
        assert_eq!(open(&alice, as_browser).await, Some(429));
    }
    let path = format!("/collab/p1/main.rs?token={}", alice.token);
    let opened = Opening::default().open(&hub, &path).await;
    assert_eq!(opened.err(), Some(429));
    assert_eq!(open(&bob, true).await, None);
}

#[tokio::test]
async fn a_forged_token_takes_nothing_from_whom_it_names() {
    let hub = TestHub::start(&[ON, ("TANDEM_RATE_READ_USER", "3")]).await;
    let alice = hub.person("alice").await;
    let (unsigned, _) = alice.token.rsplit_once('.').expect("a signature");
    let forged = format!("{unsigned}.{}", "A".repeat(86));
    for _ in 0..5 {
        let path = "/api/auth/me";
        let answer = ask(&hub, Some(&forged), Method::GET, path, None).await;
        let answer = answer.expect(401);
        assert_eq!(left(&answer, "read"), None);
        assert!(left(&answer, "read-address").is_some());
    }
    let answer = alice.get(&hub, "/api/auth/me").await.expect(200);
    assert_eq!(left(&answer, "read"), Some(2));
}

#[tokio::test]
async fn an_address_is_what_a_trusted_proxy_says_and_a_network_is_one() {
    let hub = TestHub::start(&[
        ON,
        ("TANDEM_RATE_READ_ADDRESS", "10"),
        ("TANDEM_HTTP_TRUSTED_PROXIES", "127.0.0.1"),
    ])
    .await;
    let left_for = async |address: &str| {
        let request = Client::new()
            .get(hub.url("/api/info"))
            .header("x-forwarded-for", address);
        let answer = request.send().await.expect("an answer");
        let state = answer.headers()["ratelimit"].to_str().expect("text");
        state.to_owned()
    };
    let starts = async |address: &str, start: &str| {
        let state = left_for(address).await;
        assert!(state.starts_with(start), "{address}: {state}");
    };
    starts("2001:db8::1", "\"read-address\";r=9;").await;
    starts("2001:db8::ffff:2", "\"read-address\";r=8;").await;
    starts("2001:db8:0:1::1", "\"read-address\";r=9;").await;
    starts("192.0.2.1", "\"read-address\";r=9;").await;
    starts("6.6.6.6, 192.0.2.1", "\"read-address\";r=8;").await;
    starts("::ffff:192.0.2.1", "\"read-address\";r=7;").await;
}

#[tokio::test]
async fn nodes_count_together() {
    let cluster = Cluster::start_with(
        2,
        false,
        &[
            ON,
            ("TANDEM_RATE_READ_USER", "6"),
            ("TANDEM_AUTH_LOGIN_BURST", "4"),
            ("TANDEM_AUTH_LOGIN_PER_MINUTE", "1"),
        ],
    )
    .await;
    let alice = cluster.hub(0).person("alice").await;
    for n in 0..6 {
        let answer = alice.get(cluster.hub(n % 2), "/api/auth/me").await;
        let left = left(&answer.expect(200), "read");
        assert_eq!(left, Some(5 - n as u32));
    }
    for node in [0, 1] {
        is_refused(
            &alice.get(cluster.hub(node), "/api/projects").await,
            "read",
            10,
        );
    }
    let wrong = |login: &str| json!({ "login": login, "password": "wrong wrong wrong" });
    for (node, login) in [(0, "alice"), (1, "Alice"), (0, "ALICE"), (1, "alicE")] {
        let answer = post(cluster.hub(node), "/api/auth/login", wrong(login)).await;
        answer.expect(401);
    }
    let right = json!({ "login": "aLice", "password": PASSWORD });
    for node in [0, 1] {
        let answer = post(cluster.hub(node), "/api/auth/login", right.clone()).await;
        assert_eq!(answer.expect(429).code(), "rate_limited");
    }
}

#[tokio::test]
async fn without_redis_open_classes_go_on_and_closed_ones_say_so() {
    let mut cluster = Cluster::start_with(
        1,
        false,
        &[
            ON,
            ("TANDEM_RATE_WRITE_OUTAGE", "closed"),
            ("TANDEM_AUTH_LOGIN_PER_MINUTE", "100"),
        ],
    )
    .await;
    let alice = cluster.hub(0).person("alice").await;
    cluster.redis.kill().await;
    eventually("reads go on uncounted", async || {
        let answer = alice.get(cluster.hub(0), "/api/auth/me").await.expect(200);
        header(&answer, "ratelimit").is_none()
    })
    .await;
    let body = json!({ "id": "p1", "name": "a project" });
    let closed = alice
        .post(cluster.hub(0), "/api/projects", body.clone())
        .await;
    assert_eq!(closed.retry_after(), Some(1));
    assert_eq!(closed.expect(503).code(), "unavailable");
    let login = json!({ "login": "alice", "password": PASSWORD });
    let closed = post(cluster.hub(0), "/api/auth/login", login.clone()).await;
    assert_eq!(closed.expect(503).code(), "unavailable");
    let mut session = Session::open(cluster.hub(0), &alice, Encoding::Json).await;
    session.ping().await;

    cluster.redis.restart().await.expect("a restart");
    eventually("everything is counted again", async || {
        let answer = alice.get(cluster.hub(0), "/api/auth/me").await.expect(200);
        header(&answer, "ratelimit").is_some()
    })
    .await;
    post(cluster.hub(0), "/api/auth/login", login)
        .await
        .expect(200);
    let answer = alice.post(cluster.hub(0), "/api/projects", body).await;
    assert_eq!(left(&answer.expect(201), "write"), Some(599));
}

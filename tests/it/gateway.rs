//! The gateway: who gets through, what passes with a request, and what the service can trust.
//!
//! `streams` has what lasts, `failures` what services do wrong, `reload` the file while the hub runs.

mod failures;
mod reload;
mod streams;

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use protocol::ServiceClaims;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::people::ask;
use crate::world::upstream::Upstream;
use crate::world::{Person, TestHub, soon};

/// Rules of every service in these tests.
const RULES: &[(&str, &str, &str)] = &[
    ("'*'", "/public/**", "public"),
    ("'*'", "/user/**", "user"),
    ("'GET'", "/p/{project}/viewer/**", "viewer"),
    ("'GET'", "/p/{project}/commenter/**", "commenter"),
    ("'GET', 'POST'", "/p/{project}/editor/**", "editor"),
    ("'DELETE'", "/p/{project}/owner/*", "owner"),
];

/// A services' file.
struct File(TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(TempDir::new().expect("a temporary folder"));
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("services.toml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).expect("a file");
    }
}

/// The part of the file for a service of that name with the usual rules; `extra` goes before them.
fn service(name: &str, upstreams: &[&Upstream], extra: &str) -> String {
    let list: Vec<String> = upstreams
        .iter()
        .map(|one| format!("'{}'", one.url()))
        .collect();
    let mut text = format!(
        "[services.{name}]\nupstreams = [{}]\n{extra}\n",
        list.join(", ")
    );
    for (methods, path, takes) in RULES {
        text.push_str(&format!(
            "[[services.{name}.rules]]\nmethods = [{methods}]\npath = '{path}'\ntakes = '{takes}'\n"
        ));
    }
    text
}

/// A hub with that file.
async fn hub_with(file: &File, env: &[(&str, &str)]) -> TestHub {
    let path = file.path();
    let mut all = vec![("TANDEM_GATEWAY_FILE", path.to_str().expect("a path"))];
    all.extend_from_slice(env);
    TestHub::start(&all).await
}

/// A hub before one upstream, which is the service `s`.
async fn one(extra: &str, env: &[(&str, &str)]) -> (TestHub, Upstream, File) {
    let upstream = Upstream::start("one").await;
    let file = File::new(&service("s", &[&upstream], extra));
    let hub = hub_with(&file, env).await;
    (hub, upstream, file)
}

async fn status(hub: &TestHub, token: Option<&str>, method: &Method, path: &str) -> u16 {
    ask(hub, token, method.clone(), path, None).await.status
}

/// Sends a request line as it is: clients tidy paths up.
async fn raw_status(hub: &TestHub, method: &str, path: &str) -> u16 {
    let asked = async {
        let mut stream = TcpStream::connect(hub.address())
            .await
            .expect("a connection");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {answer}"))
    };
    soon(path, asked).await
}

#[tokio::test]
async fn each_role_by_each_rule() {
    let (hub, upstream, _file) = one("", &[]).await;
    let owner = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    let mut people = vec![("owner", owner.clone())];
    for role in ["viewer", "commenter", "editor"] {
        let person = hub.person(role).await;
        owner.give(&hub, "p1", &person, role).await;
        people.push((role, person));
    }
    people.push(("stranger", hub.person("stranger").await));
    let rank = |role: &str| {
        let ranks = ["viewer", "commenter", "editor", "owner"];
        ranks.iter().position(|one| *one == role)
    };
    let routes = [
        (Method::GET, "viewer"),
        (Method::GET, "commenter"),
        (Method::GET, "editor"),
        (Method::POST, "editor"),
        (Method::DELETE, "owner"),
    ];
    for (method, needed) in &routes {
        let path = format!("/svc/s/p/p1/{needed}/x");
        for (role, person) in &people {
            let before = upstream.asked().len();
            let wanted = match rank(role) {
                None => 404,
                rank_of if rank_of >= rank(needed) => 200,
                Some(_) => 403,
            };
            let found = status(&hub, Some(&person.token), method, &path).await;
            assert_eq!(found, wanted, "{role} {method} {path}");
            let reached = upstream.asked().len() - before;
            assert_eq!(
                reached,
                usize::from(wanted == 200),
                "{role} {method} {path}"
            );
        }
        assert_eq!(status(&hub, None, method, &path).await, 401, "{path}");
        let elsewhere = format!("/svc/s/p/p2/{needed}/x");
        let found = status(&hub, Some(&owner.token), method, &elsewhere).await;
        assert_eq!(found, 404, "a project that is not there");
    }
    for (token, wanted) in [
        (None, 401),
        (Some("nonsense"), 401),
        (Some(&*people[4].1.token), 200),
    ] {
        let found = status(&hub, token, &Method::POST, "/svc/s/user/x").await;
        assert_eq!(found, wanted, "{token:?}");
    }
    assert_eq!(
        status(&hub, None, &Method::GET, "/svc/s/public/x").await,
        200
    );
    let wrong = status(&hub, Some("nonsense"), &Method::GET, "/svc/s/public/x").await;
    assert_eq!(wrong, 200, "a public route asks for no token");
}

#[tokio::test]
async fn what_no_rule_takes_is_refused() {
    let (hub, upstream, _file) = one("", &[]).await;
    let person = hub.person("person").await;
    let token = Some(&*person.token);
    for (method, path, wanted) in [
        (Method::GET, "/svc/s/", 404),
        (Method::GET, "/svc/s", 404),
        (Method::GET, "/svc/s/elsewhere", 404),
        (Method::GET, "/svc/s/publicity", 404),
        (Method::GET, "/svc/other/public/x", 404),
        (Method::GET, "/svc/S/public/x", 404),
        (Method::GET, "/svc", 404),
        (Method::GET, "/svc/", 404),
        (Method::PUT, "/svc/s/p/p1/viewer/x", 403),
        (Method::DELETE, "/svc/s/p/p1/owner/x/y", 404),
        (Method::TRACE, "/svc/s/public/x", 403),
    ] {
        assert_eq!(
            status(&hub, token, &method, path).await,
            wanted,
            "{method} {path}"
        );
    }
    for path in [
        "/svc/s/public/../user/x",
        "/svc/s/public/%2e%2e/user/x",
        "/svc/s/public/%252e%252e/user/x",
        "/svc/s/public/a%2f..%2fuser",
        "/svc/s/public/a%5c..%5cuser",
        "/svc/s//public/x",
        "/svc/s/public//x",
        "/svc/s/public/..;/user",
        "/svc/s/public/%00",
        "/svc/s/public/%zz",
    ] {
        assert_eq!(raw_status(&hub, "GET", path).await, 400, "{path}");
    }
    assert_eq!(raw_status(&hub, "GET", "/svc//public/x").await, 404);
    let long = format!("/svc/s/public/{}", "x".repeat(9000));
    assert_eq!(raw_status(&hub, "GET", &long).await, 400);
    assert_eq!(upstream.asked().len(), 0, "{:?}", upstream.asked());
    assert_eq!(
        raw_status(&hub, "GET", "/svc/s/public/a%20b/%C3%BC?q=%2F..").await,
        200
    );
    let last = upstream.last();
    assert_eq!(
        (last.path.as_str(), last.query.as_deref()),
        ("/public/a%20b/%C3%BC", Some("q=%2F.."))
    );
}

#[tokio::test]
async fn headers_are_cleaned_both_ways() {
    let (hub, upstream, _file) = one("", &[]).await;
    let person = hub.person("person").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Client::new()
        .get(hub.url("/svc/s/user/x"))
        .bearer_auth(&person.token)
        .header("x-tandem-user", "root")
        .header("x-user-id", "root")
        .header("x_user_id", "root")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-user", "root")
        .header("forwarded", "for=10.0.0.1")
        .header("cookie", "a=b")
        .header("proxy-authorization", "Basic x")
        .header("te", "trailers")
        .header("x-secret", "1")
        .header("connection", "x-secret, authorization, x-forwarded-for")
        .header("x-request-id", "request-7")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("x-stays", "yes");
    let answer = soon("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["via"], "1.1 tandem");
    assert_eq!(answer.headers()["x-request-id"], "request-7");
    let asked = upstream.last();
    for gone in [
        "x-tandem-user",
        "x-user-id",
        "x_user_id",
        "x-forwarded-user",
        "forwarded",
        "cookie",
        "proxy-authorization",
        "te",
        "x-secret",
        "connection",
    ] {
        assert_eq!(asked.header(gone), None, "{gone}");
    }
    let header = |name: &str| asked.header(name).unwrap_or_default();
    assert_eq!(header("x-stays"), "yes");
    assert_eq!(header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(header("x-forwarded-proto"), "http");
    assert_eq!(header("x-forwarded-host"), hub.address().to_string());
    assert_eq!(header("host"), upstream.url().trim_start_matches("http://"));
    assert_eq!(header("x-request-id"), "request-7");
    assert_eq!(header("via"), "1.1 tandem");
    assert!(header("traceparent").starts_with(&format!("00-{trace}-")));
    assert!(!header("traceparent").contains("00f067aa0ba902b7"));
    assert_ne!(asked.token(), person.token);

    let client = Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("a client");
    let moved = client.get(hub.url("/svc/s/public/moved")).send();
    let moved = soon("an answer", moved).await.expect("an answer");
    assert_eq!(moved.status(), 302);
    assert_eq!(moved.headers()["location"], "/svc/s/public/there?a=b");
    assert_eq!(moved.headers()["x-frame-options"], "DENY");
    for gone in ["set-cookie", "x-internal"] {
        assert!(!moved.headers().contains_key(gone), "{gone}");
    }
    // A service's own bare refusal is not made into a document of the hub.
    let missing = ask(&hub, None, Method::GET, "/svc/s/public/missing", None).await;
    assert_eq!((missing.status, missing.text().as_str()), (404, ""));
    assert!(!missing.headers.contains_key("content-type"));
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_cookies_pass_if_wanted() {
    let env = [("TANDEM_HTTP_TRUSTED_PROXIES", "127.0.0.0/8")];
    let (hub, upstream, _file) = one("set_cookie = true", &env).await;
    let request = Client::new()
        .get(hub.url("/svc/s/public/x"))
        .header("x-forwarded-for", "198.51.100.7")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "ide.example");
    soon("an answer", request.send()).await.expect("an answer");
    let asked = upstream.last();
    let header = |name: &str| asked.header(name).unwrap_or_default();
    assert_eq!(header("x-forwarded-for"), "198.51.100.7, 127.0.0.1");
    assert_eq!(header("x-forwarded-proto"), "https");
    assert_eq!(header("x-forwarded-host"), "ide.example");
    let client = Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("a client");
    let moved = soon(
        "an answer",
        client.get(hub.url("/svc/s/public/moved")).send(),
    )
    .await;
    let moved = moved.expect("an answer");
    assert_eq!(moved.headers()["set-cookie"], "session=1");
}

/// What the token says, checked as a service would: by the public set, its own audience pinned.
async fn verified(hub: &TestHub, token: &str, audience: &str) -> Result<ServiceClaims, String> {
    let set = ask(hub, None, Method::GET, "/.well-known/jwks.json", None).await;
    let set = set.expect(200).json();
    let kid = decode_header(token)
        .expect("a header")
        .kid
        .expect("a key id");
    let keys = set["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"] == kid.as_str());
    let x = key.expect("the key is public")["x"].as_str().expect("x");
    let key = DecodingKey::from_ed_components(x).expect("a key");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[audience]);
    validation.set_issuer(&["tandem"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let decoded = decode::<ServiceClaims>(token, &key, &validation);
    decoded
        .map(|token| token.claims)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_internal_token_is_for_one_service_alone() {
    let (hub, upstream, _file) = one("", &[]).await;
    let owner: Person = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    owner.get(&hub, "/svc/s/p/p1/editor/x").await.expect(200);
    let token = upstream.last().token();
    let claims = verified(&hub, &token, "s").await.expect("it is good");
    assert_eq!(claims.sub.as_deref(), Some(owner.id.as_str()));
    assert_eq!(claims.name.as_deref(), Some("owner"));
    assert_eq!(claims.project.as_deref(), Some("p1"));
    assert_eq!(claims.role, Some(protocol::Role::Owner));
    assert_eq!(claims.exp - claims.iat, 30);
    assert!(verified(&hub, &token, "other").await.is_err());
    // An access token is no token of a service, and that of a service none of the hub or its gateway.
    assert!(verified(&hub, &owner.token, "s").await.is_err());
    let me = ask(&hub, Some(&token), Method::GET, "/api/auth/me", None).await;
    assert_eq!(me.status, 401, "{}", me.text());
    assert_eq!(
        status(&hub, Some(&token), &Method::GET, "/svc/s/user/x").await,
        401
    );

    owner.get(&hub, "/svc/s/user/x").await.expect(200);
    let user = verified(&hub, &upstream.last().token(), "s")
        .await
        .expect("good");
    assert_eq!(
        (user.sub.as_deref(), user.project, user.role),
        (Some(&*owner.id), None, None)
    );
    assert_ne!(user.jti, claims.jti);
    owner.get(&hub, "/svc/s/public/x").await.expect(200);
    let nobody = verified(&hub, &upstream.last().token(), "s")
        .await
        .expect("good");
    assert_eq!(
        (nobody.sub, nobody.name, nobody.project),
        (None, None, None)
    );
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sent() {
    let (hub, upstream, _file) = one("body_bytes = '1MiB'", &[]).await;
    let person = hub.person("person").await;
    for (method, bytes) in [
        (Method::POST, 0),
        (Method::POST, 10),
        (Method::PUT, 64 * 1024),
        (Method::PUT, 64 * 1024 + 1),
        (Method::PATCH, 1024 * 1024),
    ] {
        let request = Client::new()
            .request(method.clone(), hub.url("/svc/s/user/x"))
            .bearer_auth(&person.token)
            .body(vec![b'x'; bytes]);
        let answer = soon("an answer", request.send()).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{method} {bytes}");
        let told = soon("a body", answer.bytes()).await.expect("a body");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!(told["bytes"], json!(bytes), "{method}");
        let asked = upstream.last();
        assert_eq!(asked.method, method.as_str());
        assert_eq!(asked.header("content-length"), Some(bytes.to_string()));
    }
    let before = upstream.asked().len();
    let request = Client::new()
        .post(hub.url("/svc/s/user/x"))
        .bearer_auth(&person.token)
        .body(vec![b'x'; 1024 * 1024 + 1]);
    let answer = soon("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), 413);
    assert_eq!(upstream.asked().len(), before);
}

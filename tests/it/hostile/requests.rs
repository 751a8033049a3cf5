//! Hostile requests over REST: bodies cut, huge, deep, of the wrong kind, and paths that lead astray.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Scene;
use super::mutate::spoil;
use crate::world::soon;

async fn post(scene: &Scene, path: &str, kind: &str, body: Vec<u8>) -> u16 {
    let request = Client::new()
        .post(scene.hub.url(path))
        .bearer_auth(&scene.owner.token)
        .header("content-type", kind)
        .body(body);
    match soon(path, request.send()).await {
        Ok(answer) => answer.status().as_u16(),
        // It may be refused before all of it is sent.
        Err(_) => 0,
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_in_kind() {
    let mut scene = Scene::new(&[("TANDEM_HTTP_BODY_BYTES", "64KiB")]).await;
    let json = "application/json";
    let deep = format!("{{\"login\":{}", "[".repeat(60_000)).into_bytes();
    for path in [
        "/api/auth/login",
        "/api/auth/register",
        "/api/auth/refresh",
        "/api/projects",
    ] {
        let cases: [(&str, Vec<u8>, &[u16]); 8] = [
            (json, b"".to_vec(), &[400, 422]),
            (json, b"{".to_vec(), &[400]),
            (json, b"[]".to_vec(), &[400, 422]),
            (json, b"null".to_vec(), &[400, 422]),
            (json, b"{\"login\":\"\xff\xfe\"}".to_vec(), &[400, 422]),
            (json, deep.clone(), &[400, 422]),
            ("text/plain", b"{}".to_vec(), &[415]),
            (json, vec![b' '; 200_000], &[413, 0]),
        ];
        for (kind, body, allowed) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(30)]).into_owned();
            let status = post(&scene, path, kind, body).await;
            assert!(
                allowed.contains(&status),
                "{path} {kind} {shown:?}: {status}"
            );
        }
    }
    scene.is_unharmed("bad bodies").await;
    let mut random = StdRng::seed_from_u64(2);
    let real =
        br#"{"login":"somebody","password":"long enough","name":"\u00fc","id":"p9","path":"a/b"}"#;
    let documents = "/api/projects/p1/documents".to_owned();
    for n in 0..300 {
        let paths = ["/api/auth/refresh", "/api/projects", &documents];
        let status = post(&scene, paths[n % 3], json, spoil(real, &mut random)).await;
        assert!(status < 500, "a spoilt body gave {status}");
    }
    scene.is_unharmed("spoilt bodies").await;
}

#[tokio::test]
async fn paths_lead_nowhere_they_should_not() {
    let mut scene = Scene::new(&[]).await;
    let long = "x".repeat(5000);
    for path in [
        "/api/documents/../../etc/passwd",
        "/api/documents/%00/text",
        "/api/documents/%ff%fe/text",
        "/api/projects/%2e%2e%2f/documents",
        "/api/projects/p1'%20OR%201=1--/documents",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%2e%2e/index.html",
        &format!("/api/documents/{long}"),
        &format!("/api/documents/{}/text?root={long}", scene.document),
        &format!("/api/documents/{}/versions?limit=-1", scene.document),
        "/api/projects?limit=99999999999999999999&after=%F0%9F",
    ] {
        let answer = scene.owner.get(&scene.hub, path).await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let text = answer.text();
        for inner in ["SELECT", "sqlx", "panicked", "src/", "SQLITE"] {
            assert!(!text.contains(inner), "{path} tells of the inside: {text}");
        }
    }
    scene.is_unharmed("paths that lead astray").await;
}

#[tokio::test]
async fn slow_and_broken_requests_hold_nobody_up() {
    let mut scene = Scene::new(&[("TANDEM_HTTP_HEADER_TIMEOUT", "500ms")]).await;
    let address = scene.hub.address();
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let part: &[u8] = match n % 4 {
            0 => b"GET /api/info HTT",
            1 => b"POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n",
            2 => b"GET / HTTP/1.1\r\nhost: x\r\nx: ",
            _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        };
        stream.write_all(part).await.expect("a part of a request");
        slow.push(stream);
    }
    scene.is_unharmed("two hundred half requests").await;
    for stream in &mut slow {
        let mut rest = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a half request is waited for without end");
    }
    scene.is_unharmed("their end").await;
}

//! The opening handshake: what is accepted, what is refused and how, subprotocols, early bytes.

use tokio::io::AsyncReadExt as _;

use super::wire::{Got, Peer, Server, TEXT, request, text};

/// Sends a request and reads the whole answer: its status, head and body.
async fn ask(server: &Server, request: &str) -> (u16, String, String) {
    let mut peer = Peer::new(server.tcp().await);
    peer.send(request.as_bytes()).await;
    let head = peer.head().await;
    let status = head[9..12].parse().unwrap();
    let body = if status == 101 {
        Vec::new()
    } else {
        peer.rest().await
    };
    (
        status,
        head.to_lowercase(),
        String::from_utf8(body).unwrap(),
    )
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn the_answer_proves_that_the_key_was_read() {
    let server = Server::start().await;
    let (status, head, _) = ask(&server, &request("/echo", "")).await;
    assert_eq!(status, 101);
    // The sample of RFC 6455 §1.3.
    let accept = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n";
    assert!(head.contains(accept), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("connection: upgrade\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
}

#[tokio::test]
async fn headers_are_read_as_http_has_them() {
    let server = Server::start().await;
    let good = request("/echo", "");
    for same in [
        good.to_lowercase()
            .replacen("get /echo http", "GET /echo HTTP", 1),
        good.replace("Connection: Upgrade", "CONNECTION: UPGRADE")
            .replace("Upgrade: websocket", "UPGRADE: WebSocket"),
        good.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        good.replace(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
        good.replace("Upgrade: websocket", "Upgrade: foo, websocket"),
        good.replace("Sec-WebSocket-Version: 13", "sec-websocket-version:   13  "),
        request(
            "/echo",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        ),
        request("/echo", "Origin: http://localhost:3000\r\n"),
    ] {
        // A key is case-sensitive: lower-cased it is still sixteen bytes.
        let (status, head, body) = ask(&server, &same).await;
        assert_eq!(status, 101, "{same}{head}{body}");
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let server = Server::start().await;
    let good = request("/echo", "Connection: close\r\n").replace("Connection: Upgrade\r\n", "");
    let good = good.replace("Connection: close", "Connection: Upgrade, close");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (status, name, wrong) in [
        (400, "no key", with(KEY, "")),
        (400, "an empty key", with("dGhlIHNhbXBsZSBub25jZQ==", "")),
        (
            400,
            "a short key",
            with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
        ),
        (
            400,
            "a long key",
            with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSEh"),
        ),
        (
            400,
            "not base64",
            with("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ=="),
        ),
        (400, "no upgrade", with("Upgrade: websocket\r\n", "")),
        (
            400,
            "another upgrade",
            with("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            400,
            "no connection",
            with("Connection: Upgrade, close", "Connection: close"),
        ),
        (400, "HTTP/1.0", with("HTTP/1.1", "HTTP/1.0")),
        (405, "POST", with("GET", "POST")),
        (405, "DELETE", with("GET", "DELETE")),
        (426, "no version", with("Sec-WebSocket-Version: 13\r\n", "")),
        (426, "version 8", with("Version: 13", "Version: 8")),
        (426, "version 14", with("Version: 13", "Version: 14")),
        (426, "no number", with("Version: 13", "Version: thirteen")),
    ] {
        let (got, head, body) = ask(&server, &wrong).await;
        assert_eq!(got, status, "{name}: {head}{body}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{name}: {head}"
        );
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status, "{name}");
        assert!(
            problem["code"].is_string() && problem["detail"].is_string(),
            "{name}"
        );
        let id = problem["request_id"].as_str().unwrap();
        assert!(
            head.contains(&format!("x-request-id: {id}")),
            "{name}: {head}"
        );
        if status == 426 {
            assert!(head.contains("sec-websocket-version: 13\r\n"), "{head}");
            assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_served() {
    let server = Server::start().await;
    let early: Vec<u8> = ["one", "two", "three"].iter().flat_map(text).collect();
    let whole = [request("/echo", "").into_bytes(), early].concat();
    // Together, the last frame cut in two, and byte by byte.
    for step in [whole.len(), whole.len() - 3, 1] {
        let mut peer = Peer::new(server.tcp().await);
        for chunk in whole.chunks(step) {
            peer.send(chunk).await;
        }
        assert!(peer.head().await.starts_with("HTTP/1.1 101 "));
        for said in ["one", "two", "three"] {
            let payload = said.as_bytes().to_vec();
            let opcode = TEXT;
            assert_eq!(peer.next().await, Some(Got { opcode, payload }));
        }
    }
}

#[tokio::test]
async fn a_subprotocol_is_chosen_and_no_token_is_echoed() {
    let server = Server::start().await;
    let json = Some("tandem.v1.json");
    let msgpack = Some("tandem.v1.msgpack");
    for (path, offered, chosen) in [
        ("/ws", "tandem.v1.json", json),
        ("/ws", "tandem.v1.msgpack, tandem.v1.json", msgpack),
        ("/ws", "bearer.abc, tandem.v1.json", json),
        ("/ws", "tandem.v1.json,bearer.abc", json),
        ("/ws", "unknown, tandem.v1.msgpack", msgpack),
        ("/ws", "bearer.abc", None),
        ("/collab/demo/main.rs", "bearer.abc", None),
        ("/collab/demo/main.rs", "bearer.abc, y", Some("y")),
        ("/hocuspocus", "bearer.abc", None),
        ("/echo", "a, b", Some("a")),
        ("/echo", "bearer.abc", None),
    ] {
        let line = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let (status, head, body) = ask(&server, &request(path, &line)).await;
        assert_eq!(status, 101, "{path} {offered}: {head}{body}");
        let said = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(said, chosen, "{path} {offered}");
        assert!(!head.contains("bearer"), "{head}");
    }
    let unknown = request(
        "/ws",
        "Sec-WebSocket-Protocol: chat\r\nX-Request-Id: mine\r\n",
    );
    let (status, _, _) = ask(&server, &unknown.replace(": Upgrade", ": Upgrade, close")).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn pages_from_elsewhere_may_not_connect() {
    let server = Server::start().await;
    let foreign = request("/ws", "Origin: https://evil.example\r\n");
    let (status, ..) = ask(&server, &foreign.replace(": Upgrade", ": Upgrade, close")).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn echo_is_there_only_where_it_was_asked_for() {
    let server = Server::with(|settings| settings.echo = false).await;
    let asked = request("/echo", "").replace(": Upgrade", ": Upgrade, close");
    let (status, ..) = ask(&server, &asked).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let server = Server::with(|settings| {
        settings.http.header_timeout = std::time::Duration::from_millis(200);
    });
    let server = server.await;
    let mut peer = Peer::new(server.tcp().await);
    let whole = request("/echo", "");
    peer.send(&whole.as_bytes()[..60]).await;
    let mut end = Vec::new();
    let ended = peer.stream.read_to_end(&mut end);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), ended).await;
    assert!(ended.is_ok(), "the hub waits for the rest of a head");
}

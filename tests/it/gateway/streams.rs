//! What lasts: events, WebSockets, large bodies; and how they end with the rights of whoever opened them.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{File, hub_with, one, service, status};
use crate::world::people::ask;
use crate::world::service::Service;
use crate::world::socket::Opening;
use crate::world::upstream::Upstream;
use crate::world::{CloseCode, Heard, Person, Socket, TestHub, eventually, now_ms, soon, within};

/// The promise: rights that were taken are gone after this.
const LIVE: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

async fn open_events(hub: &TestHub, upstream: &Upstream, who: &Person, path: &str) -> Response {
    let before = upstream.listeners();
    let request = Client::new().get(hub.url(path)).bearer_auth(&who.token);
    let answer = soon("the head of a stream", request.send()).await;
    let answer = answer.expect("a stream");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(upstream.listeners(), before + 1);
    answer
}

async fn next_event(stream: &mut Response) -> Option<String> {
    let chunk = soon("an event", stream.chunk()).await.ok()??;
    Some(String::from_utf8_lossy(&chunk).into_owned())
}

async fn open_socket(hub: &TestHub, who: &Person, path: &str) -> Socket {
    let opening = Opening::default().header("authorization", format!("Bearer {}", who.token));
    opening.open(hub, path).await.expect("a socket")
}

async fn echoes(socket: &mut Socket, text: &str) {
    assert!(socket.send_text(text).await);
    assert_eq!(socket.hear().await, Heard::Text(text.to_owned()));
}

#[tokio::test]
async fn events_pass_one_by_one_and_end_with_the_rights() {
    let env = [("TANDEM_HTTP_REQUEST_TIMEOUT", "500ms")];
    let (hub, upstream, _file) = one("", &env).await;
    let owner = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    let member = hub.person("member").await;
    owner.give(&hub, "p1", &member, "editor").await;
    let path = "/svc/s/p/p1/commenter/events";
    let mut streams = Vec::new();
    for who in [&owner, &member] {
        streams.push(open_events(&hub, &upstream, who, path).await);
    }
    for n in 0..5 {
        let text = format!("event {n}");
        assert_eq!(upstream.tell(&text), 2);
        for stream in &mut streams {
            let heard = next_event(stream).await;
            assert_eq!(heard.as_deref(), Some(&*format!("data: {text}\n\n")));
        }
        // The last of them comes later than the hub's own requests may take.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A role that is still enough changes nothing, a weaker one ends it.
    owner.give(&hub, "p1", &member, "commenter").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    upstream.tell("still there");
    assert!(next_event(&mut streams[1]).await.is_some());
    owner.give(&hub, "p1", &member, "viewer").await;
    let [own, theirs] = &mut streams[..] else {
        unreachable!("there are two")
    };
    upstream.tell("the owner stays");
    next_event(own).await.expect("the owner stays");
    let ended = async { while let Ok(Some(_)) = theirs.chunk().await {} };
    within(LIVE, "the stream of the member ends", ended).await;
    owner
        .post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    let ended = async { while let Ok(Some(_)) = own.chunk().await {} };
    within(LIVE, "the stream ends with the login", ended).await;
    eventually("the service knows it too", || async {
        upstream.listeners() == 0
    })
    .await;
}

#[tokio::test]
async fn a_socket_passes_both_ways_and_is_closed_on_logout() {
    let (hub, upstream, _file) = one("websocket = true", &[]).await;
    let person = hub.person("person").await;
    let mut socket = open_socket(&hub, &person, "/svc/s/user/ws").await;
    for text in ["a", "", "ü 🙂"] {
        echoes(&mut socket, text).await;
    }
    let large = vec![7_u8; 3 * MIB];
    assert!(socket.send_binary(&large).await);
    assert!(socket.hear().await == Heard::Binary(large));
    // A browser's way: the token as a subprotocol, which the service never sees.
    let fresh = person.log_in(&hub).await;
    let offered = [&*format!("bearer.{}", fresh.token), "chat.v2", "chat.v1"];
    let mut other = Opening::default()
        .offer(&offered)
        .open(&hub, "/svc/s/user/ws")
        .await
        .expect("a socket");
    let asked = upstream.last();
    assert_eq!(
        asked.header("sec-websocket-protocol").as_deref(),
        Some("chat.v2, chat.v1")
    );
    assert!(!asked.token().contains(&fresh.token));
    echoes(&mut other, "browser").await;
    person
        .post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    let closed = within(LIVE, "the socket is closed", socket.close_code()).await;
    assert_eq!(closed, CloseCode::Revoked.code());
    echoes(&mut other, "the other login stays").await;
    eventually("the service is told", || async {
        upstream.closed() == [1001]
    })
    .await;
    other.leave().await;
    eventually("a client's own close passes", || async {
        upstream.closed().len() == 2
    })
    .await;
    assert_ne!(upstream.closed()[1], 1001);
}

#[tokio::test]
async fn a_socket_ends_with_its_token_and_with_the_membership() {
    let env = [("TANDEM_AUTH_ACCESS_TTL", "5s")];
    let (hub, upstream, _file) = one("websocket = true", &env).await;
    let owner = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    let member = hub.person("member").await;
    owner.give(&hub, "p1", &member, "viewer").await;
    let mut theirs = open_socket(&hub, &member, "/svc/s/p/p1/viewer/ws").await;
    let began = now_ms();
    let fresh = owner.log_in(&hub).await;
    let mut own = open_socket(&hub, &fresh, "/svc/s/p/p1/viewer/ws").await;
    echoes(&mut theirs, "in").await;
    owner.remove(&hub, "p1", &member).await;
    let closed = within(LIVE, "the socket is closed", theirs.close_code()).await;
    assert_eq!(closed, CloseCode::Revoked.code());
    echoes(&mut own, "in").await;
    assert_eq!(own.close_code().await, CloseCode::TokenExpired.code());
    let lasted = now_ms() - began;
    // Tokens count in whole seconds.
    assert!((3_500..6_500).contains(&lasted), "{lasted} ms");
    eventually("the service is told of both", || async {
        upstream.closed() == [1001, 1001]
    })
    .await;
}

#[tokio::test]
async fn sockets_are_refused_where_they_are_not_wanted() {
    let (first, second) = (
        Upstream::start("first").await,
        Upstream::start("second").await,
    );
    let text = service("s", &[&first], "websocket = true") + &service("t", &[&second], "");
    let file = File::new(&text);
    let env = [("TANDEM_LIMITS_SESSIONS_PER_USER", "2")];
    let hub = hub_with(&file, &env).await;
    let person = hub.person("person").await;
    let with_token =
        || Opening::default().header("authorization", format!("Bearer {}", person.token));
    let refused = |opened: Result<Socket, u16>| opened.err();
    assert_eq!(
        refused(with_token().open(&hub, "/svc/t/user/ws").await),
        Some(403)
    );
    assert_eq!(
        refused(Opening::default().open(&hub, "/svc/s/user/ws").await),
        Some(401)
    );
    assert_eq!(
        refused(with_token().open(&hub, "/svc/s/elsewhere/ws").await),
        Some(404)
    );
    let foreign = with_token().header("origin", "https://evil.example");
    assert_eq!(
        refused(foreign.open(&hub, "/svc/s/user/ws").await),
        Some(403)
    );
    assert!(first.asked().is_empty() && second.asked().is_empty());
    first.answer_with(418);
    assert_eq!(
        refused(with_token().open(&hub, "/svc/s/user/ws").await),
        Some(418)
    );
    first.answer_with(0);
    let places = [
        with_token().open(&hub, "/svc/s/user/ws").await,
        with_token().open(&hub, "/svc/s/user/ws").await,
    ];
    assert!(places.iter().all(Result::is_ok));
    assert_eq!(
        refused(with_token().open(&hub, "/svc/s/user/ws").await),
        Some(503)
    );
    drop(places);
    eventually("their places are free", || async {
        with_token().open(&hub, "/svc/s/user/ws").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_silent_socket_and_a_leaving_node() {
    let extra = "websocket = true\n[services.s.timeouts]\nidle = '700ms'";
    let (mut hub, upstream, _file) = one(extra, &[]).await;
    let person = hub.person("person").await;
    let mut silent = open_socket(&hub, &person, "/svc/s/user/ws").await;
    let began = Instant::now();
    assert_eq!(silent.close_code().await, CloseCode::IdleTimeout.code());
    assert!(began.elapsed() >= Duration::from_millis(600));
    let mut busy = open_socket(&hub, &person, "/svc/s/user/ws").await;
    for n in 0..8 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        echoes(&mut busy, &n.to_string()).await;
    }
    let mut stream = open_events(&hub, &upstream, &person, "/svc/s/user/events").await;
    let leaving = async {
        let status = hub.terminate().await;
        assert!(status.success(), "{status:?}");
    };
    let told = async {
        assert_eq!(busy.close_code().await, CloseCode::Draining.code());
        while let Ok(Some(_)) = stream.chunk().await {}
    };
    tokio::join!(leaving, told);
}

#[tokio::test]
async fn large_bodies_are_streamed_and_not_gathered() {
    let (hub, upstream, _file) = one("", &[]).await;
    let person = hub.person("person").await;
    let before = hub.resident_kib();
    // An upload whose second half is sent only once the service has the first.
    let mut client = TcpStream::connect(hub.address())
        .await
        .expect("a connection");
    let size = 20 * MIB;
    let head = format!(
        "POST /svc/s/user/x HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {}\r\n\
         content-length: {size}\r\nconnection: close\r\n\r\n",
        person.token
    );
    let half = vec![b'x'; size / 2];
    let upload = async {
        client.write_all(head.as_bytes()).await.expect("a head");
        client.write_all(&half).await.expect("the first half");
        eventually("the first half has arrived", || async {
            upstream.uploaded() == size / 2
        })
        .await;
        client.write_all(&half).await.expect("the second half");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = soon("an upload", upload).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("\"bytes\":{size}")), "{answer}");
    // A download that its reader does not take at once.
    let path = format!("/svc/s/user/bytes?{size}");
    let request = Client::new().get(hub.url(&path)).bearer_auth(&person.token);
    let mut download = soon("a head", request.send()).await.expect("an answer");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let grown = hub.resident_kib().saturating_sub(before);
    let mut bytes = 0;
    while let Some(chunk) = soon("a piece", download.chunk()).await.expect("a piece") {
        bytes += chunk.len();
    }
    assert_eq!(bytes, size);
    assert!(grown < 10 * 1024, "the hub has grown by {grown} KiB");
    assert_eq!(
        status(&hub, Some(&person.token), &Method::GET, "/svc/s/user/x").await,
        200
    );
}

#[tokio::test]
async fn what_stalls_or_breaks_in_the_middle_is_cut() {
    let extra = "[services.s.timeouts]\nidle = '500ms'";
    let (hub, upstream, _file) = one(extra, &[]).await;
    let half = |path: &'static str| {
        let request = Client::new().get(hub.url(path));
        async move {
            let mut answer = soon("a head", request.send()).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let first = soon("a piece", answer.chunk()).await.expect("a piece");
            assert_eq!(first.as_deref(), Some(&b"half"[..]));
            answer
        }
    };
    let mut stalled = half("/svc/s/public/half").await;
    assert!(
        soon("the end", stalled.chunk()).await.is_err(),
        "it must not look whole"
    );
    let mut cut = half("/svc/s/public/half").await;
    upstream.kill().await;
    assert!(
        soon("the end", cut.chunk()).await.is_err(),
        "it must not look whole"
    );
    upstream.revive().await;
    // A caller who stops in the middle of a body.
    let mut client = TcpStream::connect(hub.address())
        .await
        .expect("a connection");
    let head = "POST /svc/s/public/x HTTP/1.1\r\nhost: hub\r\ncontent-length: 100000\r\n\r\nhalf";
    client
        .write_all(head.as_bytes())
        .await
        .expect("half a request");
    let mut answer = [0; 4096];
    let read = soon("an answer", client.read(&mut answer))
        .await
        .expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 504") && answer.contains("\"timeout\""),
        "{answer}"
    );
    ask(&hub, None, Method::GET, "/svc/s/public/x", None)
        .await
        .expect(200);
}

#[tokio::test]
async fn a_service_ends_a_socket_of_its_user() {
    let (hub, _upstream, _file) = one("websocket = true", &[]).await;
    let owner = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    let mut socket = open_socket(&hub, &owner, "/svc/s/user/ws").await;
    echoes(&mut socket, "in").await;
    let (service, _) = Service::of_project(&hub, &owner, "p1", &["disconnect"]).await;
    let body = json!({ "user": owner.id });
    let done = service.post(&hub, "/api/server/disconnect", body).await;
    assert_eq!(done.expect(200).json()["sessions"], 1);
    within(LIVE, "the socket is closed", socket.close_code()).await;
}

#[tokio::test]
async fn requests_to_services_are_counted() {
    let env = [
        ("TANDEM_RATE_ENABLED", "true"),
        ("TANDEM_RATE_GATEWAY_ADDRESS", "3"),
    ];
    let (hub, upstream, _file) = one("", &env).await;
    for _ in 0..3 {
        let answer = ask(&hub, None, Method::GET, "/svc/s/public/x", None).await;
        assert!(answer.expect(200).headers.contains_key("ratelimit"));
    }
    let refused = ask(&hub, None, Method::GET, "/svc/s/public/x", None).await;
    assert_eq!(refused.expect(429).json()["code"], "rate_limited");
    assert_eq!(upstream.asked().len(), 3);
}

//! Hostile frames: spoilt, nested, before the token, in floods, below the WebSocket itself.

use std::time::Duration;

use protocol::frame::ClientDocOp;
use protocol::hocuspocus;
use protocol::ysync::{self, Sync};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tungstenite::Message;

use super::Scene;
use super::mutate::{corpus, spoil};
use crate::world::session::{publish, subprotocol};
use crate::world::socket::Opening;
use crate::world::wire::{auth_frame, doc_frame};
use crate::world::{ENCODINGS, Encoding, Heard, Session, Socket, soon};

async fn is_open(socket: &mut Socket, breath: Duration) -> bool {
    while let Some(heard) = socket.hear_within(breath).await {
        if matches!(heard, Heard::Closed(..) | Heard::Cut) {
            return false;
        }
    }
    true
}

fn session_opening(scene: &Scene, encoding: Encoding) -> Opening {
    Opening::default()
        .header("authorization", format!("Bearer {}", scene.owner.token))
        .offer(&[subprotocol(encoding)])
}

/// Frames that a session may send, encoded.
fn honest_frames(scene: &Scene, encoding: Encoding) -> Vec<Vec<u8>> {
    let update = corpus().remove(0);
    let frames = [
        publish(3, "room:p1/lobby", json!({ "a": [1, 2.5, null, "ü"] })),
        doc_frame(Some(4), &scene.document, ClientDocOp::Open, Some(vec![0])),
        doc_frame(Some(5), &scene.document, ClientDocOp::Update, Some(update)),
    ];
    let mut encoded: Vec<Vec<u8>> = frames.iter().map(|frame| encoding.encode(frame)).collect();
    let position = json!({ "epoch": "e", "offset": 7 });
    for value in [
        json!({ "type": "connect", "id": 1, "resume": { "room:p1/lobby": position } }),
        json!({ "type": "subscribe", "id": 2, "channel": "room:p1/lobby", "presence": true }),
        json!({ "type": "history", "id": 6, "channel": "room:p1/lobby", "limit": 10 }),
        json!({ "type": "state", "id": 7, "channel": "room:p1/lobby", "data": { "x": [] } }),
        json!({ "type": "refresh", "id": 8, "token": "x.y.z" }),
    ] {
        encoded.push(encoding.encode(&value));
    }
    encoded
}

#[tokio::test]
async fn spoilt_session_frames_harm_nobody() {
    let mut scene = Scene::new(&[]).await;
    for (seed, encoding) in ENCODINGS.into_iter().enumerate() {
        let real = honest_frames(&scene, encoding);
        let mut random = StdRng::seed_from_u64(seed as u64);
        let mut socket = session_opening(&scene, encoding)
            .open(&scene.hub, "/ws")
            .await
            .expect("open");
        for _ in 0..1500 {
            let which = random.random_range(0..real.len());
            let bytes = spoil(&real[which], &mut random);
            let message = match encoding {
                Encoding::Json => Message::text(String::from_utf8_lossy(&bytes).into_owned()),
                Encoding::MsgPack => Message::Binary(bytes.into()),
            };
            let sent = socket.send(message).await;
            if !sent || !is_open(&mut socket, Duration::from_micros(500)).await {
                let opening = session_opening(&scene, encoding);
                socket = opening.open(&scene.hub, "/ws").await.expect("an upgrade");
            }
        }
        scene
            .is_unharmed(&format!("spoilt {encoding:?} frames"))
            .await;
    }
}

#[tokio::test]
async fn spoilt_document_frames_harm_nobody() {
    let mut scene = Scene::new(&[("TANDEM_ECHO", "true")]).await;
    let update = corpus().remove(0);
    let collab = format!("/collab/{}?token={}", scene.document, scene.owner.token);
    let name = scene.document.as_str();
    let yws = vec![
        ysync::encode_step1(&[0]),
        ysync::encode_step2(&update),
        ysync::encode_update(&update),
        ysync::encode_awareness(&[1, 5, 1, 2, b'{', b'}']),
        ysync::encode_permission_denied("x"),
    ];
    let hocus = vec![
        auth_frame(name, &scene.owner.token),
        hocuspocus::encode_sync(name, Sync::Step1(&[0])),
        hocuspocus::encode_sync(name, Sync::Update(&update)),
        hocuspocus::encode_awareness(name, &[1, 5, 1, 2, b'{', b'}']),
        hocuspocus::encode_stateless(name, "x"),
        hocuspocus::encode_close(name, ""),
    ];
    for (path, real) in [
        (collab.as_str(), &yws),
        ("/hocuspocus", &hocus),
        ("/echo", &yws),
    ] {
        let mut random = StdRng::seed_from_u64(5);
        let mut socket = Opening::default()
            .open(&scene.hub, path)
            .await
            .expect("an upgrade");
        if path == "/hocuspocus" {
            socket.send_binary(&hocus[0]).await;
        }
        for _ in 0..800 {
            let which = random.random_range(0..real.len());
            let sent = socket.send_binary(&spoil(&real[which], &mut random)).await;
            if !sent || !is_open(&mut socket, Duration::from_micros(500)).await {
                socket = Opening::default()
                    .open(&scene.hub, path)
                    .await
                    .expect("an upgrade");
                if path == "/hocuspocus" && random.random_bool(0.8) {
                    socket.send_binary(&hocus[0]).await;
                }
            }
        }
        let path = path.split('/').nth(1).unwrap_or_default();
        scene_is_unharmed(&scene_name(path), &mut socket).await;
    }
    scene.is_unharmed("spoilt document frames").await;
}

fn scene_name(path: &str) -> String {
    format!("spoilt frames on {path}")
}

/// The socket that carried the attack ends or answers; it does not hang.
async fn scene_is_unharmed(what: &str, socket: &mut Socket) {
    let ended = soon(what, async {
        if !socket.send(Message::Ping(b"?".to_vec().into())).await {
            return true;
        }
        loop {
            match socket.hear_any().await {
                Heard::Pong(_) | Heard::Closed(..) | Heard::Cut => return true,
                _ => {}
            }
        }
    });
    assert!(ended.await);
}

#[tokio::test]
async fn nesting_has_an_end() {
    let mut scene = Scene::new(&[]).await;
    let levels = 200_000;
    let deep_json = format!(
        r#"{{"type":"publish","id":9,"channel":"room:p1/lobby","data":{}{}}}"#,
        "[".repeat(levels),
        "]".repeat(levels)
    );
    let bare_json = "[".repeat(levels);
    let mut deep_pack = rmp_serde::to_vec_named(&json!({
        "type": "publish", "id": 9, "channel": "room:p1/lobby"
    }))
    .expect("MessagePack");
    deep_pack[0] += 1;
    deep_pack.extend(b"\xa4data");
    deep_pack.extend(vec![0x91; levels]);
    deep_pack.push(0xc0);
    let mut wide_pack = vec![0xdf, 0xff, 0xff, 0xff, 0xff];
    wide_pack.extend(b"\xa4type\xa4ping");
    let long_pack = [&[0x81][..], b"\xa4type", &[0xdb, 0xff, 0xff, 0xff, 0xff]].concat();
    let attacks = [
        (Encoding::Json, deep_json.into_bytes()),
        (Encoding::Json, bare_json.into_bytes()),
        (Encoding::MsgPack, deep_pack),
        (Encoding::MsgPack, vec![0x91; levels]),
        (Encoding::MsgPack, vec![0x81; levels]),
        (Encoding::MsgPack, wide_pack),
        (Encoding::MsgPack, long_pack),
    ];
    for (n, (encoding, attack)) in attacks.into_iter().enumerate() {
        for known in [true, false] {
            let mut session = match known {
                true => Session::open(&scene.hub, &scene.owner, encoding).await,
                false => Session::open_unknown(&scene.hub, encoding).await,
            };
            session.send_raw(&attack).await;
            let answer = soon("an answer to what is too deep", session.socket.hear_any()).await;
            assert!(
                !matches!(answer, Heard::Cut),
                "attack {n}: cut off instead of an answer"
            );
        }
        scene.is_unharmed(&format!("nesting {n}")).await;
    }
}

#[tokio::test]
async fn before_the_token_little_is_taken() {
    let mut scene = Scene::new(&[]).await;
    // Hocuspocus clients may send before they are let in; so much and no more.
    let frame = hocuspocus::encode_sync("p1/any", Sync::Update(&[7; 60_000]));
    let mut flood = Opening::default()
        .open(&scene.hub, "/hocuspocus")
        .await
        .expect("an upgrade");
    for _ in 0..200 {
        if !flood.send_binary(&frame).await {
            break;
        }
    }
    assert!(
        matches!(flood.close_code().await, 4400 | 1006),
        "a flood without a token goes on"
    );
    let mut names = Opening::default()
        .open(&scene.hub, "/hocuspocus")
        .await
        .expect("an upgrade");
    for n in 0..2000 {
        let name = format!("p1/{n}-{}", "n".repeat(900));
        names
            .send_binary(&hocuspocus::encode_sync(&name, Sync::Step1(&[0])))
            .await;
        names.hear_within(Duration::from_micros(50)).await;
    }
    // A token that is none, many times over.
    let mut guesses = Opening::default()
        .open(&scene.hub, "/hocuspocus")
        .await
        .expect("an upgrade");
    for n in 0..500 {
        guesses
            .send_binary(&auth_frame(&format!("p1/{n}"), &"g".repeat(3000)))
            .await;
        guesses.hear_within(Duration::from_micros(50)).await;
    }
    scene
        .is_unharmed("floods before the token on /hocuspocus")
        .await;

    for encoding in ENCODINGS {
        let mut session = Session::open_unknown(&scene.hub, encoding).await;
        let frame =
            encoding.encode(&json!({ "type": "publish", "channel": "x", "data": "y", "id": 0 }));
        for _ in 0..3000 {
            if !session.send_raw(&frame).await {
                break;
            }
            session.socket.hear_within(Duration::from_micros(50)).await;
        }
        let mut garbage = Session::open_unknown(&scene.hub, encoding).await;
        garbage.send_raw(&[0xc1, 0xff, 0x00, 0x7f]).await;
        assert_eq!(garbage.socket.close_code().await, 4400);
    }
    let path = format!("/collab/{}", scene.document);
    for _ in 0..100 {
        let mut socket = Opening::default()
            .open(&scene.hub, &path)
            .await
            .expect("an upgrade");
        socket.send_binary(&[0xff; 100]).await;
        assert_eq!(socket.close_code().await, 4401);
    }
    scene.is_unharmed("floods before the token").await;
}

#[tokio::test]
async fn bytes_below_the_protocol_harm_nobody() {
    let mut scene = Scene::new(&[("TANDEM_ECHO", "true")]).await;
    let mut random = StdRng::seed_from_u64(9);
    let address = scene.hub.address();
    for n in 0..400 {
        let mut stream = soon("a connection", TcpStream::connect(address))
            .await
            .expect("open");
        if n % 2 == 0 {
            let path = ["/ws", "/echo", "/hocuspocus"][n / 2 % 3];
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream
                .write_all(request.as_bytes())
                .await
                .expect("a request");
            let mut answer = [0; 1024];
            let read = soon("the handshake", stream.read(&mut answer))
                .await
                .expect("an answer");
            assert!(answer[..read].starts_with(b"HTTP/1.1 101"), "{path}");
        }
        let garbage: Vec<u8> = (0..random.random_range(1..600))
            .map(|_| random.random())
            .collect();
        // The hub may be faster to close than the garbage is to arrive.
        let _ = stream.write_all(&garbage).await;
        let mut answer = vec![0; 4096];
        let _ = tokio::time::timeout(Duration::from_millis(2), stream.read(&mut answer)).await;
    }
    scene.is_unharmed("random bytes on its port").await;
}

#[tokio::test]
async fn oversized_messages_are_refused_by_their_head() {
    let mut scene = Scene::new(&[("TANDEM_ECHO", "true")]).await;
    let address = scene.hub.address();
    for path in ["/ws", "/echo", "/hocuspocus"] {
        for _ in 0..20 {
            let opened = Opening::default().open_at(address, path).await;
            drop(opened.expect("an upgrade"));
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream
                .write_all(request.as_bytes())
                .await
                .expect("a request");
            // A binary frame of 2^62 bytes, of which only the head ever comes.
            let mut head = vec![0x82, 0xff];
            head.extend((1_u64 << 62).to_be_bytes());
            head.extend([1, 2, 3, 4]);
            stream.write_all(&head).await.expect("a head");
            let mut heard = Vec::new();
            let read = soon("the hub closes it", stream.read_to_end(&mut heard)).await;
            if read.is_ok() {
                let close = [0x88_u8, 0x00];
                let at = heard
                    .windows(4)
                    .position(|w| w[0] == close[0] && w[2..4] == 1009_u16.to_be_bytes());
                assert!(
                    at.is_some(),
                    "{path}: no 1009 in {:?}",
                    String::from_utf8_lossy(&heard)
                );
            }
        }
    }
    scene.is_unharmed("heads of huge frames").await;
}

#[tokio::test]
async fn a_session_that_floods_is_slowed_and_others_are_not() {
    let mut scene = Scene::new(&[("TANDEM_SESSION_FRAME_RATE", "50")]).await;
    let mut flooding = Vec::new();
    for _ in 0..4 {
        let mut socket = session_opening(&scene, Encoding::Json)
            .open(&scene.hub, "/ws")
            .await
            .expect("open");
        flooding.push(tokio::spawn(async move {
            let frame: Value = json!({ "type": "ping", "id": 1 });
            let frame = frame.to_string();
            let mut pongs = 0;
            for _ in 0..20_000 {
                let send = socket.send_text(&frame);
                if tokio::time::timeout(Duration::from_millis(100), send).await != Ok(true) {
                    break;
                }
            }
            while let Some(Heard::Text(_)) = socket.hear_within(Duration::from_millis(500)).await {
                pongs += 1;
                if pongs > 400 {
                    break;
                }
            }
            pongs
        }));
    }
    let started = tokio::time::Instant::now();
    scene.is_unharmed("a flood that is under way").await;
    for task in flooding {
        let pongs = soon("a flood ends", task).await.expect("a task");
        let most = 50.0 * (started.elapsed().as_secs_f64() + 2.0) + 50.0;
        assert!(
            f64::from(pongs) < most,
            "{pongs} frames served in {:?}",
            started.elapsed()
        );
    }
    scene.is_unharmed("a flood").await;
}

//! Timers: silent peers, peers that stop reading, close handshakes that nobody answers, slow bytes.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{
    CLOSE, FIN, LIMIT, PING, PONG, Peer, Server, TEXT, binary, close, frame, request, text,
};

const INTERVAL: Duration = Duration::from_millis(200);

async fn impatient() -> Server {
    Server::with(|settings| {
        settings.session.ping_interval = INTERVAL;
        settings.session.write_timeout = Duration::from_millis(500);
    })
    .await
}

#[tokio::test]
async fn a_silent_peer_is_pinged_then_closed() {
    let server = impatient().await;
    let mut peer = server.echo().await;
    let start = Instant::now();
    let got = peer.next().await.unwrap();
    assert_eq!((got.opcode, got.payload.len()), (PING, 0));
    assert!(start.elapsed() >= INTERVAL - Duration::from_millis(50));
    let got = loop {
        let got = peer.next().await.unwrap();
        if got.opcode != PING {
            break got;
        }
    };
    assert_eq!(got.opcode, CLOSE);
    assert_eq!(
        got.payload,
        [4510u16.to_be_bytes().as_slice(), b"idle timeout"].concat()
    );
    let waited = start.elapsed();
    assert!((INTERVAL * 2..INTERVAL * 8).contains(&waited), "{waited:?}");
    // It does not answer the close either: the hub hangs up all the same.
    let start = Instant::now();
    assert_eq!(peer.next().await, None);
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays() {
    let server = impatient().await;
    let mut peer = server.echo().await;
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < INTERVAL * 8 {
        let got = peer.next().await.unwrap();
        assert_eq!(got.opcode, PING);
        pings += 1;
        peer.send(&frame(FIN | PONG, &got.payload)).await;
    }
    assert!((3..=9).contains(&pings), "{pings}");
    peer.send(&text("still here")).await;
    assert_eq!(peer.answer().await.opcode, TEXT);
}

#[tokio::test]
async fn bytes_of_a_frame_are_a_sign_of_life_however_slow() {
    let server = impatient().await;
    let mut peer = server.echo().await;
    let start = Instant::now();
    for byte in text("one byte at a time") {
        peer.send(&[byte]).await;
        sleep(INTERVAL / 4).await;
    }
    assert!(start.elapsed() > INTERVAL * 4);
    assert_eq!(peer.answer().await.payload, b"one byte at a time");
}

/// A client whose socket holds next to nothing.
async fn narrow(server: &Server) -> Peer<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.hub.address()).await.unwrap();
    Peer::upgrade(stream, "/echo").await
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_cut_off_and_no_other() {
    let server = impatient().await;
    let mut other = server.echo().await;
    let stuck = narrow(&server).await;
    let (mut reading, mut writing) = stuck.stream.into_split();
    let flood = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let message = binary(vec![7; LIMIT / 2]);
        // Until the hub has hung up. It stops reading long before: what it owes is bounded.
        while writing.write_all(&message).await.is_ok() {}
    });
    let start = Instant::now();
    let mut worst = Duration::ZERO;
    while !flood.is_finished() {
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "it is not cut off"
        );
        let asked = Instant::now();
        other.send(&text("ask")).await;
        assert_eq!(other.answer().await.payload, b"ask");
        worst = worst.max(asked.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(worst < Duration::from_secs(2), "another waited {worst:?}");
    // The hub is rid of it: the stream ends, with whatever was under way.
    let ended = timeout(Duration::from_secs(5), async {
        let mut chunk = vec![0; 1 << 16];
        while reading.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_it() {
    // Longer than the kernel takes to tell the hub that some of its own buffer is free again.
    let server = Server::with(|settings| {
        settings.session.ping_interval = INTERVAL;
        settings.session.write_timeout = Duration::from_secs(3);
    });
    let server = server.await;
    let peer = narrow(&server).await;
    let (mut reading, mut writing) = peer.stream.into_split();
    let messages = 5;
    let flood = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let message = binary(vec![7; LIMIT]);
        for _ in 0..messages {
            writing.write_all(&message).await.unwrap();
        }
        writing
    });
    let (mut read, mut chunk) = (0, vec![0; 64 * 1024]);
    while read < messages * LIMIT {
        sleep(Duration::from_millis(2)).await;
        let got = reading.read(&mut chunk).await.unwrap();
        assert!(got > 0, "cut off after {read} bytes");
        read += got;
    }
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn a_close_is_answered_and_the_stream_ended() {
    let server = Server::start().await;
    let mut peer = server.echo().await;
    peer.send(&close(1000, "")).await;
    assert_eq!(peer.next().await.unwrap().opcode, CLOSE);
    // At once, though this side of the stream stays open.
    let start = Instant::now();
    assert_eq!(peer.next().await, None);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_leaving_hub_says_so() {
    let server = Server::with(|settings| {
        settings.shutdown.timeout = Duration::from_secs(3);
    })
    .await;
    let mut session = Peer::new(server.tcp().await);
    let line = "Sec-WebSocket-Protocol: tandem.v1.json\r\n";
    session.send(request("/ws", line).as_bytes()).await;
    session.head().await;
    let leaving = tokio::spawn(server.hub.shutdown());
    let frame = session.next().await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&frame.payload).unwrap();
    assert_eq!(said["type"], "reconnect", "{said}");
    let frame = session.next().await.unwrap();
    assert_eq!(
        (frame.opcode, &frame.payload[..2]),
        (CLOSE, &4503u16.to_be_bytes()[..])
    );
    session.send(&close(4503, "")).await;
    assert_eq!(session.next().await, None);
    assert!(leaving.await.unwrap());
}

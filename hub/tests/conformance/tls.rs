//! The same under TLS, where the stream has a buffer of its own.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::{BINARY, CLOSE, LIMIT, Peer, Server, TEXT, binary, close, ping, text};

/// A hub with a certificate of its own, and a client's trust in it.
async fn start() -> (Server, TlsConnector, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::with(|settings| {
        settings.tls.cert = Some(cert);
        settings.tls.key = Some(key);
    });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server.await, TlsConnector::from(Arc::new(config)), folder)
}

async fn echo(server: &Server, tls: &TlsConnector) -> Peer<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tls.connect(name, server.tcp().await).await.unwrap();
    Peer::upgrade(stream, "/echo").await
}

#[tokio::test]
async fn messages_pass_under_tls() {
    let (server, tls, _folder) = start().await;
    assert!(server.hub.url().starts_with("https://"));
    let mut peer = echo(&server, &tls).await;
    for len in [0, 1, 125, 126, 65_535, 65_536, LIMIT] {
        peer.send(&text("a".repeat(len))).await;
        let got = peer.next().await.unwrap();
        assert_eq!((got.opcode, got.payload.len()), (TEXT, len));
    }
    peer.send(&[ping("p"), close(4000, "")].concat()).await;
    assert_eq!(peer.next().await.unwrap().payload, b"p");
    let got = peer.next().await.unwrap();
    assert_eq!(
        (got.opcode, &got.payload[..2]),
        (CLOSE, &4000u16.to_be_bytes()[..])
    );
    assert_eq!(peer.next().await, None);
}

/// TLS takes bytes that the socket does not: unless it is flushed, the last of them stay with it.
#[tokio::test]
async fn what_tls_holds_back_reaches_a_slow_reader() {
    let (server, tls, _folder) = start().await;
    let peer = echo(&server, &tls).await;
    let (mut reading, mut writing) = tokio::io::split(peer.stream);
    let messages = 12;
    let flood = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let message = binary(vec![7; LIMIT]);
        for _ in 0..messages {
            writing.write_all(&message).await.unwrap();
        }
        writing.flush().await.unwrap();
        writing
    });
    // Everything comes to a stand in between.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut all = vec![0; messages * (LIMIT + 10)];
    let read = tokio::io::AsyncReadExt::read_exact(&mut reading, &mut all);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("all of it comes").unwrap();
    assert_eq!(all[0], 0x80 | BINARY);
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn what_is_not_tls_is_hung_up_on() {
    let (server, _, _folder) = start().await;
    let mut plain = Peer::new(server.tcp().await);
    plain
        .send(super::wire::request("/echo", "").as_bytes())
        .await;
    let answer = plain.rest().await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

//! Services and proxies of one's own do what is asked of them: else every test of a fault would prove
//! nothing.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use loadtest::proxy::{Mode, Proxy};
use loadtest::services::{Appendonly, Postgres, Rabbit, Redis, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Sends a line to Redis and gives the first line of the answer.
async fn redis(address: SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    let mut answer = vec![0; 256];
    let got = stream.read(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer[..got]).into_owned();
    Ok(text.trim_end().to_owned())
}

/// Whether nothing comes from a server within that time.
async fn is_silent(work: impl Future<Output = std::io::Result<String>>) -> bool {
    tokio::time::timeout(Duration::from_millis(300), work)
        .await
        .is_err()
}

#[tokio::test]
async fn redis_keeps_what_it_is_told_to_keep() {
    let mut service = Service::start(Redis::keeping(Appendonly::Always))
        .await
        .unwrap();
    let address = service.address();
    assert_eq!(redis(address, "SET k v").await.unwrap(), "+OK");
    service.kill().await;
    assert!(redis(address, "PING").await.is_err());
    service.start_again().await.unwrap();
    assert_eq!(redis(address, "EXISTS k").await.unwrap(), ":1");
    service.restart().await.unwrap();
    assert_eq!(redis(address, "EXISTS k").await.unwrap(), ":1");
    service.pause();
    assert!(is_silent(redis(address, "PING")).await);
    service.resume();
    assert_eq!(redis(address, "PING").await.unwrap(), "+PONG");
    service.restart_empty().await.unwrap();
    assert_eq!(redis(address, "EXISTS k").await.unwrap(), ":0");
}

async fn psql(service: &Service, sql: &str) -> Result<String, String> {
    let url = service.url();
    let sql = sql.to_owned();
    let ask = move || Command::new("psql").args([&url, "-Atqc", &sql]).output();
    let output = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn postgres_survives_what_a_power_cut_does() {
    let mut service = Service::start(Postgres::default()).await.unwrap();
    psql(&service, "CREATE TABLE t (n INT)").await.unwrap();
    for n in 0..3 {
        psql(&service, &format!("INSERT INTO t VALUES ({n})"))
            .await
            .unwrap();
        if n == 0 {
            service.restart().await.unwrap();
        } else {
            service.kill().await;
            assert!(psql(&service, "SELECT 1").await.is_err());
            service.start_again().await.unwrap();
        }
    }
    assert_eq!(psql(&service, "SELECT count(*) FROM t").await.unwrap(), "3");
    assert_eq!(psql(&service, "SHOW fsync").await.unwrap(), "on");
    service.pause();
    let url = service.url();
    let asked = Instant::now();
    let waiting = tokio::task::spawn_blocking(move || {
        Command::new("psql").args([&url, "-c", "SELECT 1"]).output()
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    service.resume();
    assert!(waiting.await.unwrap().unwrap().status.success());
    assert!(asked.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn rabbit_is_killed_and_comes_back_on_its_port() {
    let mut service = Service::start(Rabbit::new().unwrap()).await.unwrap();
    let address = service.address();
    service.kill().await;
    assert!(TcpStream::connect(address).await.is_err());
    service.start_again().await.unwrap();
    assert_eq!(service.address(), address);
    TcpStream::connect(address).await.unwrap();
}

#[tokio::test]
async fn a_service_ends_with_its_owner() {
    let service = Service::start(Redis::keeping(Appendonly::Off))
        .await
        .unwrap();
    let (address, home) = (service.address(), service.home().to_owned());
    drop(service);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!home.exists());
}

/// A server that sends everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn round_trip(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_proxy_passes_stalls_delays_and_cuts() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut stream).await.unwrap(), "hello");
    assert_eq!((proxy.bytes_to_server(), proxy.bytes_to_client()), (5, 5));

    for mode in [Mode::Stall, Mode::StallToServer, Mode::StallToClient] {
        let before = (proxy.bytes_to_server(), proxy.bytes_to_client());
        proxy.set(mode);
        assert!(is_silent(round_trip(&mut stream)).await, "{mode:?}");
        let arrived = proxy.bytes_to_server() - before.0;
        assert_eq!(arrived, if mode == Mode::StallToClient { 5 } else { 0 });
        proxy.set(Mode::Pass);
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello", "what was held goes on: {mode:?}");
    }

    proxy.set(Mode::Delay(Duration::from_millis(80)));
    let asked = Instant::now();
    assert_eq!(round_trip(&mut stream).await.unwrap(), "hello");
    assert!(asked.elapsed() >= Duration::from_millis(160));
    proxy.set(Mode::Pass);

    proxy.reset();
    let error = round_trip(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut stream).await.unwrap(), "hello");

    proxy.set(Mode::Cut);
    assert!(round_trip(&mut stream).await.is_err());
    let refused = async {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        round_trip(&mut stream).await
    };
    assert!(refused.await.is_err());
    proxy.set(Mode::Pass);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut stream).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_proxy_loses_nothing_of_much_and_passes_the_end_on() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&copy).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    from.read_to_end(&mut got).await.unwrap();
    sending.await.unwrap();
    assert!(got == sent);
    assert_eq!(proxy.bytes_to_client(), sent.len() as u64);
}

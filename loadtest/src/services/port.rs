//! Ports for servers that are stopped and started again.
//!
//! They lie below the range that the system takes for outgoing connections: else one of those could
//! hold the port while its server is down.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rand::Rng as _;

/// From where ports are taken; Linux gives outgoing connections 32,768 and more.
const RANGE: std::ops::Range<u16> = 12_000..32_000;
/// How many are tried.
const TRIES: usize = 200;

/// A port that nobody listens on now.
pub(super) fn free() -> io::Result<u16> {
    let mut random = rand::rng();
    (0..TRIES)
        .map(|_| random.random_range(RANGE))
        .find(|port| is_free(*port))
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))
}

/// Whether nobody listens on a port now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether a server answers `question` with what begins with `answer`, within a second.
pub(super) async fn says(
    address: std::net::SocketAddr,
    question: &'static [u8],
    answer: &'static [u8],
) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(question).await?;
        let mut told = vec![0; answer.len()];
        stream.read_exact(&mut told).await?;
        io::Result::Ok(told == answer)
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(1), ask).await;
    matches!(asked, Ok(Ok(true)))
}

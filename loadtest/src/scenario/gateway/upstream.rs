//! A bare service to stand behind the gateway: it answers every request with the same bytes, at once or
//! after a delay.
//!
//! Owns the hidden subcommand and the child process that runs it. It reads heads and skips bodies of a known
//! length, and knows nothing else of HTTP: it is the floor that the gateway is measured above.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::exchange::{content_length, head_end};
use crate::error::{Error, Result};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 64\r\n\r\n\
    {\"answer\":\"012345678901234567890123456789012345678901234567890\"}";
const ANNOUNCEMENT: &str = "listening on ";
/// Longest head that is read.
const MAX_HEAD: usize = 64 * 1024;

/// The hidden subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Milliseconds that every answer waits
    #[arg(long, default_value_t = 0)]
    delay: u64,
}

/// Serves until stdin closes, so that it never outlives who started it.
pub(crate) fn run(args: &Args) -> Result<()> {
    crate::process::raise_descriptors()?;
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(serve(Duration::from_millis(args.delay)))
}

async fn serve(delay: Duration) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(Error::io("listening"))?;
    let address = listener.local_addr().map_err(Error::io("listening"))?;
    println!("{ANNOUNCEMENT}{address}");
    loop {
        let (stream, _) = listener.accept().await.map_err(Error::io("accepting"))?;
        stream.set_nodelay(true).map_err(Error::io("accepting"))?;
        // A caller that goes away has ended its own connection alone.
        tokio::spawn(async move { connection(stream, delay).await.ok() });
    }
}

async fn connection(mut stream: TcpStream, delay: Duration) -> std::io::Result<()> {
    let mut have = Vec::new();
    let mut scratch = vec![0; 16 * 1024];
    loop {
        let end = loop {
            if let Some(end) = head_end(&have) {
                break end;
            }
            match stream.read(&mut scratch).await? {
                0 => return Ok(()),
                read if have.len() + read <= MAX_HEAD => have.extend_from_slice(&scratch[..read]),
                _ => return Ok(()),
            }
        };
        let mut left = content_length(&have[..end]).unwrap_or(0);
        have.drain(..end);
        while left > 0 {
            let taken = left.min(have.len());
            have.drain(..taken);
            left -= taken;
            if left > 0 {
                match stream.read(&mut scratch).await? {
                    0 => return Ok(()),
                    read => have.extend_from_slice(&scratch[..read]),
                }
            }
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        stream.write_all(ANSWER).await?;
    }
}

/// A running bare service; dropping it kills it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    child: Child,
}

impl Upstream {
    /// Starts one.
    pub(super) fn start(delay: Duration) -> Result<Self> {
        let binary = std::env::current_exe().map_err(Error::io("finding the own binary"))?;
        let mut child = Command::new(binary)
            .args(["bare-upstream", "--delay", &delay.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io("starting an upstream"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(Error::io("reading an upstream's address"))?;
        }
        let said = line.trim().strip_prefix(ANNOUNCEMENT);
        let mut upstream = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
        };
        let address = said.and_then(|address| address.parse().ok());
        upstream.address = address
            .ok_or_else(|| Error::Server("an upstream did not say where it listens".to_owned()))?;
        Ok(upstream)
    }

    /// Kills it as a crash would.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let end = head_end(ANSWER).unwrap();
        assert_eq!(content_length(&ANSWER[..end]), Some(ANSWER.len() - end));
    }
}

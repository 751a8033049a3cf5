//! A hub to talk to, a client that can say anything, and tables of cases.

use std::net::SocketAddr;
use std::time::Duration;

use hub::config::{Demo, Settings};
use hub::node::Hub;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most that `/echo` takes in these tests.
pub(crate) const LIMIT: usize = 1 << 20;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CONTINUE: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
pub(crate) const FIN: u8 = 0x80;

/// A hub that listens on a free port, without demo, with `/echo`.
pub(crate) struct Server {
    pub(crate) hub: Hub,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data.path().to_owned(),
            echo: true,
            demo: Demo::Off,
            ..Settings::default()
        };
        settings.collab.message_bytes = LIMIT;
        change(&mut settings);
        let hub = Hub::bind(settings).await.unwrap();
        Self { hub, _data: data }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.hub.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client of `/echo`.
    pub(crate) async fn echo(&self) -> Peer<TcpStream> {
        Peer::upgrade(self.tcp().await, "/echo").await
    }

    pub(crate) async fn run(&self, cases: Vec<Case>) {
        for case in cases {
            case.run(self).await;
        }
    }
}

/// The request of a well-behaved client; `more` are further header lines.
pub(crate) fn request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A client after the handshake.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

/// A frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) async fn upgrade(stream: S, path: &str) -> Self {
        let mut peer = Self::new(stream);
        peer.send(request(path, "").as_bytes()).await;
        let head = peer.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        peer
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The head of an HTTP response.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.unread.split_off(end + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "the connection ended within a head");
        }
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await;
        let read = read.expect("the hub says nothing").unwrap_or(0);
        self.unread.extend_from_slice(&chunk[..read]);
        read > 0
    }

    /// The next frame; `None` at the end of the stream. A server masks nothing, reserves nothing, and
    /// writes lengths as short as they can be.
    pub(crate) async fn next(&mut self) -> Option<Got> {
        loop {
            if let Some((got, used)) = parse(&self.unread) {
                self.unread.drain(..used);
                return Some(got);
            }
            if !self.fill().await {
                assert_eq!(self.unread, b"", "the stream ended within a frame");
                return None;
            }
        }
    }

    /// The next frame that is not a ping.
    pub(crate) async fn answer(&mut self) -> Got {
        loop {
            let got = self.next().await.expect("a frame, not the end");
            if got.opcode != PING {
                return got;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Got, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, FIN, "whole messages, no reserved bits");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (len, start) = match second {
        126 => {
            let len = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            assert!(len > 125, "a minimal length");
            (usize::from(len), 4)
        }
        127 => {
            let len = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            assert!(len > 0xffff, "a minimal length");
            (usize::try_from(len).unwrap(), 10)
        }
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(start..start + len)?.to_vec();
    let opcode = first & 0x0f;
    Some((Got { opcode, payload }, start + len))
}

/// A client's frame; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

pub(crate) fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_ref())
}

pub(crate) fn binary(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | BINARY, payload.as_ref())
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PING, payload.as_ref())
}

/// A frame that another continues.
pub(crate) fn part(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(opcode, payload.as_ref())
}

/// The last frame of a fragmented message.
pub(crate) fn last(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | CONTINUE, payload.as_ref())
}

pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.as_bytes());
    frame(FIN | CLOSE, &payload)
}

/// How the bytes of a case are cut into writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    Whole,
    /// Every so many bytes, each written and flushed by itself.
    Every(usize),
}

/// What goes out, and what must come back.
pub(crate) struct Case {
    name: String,
    send: Vec<u8>,
    cut: Cut,
    want: Vec<Got>,
    /// The code with which the hub must close; `None`: the connection is fine to the end.
    closes: Option<u16>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, send: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            send: send.into_iter().flatten().collect(),
            cut: Cut::Whole,
            want: Vec::new(),
            closes: None,
        }
    }

    pub(crate) fn cut(mut self, every: usize) -> Self {
        self.cut = Cut::Every(every);
        self
    }

    fn gives(mut self, opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref().to_vec();
        self.want.push(Got { opcode, payload });
        self
    }

    pub(crate) fn text(self, payload: impl AsRef<[u8]>) -> Self {
        self.gives(TEXT, payload)
    }

    pub(crate) fn binary(self, payload: impl AsRef<[u8]>) -> Self {
        self.gives(BINARY, payload)
    }

    pub(crate) fn pong(self, payload: impl AsRef<[u8]>) -> Self {
        self.gives(PONG, payload)
    }

    pub(crate) fn closes(mut self, code: u16) -> Self {
        self.closes = Some(code);
        self
    }

    async fn run(mut self, server: &Server) {
        let mut peer = server.echo().await;
        // A connection that lives on is closed by the client: so nothing unasked for goes unseen.
        let code = self.closes.unwrap_or_else(|| {
            self.send.extend(close(1000, ""));
            1000
        });
        let step = match self.cut {
            Cut::Whole => self.send.len().max(1),
            Cut::Every(bytes) => bytes,
        };
        for chunk in self.send.chunks(step) {
            // The hub may have refused already and hung up, which is what is to be seen then.
            if peer.stream.write_all(chunk).await.is_err() {
                break;
            }
            if matches!(self.cut, Cut::Every(_)) {
                tokio::task::yield_now().await;
            }
        }
        let name = &self.name;
        for want in &self.want {
            let got = peer.next().await;
            assert!(got.as_ref() == Some(want), "{name}: {}", Short(&got));
        }
        let got = peer.next().await.expect("a close frame, not the end");
        assert_eq!(got.opcode, CLOSE, "{name}: {}", Short(&Some(got.clone())));
        assert_eq!(got.payload[..2], code.to_be_bytes(), "{name}: {got:?}");
        assert!(std::str::from_utf8(&got.payload[2..]).is_ok(), "{name}");
        assert_eq!(peer.next().await, None, "{name}: nothing follows a close");
    }
}

/// A frame, cut to what a person reads.
struct Short<'a>(&'a Option<Got>);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(got) = self.0 else {
            return f.write_str("the end");
        };
        let start = &got.payload[..got.payload.len().min(40)];
        let text = String::from_utf8_lossy(start);
        write!(
            f,
            "opcode {}, {} bytes: {text}",
            got.opcode,
            got.payload.len()
        )
    }
}

//! A raw WebSocket to any endpoint: connect with headers, send, hear, with deadlines.
//!
//! Knows nothing of Tandem's frames.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message};

use super::{TestHub, soon};

/// What was heard on a socket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Ping,
    /// A close frame with this code and reason; 1005 if it had none.
    Closed(u16, String),
    /// The connection ended without one.
    Cut,
}

/// A WebSocket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

/// What a connection is opened with.
#[derive(Debug, Default, Clone)]
pub(crate) struct Opening {
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Size of the receive buffer in bytes, if not the system's own.
    pub(crate) receive_buffer: Option<u32>,
}

impl Opening {
    /// With a small receive buffer, so that a client that does not read is felt soon.
    pub(crate) fn narrow() -> Self {
        Self {
            receive_buffer: Some(4096),
            ..Self::default()
        }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Offers subprotocols.
    pub(crate) fn offer(self, names: &[&str]) -> Self {
        self.header("sec-websocket-protocol", names.join(", "))
    }

    /// Opens the WebSocket; the HTTP status if it was refused.
    pub(crate) async fn open(self, hub: &TestHub, path: &str) -> Result<Socket, u16> {
        self.open_at(hub.address(), path).await
    }

    /// As [`Self::open`], at an address.
    pub(crate) async fn open_at(self, address: SocketAddr, path: &str) -> Result<Socket, u16> {
        let tcp = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = self.receive_buffer {
            tcp.set_recv_buffer_size(bytes).expect("a receive buffer");
        }
        let stream = soon("a TCP connection", tcp.connect(address))
            .await
            .map_err(|_| 0_u16)?;
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .expect("a URL");
        for (name, value) in self.headers {
            let value = HeaderValue::from_str(&value).expect("a header value");
            request
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None)
            .max_write_buffer_size(usize::MAX);
        let opened = client_async_with_config(request, stream, Some(config));
        match soon("a WebSocket handshake", opened).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("the handshake on {path} failed: {other}"),
        }
    }
}

impl Socket {
    /// Sends a message; `false` if the connection has ended.
    pub(crate) async fn send(&mut self, message: Message) -> bool {
        soon("a message is sent", self.0.send(message))
            .await
            .is_ok()
    }

    /// Sends a binary message.
    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) -> bool {
        self.send(Message::Binary(bytes.to_vec().into())).await
    }

    /// Sends a text message.
    pub(crate) async fn send_text(&mut self, text: &str) -> bool {
        self.send(Message::text(text)).await
    }

    /// What comes next.
    pub(crate) async fn hear(&mut self) -> Heard {
        soon("anything on the socket", self.hear_any()).await
    }

    /// What comes within that time, if anything.
    pub(crate) async fn hear_within(&mut self, most: Duration) -> Option<Heard> {
        tokio::time::timeout(most, self.hear_any()).await.ok()
    }

    /// What comes next, however long it takes. Cancelling it loses nothing.
    pub(crate) async fn hear_any(&mut self) -> Heard {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Text(text))) => Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => Heard::Binary(bytes.to_vec()),
                Some(Ok(Message::Pong(bytes))) => Heard::Pong(bytes.to_vec()),
                Some(Ok(Message::Ping(_))) => Heard::Ping,
                Some(Ok(Message::Close(frame))) => match frame {
                    Some(frame) => Heard::Closed(frame.code.into(), frame.reason.to_string()),
                    None => Heard::Closed(1005, String::new()),
                },
                Some(Ok(Message::Frame(_))) => continue,
                Some(Err(_)) | None => Heard::Cut,
            };
        }
    }

    /// Reads on until the hub closes the socket; the code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        soon("the hub closes the socket", async {
            loop {
                match self.hear_any().await {
                    Heard::Closed(code, _) => return code,
                    Heard::Cut => return 1006,
                    _ => {}
                }
            }
        })
        .await
    }

    /// Ends it as a client should.
    pub(crate) async fn leave(mut self) {
        // The hub may have been faster.
        let _ = soon("a close frame is sent", self.0.close(None)).await;
    }
}

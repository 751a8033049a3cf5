//! A session on `/ws`, in either encoding: requests and their replies, and what the hub pushes.
//!
//! Holds the hub to one reply per request: a second one, or one that nobody asked for, fails the test.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use protocol::frame::{SUBPROTOCOL_BEARER, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK};
use protocol::{DeliveryClass, Position};
use serde_json::Value;
use tungstenite::Message;

use super::socket::Opening;
use super::{ClientFrame, Encoding, ErrorCode, Heard, Person, ServerFrame, Socket, TestHub, soon};

/// A session.
pub(crate) struct Session {
    pub(crate) socket: Socket,
    pub(crate) encoding: Encoding,
    next_id: u32,
    unanswered: HashSet<u32>,
    /// Frames that nobody has asked for yet.
    pub(crate) pushed: VecDeque<ServerFrame>,
    /// How the socket ended, once it has.
    pub(crate) ended: Option<Heard>,
}

/// The subprotocol of an encoding.
pub(crate) fn subprotocol(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => SUBPROTOCOL_JSON,
        Encoding::MsgPack => SUBPROTOCOL_MSGPACK,
    }
}

/// The request that a frame answers.
pub(crate) fn answers(frame: &ServerFrame) -> Option<u32> {
    match frame {
        ServerFrame::Connected { id, .. }
        | ServerFrame::Subscribed { id, .. }
        | ServerFrame::Ack { id, .. }
        | ServerFrame::History { id, .. }
        | ServerFrame::Pong { id, .. } => Some(*id),
        ServerFrame::Error { id, .. }
        | ServerFrame::Presence { id, .. }
        | ServerFrame::Doc { id, .. } => *id,
        _ => None,
    }
}

/// A frame that publishes JSON to a channel.
pub(crate) fn publish(id: u32, channel: &str, data: Value) -> ClientFrame {
    ClientFrame::Publish {
        id,
        channel: channel.to_owned(),
        data: Some(data),
        bytes: None,
        class: None,
        key: None,
        idempotency_key: None,
    }
}

/// A frame that publishes JSON with a class and a key.
pub(crate) fn publish_as(
    id: u32,
    channel: &str,
    data: Value,
    class: DeliveryClass,
    key: Option<&str>,
) -> ClientFrame {
    ClientFrame::Publish {
        id,
        channel: channel.to_owned(),
        data: Some(data),
        bytes: None,
        class: Some(class),
        key: key.map(str::to_owned),
        idempotency_key: None,
    }
}

impl Session {
    /// Opens one with the person's token in the `Authorization` header, and reads `connected`.
    pub(crate) async fn open(hub: &TestHub, person: &Person, encoding: Encoding) -> Self {
        Self::open_by(Opening::default(), hub, person, encoding).await
    }

    /// As [`Self::open`], with a small receive buffer: its client will stop reading.
    pub(crate) async fn open_narrow(hub: &TestHub, person: &Person, encoding: Encoding) -> Self {
        Self::open_by(Opening::narrow(), hub, person, encoding).await
    }

    /// As [`Self::open`], over a connection of that kind.
    pub(crate) async fn open_by(
        opening: Opening,
        hub: &TestHub,
        person: &Person,
        encoding: Encoding,
    ) -> Self {
        let opening = opening
            .header("authorization", format!("Bearer {}", person.token))
            .offer(&[subprotocol(encoding)]);
        let socket = opening.open(hub, "/ws").await.expect("an upgrade");
        let mut session = Self::from_socket(socket, encoding);
        let hello = session.next().await;
        assert!(
            matches!(hello, ServerFrame::Connected { id: 0, .. }),
            "{hello:?}"
        );
        session
    }

    /// Opens one with the token as a subprotocol, as browsers do.
    pub(crate) async fn open_as_browser(hub: &TestHub, token: &str, encoding: Encoding) -> Self {
        let bearer = format!("{SUBPROTOCOL_BEARER}{token}");
        let opening = Opening::default().offer(&[&bearer, subprotocol(encoding)]);
        Self::from_socket(
            opening.open(hub, "/ws").await.expect("an upgrade"),
            encoding,
        )
    }

    /// Opens one without a token.
    pub(crate) async fn open_unknown(hub: &TestHub, encoding: Encoding) -> Self {
        let opening = Opening::default().offer(&[subprotocol(encoding)]);
        Self::from_socket(
            opening.open(hub, "/ws").await.expect("an upgrade"),
            encoding,
        )
    }

    /// A session over a socket.
    pub(crate) fn from_socket(socket: Socket, encoding: Encoding) -> Self {
        Self {
            socket,
            encoding,
            next_id: 1,
            // `connected` of a handshake with a token has id 0.
            unanswered: HashSet::from([0]),
            pushed: VecDeque::new(),
            ended: None,
        }
    }

    /// A number for the next request.
    pub(crate) fn take_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a frame; `false` if the connection has ended.
    pub(crate) async fn send(&mut self, frame: &ClientFrame) -> bool {
        let value = serde_json::to_value(frame).expect("JSON");
        if let Some(id) = value.get("id").and_then(Value::as_u64) {
            self.unanswered.insert(id as u32);
        }
        let bytes = self.encoding.encode(frame);
        self.send_raw(&bytes).await
    }

    /// Sends bytes as a message of the session's kind.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> bool {
        let message = match self.encoding {
            Encoding::Json => Message::text(String::from_utf8_lossy(bytes).into_owned()),
            Encoding::MsgPack => Message::Binary(bytes.to_vec().into()),
        };
        self.socket.send(message).await
    }

    /// Sends any value as a frame, an unknown type or field included.
    pub(crate) async fn send_value(&mut self, value: &Value) -> bool {
        if let Some(id) = value.get("id").and_then(Value::as_u64) {
            self.unanswered.insert(id as u32);
        }
        let bytes = self.encoding.encode(value);
        self.send_raw(&bytes).await
    }

    /// The next frame, or `None` at the end of the socket. Cancelling it loses nothing.
    pub(crate) async fn read(&mut self) -> Option<ServerFrame> {
        loop {
            let bytes = match (self.socket.hear_any().await, self.encoding) {
                (Heard::Text(text), Encoding::Json) => text.into_bytes(),
                (Heard::Binary(bytes), Encoding::MsgPack) => bytes,
                (Heard::Ping | Heard::Pong(_), _) => continue,
                (end @ (Heard::Closed(..) | Heard::Cut), _) => {
                    self.ended = Some(end);
                    return None;
                }
                (other, _) => panic!("a message of the wrong kind: {other:?}"),
            };
            let frame: ServerFrame = self.encoding.decode(&bytes).expect("a frame of the hub");
            if let Some(id) = answers(&frame) {
                let again = matches!(frame, ServerFrame::Subscribed { id: 0, .. })
                    || matches!(frame, ServerFrame::Error { id: Some(0), .. });
                let first = self.unanswered.remove(&id);
                assert!(first || again, "a reply that nobody waits for: {frame:?}");
            }
            return Some(frame);
        }
    }

    /// The next frame, those put aside first.
    pub(crate) async fn next(&mut self) -> ServerFrame {
        if let Some(frame) = self.pushed.pop_front() {
            return frame;
        }
        let frame = soon("a frame", self.read()).await;
        frame.unwrap_or_else(|| panic!("the session ended: {:?}", self.ended))
    }

    /// Whatever comes within that time, those put aside first.
    pub(crate) async fn next_within(&mut self, most: Duration) -> Option<ServerFrame> {
        if let Some(frame) = self.pushed.pop_front() {
            return Some(frame);
        }
        tokio::time::timeout(most, self.read()).await.ok().flatten()
    }

    /// Sends a request and gives its reply; what is pushed meanwhile is put aside.
    pub(crate) async fn request(&mut self, make: impl FnOnce(u32) -> ClientFrame) -> ServerFrame {
        let id = self.take_id();
        let frame = make(id);
        assert!(
            self.send(&frame).await,
            "the session has ended: {:?}",
            self.ended
        );
        self.reply_to(id).await
    }

    /// The reply to a request that was sent.
    pub(crate) async fn reply_to(&mut self, id: u32) -> ServerFrame {
        let what = format!("the reply to request {id}");
        soon(&what, async {
            loop {
                let frame = self.read().await;
                let frame = frame.unwrap_or_else(|| panic!("no reply: {:?}", self.ended));
                if answers(&frame) == Some(id) {
                    return frame;
                }
                self.pushed.push_back(frame);
            }
        })
        .await
    }

    /// As [`Self::request`], for one that is refused: its code and `retry_after_ms`.
    pub(crate) async fn refused(
        &mut self,
        make: impl FnOnce(u32) -> ClientFrame,
    ) -> (ErrorCode, Option<u64>) {
        match self.request(make).await {
            ServerFrame::Error {
                code,
                retry_after_ms,
                ..
            } => (code, retry_after_ms),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The first pushed frame that is meant; others are put aside.
    pub(crate) async fn pushed(
        &mut self,
        what: &str,
        is_meant: impl Fn(&ServerFrame) -> bool,
    ) -> ServerFrame {
        if let Some(at) = self.pushed.iter().position(&is_meant) {
            return self.pushed.remove(at).expect("it was found");
        }
        soon(what, async {
            loop {
                let frame = self.read().await;
                let frame = frame.unwrap_or_else(|| panic!("{what}: ended {:?}", self.ended));
                if is_meant(&frame) {
                    return frame;
                }
                self.pushed.push_back(frame);
            }
        })
        .await
    }

    /// Subscribes; the whole reply.
    pub(crate) async fn subscribe(
        &mut self,
        channel: &str,
        position: Option<Position>,
        presence: bool,
    ) -> ServerFrame {
        let channel = channel.to_owned();
        let reply = self.request(|id| ClientFrame::Subscribe {
            id,
            channel,
            position,
            presence,
        });
        reply.await
    }

    /// Subscribes from now on; where the channel stands.
    pub(crate) async fn follow(&mut self, channel: &str) -> Position {
        match self.subscribe(channel, None, false).await {
            ServerFrame::Subscribed { epoch, offset, .. } => Position { epoch, offset },
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// Publishes JSON as a reliable message; its position.
    pub(crate) async fn say(&mut self, channel: &str, data: Value) -> Position {
        match self.request(|id| publish(id, channel, data)).await {
            ServerFrame::Ack {
                position: Some(position),
                ..
            } => position,
            other => panic!("not published: {other:?}"),
        }
    }

    /// The next message of a channel: offset and data.
    pub(crate) async fn message(&mut self, on: &str) -> (Option<u64>, Value) {
        let is_meant = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { channel, .. } if channel == on);
        match self.pushed("a message", is_meant).await {
            ServerFrame::Message { offset, data, .. } => (offset, data.unwrap_or_default()),
            other => unreachable!("{other:?} is no message"),
        }
    }

    /// Reads on until the hub closes the session; the code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let end = soon("the hub closes the session", async {
            while let Some(frame) = self.read().await {
                self.pushed.push_back(frame);
            }
            self.ended.clone()
        });
        match end.await {
            Some(Heard::Closed(code, _)) => code,
            _ => 1006,
        }
    }

    /// Asks for a pong: whatever the hub had to say before has been read when it comes.
    pub(crate) async fn ping(&mut self) {
        let pong = self.request(|id| ClientFrame::Ping { id }).await;
        assert!(matches!(pong, ServerFrame::Pong { .. }), "{pong:?}");
    }
}

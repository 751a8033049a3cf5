//! A session on `/ws` over the lean client: token in the `Authorization` header, MessagePack frames.
//!
//! Owns the ramp of many sessions; never decides what they are for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use indicatif::ProgressBar;
use protocol::{ClientFrame, Encoding, ServerFrame, frame};

use crate::client::Socket;
use crate::error::{Error, Result};

/// Encodes a frame for the hub.
pub(crate) fn encode(frame: &ClientFrame) -> Vec<u8> {
    Encoding::MsgPack.encode(frame)
}

/// Decodes a frame of the hub.
pub(crate) fn decode(message: &[u8]) -> Result<ServerFrame> {
    Encoding::MsgPack
        .decode(message)
        .map_err(|e| Error::Protocol(e.to_string()))
}

/// Connects a session and waits until it is authenticated.
pub(crate) fn connect(address: SocketAddr, token: &str) -> Result<Socket> {
    let headers = [
        format!("Authorization: Bearer {token}"),
        format!("Sec-WebSocket-Protocol: {}", frame::SUBPROTOCOL_MSGPACK),
    ];
    let mut socket = Socket::connect(address, "/ws", &headers)?;
    answer(&mut socket, "connecting", |frame| {
        matches!(frame, ServerFrame::Connected { .. })
    })?;
    Ok(socket)
}

/// Connects a session and follows one channel.
pub(crate) fn subscribe(address: SocketAddr, token: &str, channel: &str) -> Result<Socket> {
    let mut socket = connect(address, token)?;
    socket.send(&encode(&ClientFrame::Subscribe {
        id: 1,
        channel: channel.to_owned(),
        position: None,
        presence: false,
    }))?;
    answer(&mut socket, "subscribing", |frame| {
        matches!(frame, ServerFrame::Subscribed { .. })
    })?;
    Ok(socket)
}

/// Waits for the frame that answers a request; an `error` in its stead ends the wait.
pub(crate) fn answer(
    socket: &mut Socket,
    what: &str,
    is_answer: impl Fn(&ServerFrame) -> bool,
) -> Result<ServerFrame> {
    loop {
        let frame = decode(&socket.receive()?)?;
        if is_answer(&frame) {
            return Ok(frame);
        }
        if let ServerFrame::Error { code, message, .. } = frame {
            return Err(Error::Refused {
                what: what.to_owned(),
                answer: format!("{}: {message}", code.as_str()),
            });
        }
    }
}

/// Opens `count` connections, at most `width` at a time; the n-th is made by `open(n)`.
pub(crate) fn ramp(
    count: usize,
    width: usize,
    bar: &ProgressBar,
    open: impl Fn(usize) -> Result<Socket> + Sync,
) -> Result<Vec<Socket>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let worker = || -> Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let socket = open(index).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            sockets.push(socket);
            bar.inc(1);
        }
        Ok(sockets)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..width.max(1)).map(|_| scope.spawn(worker)).collect();
        let mut sockets = Vec::with_capacity(count);
        for worker in workers {
            let opened = worker
                .join()
                .unwrap_or_else(|_| Err(Error::Server("a connecting thread failed".into())))?;
            sockets.extend(opened);
        }
        Ok(sockets)
    })
}

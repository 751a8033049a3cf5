//! A lean WebSocket client over a plain socket: the handshake, masked frames out, frame headers in.
//!
//! It blocks, so that a paced ramp of thousands of connections is a plain loop; `fleet` takes the
//! sockets over once they are connected. Never understands what a message holds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::error::{Error, Result};

/// Binary message.
pub(crate) const BINARY: u8 = 2;
/// Close frame.
pub(crate) const CLOSE: u8 = 8;
/// Ping frame.
pub(crate) const PING: u8 = 9;
/// Pong frame.
pub(crate) const PONG: u8 = 10;

/// How long one answer may take during the ramp.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest answer to a handshake.
const MAX_HEAD: usize = 16 * 1024;

/// A connected WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// What has been read beyond the last message.
    rest: Vec<u8>,
}

impl Socket {
    /// Connects and upgrades; `headers` are whole lines without their ends.
    pub(crate) fn connect(address: SocketAddr, path: &str, headers: &[String]) -> Result<Self> {
        let stream = TcpStream::connect(address).map_err(Error::io("connecting"))?;
        stream.set_nodelay(true).map_err(Error::io("connecting"))?;
        let key = generate_key();
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut socket = Self {
            stream,
            rest: Vec::new(),
        };
        socket
            .stream
            .set_read_timeout(Some(ANSWER))
            .map_err(Error::io("connecting"))?;
        socket
            .stream
            .write_all(request.as_bytes())
            .map_err(Error::io("handshake"))?;
        socket.finish_handshake(&derive_accept_key(key.as_bytes()))?;
        Ok(socket)
    }

    fn finish_handshake(&mut self, accept: &str) -> Result<()> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.rest.len() > MAX_HEAD {
                return Err(Error::Protocol("the handshake's answer has no end".into()));
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..end);
        let status = head.lines().next().unwrap_or_default().to_owned();
        if !status.starts_with("HTTP/1.1 101") {
            let body = String::from_utf8_lossy(&self.rest);
            return Err(Error::Refused {
                what: "the upgrade".into(),
                answer: format!("{status} {body}"),
            });
        }
        let accepted = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .any(|(k, v)| k.eq_ignore_ascii_case("sec-websocket-accept") && v.trim() == accept);
        if accepted {
            Ok(())
        } else {
            Err(Error::Protocol(
                "the handshake's answer has a wrong accept key".into(),
            ))
        }
    }

    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::Protocol("the server hung up".into())),
                Ok(n) => {
                    self.rest.extend_from_slice(&buffer[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("waiting for an answer")(e)),
            }
        }
    }

    /// Sends one binary message.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        encode_masked(BINARY, payload, &mut frame);
        self.stream.write_all(&frame).map_err(Error::io("sending"))
    }

    /// Waits for the next binary message; answers pings on the way.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            let Some(header) = Header::read(&self.rest)? else {
                self.fill()?;
                continue;
            };
            if self.rest.len() < header.end() {
                self.fill()?;
                continue;
            }
            let payload = self.rest[header.length..header.end()].to_vec();
            self.rest.drain(..header.end());
            match header.opcode {
                BINARY => return Ok(payload),
                PING => {
                    let mut pong = Vec::new();
                    encode_masked(PONG, &payload, &mut pong);
                    self.stream.write_all(&pong).map_err(Error::io("sending"))?;
                }
                CLOSE => return Err(closed(&payload)),
                PONG => {}
                other => return Err(Error::Protocol(format!("unexpected opcode {other}"))),
            }
        }
    }

    /// Gives up the socket, and what has been read from it beyond the last message.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.rest)
    }
}

/// A close frame as an error, with code and reason.
pub(crate) fn closed(payload: &[u8]) -> Error {
    let text = match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("{code} {}", String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    };
    Error::Protocol(format!("the server closed the connection: {text}"))
}

/// Appends one final masked frame, as a client has to send it.
pub(crate) fn encode_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    encode_length(0x80, payload.len(), out);
    let mask = rand::random::<u32>().to_ne_bytes();
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask);
}

/// Appends one final unmasked binary frame, as a server sends it.
pub(crate) fn encode_unmasked(payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | BINARY);
    encode_length(0, payload.len(), out);
    out.extend_from_slice(payload);
}

fn encode_length(mask_bit: u8, length: usize, out: &mut Vec<u8>) {
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Applies or takes off a mask.
pub(crate) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[index & 3];
    }
}

/// The head of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// What kind of frame it is.
    pub(crate) opcode: u8,
    /// Bytes of the header itself, mask included.
    pub(crate) length: usize,
    /// Bytes of the payload.
    pub(crate) payload: usize,
    /// The mask, of a client's frame.
    pub(crate) mask: Option<[u8; 4]>,
}

/// Longest frame accepted.
const MAX_FRAME: u64 = 64 << 20;

impl Header {
    /// Reads a header from the start of `bytes`; none if it is not all there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x80 == 0 || first & 0x70 != 0 {
            // The measurements stay below the size at which a server would fragment.
            return Err(Error::Protocol(format!(
                "unexpected frame, first byte {first:#x}"
            )));
        }
        let (payload, extended) = match second & 0x7F {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if payload > MAX_FRAME {
            return Err(Error::Protocol(format!("a frame of {payload} bytes")));
        }
        let mask = if second & 0x80 == 0 {
            None
        } else {
            match rest[extended..].first_chunk::<4>() {
                Some(mask) => Some(*mask),
                None => return Ok(None),
            }
        };
        Ok(Some(Self {
            opcode: first & 0x0F,
            length: 2 + extended + if mask.is_some() { 4 } else { 0 },
            payload: payload as usize,
            mask,
        }))
    }

    /// Where the frame ends.
    pub(crate) fn end(&self) -> usize {
        self.length + self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_class_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut masked = Vec::new();
            encode_masked(BINARY, &payload, &mut masked);
            let header = Header::read(&masked).unwrap().unwrap();
            assert_eq!((header.opcode, header.end()), (BINARY, masked.len()));
            let mut body = masked[header.length..].to_vec();
            unmask(&mut body, header.mask.unwrap());
            assert_eq!(body, payload);
            for cut in 0..header.length {
                assert_eq!(Header::read(&masked[..cut]).unwrap(), None, "cut at {cut}");
            }
            let mut plain = Vec::new();
            encode_unmasked(&payload, &mut plain);
            let header = Header::read(&plain).unwrap().unwrap();
            assert_eq!((header.mask, header.end()), (None, plain.len()));
            assert_eq!(&plain[header.length..], payload);
        }
    }

    #[test]
    fn fragments_and_giants_are_refused() {
        assert!(Header::read(&[0x02, 0x01, 0x00]).is_err());
        assert!(Header::read(&[0xC2, 0x01, 0x00]).is_err());
        assert!(Header::read(&[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}

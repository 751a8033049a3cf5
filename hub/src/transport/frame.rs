//! The frame codec of RFC 6455, server side, pure: bytes in, events out.
//!
//! [`Codec::next`] takes one step over a buffer that the caller owns: it unmasks in place and hands out
//! slices of it, so that a whole message is never copied; only the parts of a fragmented message are
//! kept. It holds a peer to the whole of the RFC: masking, reserved bits and opcodes, minimal lengths,
//! control frames (unfragmented, at most 125 bytes, allowed between fragments), continuation order,
//! UTF-8 of a text message across its fragments, close codes.

use std::sync::Arc;

use protocol::{Encoding, ServerFrame};

use crate::sendq::Frame;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;
/// Longest header of a client's frame: 2 bytes, a 64-bit length, a mask.
const MAX_HEADER: usize = 14;

/// Opcodes (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continue = 0,
    /// A UTF-8 message.
    Text = 1,
    /// A binary message.
    Binary = 2,
    /// Starts or answers the closing handshake.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continue,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// How a peer broke the protocol; each has its close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 was broken: close code 1002.
    #[error("{0}")]
    Protocol(&'static str),
    /// A text message is not UTF-8: close code 1007.
    #[error("a text message is not UTF-8")]
    Utf8,
    /// A message is over the limit: close code 1009.
    #[error("a message is over the limit")]
    TooBig,
}

impl Violation {
    /// The close code and reason to send.
    #[must_use]
    pub fn close(self) -> (u16, &'static str) {
        match self {
            Self::Protocol(reason) => (1002, reason),
            Self::Utf8 => (1007, "invalid utf-8"),
            Self::TooBig => (1009, "message too big"),
        }
    }
}

/// What a step found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A part of a message was taken in: nothing to do yet.
    Part,
    /// A ping; its payload goes back in the pong.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The peer closes, with this code if it gave one.
    Close(Option<u16>),
}

/// One step over the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An event, and how many bytes of the buffer it took.
    Event(Event<'a>, usize),
    /// No whole frame yet.
    Incomplete,
}

struct Fragments {
    text: bool,
    bytes: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    valid: usize,
}

/// The reading half of one connection.
pub struct Codec {
    max_message: usize,
    fragments: Option<Box<Fragments>>,
    /// The message handed out last, if it was put together from fragments.
    whole: Option<Box<Fragments>>,
}

struct Header {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    start: usize,
    len: usize,
}

impl Codec {
    /// A codec that takes messages of at most `max_message` bytes.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            fragments: None,
            whole: None,
        }
    }

    /// Takes the next frame off the front of `buf`.
    ///
    /// # Errors
    /// The peer broke the protocol: send [`Violation::close`] and read no further.
    pub fn next<'a>(&'a mut self, buf: &'a mut [u8]) -> Result<Step<'a>, Violation> {
        self.whole = None;
        let Some(header) = self.header(buf)? else {
            return Ok(Step::Incomplete);
        };
        let end = header.start + header.len;
        if buf.len() < end {
            return Ok(Step::Incomplete);
        }
        let payload = &mut buf[header.start..end];
        unmask(payload, header.mask);
        let payload = &*payload;
        let event = match header.opcode {
            Opcode::Close => Event::Close(close_code(payload)?),
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong,
            Opcode::Text if header.fin => {
                Event::Text(std::str::from_utf8(payload).map_err(|_| Violation::Utf8)?)
            }
            Opcode::Binary if header.fin => Event::Binary(payload),
            Opcode::Text | Opcode::Binary => {
                let mut fragments = Box::new(Fragments {
                    text: header.opcode == Opcode::Text,
                    bytes: Vec::new(),
                    valid: 0,
                });
                fragments.extend(payload)?;
                self.fragments = Some(fragments);
                Event::Part
            }
            Opcode::Continue => return self.continuation(payload, header.fin, end),
        };
        Ok(Step::Event(event, end))
    }

    /// Gives back the memory of the message handed out last.
    pub fn release(&mut self) {
        self.whole = None;
    }

    fn continuation(
        &mut self,
        payload: &[u8],
        fin: bool,
        consumed: usize,
    ) -> Result<Step<'_>, Violation> {
        // The header check saw that a fragmented message is under way.
        let Some(fragments) = self.fragments.as_mut() else {
            return Err(Violation::Protocol("continuation of nothing"));
        };
        fragments.extend(payload)?;
        if !fin {
            return Ok(Step::Event(Event::Part, consumed));
        }
        self.whole = self.fragments.take();
        let event = match self.whole.as_deref() {
            Some(whole) if whole.text => {
                Event::Text(std::str::from_utf8(&whole.bytes).map_err(|_| Violation::Utf8)?)
            }
            Some(whole) => Event::Binary(&whole.bytes),
            None => Event::Part,
        };
        Ok(Step::Event(event, consumed))
    }

    /// Reads and checks a header as far as it has come: what is wrong is said before its payload is
    /// waited for.
    fn header(&self, buf: &[u8]) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = buf else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(Violation::Protocol("reserved bit set"));
        }
        let Some(opcode) = Opcode::parse(first & 0x0f) else {
            return Err(Violation::Protocol("reserved opcode"));
        };
        let fin = first & FIN != 0;
        if second & MASKED == 0 {
            return Err(Violation::Protocol("frame not masked"));
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL) {
            return Err(Violation::Protocol("control frame fragmented or too long"));
        }
        match (opcode, self.fragments.is_some()) {
            (Opcode::Continue, false) => {
                return Err(Violation::Protocol("continuation of nothing"));
            }
            (Opcode::Text | Opcode::Binary, true) => {
                return Err(Violation::Protocol("message inside a fragmented message"));
            }
            _ => {}
        }
        let Some((len, taken)) = length(short, rest)? else {
            return Ok(None);
        };
        let held = self.fragments.as_ref().map_or(0, |part| part.bytes.len());
        let message = if opcode == Opcode::Continue { held } else { 0 };
        if !opcode.is_control() && len > (self.max_message - message.min(self.max_message)) as u64 {
            return Err(Violation::TooBig);
        }
        let Some(mask) = rest.get(taken..taken + 4) else {
            return Ok(None);
        };
        Ok(Some(Header {
            fin,
            opcode,
            mask: [mask[0], mask[1], mask[2], mask[3]],
            start: 2 + taken + 4,
            len: len as usize,
        }))
    }
}

/// The payload length, and how many bytes of `rest` it took.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let not_minimal = Err(Violation::Protocol("length not minimal"));
    match short {
        126 => match rest.first_chunk::<2>() {
            None => Ok(None),
            Some(bytes) => match u16::from_be_bytes(*bytes) {
                0..=125 => not_minimal,
                len => Ok(Some((u64::from(len), 2))),
            },
        },
        127 => match rest.first_chunk::<8>() {
            None => Ok(None),
            Some(bytes) => match u64::from_be_bytes(*bytes) {
                0..=0xffff => not_minimal,
                len if len >> 63 != 0 => Err(Violation::Protocol("length over 63 bits")),
                len => Ok(Some((len, 8))),
            },
        },
        len => Ok(Some((u64::from(len), 0))),
    }
}

impl Fragments {
    fn extend(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(payload);
        if self.text {
            match std::str::from_utf8(&self.bytes[self.valid..]) {
                Ok(_) => self.valid = self.bytes.len(),
                // A character may be cut by the fragment's end; what can never become one fails now.
                Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
                Err(_) => return Err(Violation::Utf8),
            }
        }
        Ok(())
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::Protocol("close code of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::Protocol("close code not allowed"));
            }
            std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
            Ok(Some(code))
        }
    }
}

/// The close codes that may stand in a frame: those of RFC 6455 §7.4.1 and of its registry, those
/// registered for applications, and those for private use.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Removes the mask (RFC 6455 §5.3), eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a frame of a server (unmasked, final) to `out`.
pub fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    append_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

fn append_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    out.push(FIN | opcode as u8);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// One message, ready for any number of send queues.
#[must_use]
pub fn message(opcode: Opcode, payload: &[u8]) -> Frame {
    let mut bytes = Vec::with_capacity(MAX_HEADER + payload.len());
    append(&mut bytes, opcode, payload);
    Arc::from(bytes)
}

/// One binary message.
#[must_use]
pub fn binary(payload: &[u8]) -> Frame {
    message(Opcode::Binary, payload)
}

/// A session frame as the message of its encoding.
#[must_use]
pub fn encode(frame: &ServerFrame, encoding: Encoding) -> Frame {
    let opcode = match encoding {
        Encoding::Json => Opcode::Text,
        Encoding::MsgPack => Opcode::Binary,
    };
    message(opcode, &encoding.encode(frame))
}

/// The payloads of the whole, unmasked frames that a [`Frame`] holds: for those who pass messages on by other
/// means than a WebSocket.
pub fn payloads(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let (header, length): (usize, usize) = match *rest.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?)),
            ),
            127 => {
                let length = u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?);
                (10, usize::try_from(length).ok()?)
            }
            short => (2, usize::from(short)),
        };
        let payload = rest.get(header..header.checked_add(length)?)?;
        rest = &rest[header + length..];
        Some(payload)
    })
}

/// Appends a close frame; the reason is cut to what a control frame holds.
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let room = MAX_CONTROL - 2;
    let mut cut = reason.len().min(room);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    append_header(out, Opcode::Close, 2 + cut);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..cut]);
}

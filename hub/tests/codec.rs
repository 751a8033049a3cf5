//! The frame codec under random input: however a stream is cut it means the same, nothing in it can make
//! the codec panic, and tungstenite, another reading of RFC 6455, sees the same messages and refuses the
//! same streams. The codec is stricter in one point, and freer in one: a length has to be minimal, and
//! close code 1014 (registered with IANA since) is allowed.

#![allow(missing_docs, reason = "a test")]

use std::io::{self, Read, Write};

use hub::transport::frame::{Codec, Event, Step, Violation};
use proptest::collection::vec;
use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket, error::CapacityError};

const LIMIT: usize = 4096;

/// What a stream means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
    Refused(Violation),
}

/// Feeds the pieces as a connection does: what is incomplete is kept. Nothing follows a close or a
/// refusal.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let (mut codec, mut held, mut seen) = (Codec::new(LIMIT), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut used = 0;
        loop {
            let event = match codec.next(&mut held[used..]) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event(event, taken)) => {
                    assert!(taken > 0, "an event takes bytes");
                    used += taken;
                    match event {
                        Event::Text(text) => Seen::Text(text.to_owned()),
                        Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                        Event::Close(code) => Seen::Close(code),
                        Event::Part | Event::Pong => continue,
                    }
                }
                Err(violation) => Seen::Refused(violation),
            };
            let ends = matches!(event, Seen::Close(_) | Seen::Refused(_));
            seen.push(event);
            if ends {
                return seen;
            }
        }
        held.drain(..used);
    }
    seen
}

/// A frame as a client may make it, well or not.
#[derive(Debug, Clone)]
struct Spec {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

impl Spec {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.first);
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match self.payload.len() {
            len @ 0..=125 => out.push(masked | len as u8),
            len => {
                out.push(masked | 126);
                out.extend((len as u16).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        if self.mask.is_some() {
            out.extend(mask);
        }
        out.extend(
            self.payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(b, m)| b ^ m),
        );
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-zé日👋]{0,12}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 120..140),
        1 => (0..LIMIT + 10).prop_map(|len| vec![b'x'; len]),
        // Close payloads.
        2 => (990..1020u16).prop_map(|code| code.to_be_bytes().to_vec()),
        1 => (any::<u16>(), "[a-zé]{0,5}").prop_map(|(code, reason)| {
            [&code.to_be_bytes()[..], reason.as_bytes()].concat()
        }),
    ]
}

/// Mostly well-formed, so that streams live long enough to mean something.
fn spec() -> impl Strategy<Value = Spec> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02]),
        6 => prop::sample::select(vec![0x00u8, 0x80]),
        4 => prop::sample::select(vec![0x89u8, 0x8a]),
        1 => Just(0x88u8),
        1 => any::<u8>(),
    ];
    let mask = prop_oneof![30 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    (first, mask, payload()).prop_map(|(first, mask, payload)| Spec {
        first,
        mask,
        payload,
    })
}

/// A fragmented message, with control frames between its parts.
fn message() -> impl Strategy<Value = Vec<Spec>> {
    let text = "[a-zé日👋]{0,30}".prop_map(String::into_bytes);
    let body = prop_oneof![
        text.prop_map(|b| (1u8, b)),
        vec(any::<u8>(), 0..60).prop_map(|b| (2u8, b))
    ];
    (body, vec(0..60usize, 0..4), any::<[u8; 4]>(), any::<bool>()).prop_map(
        |((opcode, body), mut cuts, mask, pings)| {
            cuts.iter_mut()
                .for_each(|cut| *cut = (*cut).min(body.len()));
            cuts.sort_unstable();
            cuts.push(body.len());
            let (mut specs, mut from) = (Vec::new(), 0);
            for (at, to) in cuts.iter().enumerate() {
                let fin = if at + 1 == cuts.len() { 0x80 } else { 0 };
                let opcode = if at == 0 { opcode } else { 0 };
                specs.push(Spec {
                    first: fin | opcode,
                    mask: Some(mask),
                    payload: body[from..*to].to_vec(),
                });
                from = *to;
                if pings && fin == 0 {
                    specs.push(Spec {
                        first: 0x89,
                        mask: Some(mask),
                        payload: vec![b'p'; at],
                    });
                }
            }
            specs
        },
    )
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let specs = vec(
        prop_oneof![3 => message(), 1 => spec().prop_map(|spec| vec![spec])],
        0..12,
    );
    specs.prop_map(|specs| {
        let mut bytes = Vec::new();
        specs
            .iter()
            .flatten()
            .for_each(|spec| spec.write(&mut bytes));
        bytes
    })
}

/// A stream with some of its bytes changed, removed or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 0..4);
    (stream(), changes).prop_map(|(mut bytes, changes)| {
        for (at, kind, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut from = 0;
    let piece = cuts.iter().map(|to| {
        let piece = &bytes[from..*to];
        from = *to;
        piece
    });
    piece.collect()
}

/// Bytes to read, and nowhere to write.
struct Given<'a>(&'a [u8]);

impl Read for Given<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buf)
    }
}

impl Write for Given<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of a stream; `None` for a refusal, whatever its reason.
fn oracle(bytes: &[u8]) -> Vec<Option<Seen>> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Given(bytes), Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Some(Seen::Text(text.to_string())),
            Ok(Message::Binary(bytes)) => Some(Seen::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => Some(Seen::Ping(payload.to_vec())),
            Ok(Message::Pong(_) | Message::Frame(_)) => continue,
            // So it tells of a close frame whose code may not be sent.
            Ok(Message::Close(Some(close))) if close.reason == "Protocol violation" => {
                seen.push(None);
                return seen;
            }
            Ok(Message::Close(close)) => {
                seen.push(Some(Seen::Close(close.map(|close| close.code.into()))));
                return seen;
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return seen,
            Err(
                Error::Protocol(_)
                | Error::Utf8(_)
                | Error::Capacity(CapacityError::MessageTooLong { .. }),
            ) => {
                seen.push(None);
                return seen;
            }
            Err(error) => panic!("{error:?}"),
        });
    }
}

/// Whether tungstenite, which waits for a whole frame, has not seen yet what the codec refuses by a
/// header or a part.
fn is_ahead(ours: &[Seen], theirs: &[Option<Seen>]) -> bool {
    matches!(ours.last(), Some(Seen::Refused(_))) && theirs.len() == ours.len() - 1
}

/// The points in which the two differ on purpose.
fn differs_on_purpose(ours: &[Seen], theirs: &[Option<Seen>]) -> bool {
    let stricter = matches!(
        ours.last(),
        Some(Seen::Refused(Violation::Protocol("length not minimal")))
    );
    let freer = ours.last() == Some(&Seen::Close(Some(1014)));
    stricter || (freer && theirs.last() == Some(&None))
}

fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (ours, theirs) = (decode([bytes]), oracle(bytes));
    if differs_on_purpose(&ours, &theirs) {
        return Ok(());
    }
    let as_theirs = |seen: &Seen| match seen {
        Seen::Refused(_) => None,
        other => Some(other.clone()),
    };
    let mut ours_as_theirs: Vec<_> = ours.iter().map(as_theirs).collect();
    if is_ahead(&ours, &theirs) {
        ours_as_theirs.pop();
    }
    prop_assert_eq!(ours_as_theirs, theirs, "ours: {:?}", ours);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_means_the_same_however_it_is_cut(
        bytes in mutated(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = decode([&bytes[..]]);
        prop_assert_eq!(&decode(pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(&decode(bytes.chunks(1)), &whole);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        decode(bytes.chunks(1));
        agrees(&bytes)?;
    }

    #[test]
    fn tungstenite_agrees(bytes in stream()) {
        agrees(&bytes)?;
    }

    #[test]
    fn tungstenite_agrees_on_what_is_broken(bytes in mutated()) {
        agrees(&bytes)?;
    }

    /// What was sent well is what is seen.
    #[test]
    fn messages_are_what_was_sent(messages in vec(message(), 0..10)) {
        let mut bytes = Vec::new();
        messages.iter().flatten().for_each(|spec| spec.write(&mut bytes));
        let seen = decode([&bytes[..]]);
        let whole: Vec<_> = seen.iter().filter(|seen| !matches!(seen, Seen::Ping(_))).collect();
        prop_assert_eq!(whole.len(), messages.len());
        for (message, seen) in messages.iter().zip(whole) {
            let body: Vec<u8> = message
                .iter()
                .filter(|spec| spec.first & 0x0f < 8)
                .flat_map(|spec| spec.payload.clone())
                .collect();
            let got = match seen {
                Seen::Text(text) => text.as_bytes(),
                Seen::Binary(bytes) => bytes,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(got, &body[..]);
        }
    }
}

/// The oracle itself: it refuses what it should, so that agreeing with it means something.
#[test]
fn the_oracle_refuses() {
    assert_eq!(oracle(&[0x81, 0x01, b'a']), [None]);
    assert_eq!(oracle(&[0x83, 0x80, 0, 0, 0, 0]), [None]);
    let fine = [0x81, 0x81, 0, 0, 0, 0, b'a'];
    assert_eq!(oracle(&fine), [Some(Seen::Text("a".into()))]);
}

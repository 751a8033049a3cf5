//! Frames as such: every encoding of a length, reserved bits and opcodes, masks, limits.

use super::wire::{
    BINARY, CLOSE, CONTINUE, Case, FIN, LIMIT, PING, PONG, Server, TEXT, binary, frame, last, part,
    ping, text,
};

fn letters(len: usize) -> String {
    ('a'..='z').cycle().take(len).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(len).collect()
}

const LENGTHS: [usize; 9] = [0, 1, 125, 126, 127, 128, 65_535, 65_536, LIMIT];

#[tokio::test]
async fn messages_of_every_length_are_echoed() {
    let mut cases = Vec::new();
    for len in LENGTHS {
        let (said, data) = (letters(len), bytes(len));
        cases.push(Case::new(format!("text of {len}"), [text(&said)]).text(&said));
        cases.push(Case::new(format!("binary of {len}"), [binary(&data)]).binary(&data));
    }
    for cut in [1, 997] {
        for len in [0, 125, 126, 65_536] {
            let said = letters(if cut == 1 { len.min(3000) } else { len });
            let name = format!("text of {}, cut every {cut}", said.len());
            cases.push(Case::new(name, [text(&said)]).text(&said).cut(cut));
        }
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn messages_are_answered_in_order() {
    let said: Vec<String> = (0..500).map(|n| format!("{n}-{}", letters(n))).collect();
    let sent = said.iter().map(text).collect::<Vec<_>>();
    let expect = |case: Case| said.iter().fold(case, Case::text);
    let cases = vec![
        expect(Case::new("500 in one write", sent.clone())),
        expect(Case::new("500 in pieces of 1,000", sent.clone()).cut(1000)),
        expect(Case::new("500 in pieces of 7", sent).cut(7)),
    ];
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn reserved_bits_are_refused() {
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let wrong = frame(FIN | bits << 4 | opcode, b"");
            for cut in [1, 1000] {
                let name = format!("bits {bits} on opcode {opcode}, cut every {cut}");
                let sent = [text("before"), wrong.clone(), ping("after")];
                cases.push(Case::new(name, sent).text("before").closes(1002).cut(cut));
            }
        }
        let wrong = frame(FIN | bits << 4 | CONTINUE, b"b");
        let name = format!("bits {bits} on a continuation");
        cases.push(Case::new(name, [part(TEXT, "a"), wrong]).closes(1002));
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn reserved_opcodes_are_refused() {
    let mut cases = Vec::new();
    for opcode in (3..8u8).chain(11..16) {
        for payload in ["", "payload"] {
            let wrong = frame(FIN | opcode, payload.as_bytes());
            let name = format!("opcode {opcode} with {payload:?}");
            let sent = [text("before"), wrong, ping("after")];
            cases.push(Case::new(name, sent).text("before").closes(1002));
        }
    }
    Server::start().await.run(cases).await;
}

/// A header alone, with a length field as told.
fn header(first: u8, short: u8, extended: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | short];
    bytes.extend(extended);
    bytes
}

#[tokio::test]
async fn masks_and_lengths_are_held_to_the_rfc() {
    let unmasked = |payload: &[u8]| {
        let mut bytes = vec![FIN | TEXT, payload.len() as u8];
        bytes.extend(payload);
        bytes
    };
    let long = |len: u64| header(FIN | BINARY, 127, &len.to_be_bytes());
    let cases = vec![
        Case::new("unmasked", [unmasked(b"hello")]).closes(1002),
        Case::new("unmasked and empty", [unmasked(b"")]).closes(1002),
        Case::new("125 in 16 bits", [header(FIN | TEXT, 126, &[0, 125])]).closes(1002),
        Case::new("0 in 16 bits", [header(FIN | TEXT, 126, &[0, 0])]).closes(1002),
        Case::new("65,535 in 64 bits", [long(0xffff)]).closes(1002),
        Case::new("1 in 64 bits", [long(1)]).closes(1002),
        Case::new("64 bits", [long(1 << 63)]).closes(1002),
        Case::new("64 bits, all set", [long(u64::MAX)]).closes(1002),
        Case::new("63 bits", [long(u64::MAX >> 1)]).closes(1009),
        Case::new("32 bits", [long(u64::from(u32::MAX))]).closes(1009),
    ];
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let over = (LIMIT as u64 + 1).to_be_bytes();
    let big = part(BINARY, bytes(LIMIT));
    let cases = vec![
        Case::new("one over", [header(FIN | BINARY, 127, &over)]).closes(1009),
        Case::new("one over, text", [header(FIN | TEXT, 127, &over)]).closes(1009),
        Case::new("a first part", [header(BINARY, 127, &over)]).closes(1009),
        Case::new("parts up to the limit", [big.clone(), last("")]).binary(bytes(LIMIT)),
        Case::new("parts over", [big.clone(), header(FIN | CONTINUE, 1, &[])]).closes(1009),
        Case::new(
            "a control frame is not part of it",
            [big, ping("p"), last("")],
        )
        .pong("p")
        .binary(bytes(LIMIT)),
    ];
    Server::start().await.run(cases).await;
}

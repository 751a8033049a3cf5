//! Text is UTF-8, across its parts too, and what can never become it is refused at once.

use super::wire::{BINARY, CONTINUE, Case, Server, TEXT, binary, close, last, part, text};

/// Each is not UTF-8, and why.
const BAD: &[(&str, &[u8])] = &[
    ("a continuation byte alone", b"\x80"),
    ("the last of them", b"\xbf"),
    ("several", b"a\x80\xbf\x80b"),
    ("a start of two alone", b"\xc3 "),
    ("a start of three, one missing", b"\xe2\x82 "),
    ("a start of four, one missing", b"\xf0\x9f\x98 "),
    ("two starts", b"\xc3\xc3\xa9"),
    ("0xfe", b"\xfe"),
    ("0xff", b"x\xffy"),
    ("overlong slash in two", b"\xc0\xaf"),
    ("overlong slash in three", b"\xe0\x80\xaf"),
    ("overlong slash in four", b"\xf0\x80\x80\xaf"),
    ("a slash in five", b"\xf8\x80\x80\x80\xaf"),
    ("a slash in six", b"\xfc\x80\x80\x80\x80\xaf"),
    ("largest overlong of two", b"\xc1\xbf"),
    ("largest overlong of three", b"\xe0\x9f\xbf"),
    ("largest overlong of four", b"\xf0\x8f\xbf\xbf"),
    ("overlong nul", b"\xc0\x80"),
    ("surrogate d800", b"\xed\xa0\x80"),
    ("surrogate dbff", b"\xed\xaf\xbf"),
    ("surrogate dc00", b"\xed\xb0\x80"),
    ("surrogate dfff", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("110000", b"\xf4\x90\x80\x80"),
    ("13ffff", b"\xf4\xbf\xbf\xbf"),
    ("140000", b"\xf5\x80\x80\x80"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("six bytes", b"\xfc\x84\x80\x80\x80\x80"),
];

/// At the edges of what is UTF-8.
const GOOD: &[&str] = &[
    "",
    "\0",
    "\x7f",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{10fffe}",
    "\u{10ffff}",
    "Hello-µ@ßöäüàá-UTF-8!! κόσμε 日本語 👩‍💻",
];

#[tokio::test]
async fn every_character_passes() {
    let mut cases = Vec::new();
    for good in GOOD {
        cases.push(Case::new(format!("{good:?}"), [text(good)]).text(good));
    }
    for plane in 0..0x11u32 {
        let all: String = (plane << 16..(plane + 1) << 16)
            .filter_map(char::from_u32)
            .collect();
        cases.push(Case::new(format!("plane {plane}"), [text(&all)]).text(&all));
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn a_character_may_be_cut_by_the_end_of_a_part() {
    let mut cases = Vec::new();
    for good in GOOD.iter().filter(|good| !good.is_empty()) {
        let bytes = good.as_bytes();
        for at in 0..=bytes.len() {
            let sent = [part(TEXT, &bytes[..at]), last(&bytes[at..])];
            cases.push(Case::new(format!("{good:?} at {at}"), sent).text(good));
        }
        let mut each = vec![part(TEXT, "")];
        each.extend(bytes.iter().map(|byte| part(CONTINUE, [*byte])));
        each.push(last(""));
        cases.push(Case::new(format!("{good:?} by bytes"), each).text(good));
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn what_is_not_utf8_is_refused() {
    let mut cases = Vec::new();
    for (name, bad) in BAD {
        let around = ["κόσμε".as_bytes(), bad, b"edited"].concat();
        cases.push(Case::new(*name, [text(&around)]).closes(1007));
        cases.push(Case::new(*name, [text(bad)]).closes(1007).cut(1));
        let sent = [part(TEXT, "good "), part(CONTINUE, bad), last("good")];
        cases.push(Case::new(format!("{name}, in the middle"), sent).closes(1007));
        // To a binary message all of it is bytes.
        cases.push(Case::new(*name, [binary(&around)]).binary(&around));
        let sent = [part(BINARY, bad), last(bad)];
        cases.push(Case::new(*name, sent).binary([*bad, *bad].concat()));
    }
    Server::start().await.run(cases).await;
}

/// The rest of the message is never sent: only a hub that does not wait for it answers.
#[tokio::test]
async fn what_can_not_become_utf8_is_refused_in_its_part() {
    let mut cases = Vec::new();
    for (name, bad) in BAD {
        cases.push(Case::new(*name, [part(TEXT, bad)]).closes(1007));
        let sent = [part(TEXT, "κόσμε"), part(CONTINUE, bad)];
        cases.push(Case::new(*name, sent).closes(1007));
        // The part ends with the byte that can't be right; what follows it is never sent.
        let first_wrong = std::str::from_utf8(bad).unwrap_err();
        if let Some(len) = first_wrong.error_len() {
            let end = (first_wrong.valid_up_to() + len + 1).min(bad.len());
            let (head, tail) = bad[..end].split_at(end - 1);
            let sent = [part(TEXT, head), part(CONTINUE, tail)];
            cases.push(Case::new(format!("{name}, cut"), sent).closes(1007));
        }
    }
    // A character that its message does not finish.
    for unfinished in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
        cases.push(Case::new("unfinished", [text(unfinished)]).closes(1007));
        let sent = [part(TEXT, unfinished), last("")];
        cases.push(Case::new("unfinished, in parts", sent).closes(1007));
        // Which is nothing to complain of while it goes on.
        let sent = [part(TEXT, unfinished), close(1000, "")];
        cases.push(Case::new("unfinished, then closed", sent).closes(1000));
    }
    Server::start().await.run(cases).await;
}

//! Messages in parts, control frames between them, parts out of order.

use super::wire::{
    BINARY, CONTINUE, Case, FIN, PONG, Server, TEXT, binary, frame, last, part, ping, text,
};

/// `said` in parts of so many bytes; empty parts stand at both ends if `padded`.
fn parts(opcode: u8, said: &[u8], size: usize, padded: bool) -> Vec<Vec<u8>> {
    let mut pieces: Vec<&[u8]> = said.chunks(size).collect();
    if padded {
        pieces.insert(0, b"");
        pieces.push(b"");
    }
    let end = pieces.len() - 1;
    let piece = |(at, piece): (usize, &&[u8])| {
        let opcode = if at == 0 { opcode } else { CONTINUE };
        let fin = if at == end { FIN } else { 0 };
        frame(fin | opcode, piece)
    };
    pieces.iter().enumerate().map(piece).collect()
}

#[tokio::test]
async fn a_message_in_parts_is_one_message() {
    let said: Vec<u8> = (b'a'..=b'z').cycle().take(5000).collect();
    let mut cases = Vec::new();
    for size in [1, 2, 13, 125, 126, 1300, 5000] {
        for padded in [false, true] {
            for cut in [1, 3, 100_000] {
                let name = format!("parts of {size}, padded {padded}, cut every {cut}");
                let said = &said[..if cut == 1 { 500 } else { 5000 }];
                let sent = parts(TEXT, said, size, padded);
                cases.push(Case::new(&name, sent).text(said).cut(cut));
                let sent = parts(BINARY, said, size, padded);
                cases.push(Case::new(&name, sent).binary(said).cut(cut));
            }
        }
    }
    let large = vec![b'*'; 65_536];
    cases.push(Case::new("64 KiB by 1,300", parts(TEXT, &large, 1300, false)).text(&large));
    let nothing = [part(TEXT, ""), part(CONTINUE, ""), last("")];
    cases.push(Case::new("nothing, in three parts", nothing).text(""));
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn control_frames_pass_between_parts() {
    let (a, b, c) = (part(TEXT, "one "), part(CONTINUE, "two "), last("three"));
    let pong = frame(FIN | PONG, b"unsolicited");
    let mut cases = Vec::new();
    for cut in [1, 1000] {
        let sent = [a.clone(), ping("1"), b.clone(), ping("2"), c.clone()];
        let case = Case::new("pings between", sent).pong("1").pong("2");
        cases.push(case.text("one two three").cut(cut));
        let sent = [
            a.clone(),
            pong.clone(),
            ping("1"),
            ping("2"),
            b.clone(),
            c.clone(),
        ];
        let case = Case::new("several between", sent).pong("1").pong("2");
        cases.push(case.text("one two three").cut(cut));
    }
    let mut many = vec![part(BINARY, "0")];
    for n in 1..100 {
        many.push(ping(n.to_string()));
        many.push(part(CONTINUE, "0"));
    }
    many.push(last("1"));
    let case = (1..100).fold(Case::new("a ping after each part", many), |case, n| {
        case.pong(n.to_string())
    });
    cases.push(case.binary(format!("{}1", "0".repeat(100))));
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn parts_out_of_order_are_refused() {
    let whole = [part(TEXT, "a"), last("b")];
    let after = |then: Vec<Vec<u8>>| [whole.to_vec(), then].concat();
    let mut cases = Vec::new();
    for cut in [1, 1000] {
        let bad: Vec<(&str, Vec<Vec<u8>>)> = vec![
            ("a last part of nothing", vec![last("x")]),
            ("a part of nothing", vec![part(CONTINUE, "x")]),
            ("an empty part of nothing", vec![part(CONTINUE, "")]),
            (
                "text within text",
                vec![part(TEXT, "a"), text("x"), last("b")],
            ),
            (
                "binary within text",
                vec![part(TEXT, "a"), binary("x"), last("b")],
            ),
            (
                "a start within text",
                vec![part(TEXT, "a"), part(TEXT, "x")],
            ),
            (
                "a start within binary",
                vec![part(BINARY, "a"), part(BINARY, "x")],
            ),
            (
                "two starts, a ping between",
                vec![part(TEXT, "a"), ping(""), part(TEXT, "b")],
            ),
        ];
        for (name, sent) in bad {
            let mut case = Case::new(name, sent.clone()).cut(cut);
            if sent.len() > 2 && name.contains("ping") {
                case = case.pong("");
            }
            cases.push(case.closes(1002));
        }
        let late = Case::new(
            "a part after the end",
            after(vec![part(CONTINUE, "x"), text("y")]),
        );
        cases.push(late.text("ab").closes(1002).cut(cut));
        let late = Case::new("a last part after a whole", [text("ab"), last("x")]);
        cases.push(late.text("ab").closes(1002).cut(cut));
        let again = after(vec![part(BINARY, "c"), last("d"), text("e")]);
        let fine = Case::new("one after the other", again)
            .text("ab")
            .binary("cd");
        cases.push(fine.text("e").cut(cut));
    }
    Server::start().await.run(cases).await;
}

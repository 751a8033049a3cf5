//! The closing handshake.

use super::wire::{CLOSE, CONTINUE, Case, FIN, Server, TEXT, close, frame, part, ping, text};

fn raw(payload: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, payload)
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let mut cases = vec![
        Case::new("no code", [raw(b"")]).closes(1000),
        Case::new("a code", [close(1000, "")]).closes(1000),
        Case::new("a reason", [close(1001, "going away")]).closes(1001),
        Case::new("a long reason", [close(1000, &"r".repeat(123))]).closes(1000),
        Case::new("a reason of characters", [close(4000, "żółć 👋")]).closes(4000),
        Case::new("after a message", [text("last"), close(1000, "")])
            .text("last")
            .closes(1000),
    ];
    let allowed = (1000..=1003).chain(1007..=1014);
    for code in allowed.chain([3000, 3999, 4000, 4400, 4999]) {
        cases.push(Case::new(format!("code {code}"), [close(code, "")]).closes(code));
        let sent = [close(code, "because")];
        cases.push(Case::new(format!("code {code}"), sent).closes(code).cut(1));
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn a_close_that_is_wrong_is_refused() {
    let mut cases = vec![
        Case::new("half a code", [raw(&[3])]).closes(1002),
        Case::new(
            "a reason of 124",
            [raw(&[[3, 232].as_slice(), &[b'r'; 124]].concat())],
        )
        .closes(1002),
        Case::new("a reason not UTF-8", [raw(b"\x03\xe8\xce\xba\xed\xa0\x80")]).closes(1007),
    ];
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999];
    for code in codes.into_iter().chain([5000, 65_535]) {
        cases.push(Case::new(format!("code {code}"), [close(code, "")]).closes(1002));
        let sent = [close(code, "because")];
        cases.push(Case::new(format!("code {code}"), sent).closes(1002));
    }
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn whatever_follows_a_close_is_ignored() {
    let large = vec![b'*'; 256 * 1024];
    let mut cases = Vec::new();
    for cut in [5, 1 << 20] {
        let follows: [(&str, Vec<u8>); 6] = [
            ("a close", close(1001, "again")),
            ("a ping", ping("late")),
            ("a text", text("late")),
            ("a wrong frame", frame(FIN | 0x70, b"")),
            ("half a frame", text("late")[..5].to_vec()),
            ("a part", part(TEXT, "late")),
        ];
        for (name, late) in follows {
            let sent = [text("before"), close(4321, ""), late];
            let name = format!("{name}, cut every {cut}");
            cases.push(Case::new(name, sent).text("before").closes(4321).cut(cut));
        }
    }
    let sent = [part(TEXT, "a"), close(1000, ""), part(CONTINUE, "b")];
    cases.push(Case::new("a close within a message", sent).closes(1000));
    let sent = [text(&large), close(1000, ""), ping("late")];
    cases.push(
        Case::new("after a large message", sent)
            .text(&large)
            .closes(1000),
    );
    // What is unread when the hub is done must not turn its close frame into a reset.
    let sent = [close(1000, ""), text(&large), text(&large)];
    cases.push(Case::new("a large message after it", sent).closes(1000));
    let sent = [frame(FIN | 3, b""), text(&large), text(&large)];
    cases.push(Case::new("a large message after a wrong frame", sent).closes(1002));
    Server::start().await.run(cases).await;
}

//! Pings and pongs.

use super::wire::{Case, FIN, PING, PONG, Server, TEXT, frame, last, part, ping, text};

fn pong(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PONG, payload.as_ref())
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let mut cases = Vec::new();
    let payloads: [&[u8]; 4] = [b"", b"Hello", &[0, 0xff, 0xfe, 0xc0, 0x80], &[0xfe; 125]];
    for payload in payloads {
        for cut in [1, 1000] {
            let name = format!("ping of {}, cut every {cut}", payload.len());
            cases.push(Case::new(name, [ping(payload)]).pong(payload).cut(cut));
        }
    }
    let many: Vec<String> = (0..1000).map(|n| format!("payload-{n}")).collect();
    let sent = many.iter().map(ping).collect::<Vec<_>>();
    cases.push(
        many.iter()
            .fold(Case::new("1,000 pings", sent.clone()), Case::pong),
    );
    let ten = Case::new("10 pings, byte by byte", sent[..10].to_vec()).cut(1);
    cases.push(many[..10].iter().fold(ten, Case::pong));
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn a_pong_that_nobody_asked_for_is_ignored() {
    let cases = vec![
        Case::new("an empty one", [pong("")]),
        Case::new("one with a payload", [pong("unsolicited")]),
        Case::new("one of 125", [pong([1; 125])]),
        Case::new("then a ping", [pong("unsolicited"), ping("asked")]).pong("asked"),
        Case::new("within a message", [part(TEXT, "a"), pong("x"), last("b")]).text("ab"),
    ];
    Server::start().await.run(cases).await;
}

#[tokio::test]
async fn control_frames_are_short_and_whole() {
    let mut cases = Vec::new();
    for opcode in [PING, PONG, 8] {
        let long = frame(FIN | opcode, &[0xfe; 126]);
        let sent = [text("before"), long];
        let name = format!("opcode {opcode} of 126");
        cases.push(Case::new(name, sent).text("before").closes(1002));
        let sent = [frame(opcode, b"frag"), last("ment")];
        cases.push(Case::new(format!("opcode {opcode} in parts"), sent).closes(1002));
        // Refused by its header, without waiting for what it announces.
        for first in [vec![FIN | opcode, 0x80 | 126], vec![opcode, 0x80]] {
            let name = format!("opcode {opcode}, two bytes of it");
            cases.push(Case::new(name, [first]).closes(1002));
        }
    }
    Server::start().await.run(cases).await;
}

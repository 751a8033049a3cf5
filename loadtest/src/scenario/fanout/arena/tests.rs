//! The arena against a real bare loop, in this process.

use super::*;
use std::net::TcpListener;

use crate::bare::Mode;

fn synthetic_message(bytes: usize) -> Vec<u8> {
    let mut payload = vec![b'.'; bytes];
    let probe = Probe {
        number: 0,
        micros: 0,
    };
    probe.write(&mut payload);
    protocol::Encoding::MsgPack.encode(&ServerFrame::Message {
        channel: CHANNEL.into(),
        offset: Some(70_000),
        data: None,
        bytes: Some(payload.into()),
        key: None,
        version: None,
        event: None,
        from: Some("0198c0de-0000-7000-8000-000000000000".into()),
        time: 1_700_000_000_000,
    })
}

fn run_against_bare(mode: Mode, pace: Pace) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || bare::serve(listener, mode));
    let message = synthetic_message(100);
    let mut arena = Arena::bare(Kind::Batched, (address, None), 20, 100, message.clone()).unwrap();
    let outcome = arena.run(pace, Duration::from_millis(300)).unwrap();
    assert_eq!(arena.sample().len(), message.len());
    outcome
}

#[test]
fn a_bare_loop_copies_each_message_to_each_subscriber_once_and_in_order() {
    for mode in [Mode::Plain, Mode::Batched, Mode::Floor] {
        let outcome = run_against_bare(mode, Pace::Window(64));
        assert!(outcome.published > 64);
        assert_eq!(outcome.deliveries, outcome.published * 20);
        assert_eq!(outcome.latency.len(), outcome.deliveries);
    }
}

#[test]
fn a_rate_is_kept() {
    let outcome = run_against_bare(Mode::Batched, Pace::Rate(50.0));
    assert!(
        (8..=16).contains(&outcome.published),
        "{}",
        outcome.published
    );
}

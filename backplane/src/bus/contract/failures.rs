//! The part of a bus's contract that is about handlers that fail: attempts, burying, panics, stops.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::Event;

use super::{Recorder, Running, Subject, dead_letters, event, publish, spec, taken, until};
use crate::bus::{ConsumerSpec, Delivery, Outcome};

/// What comes behind a retried one of its key waits; other keys pass.
pub async fn a_retry_holds_only_its_key(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::new(|subject, number, times| match (subject, number) {
        ("plan:sore", 1) if times < 3 => Outcome::Retry("not yet".into()),
        _ => Outcome::Done,
    });
    let running = Running::start(bus, spec("first", &["#"]), recorder.clone()).await;
    let sore = event("plan.progress", "plan:sore", 1);
    let behind = event("plan.progress", "plan:sore", 2);
    let other = event("plan.progress", "plan:well", 3);
    let published = publish(bus, &[sore.clone(), behind.clone(), other]);
    until("the other passes", || recorder.numbers("plan:well") == [3]).await;
    assert!(recorder.numbers("plan:sore").is_empty());
    assert_eq!(recorder.times(&behind), 0, "it waits behind the first");
    taken(published).await;
    until("both are handled", || {
        recorder.numbers("plan:sore") == [1, 2]
    })
    .await;
    running.stop().await;
    assert_eq!(recorder.times(&sore), 3);
    assert!(bus.dead_letters(10).await.expect("dead letters").is_empty());
}

/// As often as the consumer says, no more; then the next one's turn comes.
pub async fn after_its_attempts_a_delivery_is_buried(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::new(|_, number, _| match number {
        1 => Outcome::Retry("never ready".into()),
        _ => Outcome::Done,
    });
    let running = Running::start(bus, spec("first", &["#"]), recorder.clone()).await;
    let hopeless = event("plan.progress", "plan:1", 1);
    taken(publish(
        bus,
        &[hopeless.clone(), event("plan.progress", "plan:1", 2)],
    ))
    .await;
    until("the next one passes", || recorder.numbers("plan:1") == [2]).await;
    running.stop().await;
    assert_eq!(recorder.times(&hopeless), 3);
    let dead = dead_letters(bus, 1).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].consumer, "first");
    assert_eq!(dead[0].kind, "plan.progress");
    assert_eq!(dead[0].id, Some(hopeless.id.to_string()));
    assert_eq!(dead[0].reason, "after 3 attempts: never ready");
    assert_eq!(
        dead[0].body,
        Delivery::of(&hopeless).expect("an event").body
    );
}

/// At once; and the dead letters stay where they are, oldest first.
pub async fn poison_is_buried_with_its_reason_and_the_next_ones_pass(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::new(|_, number, _| match number {
        1..=3 => Outcome::Poison(format!("bad number {number}")),
        _ => Outcome::Done,
    });
    let running = Running::start(bus, spec("second", &["#"]), recorder.clone()).await;
    let number = |n| event("plan.progress", "plan:1", n);
    let events: Vec<Event> = (0..5).map(number).collect();
    taken(publish(bus, &events)).await;
    until("the others pass", || recorder.numbers("plan:1") == [0, 4]).await;
    running.stop().await;
    for _ in 0..2 {
        let dead = dead_letters(bus, 3).await;
        let reasons: Vec<&str> = dead.iter().map(|dead| dead.reason.as_str()).collect();
        assert_eq!(reasons, ["bad number 1", "bad number 2", "bad number 3"]);
        assert_eq!(dead[0].consumer, "second");
    }
    assert_eq!(bus.dead_letters(2).await.expect("dead letters").len(), 2);
}

/// It comes again, and whoever panics always is buried.
pub async fn a_panic_of_a_handler_is_an_attempt(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::new(|_, number, times| {
        assert!(number != 1 || times > 1, "the first time");
        assert!(number != 2, "always");
        Outcome::Done
    });
    let running = Running::start(bus, spec("first", &["#"]), recorder.clone()).await;
    let number = |n| event("plan.progress", "plan:1", n);
    let events: Vec<Event> = (1..4).map(number).collect();
    taken(publish(bus, &events)).await;
    until("the others pass", || recorder.numbers("plan:1") == [1, 3]).await;
    running.stop().await;
    assert_eq!(recorder.times(&events[1]), 3);
    let dead = dead_letters(bus, 1).await;
    assert!(
        dead[0].reason.ends_with("the handler panicked: always"),
        "{}",
        dead[0].reason
    );
}

/// Whoever consumes next gets it, in order.
pub async fn what_was_not_handled_at_a_stop_comes_again(subject: Subject) {
    let bus = &subject.bus;
    let unready = Recorder::new(|_, _, _| Outcome::Retry("not ready".into()));
    let patient = ConsumerSpec {
        attempts: 1000,
        ..spec("first", &["#"])
    };
    let running = Running::start(bus, patient.clone(), unready.clone()).await;
    let number = |n| event("plan.progress", "plan:1", n);
    let events: Vec<Event> = (0..5).map(number).collect();
    let published = publish(bus, &events[..3]);
    until("the first is tried", || unready.times(&events[0]) > 0).await;
    running.stop().await;

    let later = publish(bus, &events[3..]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let recorder = Recorder::willing();
    let running = Running::start(bus, patient, recorder.clone()).await;
    taken(published).await;
    taken(later).await;
    until("all are handled", || recorder.handled() == 5).await;
    running.stop().await;
    assert_eq!(recorder.numbers("plan:1"), [0, 1, 2, 3, 4]);
    assert!(recorder.deliveries()[0].redelivered);
}

/// It is cut off after a while, and its event comes again.
pub async fn a_stop_does_not_wait_for_ever_for_a_handler(subject: Subject) {
    let bus = &subject.bus;
    let stuck = Recorder::willing();
    let _closed = Arc::clone(&stuck.gate).lock_owned().await;
    let running = Running::start(bus, spec("first", &["#"]), stuck.clone()).await;
    let held = event("plan.progress", "held:1", 1);
    let published = publish(bus, std::slice::from_ref(&held));
    until("it is tried", || stuck.times(&held) == 1).await;
    let since = std::time::Instant::now();
    running.stop().await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(9), "took {took:?}");
    let recorder = Recorder::willing();
    let running = Running::start(bus, spec("first", &["#"]), recorder.clone()).await;
    until("it comes again", || recorder.numbers("held:1") == [1]).await;
    taken(published).await;
    running.stop().await;
    assert_eq!(stuck.handled(), 0);
}

//! The contract of a bus: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`bus_contract!`](crate::bus_contract) with a factory that makes a
//! fresh bus; the same names then pass, or fail, for each.

mod failures;

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use protocol::event::{Event, SCHEMA_VERSION};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Bus, BusError, ConsumerSpec, DeadLetter, Delivery, Handler, Outcome};

pub use failures::{
    a_panic_of_a_handler_is_an_attempt, a_retry_holds_only_its_key,
    a_stop_does_not_wait_for_ever_for_a_handler, after_its_attempts_a_delivery_is_buried,
    poison_is_buried_with_its_reason_and_the_next_ones_pass,
    what_was_not_handled_at_a_stop_comes_again,
};

/// The names of the consumers that the contract makes.
pub const CONSUMERS: [&str; 3] = ["first", "second", "third"];

/// A bus under test.
pub struct Subject {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Tidies up when it is dropped, after the bus.
    pub tidy: Box<dyn Any + Send>,
}

/// What a [`Recorder`] answers: by the event's subject and number, and how often it has seen it.
pub type Verdict = Box<dyn Fn(&str, u64, u32) -> Outcome + Send + Sync>;

/// A handler that keeps what it sees.
pub struct Recorder {
    seen: Mutex<Vec<(String, u64)>>,
    times: Mutex<HashMap<Uuid, u32>>,
    deliveries: Mutex<Vec<Delivery>>,
    verdict: Verdict,
    /// How long it takes over an event of a subject that begins with `slow`.
    pause: Duration,
    /// While this is locked, events whose subject begins with `held` are not answered.
    gate: Arc<tokio::sync::Mutex<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Answers as `verdict` says.
    #[must_use]
    pub fn new(verdict: impl Fn(&str, u64, u32) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            times: Mutex::default(),
            deliveries: Mutex::default(),
            verdict: Box::new(verdict),
            pause: Duration::from_millis(20),
            gate: Arc::default(),
        })
    }

    /// Takes everything.
    #[must_use]
    pub fn willing() -> Arc<Self> {
        Self::new(|_, _, _| Outcome::Done)
    }

    /// The numbers that were handled of one subject, in order.
    #[must_use]
    pub fn numbers(&self, subject: &str) -> Vec<u64> {
        let seen = lock(&self.seen);
        let of_it = seen.iter().filter(|(of, _)| of == subject);
        of_it.map(|(_, number)| *number).collect()
    }

    /// How many deliveries were handled.
    #[must_use]
    pub fn handled(&self) -> usize {
        lock(&self.seen).len()
    }

    /// How often an event was tried.
    #[must_use]
    pub fn times(&self, event: &Event) -> u32 {
        lock(&self.times).get(&event.id).copied().unwrap_or(0)
    }

    fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.deliveries).clone()
    }
}

#[async_trait]
impl Handler for Recorder {
    fn order_key(&self, delivery: &Delivery) -> String {
        let event = delivery.event();
        event.map_or_else(|_| String::new(), |(event, _)| event.subject)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let (event, _) = match delivery.event() {
            Ok(event) => event,
            Err(error) => return Outcome::Poison(error.to_string()),
        };
        lock(&self.deliveries).push(delivery.clone());
        let number = event.data["n"].as_u64().unwrap_or_default();
        let times = {
            let mut times = lock(&self.times);
            let times = times.entry(event.id).or_default();
            *times += 1;
            *times
        };
        if event.subject.starts_with("held") {
            drop(self.gate.lock().await);
        }
        if event.subject.starts_with("slow") {
            tokio::time::sleep(self.pause).await;
        }
        let outcome = (self.verdict)(&event.subject, number, times);
        if outcome == Outcome::Done {
            lock(&self.seen).push((event.subject, number));
        }
        outcome
    }
}

/// An event with a number.
#[must_use]
pub fn event(kind: &str, subject: &str, number: u64) -> Event {
    Event {
        id: Uuid::now_v7(),
        kind: kind.into(),
        project: Some("p1".into()),
        actor: None,
        subject: subject.into(),
        time: 1_785_000_000_000 + number,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        schema_version: SCHEMA_VERSION,
        data: json!({ "n": number }),
    }
}

/// How a consumer of the contract is served.
#[must_use]
pub fn spec(name: &str, patterns: &[&str]) -> ConsumerSpec {
    ConsumerSpec {
        name: name.into(),
        patterns: patterns.iter().map(|&pattern| pattern.into()).collect(),
        single_active: false,
        prefetch: 64,
        attempts: 3,
    }
}

/// A consumer that runs.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a consumer, and waits until it is there.
    pub async fn start(bus: &Arc<dyn Bus>, spec: ConsumerSpec, handler: Arc<Recorder>) -> Self {
        let stop = CancellationToken::new();
        let name = spec.name.clone();
        let task = tokio::spawn({
            let (bus, stop) = (Arc::clone(bus), stop.clone());
            async move { bus.consume(spec, handler, stop).await }
        });
        bus.declared(&name).await.expect("the consumer is declared");
        Self { stop, task }
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the consumer ends");
    }
}

/// Publishes events, in order, without waiting for their confirmation.
pub fn publish(bus: &Arc<dyn Bus>, events: &[Event]) -> JoinHandle<Vec<Result<(), BusError>>> {
    let (bus, events) = (Arc::clone(bus), events.to_vec());
    tokio::spawn(async move { join_all(events.iter().map(|event| bus.publish(event))).await })
}

async fn taken(published: JoinHandle<Vec<Result<(), BusError>>>) {
    for result in published.await.expect("the publisher ends") {
        assert_eq!(result, Ok(()));
    }
}

/// Waits until something has come about.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 20 s");
}

async fn dead_letters(bus: &Arc<dyn Bus>, number: usize) -> Vec<DeadLetter> {
    for _ in 0..200 {
        let found = bus.dead_letters(100).await.expect("dead letters");
        if found.len() >= number {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{number} dead letters did not come within 10 s");
}

/// Makes one test per guarantee; the argument names an `async fn() -> Subject`.
#[macro_export]
macro_rules! bus_contract {
    ($make:path) => {
        $crate::bus_contract! { @tests $make:
            every_consumer_whose_pattern_matches_gets_an_event,
            what_nobody_wants_is_taken_all_the_same,
            an_event_arrives_as_it_was,
            many_publishes_at_once_all_arrive,
            a_key_keeps_its_order_and_keys_run_side_by_side,
            a_retry_holds_only_its_key,
            after_its_attempts_a_delivery_is_buried,
            poison_is_buried_with_its_reason_and_the_next_ones_pass,
            a_panic_of_a_handler_is_an_attempt,
            what_was_not_handled_at_a_stop_comes_again,
            a_stop_does_not_wait_for_ever_for_a_handler,
            of_single_active_consumers_one_is_served_and_the_next_takes_over,
            a_consumer_that_nobody_started_is_not_declared,
        }
    };
    (@tests $make:path: $($name:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::bus::contract::$name($make().await).await;
            }
        )*
    };
}

/// Each matching consumer once; the others not.
pub async fn every_consumer_whose_pattern_matches_gets_an_event(subject: Subject) {
    let bus = &subject.bus;
    let (plans, all, others) = (
        Recorder::willing(),
        Recorder::willing(),
        Recorder::willing(),
    );
    let first = Running::start(
        bus,
        spec("first", &["plan.*", "plan.created"]),
        plans.clone(),
    )
    .await;
    let second = Running::start(bus, spec("second", &["#"]), all.clone()).await;
    let third = Running::start(bus, spec("third", &["document.#"]), others.clone()).await;
    let events = [
        event("plan.created", "plan:1", 1),
        event("user.created", "user:1", 2),
    ];
    taken(publish(bus, &events)).await;
    until("both arrive", || all.handled() == 2 && plans.handled() == 1).await;
    first.stop().await;
    second.stop().await;
    third.stop().await;
    assert_eq!(plans.numbers("plan:1"), [1]);
    assert_eq!(all.numbers("user:1"), [2]);
    assert_eq!(others.handled(), 0);
}

/// An event without a consumer is no error, and stands in nobody's way.
pub async fn what_nobody_wants_is_taken_all_the_same(subject: Subject) {
    let bus = &subject.bus;
    assert_eq!(
        bus.publish(&event("nobody.cares", "plan:1", 1)).await,
        Ok(())
    );
    let recorder = Recorder::willing();
    let running = Running::start(bus, spec("first", &["plan.*"]), recorder.clone()).await;
    let events = [
        event("nobody.cares", "plan:1", 2),
        event("plan.created", "plan:1", 3),
    ];
    taken(publish(bus, &events)).await;
    until("it arrives", || recorder.handled() == 1).await;
    assert_eq!(recorder.numbers("plan:1"), [3]);
    running.stop().await;
    assert_eq!(bus.ping().await, Ok(()));
}

/// Envelope, id, type, trace context.
pub async fn an_event_arrives_as_it_was(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::willing();
    let running = Running::start(bus, spec("first", &["#"]), recorder.clone()).await;
    let sent = event("plan.created", "plan:ä", 1);
    assert_eq!(bus.publish(&sent).await, Ok(()));
    until("it arrives", || recorder.handled() == 1).await;
    running.stop().await;
    let deliveries = recorder.deliveries();
    let delivery = &deliveries[0];
    assert_eq!(*delivery, Delivery::of(&sent).expect("an event"));
    assert_eq!(delivery.event(), Ok((sent, None)));
}

/// Nothing is lost and nothing doubled while nothing breaks.
pub async fn many_publishes_at_once_all_arrive(subject: Subject) {
    const EVENTS: u64 = 2000;
    let bus = &subject.bus;
    let recorder = Recorder::willing();
    let running = Running::start(bus, spec("first", &["plan.*"]), recorder.clone()).await;
    let number = |n| event("plan.progress", &format!("plan:{}", n % 50), n);
    let events: Vec<Event> = (0..EVENTS).map(number).collect();
    taken(publish(bus, &events)).await;
    until("all arrive", || recorder.handled() as u64 == EVENTS).await;
    running.stop().await;
    for plan in 0..50 {
        let expected: Vec<u64> = (0..EVENTS).filter(|n| n % 50 == plan).collect();
        assert_eq!(recorder.numbers(&format!("plan:{plan}")), expected);
    }
}

/// Twenty slow keys of ten events each take the time of about one key.
pub async fn a_key_keeps_its_order_and_keys_run_side_by_side(subject: Subject) {
    let bus = &subject.bus;
    let recorder = Recorder::willing();
    let wide = ConsumerSpec {
        prefetch: 300,
        ..spec("first", &["#"])
    };
    let running = Running::start(bus, wide, recorder.clone()).await;
    let number = |n: u64| event("plan.progress", &format!("slow:{}", n % 20), n / 20);
    let events: Vec<Event> = (0..200).map(number).collect();
    let since = std::time::Instant::now();
    taken(publish(bus, &events)).await;
    until("all arrive", || recorder.handled() == 200).await;
    let took = since.elapsed();
    running.stop().await;
    for plan in 0..20 {
        let expected: Vec<u64> = (0..10).collect();
        assert_eq!(recorder.numbers(&format!("slow:{plan}")), expected);
    }
    // One after the other they would take 4 s.
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

/// Nothing of the second while the first runs; then all that is left, in order.
pub async fn of_single_active_consumers_one_is_served_and_the_next_takes_over(subject: Subject) {
    let bus = &subject.bus;
    let single = ConsumerSpec {
        single_active: true,
        ..spec("third", &["#"])
    };
    let (one, two) = (Recorder::willing(), Recorder::willing());
    let first = Running::start(bus, single.clone(), one.clone()).await;
    taken(publish(bus, &[event("plan.progress", "plan:1", 0)])).await;
    until("the first is served", || one.handled() == 1).await;
    let second = Running::start(bus, single, two.clone()).await;
    let closed = Arc::clone(&one.gate).lock_owned().await;
    let number = |n| event("plan.progress", if n == 1 { "held:1" } else { "plan:1" }, n);
    let events: Vec<Event> = (1..20).map(number).collect();
    let published = publish(bus, &events);
    until("the first has the rest", || one.handled() == 19).await;
    assert_eq!(two.handled(), 0);
    drop(closed);
    first.stop().await;
    taken(publish(bus, &[event("plan.progress", "plan:1", 20)])).await;
    taken(published).await;
    until("the second takes over", || two.numbers("plan:1") == [20]).await;
    second.stop().await;
    assert_eq!(one.numbers("held:1"), [1]);
    assert_eq!(one.numbers("plan:1"), [vec![0], (2..20).collect()].concat());
    assert_eq!(two.handled(), 1);
}

/// The wait for it ends.
pub async fn a_consumer_that_nobody_started_is_not_declared(subject: Subject) {
    let since = std::time::Instant::now();
    let declared = subject.bus.declared("second").await;
    assert!(
        matches!(declared, Err(BusError::Unavailable(_))),
        "{declared:?}"
    );
    assert!(since.elapsed() < Duration::from_secs(15));
}

//! The bus on RabbitMQ while the server or the network fails: nothing confirmed is lost, an order holds, consumers go on.

#[path = "servers/proxy.rs"]
mod proxy;
#[path = "servers/rabbit.rs"]
mod rabbit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::bus::contract::{Recorder, Running, event, spec, until};
use backplane::bus::rabbit::{RabbitBus, RabbitOptions};
use backplane::bus::{Bus, BusError, ConsumerSpec, Outcome};
use protocol::event::Event;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use proxy::Proxy;
use rabbit::RabbitServer;

fn number(subject: usize, n: u64) -> Event {
    event("plan.progress", &format!("plan:{subject}"), n)
}

/// Publishes until it is confirmed, as the relay does.
async fn insist(bus: &Arc<dyn Bus>, event: &Event) {
    while let Err(error) = bus.publish(event).await {
        assert!(matches!(error, BusError::Unavailable(_)), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ten subjects side by side, each one's events one after the other, until `enough`; how many of each.
fn publishers(bus: &Arc<dyn Bus>, enough: &CancellationToken) -> JoinSet<(usize, u64)> {
    let mut publishers = JoinSet::new();
    for subject in 0..10 {
        let (bus, enough) = (Arc::clone(bus), enough.clone());
        publishers.spawn(async move {
            let mut count = 0;
            while !enough.is_cancelled() {
                insist(&bus, &number(subject, count)).await;
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (subject, count)
        });
    }
    publishers
}

/// Every event at least once, and each one's first time in the order of its subject.
async fn all_arrive(recorder: &Recorder, publishers: JoinSet<(usize, u64)>) -> u64 {
    let mut total = 0;
    for (subject, count) in publishers.join_all().await {
        let subject = format!("plan:{subject}");
        until("the last one arrives", || {
            recorder.numbers(&subject).contains(&(count - 1))
        })
        .await;
        let mut next = 0;
        for n in recorder.numbers(&subject) {
            assert!(n <= next, "{subject}: {n} came before {next}");
            next = next.max(n + 1);
        }
        assert_eq!(next, count, "{subject}");
        total += count;
    }
    total
}

fn patient(name: &str) -> ConsumerSpec {
    ConsumerSpec {
        single_active: true,
        prefetch: 100,
        attempts: 1000,
        ..spec(name, &["plan.#"])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_confirmed_event_and_consumers_go_on() {
    let mut server = RabbitServer::new();
    // Nobody is there yet: the bus is, and says so.
    let bus = RabbitBus::connect(RabbitOptions::new(&server.url(), "test")).await;
    let bus: Arc<dyn Bus> = Arc::new(bus.unwrap());
    assert!(matches!(bus.ping().await, Err(BusError::Unavailable(_))));
    let early = bus.publish(&number(0, 0)).await;
    assert!(matches!(early, Err(BusError::Unavailable(_))), "{early:?}");

    server.start();
    let recorder = Recorder::willing();
    let running = Running::start(&bus, patient("first"), recorder.clone()).await;
    let enough = CancellationToken::new();
    let publishers = publishers(&bus, &enough);
    until("events flow", || recorder.handled() > 500).await;
    for queue in ["tandem.first", "tandem.dead-letters"] {
        until("the queue is saved", || server.has_saved(queue)).await;
    }
    server.kill();
    assert!(bus.ping().await.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.start();
    let before = recorder.handled();
    until("events flow again", || recorder.handled() > before + 500).await;
    assert_eq!(bus.ping().await, Ok(()));
    enough.cancel();
    all_arrive(&recorder, publishers).await;
    running.stop().await;
    assert!(bus.dead_letters(1).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_short_of_memory_what_it_has_is_still_consumed() {
    let mut server = RabbitServer::new();
    server.start();
    let bus = RabbitBus::connect(RabbitOptions::new(&server.url(), "test")).await;
    let bus: Arc<dyn Bus> = Arc::new(bus.unwrap());
    let reluctant = Recorder::new(|_, _, _| Outcome::Retry("not yet".into()));
    let running = Running::start(&bus, patient("first"), reluctant.clone()).await;
    for n in 0..50 {
        assert_eq!(bus.publish(&number(1, n)).await, Ok(()));
    }
    running.stop().await;

    server.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    let held_up = bus.publish(&number(1, 50)).await;
    assert!(
        matches!(held_up, Err(BusError::Unavailable(_))),
        "{held_up:?}"
    );
    let since = Instant::now();
    assert!(bus.publish(&number(1, 50)).await.is_err());
    assert!(
        since.elapsed() < Duration::from_secs(1),
        "known by now, so told at once"
    );
    assert!(bus.ping().await.is_err());
    let recorder = Recorder::willing();
    let running = Running::start(&bus, patient("first"), recorder.clone()).await;
    until("all are consumed", || recorder.handled() == 50).await;
    running.stop().await;

    server.control(&["set_vm_memory_high_watermark", "0.4"]);
    insist(&bus, &number(1, 50)).await;
    let running = Running::start(&bus, patient("first"), recorder.clone()).await;
    until("it goes on", || recorder.numbers("plan:1").contains(&50)).await;
    running.stop().await;
    // Had an acknowledgement been held up, its event would have come again.
    let handled: Vec<u64> = (0..50).collect();
    assert_eq!(recorder.numbers("plan:1")[..50], handled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_and_silent_connections_lose_nothing() {
    let proxy = Proxy::start(5672, None).await;
    let prefix = format!("test-{}", uuid::Uuid::new_v4().simple());
    let address = format!(
        "amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=1",
        proxy.port()
    );
    let options = RabbitOptions {
        prefix: prefix.clone(),
        ..RabbitOptions::new(&address, "test")
    };
    let bus: Arc<dyn Bus> = Arc::new(RabbitBus::connect(options).await.unwrap());
    let recorder = Recorder::new(|_, n, times| match n % 50 {
        0 if times == 1 => Outcome::Retry("once more".into()),
        _ => Outcome::Done,
    });
    let running = Running::start(&bus, patient("first"), recorder.clone()).await;
    let enough = CancellationToken::new();
    let publishers = publishers(&bus, &enough);
    for round in 0..4 {
        let before = recorder.handled();
        until("events flow", || recorder.handled() > before + 300).await;
        if round % 2 == 0 {
            proxy.cut();
        } else {
            // Two heartbeats without a sign, and it is given up; new connections are silent too.
            proxy.stall(true);
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert!(bus.ping().await.is_err());
            proxy.stall(false);
        }
    }
    let before = recorder.handled();
    until("events flow again", || recorder.handled() > before + 300).await;
    enough.cancel();
    all_arrive(&recorder, publishers).await;
    running.stop().await;
    assert!(bus.dead_letters(1).await.unwrap().is_empty());
    drop(bus);
    delete(&prefix, &["first", "dead-letters"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_count_on_over_a_cut_connection() {
    let proxy = Proxy::start(5672, None).await;
    let prefix = format!("test-{}", uuid::Uuid::new_v4().simple());
    let address = format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.port());
    let options = RabbitOptions {
        prefix: prefix.clone(),
        ..RabbitOptions::new(&address, "test")
    };
    let bus: Arc<dyn Bus> = Arc::new(RabbitBus::connect(options).await.unwrap());
    let recorder = Recorder::new(|_, _, _| Outcome::Retry("never ready".into()));
    let five = ConsumerSpec {
        attempts: 5,
        ..spec("first", &["#"])
    };
    let running = Running::start(&bus, five, recorder.clone()).await;
    let hopeless = number(1, 1);
    insist(&bus, &hopeless).await;
    for attempts in [1, 3] {
        until("it is tried", || recorder.times(&hopeless) >= attempts).await;
        proxy.cut();
    }
    let dead = loop {
        match bus.dead_letters(10).await {
            Ok(dead) if !dead.is_empty() => break dead,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(dead[0].reason, "after 5 attempts: never ready");
    assert_eq!(recorder.times(&hopeless), 5);
    running.stop().await;
    drop(bus);
    delete(&prefix, &["first", "dead-letters"]).await;
}

async fn delete(prefix: &str, queues: &[&str]) {
    use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
    let address = "amqp://guest:guest@127.0.0.1:5672/%2f";
    let properties = lapin::ConnectionProperties::default();
    let connection = lapin::Connection::connect(address, properties)
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    for queue in queues {
        let queue = format!("{prefix}.{queue}");
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.unwrap();
    }
    for exchange in ["events", "dead"] {
        let exchange = format!("{prefix}.{exchange}");
        let deleted = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default());
        deleted.await.unwrap();
    }
}

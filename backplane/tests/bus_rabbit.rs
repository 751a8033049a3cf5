//! The bus contract on RabbitMQ, and what only RabbitMQ has.

use std::sync::Arc;
use std::time::Duration;

use backplane::bus::contract::{CONSUMERS, Recorder, Running, Subject, event, spec, until};
use backplane::bus::rabbit::{RabbitBus, RabbitOptions};
use backplane::bus::{Bus, BusError, DEAD_EXCHANGE, EXCHANGE, Outcome};
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use uuid::Uuid;

const SERVER: &str = "amqp://guest:guest@127.0.0.1:5672";

async fn channel() -> (Connection, Channel) {
    let connection = Connection::connect(SERVER, ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ runs");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Deletes the exchanges and queues of a prefix when it is dropped.
struct Tidy(String);

impl Drop for Tidy {
    fn drop(&mut self) {
        let prefix = self.0.clone();
        let deleting = async move {
            let (_connection, channel) = channel().await;
            for name in CONSUMERS.iter().copied().chain(["dead-letters"]) {
                let queue = format!("{prefix}.{name}");
                let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
                deleted.await.expect("the queue is deleted");
            }
            for name in ["events", "dead"] {
                let exchange = format!("{prefix}.{name}");
                let options = ExchangeDeleteOptions::default();
                let deleted = channel.exchange_delete(exchange.into(), options);
                deleted.await.expect("the exchange is deleted");
            }
        };
        // A drop can't wait inside the runtime that runs it.
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(deleting);
        });
        let ended = thread.join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "tidying up failed"
        );
    }
}

fn options(prefix: &str) -> RabbitOptions {
    RabbitOptions {
        prefix: prefix.to_owned(),
        ..RabbitOptions::new(SERVER, prefix)
    }
}

async fn prefixed() -> (Subject, String) {
    let prefix = format!("test-{}", Uuid::new_v4().simple());
    let bus = RabbitBus::connect(options(&prefix)).await.unwrap();
    let subject = Subject {
        bus: Arc::new(bus),
        tidy: Box::new(Tidy(prefix.clone())),
    };
    (subject, prefix)
}

async fn rabbit() -> Subject {
    prefixed().await.0
}

backplane::bus_contract!(rabbit);

/// Publishes as a producer that knows nothing but AMQP.
async fn produce(prefix: &str, kind: &str, properties: BasicProperties, body: &[u8]) {
    let (_connection, channel) = channel().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let confirm = channel.basic_publish(
        format!("{prefix}.events").into(),
        kind.into(),
        BasicPublishOptions::default(),
        body,
        properties,
    );
    assert!(confirm.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test]
async fn a_foreign_producer_needs_nothing_but_amqp() {
    let (subject, prefix) = prefixed().await;
    let recorder = Recorder::willing();
    let running = Running::start(&subject.bus, spec("first", &["build.*"]), recorder.clone()).await;
    let id = Uuid::now_v7();
    let json = br#"{"subject":"project:p1","data":{"n":7}}"#;
    let properties = BasicProperties::default()
        .with_message_id(id.to_string().into())
        .with_timestamp(1_785_000_000);
    produce(&prefix, "build.done", properties, json).await;

    let mut headers = FieldTable::default();
    headers.insert("subject".into(), AMQPValue::LongString("doc:d1".into()));
    headers.insert("odd".into(), AMQPValue::Boolean(true));
    let binary = BasicProperties::default()
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_content_type("application/octet-stream".into())
        .with_timestamp(1_785_000_000)
        .with_headers(headers);
    produce(&prefix, "build.log", binary, &[0xff, 0, 0xfe]).await;
    until("both arrive", || recorder.handled() == 2).await;
    assert_eq!(recorder.numbers("project:p1"), [7]);
    assert_eq!(recorder.numbers("doc:d1"), [0]);

    // What is no event, a key of 255 bytes included, is buried with its reason.
    let long = format!("build.{}", "x".repeat(249));
    produce(&prefix, &long, BasicProperties::default(), b"no json").await;
    produce(&prefix, "build.done", BasicProperties::default(), json).await;
    let mut dead = Vec::new();
    while dead.len() < 2 {
        dead = subject.bus.dead_letters(10).await.unwrap();
    }
    running.stop().await;
    assert_eq!(
        (dead[0].kind.as_str(), dead[0].id.as_deref()),
        (long.as_str(), None)
    );
    assert_eq!(&dead[0].body[..], b"no json");
    assert_eq!(dead[0].consumer, "first");
    assert!(
        dead[0].reason.starts_with("the envelope can't be read"),
        "{}",
        dead[0].reason
    );
    assert_eq!(dead[1].reason, "the event has no id");
}

#[tokio::test]
async fn large_headers_do_not_keep_a_message_from_being_buried() {
    let (subject, prefix) = prefixed().await;
    let poison = Recorder::new(|_, _, _| Outcome::Poison("r".repeat(200_000)));
    let running = Running::start(&subject.bus, spec("first", &["#"]), poison).await;
    let mut headers = FieldTable::default();
    for n in 0..4 {
        let value = AMQPValue::LongString("h".repeat(30_000).into());
        headers.insert(format!("h{n}").into(), value);
    }
    let properties = BasicProperties::default()
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_headers(headers);
    let body = br#"{"subject":"plan:1","time":1}"#;
    produce(&prefix, "plan.created", properties, body).await;
    let mut dead = Vec::new();
    while dead.is_empty() {
        dead = subject.bus.dead_letters(10).await.unwrap();
    }
    running.stop().await;
    assert_eq!(dead[0].reason.len(), 1000);
    assert_eq!(subject.bus.ping().await, Ok(()));
}

#[tokio::test]
async fn a_pattern_that_a_consumer_no_longer_has_brings_it_nothing() {
    let subject = rabbit().await;
    let recorder = Recorder::willing();
    let wide = spec("first", &["plan.*", "user.*"]);
    let running = Running::start(&subject.bus, wide, recorder.clone()).await;
    running.stop().await;
    let narrow = spec("first", &["plan.*"]);
    let running = Running::start(&subject.bus, narrow, recorder.clone()).await;
    for (kind, number) in [("user.created", 1), ("plan.created", 2)] {
        let event = event(kind, "plan:1", number);
        assert_eq!(subject.bus.publish(&event).await, Ok(()));
    }
    until("one arrives", || recorder.handled() == 1).await;
    running.stop().await;
    assert_eq!(recorder.numbers("plan:1"), [2]);
    assert!(subject.bus.dead_letters(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_rabbitmq_itself_gives_up_is_a_dead_letter_too() {
    let (subject, prefix) = prefixed().await;
    let running = Running::start(&subject.bus, spec("first", &["#"]), Recorder::willing()).await;
    running.stop().await;
    let sent = event("plan.created", "plan:1", 1);
    assert_eq!(subject.bus.publish(&sent).await, Ok(()));
    // As a consumer that dies of it each time.
    let (_connection, channel) = channel().await;
    let queue = format!("{prefix}.first");
    let mut times = 0;
    let dead = loop {
        let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
        if let Some(message) = got.await.unwrap() {
            times += 1;
            let again = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            message.nack(again).await.unwrap();
        }
        let dead = subject.bus.dead_letters(10).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
    };
    assert_eq!(times, 101);
    assert_eq!(dead[0].consumer, "first");
    assert_eq!(dead[0].kind, "plan.created");
    assert_eq!(dead[0].id, Some(sent.id.to_string()));
    assert_eq!(dead[0].reason, "RabbitMQ dead-lettered it: delivery_limit");
}

#[tokio::test]
async fn what_waiting_cannot_mend_is_refused_in_clear_words() {
    let refused = async |url: &str| match RabbitBus::connect(RabbitOptions::new(url, "test")).await
    {
        Err(BusError::Refused(reason)) => reason,
        other => panic!("{:?}", other.err()),
    };
    let reason = refused("amqp://guest:wrong@127.0.0.1:5672").await;
    assert!(reason.starts_with("ACCESS_REFUSED"), "{reason}");
    let reason = refused("amqp://guest:guest@127.0.0.1:5672/no-such-host").await;
    assert!(reason.contains("vhost no-such-host not found"), "{reason}");
    let reason = refused("amqp://guest:secret@:bad:").await;
    assert!(!reason.contains("secret"), "{reason}");

    // An exchange of that name that is another.
    let prefix = format!("test-{}", Uuid::new_v4().simple());
    let _tidy = Tidy(prefix.clone());
    let (_connection, channel) = channel().await;
    let declared = channel.exchange_declare(
        format!("{prefix}.events").into(),
        ExchangeKind::Fanout,
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    declared.await.unwrap();
    match RabbitBus::connect(options(&prefix)).await {
        Err(BusError::Refused(reason)) => assert!(reason.contains("inequivalent"), "{reason}"),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn events_that_nobody_is_bound_for_are_counted() {
    let prefix = format!("test-{}", Uuid::new_v4().simple());
    let _tidy = Tidy(prefix.clone());
    let bus = RabbitBus::connect(options(&prefix)).await.unwrap();
    for number in 0..3 {
        let nobodys = event("nobody.cares", "plan:1", number);
        assert_eq!(bus.publish(&nobodys).await, Ok(()));
    }
    assert_eq!(bus.unroutable(), 3);
    let nameless = event(&"x".repeat(256), "plan:1", 4);
    assert!(matches!(
        bus.publish(&nameless).await,
        Err(BusError::Refused(_))
    ));
    assert_eq!(bus.ping().await, Ok(()));
}

#[tokio::test]
async fn an_event_waits_for_the_queue_of_a_consumer_that_is_there() {
    let (subject, prefix) = prefixed().await;
    let recorder = Recorder::willing();
    let running = Running::start(&subject.bus, spec("first", &["plan.*"]), recorder.clone()).await;
    // As after a server that came up without its definitions.
    let (_connection, channel) = channel().await;
    let queue = format!("{prefix}.first");
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    let mut refused = 0;
    for number in 0..20 {
        let event = event("plan.created", "plan:1", number);
        while subject.bus.publish(&event).await.is_err() {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    until("all arrive", || recorder.handled() >= 20).await;
    assert_eq!(recorder.numbers("plan:1"), (0..20).collect::<Vec<_>>());
    assert!(refused > 0, "the queue was never missing");
    running.stop().await;
}

#[test]
fn foreign_producers_know_the_names_of_the_default_prefix() {
    let prefix = RabbitOptions::new(SERVER, "test").prefix;
    assert_eq!(EXCHANGE, format!("{prefix}.events"));
    assert_eq!(DEAD_EXCHANGE, format!("{prefix}.dead"));
}

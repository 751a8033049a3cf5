//! The bridge between a real bus and a real broker, both embedded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backplane::broker::contract::{RETENTION, Recorder};
use backplane::broker::local::LocalBroker;
use backplane::broker::{Broker, BrokerError, Page, Publication, Publish, Published};
use backplane::bus::local::LocalBus;
use backplane::bus::{Bus, Delivery, Handler, Outcome};
use backplane::store::Store;
use backplane::store::sqlite::SqliteStore;
use bytes::Bytes;
use protocol::frame::Member;
use protocol::{ChannelName, DeliveryClass, Event, Position};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::Bridge;
use workers::bridge::{CONSUMER, MAX_BYTES};

const DAY: Duration = Duration::from_secs(86_400);

/// A broker that is away for as long as a test wants.
struct Flaky {
    broker: LocalBroker,
    away: AtomicBool,
    tries: AtomicU32,
}

#[async_trait]
impl Broker for Flaky {
    async fn publish(
        &self,
        channel: &ChannelName,
        message: Publish,
    ) -> Result<Published, BrokerError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Err(BrokerError::Unavailable("away".into()));
        }
        self.broker.publish(channel, message).await
    }

    async fn position(&self, channel: &ChannelName) -> Result<Position, BrokerError> {
        self.broker.position(channel).await
    }

    async fn history(
        &self,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        self.broker.history(channel, since, limit).await
    }

    async fn latest(&self, channel: &ChannelName) -> Result<Vec<Arc<Publication>>, BrokerError> {
        self.broker.latest(channel).await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<(), BrokerError> {
        self.broker.subscribe(channel).await
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.broker.unsubscribe(channel);
    }

    async fn join(&self, channel: &ChannelName, member: Member) -> Result<(), BrokerError> {
        self.broker.join(channel, member).await
    }

    fn leave(&self, channel: &ChannelName, session: &str) {
        self.broker.leave(channel, session);
    }

    async fn members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<Member>, BrokerError> {
        self.broker.members(channel, limit).await
    }
}

struct World {
    bus: Arc<dyn Bus>,
    broker: Arc<Flaky>,
    stop: CancellationToken,
    bridging: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(types: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new(store));
        let broker = Arc::new(Flaky {
            broker: LocalBroker::new(Arc::new(Recorder::default()), RETENTION),
            away: AtomicBool::new(false),
            tries: AtomicU32::new(0),
        });
        let bridge = Arc::new(Bridge {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            dedup: DAY,
        });
        let types = types.iter().map(|&kind| kind.to_owned()).collect();
        let spec = Bridge::spec(types, 64, 3);
        let stop = CancellationToken::new();
        let bridging = tokio::spawn({
            let (bus, stop) = (Arc::clone(&bus), stop.clone());
            async move { bus.consume(spec, bridge, stop).await }
        });
        bus.declared(CONSUMER).await.unwrap();
        Self {
            bus,
            broker,
            stop,
            bridging,
            _folder: folder,
        }
    }

    /// Publishes; the embedded bus returns when the bridge has handled it.
    async fn publish(&self, event: &Event) {
        self.bus.publish(event).await.unwrap();
    }

    async fn history(&self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        let page = self.broker.history(channel, None, 100).await.unwrap();
        page.messages
    }

    async fn end(self) {
        self.stop.cancel();
        self.bridging.await.unwrap();
    }
}

fn event(kind: &str, subject: &str, number: u64) -> Event {
    Event::new(Uuid::now_v7(), kind, subject.into(), 1_785_000_000_000)
        .in_project("engine")
        .with(json!({ "n": number }))
}

fn plan(id: &str) -> ChannelName {
    ChannelName::Plan(id.into())
}

#[tokio::test]
async fn an_event_reaches_the_channel_of_its_subject() {
    let world = World::new(&["plan.*", "notification.*", "document.*", "project.*"]).await;
    let cases = [
        ("plan.progress", "plan:7", plan("7")),
        (
            "notification.created",
            "user:u1",
            ChannelName::Feed("u1".into()),
        ),
        ("document.opened", "doc:d1", ChannelName::Doc("d1".into())),
        (
            "project.renamed",
            "project:p1",
            ChannelName::Project("p1".into()),
        ),
    ];
    for (kind, subject, channel) in cases {
        let event = event(kind, subject, 1);
        world.publish(&event).await;
        let history = world.history(&channel).await;
        assert_eq!(history.len(), 1, "{subject}");
        let message = &history[0];
        assert_eq!(
            (message.class, message.offset),
            (DeliveryClass::Reliable, 1)
        );
        assert_eq!(
            message.event.as_deref(),
            Some(event.id.to_string().as_str())
        );
        let expected = json!({
            "type": kind, "subject": subject, "project": "engine",
            "time": 1_785_000_000_000_u64, "data": { "n": 1 },
        });
        assert_eq!(message.data, Some(expected));
        assert_eq!((&message.bytes, &message.from), (&None, &None));
    }
    // A type that is not on the list goes nowhere.
    world.publish(&event("user.created", "user:u1", 2)).await;
    let feed = ChannelName::Feed("u1".into());
    assert_eq!(world.history(&feed).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn an_event_that_comes_twice_stands_in_its_channel_once() {
    let world = World::new(&["plan.*"]).await;
    let events: Vec<Event> = (0..5)
        .map(|n| event("plan.progress", "plan:7", n))
        .collect();
    for event in events.iter().chain(&events[2..]).chain(&events[..1]) {
        world.publish(event).await;
    }
    let history = world.history(&plan("7")).await;
    let offsets: Vec<u64> = history.iter().map(|message| message.offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5]);
    for (message, event) in history.iter().zip(&events) {
        assert_eq!(
            message.event.as_deref(),
            Some(event.id.to_string().as_str())
        );
    }
    world.end().await;
}

#[tokio::test]
async fn a_binary_payload_comes_as_bytes() {
    let broker = Arc::new(LocalBroker::new(Arc::new(Recorder::default()), RETENTION));
    let bridge = Bridge {
        broker: Arc::clone(&broker) as Arc<dyn Broker>,
        dedup: DAY,
    };
    let payload = Bytes::from_static(&[0xff, 0, 0xfe]);
    let mut delivery = Delivery {
        kind: "plan.artifact".into(),
        message_id: Some(Uuid::now_v7().to_string()),
        content_type: Some("application/octet-stream".into()),
        timestamp: Some(1_785_000_000),
        body: payload.clone(),
        ..Delivery::default()
    };
    delivery.headers.insert("subject".into(), "plan:7".into());
    assert_eq!(bridge.handle(&delivery).await, Outcome::Done);
    let page = broker.history(&plan("7"), None, 10).await.unwrap();
    let message = &page.messages[0];
    assert_eq!(message.bytes.as_ref().map(|blob| &blob.0), Some(&payload));
    let expected = json!({
        "type": "plan.artifact", "subject": "plan:7", "time": 1_785_000_000_000_u64,
    });
    assert_eq!(message.data, Some(expected));

    delivery.body = vec![0; MAX_BYTES + 1].into();
    let outcome = bridge.handle(&delivery).await;
    assert!(matches!(outcome, Outcome::Poison(_)), "{outcome:?}");
    delivery.message_id = None;
    delivery.body = payload;
    let outcome = bridge.handle(&delivery).await;
    assert_eq!(outcome, Outcome::Poison("the event has no id".into()));
}

#[tokio::test]
async fn poison_is_buried_with_its_reason_and_the_next_ones_pass() {
    let world = World::new(&["plan.*"]).await;
    for subject in ["plan:7", "planet:7", "plan:a b", "plan:7"] {
        world.publish(&event("plan.progress", subject, 1)).await;
    }
    assert_eq!(world.history(&plan("7")).await.len(), 2);
    let dead = world.bus.dead_letters(10).await.unwrap();
    let reasons: Vec<&str> = dead.iter().map(|dead| dead.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the subject \"planet:7\" has no channel",
            "the subject \"plan:a b\" has no channel",
        ]
    );
    assert_eq!(dead[0].consumer, CONSUMER);
    world.end().await;
}

#[tokio::test]
async fn while_the_broker_is_away_events_are_held_and_none_is_given_up() {
    let world = World::new(&["plan.*"]).await;
    world.broker.away.store(true, Ordering::Relaxed);
    let publishing = tokio::spawn({
        let bus = Arc::clone(&world.bus);
        let events: Vec<Event> = (0..20)
            .map(|n| event("plan.progress", "plan:7", n))
            .collect();
        async move { futures::future::join_all(events.iter().map(|event| bus.publish(event))).await }
    });
    // Far more tries than the consumer's three attempts.
    while world.broker.tries.load(Ordering::Relaxed) < 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!publishing.is_finished(), "nothing is taken for handled");
    world.broker.away.store(false, Ordering::Relaxed);
    for taken in publishing.await.unwrap() {
        assert_eq!(taken, Ok(()));
    }
    let history = world.history(&plan("7")).await;
    let data = history.iter().filter_map(|message| message.data.as_ref());
    let numbers: Vec<u64> = data.filter_map(|data| data["data"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
    assert!(world.bus.dead_letters(1).await.unwrap().is_empty());
    world.end().await;
}

//! The outbox relay on a real store: order, outages, refusals, the lease.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backplane::bus::{Bus, BusError, ConsumerSpec, DeadLetter, Handler};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Events, Nodes, Store};
use protocol::Event;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::Relay;
use workers::relay::LEASE;

/// A bus that takes events, down to the moment, and hands them to nobody.
#[derive(Default)]
struct Recorder {
    taken: Mutex<Vec<Event>>,
    down: AtomicBool,
    /// How long each event takes, in milliseconds; every third twice as long.
    slow: AtomicU64,
    calls: AtomicU64,
}

impl Recorder {
    fn taken(&self) -> Vec<Event> {
        self.taken.lock().unwrap().clone()
    }
}

#[async_trait]
impl Bus for Recorder {
    async fn publish(&self, event: &Event) -> Result<(), BusError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let slow = self.slow.load(Ordering::Relaxed) * (1 + u64::from(call.is_multiple_of(3)));
        tokio::time::sleep(Duration::from_millis(slow)).await;
        if self.down.load(Ordering::Relaxed) {
            return Err(BusError::Unavailable("the plug is out".into()));
        }
        if event.kind == "tested.refused" {
            return Err(BusError::Refused("too odd".into()));
        }
        self.taken.lock().unwrap().push(event.clone());
        Ok(())
    }

    async fn consume(&self, _: ConsumerSpec, _: Arc<dyn Handler>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    async fn declared(&self, consumer: &str) -> Result<(), BusError> {
        Err(BusError::Unavailable(format!("nobody consumes {consumer}")))
    }

    async fn dead_letters(&self, _: usize) -> Result<Vec<DeadLetter>, BusError> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }
}

struct World {
    folder: TempDir,
    store: Arc<SqliteStore>,
    bus: Arc<Recorder>,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        Self {
            folder,
            store: Arc::new(store),
            bus: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tandem.db")
    }

    fn relay(&self, owner: &str) -> Relay {
        Relay {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            bus: Arc::clone(&self.bus) as Arc<dyn Bus>,
            owner: owner.into(),
            every: Duration::from_millis(20),
            // A relay that a busy machine holds up for that long loses its lease, and publishes what was on its
            // way again: those tests that allow for no double would fail.
            ttl: Duration::from_secs(20),
            nudge: None,
        }
    }

    /// A relay whose lease is soon over.
    fn start_short(&self, owner: &str) -> JoinHandle<()> {
        let relay = Relay {
            ttl: Duration::from_secs(1),
            ..self.relay(owner)
        };
        tokio::spawn(relay.run(self.stop.clone()))
    }

    fn start(&self, owner: &str) -> JoinHandle<()> {
        tokio::spawn(self.relay(owner).run(self.stop.clone()))
    }

    /// Waits until nothing is left in the outbox.
    async fn drained(&self) {
        let since = Instant::now();
        while !self.store.outbox(1).await.unwrap().is_empty() {
            assert!(since.elapsed() < Duration::from_secs(30), "events are left");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(&self, relays: Vec<JoinHandle<()>>) {
        self.stop.cancel();
        for relay in relays {
            relay.await.unwrap();
        }
    }
}

fn event(kind: &str, subject: &str) -> Event {
    Event::new(Uuid::now_v7(), kind, subject.into(), 1)
}

/// `count` events, of `subjects` subjects in turn.
fn events(count: usize, subjects: usize) -> Vec<Event> {
    (0..count)
        .map(|n| event("tested.order", &format!("doc:{}", n % subjects)))
        .collect()
}

/// Ids by subject, in order; of those that came twice the first.
fn by_subject(events: &[Event]) -> BTreeMap<&str, Vec<Uuid>> {
    let mut seen = HashSet::new();
    let mut subjects: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for event in events.iter().filter(|event| seen.insert(event.id)) {
        subjects.entry(&event.subject).or_default().push(event.id);
    }
    subjects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_goes_once_and_in_the_order_of_its_subject() {
    let world = World::new().await;
    world.bus.slow.store(1, Ordering::Relaxed);
    let all = events(3000, 7);
    world.store.emit(&all[..2500]).await.unwrap();
    let relay = world.start("one");
    for event in &all[2500..] {
        world.store.emit(std::slice::from_ref(event)).await.unwrap();
    }
    world.drained().await;
    let taken = world.bus.taken();
    assert_eq!(taken.len(), all.len());
    assert_eq!(by_subject(&taken), by_subject(&all));
    world.end(vec![relay]).await;
    // The lease was given up: nobody need wait for its end.
    let lease = world
        .store
        .lease(LEASE, "two", Duration::from_secs(1))
        .await;
    assert!(lease.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subject_does_not_hold_the_others_up() {
    let world = World::new().await;
    world.bus.slow.store(50, Ordering::Relaxed);
    let all = events(100, 100);
    world.store.emit(&all).await.unwrap();
    let since = Instant::now();
    let relay = world.start("one");
    world.drained().await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(3), "one by one: {took:?}");
    world.end(vec![relay]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bus_is_down_the_relay_holds() {
    let world = World::new().await;
    world.bus.down.store(true, Ordering::Relaxed);
    let all = events(40, 4);
    world.store.emit(&all).await.unwrap();
    let relay = world.start("one");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let tries = world.bus.calls.load(Ordering::Relaxed);
    assert!(tries > 0 && tries < 200, "{tries} tries");
    assert_eq!(world.store.outbox(100).await.unwrap().len(), 40);
    assert_eq!(world.store.buried(10).await.unwrap(), []);
    world.bus.down.store(false, Ordering::Relaxed);
    world.drained().await;
    let taken = world.bus.taken();
    assert_eq!(taken.len(), all.len());
    assert_eq!(by_subject(&taken), by_subject(&all));
    world.end(vec![relay]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bus_refuses_is_buried_and_stalls_nobody() {
    let world = World::new().await;
    let mut all = events(30, 3);
    for n in [0, 3, 10, 29] {
        all[n].kind = "tested.refused".into();
    }
    world.store.emit(&all).await.unwrap();
    let relay = world.start("one");
    world.drained().await;
    let (refused, good): (Vec<Event>, Vec<Event>) = all
        .into_iter()
        .partition(|event| event.kind == "tested.refused");
    assert_eq!(by_subject(&world.bus.taken()), by_subject(&good));
    let buried = world.store.buried(100).await.unwrap();
    assert_eq!(buried.len(), refused.len());
    for event in &refused {
        let id = event.id.to_string();
        let kept = buried
            .iter()
            .find(|kept| kept.event_id.as_ref() == Some(&id));
        let kept = kept.expect("buried");
        assert_eq!(
            (kept.kind.as_str(), kept.reason.as_str()),
            ("tested.refused", "too odd")
        );
        assert_eq!(&serde_json::from_slice::<Event>(&kept.body).unwrap(), event);
    }
    world.end(vec![relay]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_relay_dies_another_goes_on() {
    let world = World::new().await;
    world.bus.slow.store(2, Ordering::Relaxed);
    let all = events(600, 5);
    let writer = {
        let (store, all) = (Arc::clone(&world.store), all.clone());
        tokio::spawn(async move {
            for some in all.chunks(10) {
                store.emit(some).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let dies = world.start_short("one");
    while world.bus.taken().len() < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lives = world.start_short("two");
    dies.abort();
    assert!(dies.await.unwrap_err().is_cancelled());
    writer.await.unwrap();
    world.drained().await;
    let taken = world.bus.taken();
    assert_eq!(by_subject(&taken), by_subject(&all));
    // At most what was on its way or not confirmed yet came twice.
    assert!(taken.len() < all.len() + 100, "{}", taken.len() - all.len());
    world.end(vec![lives]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_do_not_work_at_once() {
    let world = World::new().await;
    world.bus.slow.store(1, Ordering::Relaxed);
    let relays = vec![world.start("one"), world.start("two")];
    let all = events(500, 5);
    for some in all.chunks(20) {
        world.store.emit(some).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.drained().await;
    let taken = world.bus.taken();
    assert_eq!(taken.len(), all.len(), "some were published twice");
    assert_eq!(by_subject(&taken), by_subject(&all));
    world.end(relays).await;
}

/// Another process holds the database's write lock: the lease can't be renewed, and the relay must fall
/// silent before it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_renew_stops_in_time() {
    let world = World::new().await;
    world.bus.slow.store(20, Ordering::Relaxed);
    let all = events(300, 1);
    world.store.emit(&all).await.unwrap();
    let relay = world.start_short("one");
    while world.bus.taken().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut other = SqliteConnectOptions::new()
        .filename(world.file())
        .busy_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let taken = world.bus.taken().len();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(
        world.bus.taken().len(),
        taken,
        "it went on without its lease"
    );
    assert!(taken < all.len(), "there was nothing left to publish");
    lock.rollback().await.unwrap();
    world.bus.slow.store(0, Ordering::Relaxed);
    world.drained().await;
    assert_eq!(by_subject(&world.bus.taken()), by_subject(&all));
    world.end(vec![relay]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nudge_does_not_wait_for_the_next_look() {
    let world = World::new().await;
    let nudge = Arc::new(Notify::new());
    let relay = Relay {
        every: Duration::from_secs(60),
        nudge: Some(Arc::clone(&nudge)),
        ..world.relay("one")
    };
    let relay = tokio::spawn(relay.run(world.stop.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let since = Instant::now();
    for event in events(20, 2) {
        world.store.emit(&[event]).await.unwrap();
        nudge.notify_one();
    }
    world.drained().await;
    assert!(since.elapsed() < Duration::from_secs(10));
    world.end(vec![relay]).await;
}

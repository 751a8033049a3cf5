//! Plans that are lost to an attempt: cancelled, taken over, given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backplane::broker::Broker;
use backplane::bus::Bus;
use backplane::bus::local::LocalBus;
use backplane::store::{PlanStatus, Store};
use protocol::DeliveryClass;
use serde_json::json;
use workers::{Bridge, PlanRequested, Relay};

use super::world::{Script, Turn, World, channel, good, until};

/// The first step whole, the second one begun.
fn begun() -> String {
    let text = good().to_string();
    text[..text.find("Raise").unwrap() + 3].to_owned()
}

/// Nothing is written of a plan from now on.
async fn stays(world: &World, id: &str) {
    let before = (world.read(id).await, world.kinds(id).await);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!((world.read(id).await, world.kinds(id).await), before);
    assert_eq!(before.0.0.status, PlanStatus::Cancelled);
    let ends = ["plan.created", "plan.failed"];
    assert!(before.1.iter().all(|kind| !ends.contains(&kind.as_str())));
}

#[tokio::test]
async fn a_plan_that_is_cancelled_before_is_not_begun() {
    let world = World::new().await;
    let script = Script::of([]);
    let id = world.ask("Make frames größer").await;
    world.cancel(&id).await;
    world.start("a", Some(Arc::clone(&script)));
    stays(&world, &id).await;
    assert_eq!(script.asked().len(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_plan_is_cancelled_while_its_context_is_searched() {
    let world = World::new().await;
    world.index.hangs.store(true, Ordering::SeqCst);
    let script = Script::of([]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    until("a search", || {
        world.index.searched.load(Ordering::SeqCst) > 0
    })
    .await;
    world.cancel(&id).await;
    world.nudge.wake(&id);
    stays(&world, &id).await;
    assert_eq!(script.asked().len(), 0);
    world.end().await;
}

/// In the first round and in the repair; at once if it is told on this node, else by the lease.
#[tokio::test]
async fn a_plan_is_cancelled_while_it_is_written() {
    for (turns, round, told) in [
        (vec![Turn::Hang(begun())], 1, true),
        (vec![Turn::Hang(begun())], 1, false),
        (
            vec![Turn::Say("none".into(), 9), Turn::Hang(begun())],
            2,
            true,
        ),
    ] {
        let world = World::new().await;
        let script = Script::of(turns);
        world.start("a", Some(Arc::clone(&script)));
        let id = world.ask("Make frames größer").await;
        until("the round", || {
            script.asked().len() == round && script.live() == 1
        })
        .await;
        while world.read(&id).await.1.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.cancel(&id).await;
        let since = Instant::now();
        if told {
            world.nudge.wake(&id);
        }
        until("the end of the request", || script.live() == 0).await;
        let most = if told { 500 } else { 1800 };
        assert!(
            since.elapsed() < Duration::from_millis(most),
            "{:?}",
            since.elapsed()
        );
        // What came until then is told.
        let since = Instant::now();
        while world
            .kinds(&id)
            .await
            .iter()
            .filter(|kind| *kind == "ai.used")
            .count()
            < round
        {
            assert!(since.elapsed() < Duration::from_secs(5), "usage is told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stays(&world, &id).await;
        assert_eq!(world.read(&id).await.1.len(), 1);
        world.end().await;
    }
}

/// A worker whose thread stands still loses its plan; what it then writes does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_worker_that_stalls_is_overtaken() {
    let mut world = World::new().await;
    world.options.lease = Duration::from_millis(300);
    let mut other = good();
    other["summary"] = json!("Of the one that stalled.");
    other["steps"][0]["title"] = json!("Stalled");
    let slow = Script::of([Turn::Stall(other.to_string(), Duration::from_millis(2500))]);
    world.start("slow", Some(Arc::clone(&slow)));
    let id = world.ask("Make frames größer").await;
    until("the request", || slow.live() == 1).await;
    let quick = Script::of([]);
    world.start("quick", Some(Arc::clone(&quick)));
    until("the end of the stalled one", || slow.live() == 0).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(plan.status, PlanStatus::Done);
    assert!(plan.attempt >= 2);
    assert_eq!(plan.body.unwrap()["summary"], good()["summary"]);
    assert_eq!(steps[0].title, good()["steps"][0]["title"]);
    assert!(steps.iter().all(|step| step.attempt == plan.attempt));
    let kinds = world.kinds(&id).await;
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "plan.created").count(),
        1
    );
    world.end().await;
}

#[tokio::test]
async fn a_worker_that_stops_gives_its_plan_back() {
    let mut world = World::new().await;
    world.options.lease = Duration::from_secs(600);
    let script = Script::of([Turn::Hang(begun())]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    until("the request", || script.live() == 1).await;
    world.end().await;
    assert_eq!(script.live(), 0);
    world.stop = tokio_util::sync::CancellationToken::new();
    world.start("b", Some(Script::of([])));
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(
        (plan.status, plan.attempt, steps.len()),
        (PlanStatus::Done, 2, 2)
    );
    world.end().await;
}

/// Outbox, relay, bus, bridge: a request reaches the worker, and its events the plan's channel in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_goes_by_the_bus() {
    let world = World::new().await;
    let store: Arc<dyn Store> = Arc::clone(&world.store) as _;
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new(Arc::clone(&store)));
    let relay = Relay {
        store,
        bus: Arc::clone(&bus),
        owner: "a".into(),
        every: Duration::from_millis(10),
        ttl: Duration::from_secs(20),
        nudge: None,
    };
    let bridge = Arc::new(Bridge {
        broker: Arc::clone(&world.broker) as Arc<dyn Broker>,
        dedup: Duration::from_secs(60),
    });
    let requested = Arc::new(PlanRequested {
        nudge: Arc::clone(&world.nudge),
    });
    let bridged = Bridge::spec(vec!["plan.*".into()], 64, 3);
    let (to_bridge, to_worker) = (Arc::clone(&bus), Arc::clone(&bus));
    let (first, second) = (world.stop.clone(), world.stop.clone());
    let jobs = [
        tokio::spawn(async move { to_bridge.consume(bridged, bridge, first).await }),
        tokio::spawn(async move {
            to_worker
                .consume(PlanRequested::spec(16, 3), requested, second)
                .await;
        }),
        tokio::spawn(relay.run(world.stop.clone())),
    ];
    bus.declared(workers::planning::CONSUMER).await.unwrap();
    let script = Script::of([Turn::Say(good().to_string(), 5), Turn::Hang(begun())]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    world.ended(&id).await;
    let reliable = || {
        let all = world.recorder.messages(&channel(&id));
        let all = all
            .into_iter()
            .filter(|one| one.class == DeliveryClass::Reliable);
        let data = all.filter_map(|one| one.data.clone());
        data.collect::<Vec<_>>()
    };
    until("the end on the channel", || reliable().len() == 4).await;
    let told: Vec<String> = reliable()
        .iter()
        .map(|data| data["type"].as_str().unwrap().into())
        .collect();
    assert_eq!(
        told,
        [
            "plan.requested",
            "plan.progress",
            "plan.progress",
            "plan.created"
        ]
    );

    let id = world.ask("Another").await;
    until("the request", || script.live() == 1).await;
    world.cancel(&id).await;
    let since = Instant::now();
    until("the end of the request", || script.live() == 0).await;
    assert!(
        since.elapsed() < Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );
    world.end().await;
    for job in jobs {
        job.await.unwrap();
    }
}

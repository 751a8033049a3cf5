//! The bus contract on the embedded bus.

use std::sync::Arc;
use std::time::Duration;

use backplane::bus::Outcome;
use backplane::bus::contract::{Recorder, Running, Subject, event, spec, until};
use backplane::bus::local::LocalBus;
use backplane::store::sqlite::SqliteStore;

async fn local() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
    Subject {
        bus: Arc::new(LocalBus::new(Arc::new(store.unwrap()))),
        tidy: Box::new(folder),
    }
}

backplane::bus_contract!(local);

#[tokio::test]
async fn a_publish_returns_after_its_event_is_handled() {
    let subject = local().await;
    let recorder = Recorder::new(|_, _, times| match times {
        1 => Outcome::Retry("once more".into()),
        _ => Outcome::Done,
    });
    let running = Running::start(&subject.bus, spec("first", &["#"]), recorder.clone()).await;
    for number in 0..3 {
        let event = event("plan.progress", "slow:1", number);
        assert_eq!(subject.bus.publish(&event).await, Ok(()));
        assert_eq!(
            recorder.handled() as u64,
            number + 1,
            "handled before it returned"
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn what_its_publisher_no_longer_waits_for_is_taken_back() {
    let subject = local().await;
    let stopped = Recorder::willing();
    let running = Running::start(&subject.bus, spec("first", &["#"]), stopped.clone()).await;
    running.stop().await;
    let (given_up, kept) = (
        event("plan.progress", "plan:1", 1),
        event("plan.progress", "plan:1", 2),
    );
    let impatient = tokio::time::timeout(Duration::from_millis(50), subject.bus.publish(&given_up));
    assert!(impatient.await.is_err(), "nobody runs: it waits");
    let publisher = tokio::spawn({
        let bus = Arc::clone(&subject.bus);
        async move { bus.publish(&kept).await }
    });
    let recorder = Recorder::willing();
    let running = Running::start(&subject.bus, spec("first", &["#"]), recorder.clone()).await;
    assert_eq!(publisher.await.unwrap(), Ok(()));
    until("it is handled", || recorder.handled() == 1).await;
    running.stop().await;
    assert_eq!(recorder.numbers("plan:1"), [2]);
}

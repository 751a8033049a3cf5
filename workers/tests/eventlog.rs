//! The event log on a real store.

use std::sync::Arc;
use std::time::Duration;

use backplane::bus::{Delivery, Handler, Outcome};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{EventFilter, Events, Store};
use protocol::Event;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;
use workers::EventLog;

async fn log(folder: &tempfile::TempDir) -> (Arc<SqliteStore>, EventLog) {
    let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
    let store = Arc::new(store.unwrap());
    let log = EventLog {
        store: Arc::clone(&store) as Arc<dyn Store>,
    };
    (store, log)
}

fn event() -> Event {
    Event::new(Uuid::now_v7(), "tested.logged", "doc:1".into(), 5)
        .in_project("engine")
        .with(json!({ "n": 1 }))
}

async fn logged(store: &SqliteStore) -> Vec<Event> {
    store.logged(&EventFilter::default(), 10).await.unwrap()
}

#[tokio::test]
async fn an_event_that_comes_twice_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = log(&folder).await;
    let event = event();
    let delivery = Delivery::of(&event).unwrap();
    for _ in 0..2 {
        assert_eq!(log.handle(&delivery).await, Outcome::Done);
    }
    assert_eq!(logged(&store).await, [event]);
}

#[tokio::test]
async fn what_is_no_event_is_poison() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = log(&folder).await;
    let good = Delivery::of(&event()).unwrap();
    for body in ["", "{", "[]", r#"{"type":"x"}"#] {
        let delivery = Delivery {
            message_id: None,
            body: body.as_bytes().to_vec().into(),
            ..good.clone()
        };
        let outcome = log.handle(&delivery).await;
        assert!(matches!(outcome, Outcome::Poison(_)), "{body}: {outcome:?}");
    }
    assert_eq!(logged(&store).await, []);
}

/// Another process holds the database for longer than the store waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_waits_for_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = log(&folder).await;
    let mut other = SqliteConnectOptions::new()
        .filename(folder.path().join("tandem.db"))
        .connect()
        .await
        .unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let event = event();
    let delivery = Delivery::of(&event).unwrap();
    let handled = tokio::spawn(async move { log.handle(&delivery).await });
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert!(!handled.is_finished());
    assert_eq!(logged(&store).await, []);
    lock.rollback().await.unwrap();
    assert_eq!(handled.await.unwrap(), Outcome::Done);
    assert_eq!(logged(&store).await, [event]);
}

//! The PostgreSQL store: the contract, and what only a server that many share can do.

#[path = "servers/contents.rs"]
mod contents;
#[path = "servers/database.rs"]
mod database;
#[path = "servers/proxy.rs"]
mod proxy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backplane::store::contract::Place;
use backplane::store::postgres::{PostgresOptions, PostgresStore};
use backplane::store::{
    Buried, Docs, Document, Events, LogFrame, Projects, Store, StoreError, Users,
};
use contents::{documents, event, share};
use database::{Database, run};
use protocol::Role;
use proxy::Proxy;
use uuid::Uuid;

#[async_trait]
impl Place for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }
}

backplane::store_contract!(Database::new().await);

fn is_unavailable<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

fn is_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

/// The server ends every session of the node: the call under way is told, the next one works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_unavailable_and_passes() {
    let place = Database::new().await;
    let store = Arc::new(place.store().await);
    let ids = documents(&store, 1).await;
    let mut bare = place.bare().await;
    run(&mut bare, "BEGIN").await.unwrap();
    run(&mut bare, "SELECT 1 FROM collab_documents FOR UPDATE")
        .await
        .unwrap();
    let waiting = {
        let (store, id) = (Arc::clone(&store), ids[0].clone());
        tokio::spawn(async move { store.append(&[share(&id, 1)], 2).await })
    };
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND application_name = 'tandem-test' AND wait_event_type = 'Lock'";
    while run(&mut bare, end).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = waiting.await.unwrap();
    assert!(is_unavailable(&told), "{told:?}");
    run(&mut bare, "ROLLBACK").await.unwrap();
    let appended = store.append(&[share(&ids[0], 1)], 2).await.unwrap();
    assert!(matches!(appended[..], [Ok(1)]), "{appended:?}");

    // Now those that lie idle: whoever finds one is told at most once, and it is gone then.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&mut bare, end).await.unwrap();
    let began = Instant::now();
    while let Err(error) = store.load(&ids[0]).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
    }
    assert_eq!(store.load(&ids[0]).await.unwrap().document.head, 1);
}

/// The network goes silent with a call under way: the call is told, and so are those that come while it
/// lasts; afterwards the store works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_is_unavailable_and_passes() {
    let place = Database::new().await;
    let ids = documents(&place.store().await, 1).await;
    let proxy = Proxy::start(place.port(), None).await;
    let silent = PostgresOptions {
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        ..place.options_at(proxy.port())
    };
    let store = PostgresStore::connect(silent).await.unwrap();
    assert!(store.document(&ids[0]).await.unwrap().is_some());
    // The connection goes back to its pool behind the call, and is the next one's.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.stall(true);
    let read = tokio::time::timeout(Duration::from_secs(10), store.document(&ids[0])).await;
    assert!(is_unavailable(&read.unwrap()));
    for _ in 0..4 {
        let began = Instant::now();
        let told = store.append(&[share(&ids[0], 1)], 2).await;
        assert!(is_unavailable(&told), "{told:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    proxy.stall(false);
    let began = Instant::now();
    while let Err(error) = store.document(&ids[0]).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{error}");
    }
    // What was under way may have been committed once it was heard; the log has no gap.
    let head = store.load(&ids[0]).await.unwrap().document.head;
    let appended = store.append(&[share(&ids[0], 1)], 2).await.unwrap();
    assert!(
        matches!(appended[..], [Ok(seq)] if seq > head),
        "{appended:?}"
    );
}

/// No text of PostgreSQL holds a NUL: nothing of that name is found, and none is written.
#[tokio::test]
async fn a_nul_is_refused_and_names_nothing() {
    let place = Database::new().await;
    let store = place.store().await;
    let ids = documents(&store, 1).await;
    let odd = "d\0";
    assert_eq!(store.document(odd).await.unwrap(), None);
    assert_eq!(store.document_at("p", odd).await.unwrap(), None);
    assert_eq!(store.user(odd).await.unwrap(), None);
    assert_eq!(store.user_by_login(odd).await.unwrap(), None);
    assert_eq!(store.login(odd).await.unwrap(), None);
    assert_eq!(store.role("p", odd).await.unwrap(), None);
    assert!(!store.delete_document(odd, &[]).await.unwrap());
    assert!(matches!(store.load(odd).await, Err(StoreError::NotFound)));
    let results = store.append(&[share(odd, 1), share(&ids[0], 1)], 2).await;
    assert!(matches!(
        results.unwrap()[..],
        [Err(StoreError::NotFound), Ok(1)]
    ));
    let document = store.document(&ids[0]).await.unwrap().unwrap();
    let twin = Document {
        id: "other".into(),
        path: "a\0b".into(),
        ..document
    };
    assert!(is_conflict(store.add_document(&twin, &[]).await));
    assert!(is_conflict(
        store.rename_document(&ids[0], None, "a\0b", &[]).await
    ));
    assert!(is_conflict(
        store.set_member("p", odd, Role::Viewer, 1, &[]).await
    ));
    assert!(is_conflict(store.documents("p", odd, 10).await));

    // Inside an event's data it is data, and goes through; in what it says of itself it is refused.
    let mut event = event("doc:d0", "document.opened");
    event.data = serde_json::json!({ "text": "a\0b" });
    assert!(store.log_event("log", &event, 1).await.unwrap());
    assert_eq!(
        store.logged(&Default::default(), 10).await.unwrap(),
        [event.clone()]
    );
    store.emit(std::slice::from_ref(&event)).await.unwrap();
    event.kind = "a\0b".into();
    event.id = Uuid::now_v7();
    assert!(is_conflict(store.log_event("log", &event, 1).await));
    // What is buried is what was refused elsewhere: it is kept all the same.
    let message = Buried {
        consumer: "log".into(),
        kind: "a\0b".into(),
        event_id: Some("e\0".into()),
        reason: "a text holds \0".into(),
        body: vec![0, 1, 2],
        at: 5,
    };
    store.bury(&message).await.unwrap();
    let kept = store.buried(10).await.unwrap();
    assert_eq!(kept[0].body, message.body);
    assert_eq!(kept[0].kind, "a\u{fffd}b");
}

#[tokio::test]
async fn a_newer_schema_is_refused_in_words_and_a_running_node_goes_on() {
    let place = Database::new().await;
    let running = place.store().await;
    let ids = documents(&running, 1).await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'from the future', TRUE, ''::bytea, 0)";
    let mut bare = place.bare().await;
    run(&mut bare, newer).await.unwrap();
    // A step that only adds.
    let step = "ALTER TABLE collab_documents ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'";
    run(&mut bare, step).await.unwrap();
    let Err(StoreError::Corrupt(why)) = PostgresStore::connect(place.options()).await else {
        panic!("connected");
    };
    assert!(
        why.contains("newer than this build") && why.contains("9999"),
        "{why}"
    );
    running.append(&[share(&ids[0], 1)], 2).await.unwrap();
    assert_eq!(running.load(&ids[0]).await.unwrap().document.head, 1);
}

/// Who waits too long for a lock is told, and so is a statement that takes too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_ends_at_its_limit() {
    let place = Database::new().await;
    let short = Duration::from_millis(300);
    for (statement_timeout, lock_timeout) in [(short, short * 20), (short * 20, short)] {
        let limited = PostgresOptions {
            statement_timeout,
            lock_timeout,
            ..place.options()
        };
        let store = PostgresStore::connect(limited).await.unwrap();
        let mut bare = place.bare().await;
        run(&mut bare, "BEGIN").await.unwrap();
        run(&mut bare, "LOCK TABLE auth_users IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        let began = Instant::now();
        let told = store.user("u").await;
        assert!(is_unavailable(&told), "{told:?}");
        assert!(began.elapsed() >= short, "{:?}", began.elapsed());
        assert!(began.elapsed() < short * 10, "{:?}", began.elapsed());
        run(&mut bare, "ROLLBACK").await.unwrap();
        assert_eq!(store.user("u").await.unwrap(), None);
    }
}

/// Sessions run with what durability needs, whatever the server's or the role's defaults are.
#[tokio::test]
async fn commits_are_durable_whatever_the_defaults() {
    let place = Database::bare_new().await;
    let mut bare = place.bare().await;
    let (name,): (String,) = sqlx::query_as("SELECT current_database()::text")
        .fetch_one(&mut bare)
        .await
        .unwrap();
    for default in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
    ] {
        let set = format!("ALTER DATABASE {name} SET {default}");
        run(&mut bare, &set).await.unwrap();
    }
    let store = place.store().await;
    let server = store.server().await.unwrap();
    assert_eq!(server.synchronous_commit, "on");
    assert_eq!(server.encoding, "UTF8");
    assert!(server.version >= 150_000 && !server.in_recovery && server.max_connections > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_leaves_the_store_usable() {
    let place = Database::new().await;
    let store = place.store().await;
    let ids = documents(&store, 1).await;
    for polls in 0..60 {
        let batch = [share(&ids[0], 1)];
        let mut call = store.append(&batch, 3);
        for _ in 0..polls {
            let wait = Duration::from_micros(30);
            if tokio::time::timeout(wait, &mut call).await.is_ok() {
                break;
            }
        }
    }
    for polls in 0..60 {
        let path = format!("moved-{polls}.rs");
        let mut call = store.rename_document(&ids[0], None, &path, &[]);
        for _ in 0..polls {
            let wait = Duration::from_micros(30);
            if tokio::time::timeout(wait, &mut call).await.is_ok() {
                break;
            }
        }
    }
    let results = store.append(&[share(&ids[0], 1)], 3).await.unwrap();
    let head = *results[0].as_ref().unwrap();
    let loaded = store.load(&ids[0]).await.unwrap();
    assert_eq!(loaded.document.head, head);
    assert_eq!(loaded.tail.last().map(last_of), Some(head));
    store
        .rename_document(&ids[0], None, "last.rs", &[])
        .await
        .unwrap();
}

fn last_of(frame: &LogFrame) -> u64 {
    frame.first + frame.updates.len() as u64 - 1
}

#[tokio::test]
async fn every_table_is_prefixed_and_ids_are_compared_by_byte() {
    let place = Database::new().await;
    let mut bare = place.bare().await;
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()")
            .fetch_all(&mut bare)
            .await
            .unwrap();
    let prefixes = [
        "auth_",
        "project_",
        "collab_",
        "planning_",
        "notify_",
        "usage_",
        "events_",
        "node_",
        "rest_",
        "store_",
        "context_",
    ];
    for prefix in prefixes {
        let there = tables.iter().any(|(name,)| name.starts_with(prefix));
        assert!(there, "no table {prefix}…");
    }
    for (name,) in tables {
        let ours = prefixes.iter().any(|prefix| name.starts_with(prefix));
        assert!(ours || name == "_sqlx_migrations", "{name}");
    }
    // Whatever stands in an index or a foreign key.
    let by_locale: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT c.relname::text, a.attname::text
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey::int[])
         WHERE c.relnamespace = current_schema()::regnamespace AND a.atttypid = 'text'::regtype
         AND a.attcollation <> (SELECT oid FROM pg_collation WHERE collname = 'C')",
    )
    .fetch_all(&mut bare)
    .await
    .unwrap();
    assert!(by_locale.is_empty(), "{by_locale:?}");
}

#[tokio::test]
async fn a_plan_is_found_in_its_project() {
    let place = Database::new().await;
    let store = place.store().await;
    documents(&store, 0).await;
    let plan = "INSERT INTO planning_plans
        (id, project_id, requested_by, request, status, created_at, updated_at)
        VALUES ('plan', 'p', 'u', 'Add a test', 'queued', 1, 1)";
    run(&mut place.bare().await, plan).await.unwrap();
    let found = store.project_of_plan("plan").await.unwrap();
    assert_eq!(found.as_deref(), Some("p"));
    assert!(store.delete_project("p", &[]).await.unwrap());
    assert_eq!(store.project_of_plan("plan").await.unwrap(), None);
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_unavailable_and_tells_no_password() {
    let place = Database::new().await;
    for url in [
        "postgres://ada:secret@127.0.0.1:1/nothing",
        "mysql://ada:secret@127.0.0.1/x",
        "not an address, secret",
    ] {
        let options = PostgresOptions {
            url: url.into(),
            acquire_timeout: Duration::from_millis(300),
            ..place.options()
        };
        assert!(!format!("{options:?}").contains("secret"));
        let told = PostgresStore::connect(options).await;
        assert!(is_unavailable(&told), "{told:?}");
        assert!(!format!("{told:?}").contains("secret"), "{told:?}");
    }
}

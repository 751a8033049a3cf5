//! The SQLite store: the contract, and what only a file can do.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backplane::store::contract::Place;
use backplane::store::sqlite::SqliteStore;
use backplane::store::{
    Append, Docs, Document, EventFilter, Events, Project, Projects, Rights, Store, StoreError,
    User, Users,
};
use bytes::Bytes;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("tandem.db")
    }

    async fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.file()).await.unwrap()
    }

    /// A connection past the store.
    async fn bare(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.file())
            .connect()
            .await
            .unwrap()
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }
}

backplane::store_contract!(Folder::new());

/// A document with two frames: updates 1 and 2, and 3 to 5.
async fn two_frames(store: &SqliteStore) -> String {
    let user = User {
        id: "u".into(),
        login: "ada".into(),
        name: "Ada".into(),
        password_hash: "hash".into(),
        created_at: 1,
    };
    store.add_user(&user).await.unwrap();
    let project = Project {
        id: "p".into(),
        name: "P".into(),
        created_at: 1,
    };
    store.add_project(&project, "u", &[]).await.unwrap();
    let document = Document {
        id: "d".into(),
        project_id: "p".into(),
        path: "main.rs".into(),
        created_at: 1,
        updated_at: 1,
        head: 0,
    };
    store.add_document(&document, &[]).await.unwrap();
    for count in [2, 3] {
        let updates = vec![Bytes::from_static(b"an update"); count];
        let batch = [Append {
            document_id: "d".into(),
            updates,
            terms: None,
        }];
        store.append(&batch, 2).await.unwrap().remove(0).unwrap();
    }
    document.id
}

#[tokio::test]
async fn a_damaged_log_is_corrupt() {
    for damage in [
        "DELETE FROM collab_log WHERE first_seq = 1",
        "DELETE FROM collab_log WHERE first_seq = 3",
        "UPDATE collab_log SET data = substr(data, 1, 12) WHERE first_seq = 3",
        "UPDATE collab_log SET data = x'ffffffffffffffffffff7f' WHERE first_seq = 1",
        "UPDATE collab_log SET first_seq = 2 WHERE first_seq = 3",
        "UPDATE collab_documents SET head = 4",
        "UPDATE collab_documents SET head = 6",
    ] {
        let folder = Folder::new();
        let store = folder.store().await;
        let id = two_frames(&store).await;
        assert_eq!(store.load(&id).await.unwrap().tail.len(), 2);
        let mut bare = folder.bare().await;
        sqlx::query(damage).execute(&mut bare).await.unwrap();
        let loaded = store.load(&id).await;
        assert!(
            matches!(loaded, Err(StoreError::Corrupt(_))),
            "{damage}: {loaded:?}"
        );
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_in_words() {
    let folder = Folder::new();
    folder.store().await.close().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'from the future', TRUE, x'00', 0)";
    sqlx::query(newer)
        .execute(&mut folder.bare().await)
        .await
        .unwrap();
    let Err(StoreError::Corrupt(why)) = SqliteStore::open(&folder.file()).await else {
        panic!("opened");
    };
    assert!(
        why.contains("newer than this build") && why.contains("9999"),
        "{why}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt() {
    let folder = Folder::new();
    std::fs::write(
        folder.file(),
        "This is a letter, not a database. ".repeat(100),
    )
    .unwrap();
    let opened = SqliteStore::open(&folder.file()).await;
    assert!(matches!(opened, Err(StoreError::Corrupt(_))), "{opened:?}");
}

#[tokio::test]
async fn a_missing_folder_is_unavailable() {
    let folder = Folder::new();
    let opened = SqliteStore::open(&folder.0.path().join("no/such/folder.db")).await;
    assert!(
        matches!(opened, Err(StoreError::Unavailable(_))),
        "{opened:?}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let store = folder.store().await;
    two_frames(&store).await;
    for entry in std::fs::read_dir(folder.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_on_disk_without_a_close() {
    let folder = Folder::new();
    let store = folder.store().await;
    let id = two_frames(&store).await;
    // What a killed process leaves: the files as they are, and no shared memory.
    let after = Folder::new();
    for name in ["tandem.db", "tandem.db-wal"] {
        std::fs::copy(folder.0.path().join(name), after.0.path().join(name)).unwrap();
    }
    assert_eq!(
        after.store().await.load(&id).await.unwrap(),
        store.load(&id).await.unwrap()
    );
}

#[tokio::test]
async fn a_close_leaves_one_file() {
    let folder = Folder::new();
    let store = folder.store().await;
    two_frames(&store).await;
    store.close().await;
    let names: Vec<_> = std::fs::read_dir(folder.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["tandem.db"]);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_store_usable() {
    let folder = Folder::new();
    let store = folder.store().await;
    let id = two_frames(&store).await;
    for polls in 0..40 {
        let batch = [Append {
            document_id: id.clone(),
            updates: vec![Bytes::from_static(b"more")],
            terms: None,
        }];
        let mut call = store.append(&batch, 3);
        for _ in 0..polls {
            if tokio::time::timeout(std::time::Duration::from_micros(20), &mut call)
                .await
                .is_ok()
            {
                break;
            }
        }
    }
    let head = store.load(&id).await.unwrap().document.head;
    let batch = [Append {
        document_id: id.clone(),
        updates: vec![Bytes::from_static(b"last")],
        terms: None,
    }];
    assert_eq!(
        store.append(&batch, 3).await.unwrap().remove(0).unwrap(),
        head + 1
    );
    store.load(&id).await.unwrap();
}

#[tokio::test]
async fn every_table_is_strict_and_prefixed() {
    let folder = Folder::new();
    folder.store().await.close().await;
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'",
    )
    .fetch_all(&mut folder.bare().await)
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
        "store_",
        "node_",
        "rest_",
        "context_",
    ];
    for prefix in prefixes {
        assert!(
            tables.iter().any(|(name, _)| name.starts_with(prefix)),
            "no table {prefix}…"
        );
    }
    for (name, strict) in tables {
        // The tables that FTS5 makes for itself.
        let theirs = name.starts_with("sqlite_")
            || name.starts_with("context_terms_")
            || name == "_sqlx_migrations";
        assert!(
            theirs || (strict && prefixes.iter().any(|prefix| name.starts_with(prefix))),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_plan_is_found_in_its_project() {
    let folder = Folder::new();
    let store = folder.store().await;
    two_frames(&store).await;
    let plan = "INSERT INTO planning_plans
        (id, project_id, requested_by, request, status, created_at, updated_at)
        VALUES ('plan', 'p', 'u', 'Add a test', 'queued', 1, 1)";
    sqlx::query(plan)
        .execute(&mut folder.bare().await)
        .await
        .unwrap();
    assert_eq!(
        store.project_of_plan("plan").await.unwrap().as_deref(),
        Some("p")
    );
    assert!(store.delete_project("p", &[]).await.unwrap());
    assert_eq!(store.project_of_plan("plan").await.unwrap(), None);
}

#[tokio::test]
async fn integrity_holds_after_work() {
    let folder = Folder::new();
    let store = folder.store().await;
    two_frames(&store).await;
    assert!(store.delete_project("p", &[]).await.unwrap());
    let mut bare = folder.bare().await;
    for (check, fine) in [("integrity_check", Some("ok")), ("foreign_key_check", None)] {
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA {check}")))
            .fetch_optional(&mut bare)
            .await
            .unwrap();
        assert_eq!(found.as_deref(), fine, "{check}");
    }
}

/// The first `count` steps of the schema, as a build that knew no more of them left it.
async fn older(folder: &Folder, count: usize) -> SqliteConnection {
    let steps = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let mut migrator = Migrator::new(steps).await.unwrap();
    migrator.migrations.to_mut().truncate(count);
    assert_eq!(migrator.migrations.len(), count);
    let mut bare = SqliteConnectOptions::new()
        .filename(folder.file())
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    migrator.run_direct(None, &mut bare, false).await.unwrap();
    bare
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date_with_its_data() {
    let folder = Folder::new();
    let mut bare = older(&folder, 4).await;
    let event = protocol::Event::new(uuid::Uuid::now_v7(), "tested.old", "doc:d".into(), 7);
    for (table, columns) in [
        (
            "events_outbox",
            "event_id, type, subject, envelope, created_at",
        ),
        (
            "events_log",
            "event_id, type, subject, envelope, occurred_at",
        ),
    ] {
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ($1, $2, $3, $4, $5)");
        sqlx::query(AssertSqlSafe(sql))
            .bind(event.id.to_string())
            .bind(&event.kind)
            .bind(&event.subject)
            .bind(serde_json::to_string(&event).unwrap())
            .bind(event.time as i64)
            .execute(&mut bare)
            .await
            .unwrap();
    }
    let user = "INSERT INTO auth_users (id, login, login_key, name, password_hash, created_at)
        VALUES ('u', 'Ada', 'ada', 'Ada', 'hash', 1);
        INSERT INTO auth_logins (id, user_id, created_at) VALUES ('l', 'u', 1)";
    sqlx::raw_sql(user).execute(&mut bare).await.unwrap();
    bare.close().await.unwrap();

    let store = folder.store().await;
    assert_eq!(store.user("u").await.unwrap().unwrap().login, "Ada");
    let waiting = store.outbox(10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].event, event);
    let logged = store.logged(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(logged, [event]);
    assert!(store.revoke_login("l", 2).await.unwrap());
    assert_eq!(store.rights_head().await.unwrap(), 1);
}

/// The older schema's data and the newest schema's tables, whoever came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bring_one_schema_up_to_date_at_once() {
    for count in [0, 1, 4] {
        let folder = Folder::new();
        if count > 0 {
            older(&folder, count).await.close().await.unwrap();
        }
        let opened = (0..6).map(|_| {
            let file = folder.file();
            tokio::spawn(async move { SqliteStore::open(&file).await })
        });
        for opened in futures::future::join_all(opened).await {
            let store = opened.unwrap().unwrap();
            store.ping().await.unwrap();
            assert_eq!(store.rights_head().await.unwrap(), 0);
        }
    }
}

/// A guarantee that nobody runs is none: each function of the suite stands in the macro's list.
#[test]
fn the_suite_runs_every_guarantee() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let list = std::fs::read_to_string(folder.join("contract.rs")).unwrap();
    let mut guarantees = 0;
    for part in std::fs::read_dir(folder.join("contract")).unwrap() {
        let text = std::fs::read_to_string(part.unwrap().path()).unwrap();
        for declared in text.split("\npub async fn ").skip(1) {
            let name = declared.split('(').next().unwrap();
            assert!(
                list.lines().any(|line| line.trim() == name),
                "{name} is not in the list"
            );
            guarantees += 1;
        }
    }
    assert!(guarantees > 40, "only {guarantees} found");
}

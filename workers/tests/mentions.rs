//! Mentions on a real store: who is told that a document names them, and how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Append, Document, Project, Store, User};
use protocol::Role;
use protocol::event::{Event, kind};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workers::{Mentions, mentions};

struct World {
    _folder: TempDir,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    jobs: JoinSet<()>,
    rest: Duration,
}

impl World {
    /// With a project of al and alice, and eve, who is in none; two nodes search.
    async fn new(rest: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let mut world = Self {
            _folder: folder,
            store: Arc::new(store.unwrap()),
            stop: CancellationToken::new(),
            jobs: JoinSet::new(),
            rest,
        };
        for login in ["al", "Alice", "eve"] {
            let user = User {
                id: format!("id-{}", login.to_lowercase()),
                login: login.into(),
                name: login.into(),
                password_hash: String::new(),
                created_at: 1,
            };
            world.store.add_user(&user).await.unwrap();
        }
        let project = Project {
            id: "one".into(),
            name: "One".into(),
            created_at: 1,
        };
        let store = &world.store;
        store.add_project(&project, "id-al", &[]).await.unwrap();
        let added = store.set_member("one", "id-alice", Role::Viewer, 1, &[]);
        added.await.unwrap();
        for owner in ["a", "b"] {
            let job = Mentions {
                store: Arc::clone(&world.store),
                owner: owner.into(),
                every: Duration::from_millis(20),
                rest,
                ttl: mentions::TTL,
            };
            world.jobs.spawn(job.run(world.stop.clone()));
        }
        world
    }

    async fn document(&self, id: &str) -> Writer {
        let document = Document {
            id: id.into(),
            project_id: "one".into(),
            path: format!("src/{id}.rs"),
            created_at: 1,
            updated_at: 1,
            head: 0,
        };
        self.store.add_document(&document, &[]).await.unwrap();
        Writer {
            store: Arc::clone(&self.store),
            replica: Replica::new(),
            id: id.into(),
        }
    }

    async fn told(&self) -> Vec<Event> {
        let waiting = self.store.outbox(1000).await.unwrap();
        waiting.into_iter().map(|one| one.event).collect()
    }

    async fn whom(&self) -> Vec<String> {
        let told = self.told().await;
        told.into_iter().map(|event| event.subject).collect()
    }

    /// Waits until all that was written is searched.
    async fn settle(&self) {
        let began = Instant::now();
        loop {
            let all = self.store.scanned("", 100).await.unwrap();
            if all.iter().all(|one| one.head == one.scanned) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(job) = self.jobs.join_next().await {
            job.unwrap();
        }
        // Who comes next need not wait.
        let next = self.store.lease(mentions::LEASE, "next", self.rest).await;
        assert!(next.unwrap().is_some());
    }
}

/// Someone who writes in a document.
struct Writer {
    store: Arc<dyn Store>,
    replica: Replica,
    id: String,
}

impl Writer {
    /// Makes the text that, by an edit.
    async fn write(&mut self, text: &str) {
        let update = self.replica.replace_text(DEFAULT_ROOT, text).unwrap();
        let batch = [Append {
            document_id: self.id.clone(),
            updates: vec![update.expect("another text").into()],
            terms: None,
        }];
        let appended = self.store.append(&batch, 2).await.unwrap();
        assert!(appended.iter().all(Result::is_ok));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_named_is_told_once_until_it_is_taken_out() {
    let world = World::new(Duration::from_millis(150)).await;
    let mut writer = world.document("d").await;
    writer.write("// one\n  // ask @alice, please\n").await;
    world.settle().await;
    let told = world.told().await;
    assert_eq!(told.len(), 1);
    let event = &told[0];
    assert_eq!(
        (&*event.kind, &*event.subject),
        (kind::MENTION_CREATED, "user:id-alice")
    );
    assert_eq!(event.project.as_deref(), Some("one"));
    assert_eq!(
        event.data,
        serde_json::json!({ "user": "id-alice", "document": "d", "path": "src/d.rs", "line": 2,
            "excerpt": "// ask @alice, please" })
    );
    for text in [
        "// ask @alice, please, and @ALICE again",
        "now first\n// @Alice moved",
    ] {
        writer.write(text).await;
        world.settle().await;
        assert_eq!(world.whom().await.len(), 1, "{text}");
    }
    writer.write("nobody").await;
    world.settle().await;
    writer.write("nobody but @alice").await;
    world.settle().await;
    assert_eq!(world.whom().await, ["user:id-alice"; 2]);
    // Another document is another matter.
    world.document("e").await.write("@alice @al").await;
    world.settle().await;
    let mut whom = world.whom().await.split_off(2);
    whom.sort();
    assert_eq!(whom, ["user:id-al", "user:id-alice"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_written_name_tells_nobody() {
    let world = World::new(Duration::from_secs(2)).await;
    let mut writer = world.document("d").await;
    for text in ["@", "@a", "@al", "@ali", "@alic", "@alice"] {
        writer.write(text).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.settle().await;
    assert_eq!(world.whom().await, ["user:id-alice"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_are_told() {
    let world = World::new(Duration::from_millis(150)).await;
    let mut writer = world.document("d").await;
    let text = "@eve @Component @nobody mail al@example.org https://example.org/@al @al/package";
    writer.write(text).await;
    world.settle().await;
    assert_eq!(world.whom().await, [""; 0]);
    // Made a member, eve is told when the document is written in.
    let set = world
        .store
        .set_member("one", "id-eve", Role::Viewer, 2, &[]);
    set.await.unwrap();
    writer.write(&format!("{text}\n")).await;
    world.settle().await;
    assert_eq!(world.whom().await, ["user:id-eve"]);
    world.end().await;
}

/// A document that somebody writes in without a pause is searched all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_never_rests_is_searched() {
    let world = World::new(Duration::from_millis(200)).await;
    let mut writer = world.document("d").await;
    let began = Instant::now();
    let mut n = 0;
    while world.whom().await.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        n += 1;
        writer.write(&format!("@alice, line {n}")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.settle().await;
    assert_eq!(world.whom().await, ["user:id-alice"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_broken_holds_nobody_up() {
    let world = World::new(Duration::from_millis(150)).await;
    let mut large = world.document("a-large").await;
    let text = format!("@alice {}", "x".repeat(mentions::LARGEST));
    large.write(&text).await;
    world.document("b-broken").await;
    let broken = [Append {
        document_id: "b-broken".into(),
        updates: vec![bytes::Bytes::from_static(b"no update")],
        terms: None,
    }];
    world.store.append(&broken, 2).await.unwrap();
    world.document("c-good").await.write("@al").await;
    world.settle().await;
    assert_eq!(world.whom().await, ["user:id-al"]);
    world.end().await;
}

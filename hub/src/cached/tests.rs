//! Cache-aside over a real store and the cache of this process: what is found, what is forgotten, what is never asked.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use backplane::cache::local::LocalCache;
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Document, User, VersionKind};
use tempfile::TempDir;
use tokio::sync::broadcast;

use super::*;
use crate::auth::RightsChange;

/// A cache that counts fills, and can lose removals, as one that can't be reached does.
struct Counting {
    inner: LocalCache,
    fills: AtomicUsize,
    deaf: AtomicBool,
}

#[async_trait]
impl Cache for Counting {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        self.inner.put(key, value, ttl).await;
    }

    async fn remove(&self, key: &str) {
        if !self.deaf.load(Ordering::Relaxed) {
            self.inner.remove(key).await;
        }
    }

    async fn get_or_fill(&self, key: &str, ttl: Ttl, fill: Fill) -> Result<Bytes, FillError> {
        let counted = Arc::new(AtomicBool::new(false));
        let counts = Arc::clone(&counted);
        let fill = async move {
            counts.store(true, Ordering::Relaxed);
            fill.await
        };
        let found = self.inner.get_or_fill(key, ttl, fill.boxed()).await;
        if counted.load(Ordering::Relaxed) && !key.contains(":generation:") {
            self.fills.fetch_add(1, Ordering::Relaxed);
        }
        found
    }
}

struct World {
    _data: TempDir,
    cache: Arc<Counting>,
    /// Past the cache.
    raw: Arc<dyn Store>,
    store: Arc<dyn Store>,
    reads: Arc<Reads>,
}

impl World {
    async fn new(settings: config::Cache) -> Self {
        let data = TempDir::new().unwrap();
        let raw = SqliteStore::open(&data.path().join("t.db")).await.unwrap();
        let raw: Arc<dyn Store> = Arc::new(raw);
        let cache = Arc::new(Counting {
            inner: LocalCache::new(1 << 22),
            fills: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
        });
        let shared: Arc<dyn Cache> = cache.clone();
        let store = Watched::over(Arc::clone(&raw), Arc::clone(&shared));
        let reads = Reads::new(Arc::clone(&store), shared, &settings);
        for id in ["ann", "bob"] {
            let user = User {
                id: id.to_owned(),
                login: id.to_owned(),
                name: id.to_owned(),
                password_hash: String::new(),
                created_at: 1,
            };
            store.add_user(&user).await.unwrap();
        }
        Self {
            _data: data,
            cache,
            raw,
            store,
            reads,
        }
    }

    async fn with_project() -> Self {
        let world = Self::new(long()).await;
        world
            .store
            .add_project(&project("p"), "ann", &[])
            .await
            .unwrap();
        world
    }

    fn fills(&self) -> usize {
        self.cache.fills.swap(0, Ordering::Relaxed)
    }

    async fn add_document(&self, store: &Arc<dyn Store>, id: &str) {
        store.add_document(&document(id), &[]).await.unwrap();
    }

    async fn paths(&self) -> Vec<String> {
        let read = self.reads.documents("p", "", 10).await.unwrap();
        read.into_iter().map(|document| document.path).collect()
    }

    async fn projects(&self, user: &str) -> Vec<(String, Role)> {
        let read = self.reads.projects_of(user, "", 10).await.unwrap();
        read.into_iter()
            .map(|(project, role)| (project.id, role))
            .collect()
    }

    async fn members(&self) -> Vec<String> {
        let read = self.reads.members("p", "", 10).await.unwrap();
        read.into_iter().map(|member| member.user_id).collect()
    }

    async fn versions(&self) -> usize {
        self.reads.versions("d", None, 10).await.unwrap().len()
    }
}

/// Nothing ends by its time while a test runs.
fn long() -> config::Cache {
    config::Cache {
        ttl: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(600),
        ..config::Settings::default().cache
    }
}

fn project(id: &str) -> Project {
    Project {
        id: id.to_owned(),
        name: id.to_owned(),
        created_at: 1,
    }
}

fn document(id: &str) -> Document {
    Document {
        id: id.to_owned(),
        project_id: "p".to_owned(),
        path: format!("{id}.rs"),
        created_at: 1,
        updated_at: 1,
        head: 0,
    }
}

fn version(id: &str) -> Version {
    Version {
        id: id.to_owned(),
        document_id: "d".to_owned(),
        seq: 0,
        kind: VersionKind::Named,
        name: "named".to_owned(),
        author_id: None,
        created_at: 1,
    }
}

#[tokio::test]
async fn what_was_read_once_is_not_read_again_until_it_changes() {
    let world = World::with_project().await;
    let (store, reads) = (&world.store, &world.reads);
    world.add_document(store, "d").await;
    for _ in 0..3 {
        assert_eq!(reads.project("p").await.unwrap(), Some(project("p")));
        assert_eq!(world.members().await, ["ann"]);
        assert_eq!(world.projects("ann").await, [("p".to_owned(), Role::Owner)]);
        assert!(world.projects("bob").await.is_empty());
        assert_eq!(world.paths().await, ["d.rs"]);
        assert_eq!(world.versions().await, 0);
    }
    assert_eq!(world.fills(), 6, "one of each");

    store
        .set_member("p", "bob", Role::Viewer, 2, &[])
        .await
        .unwrap();
    assert_eq!(world.members().await, ["ann", "bob"]);
    assert_eq!(
        world.projects("bob").await,
        [("p".to_owned(), Role::Viewer)]
    );
    store.remove_member("p", "bob", &[]).await.unwrap();
    assert_eq!(world.members().await, ["ann"]);
    assert!(world.projects("bob").await.is_empty());
    store.rename_document("d", None, "e.rs", &[]).await.unwrap();
    assert_eq!(world.paths().await, ["e.rs"]);
    store
        .add_version(&version("v"), &Bytes::new())
        .await
        .unwrap();
    assert_eq!(world.versions().await, 1);
    assert!(store.delete_version("d", "v").await.unwrap());
    assert_eq!(world.versions().await, 0);
    assert!(store.delete_document("d", &[]).await.unwrap());
    assert!(world.paths().await.is_empty());
    assert!(store.delete_project("p", &[]).await.unwrap());
    assert_eq!(reads.project("p").await.unwrap(), None);
    assert!(world.projects("ann").await.is_empty());
}

/// Whatever page of a list somebody has read, one removal takes all of them.
#[tokio::test]
async fn a_write_takes_every_page_of_its_list() {
    let world = World::with_project().await;
    for id in ["a", "b", "c"] {
        world.add_document(&world.store, id).await;
    }
    let page = async |after: &str, limit: u32| {
        let read = world.reads.documents("p", after, limit).await.unwrap();
        read.into_iter()
            .map(|document| document.id)
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(page("", 2).await, ["a", "b"]);
        assert_eq!(page("b.rs", 2).await, ["c"]);
        assert_eq!(page("", 9).await.len(), 3);
    }
    assert_eq!(world.fills(), 3);
    world.store.delete_document("a", &[]).await.unwrap();
    assert_eq!(page("", 2).await, ["b", "c"]);
    assert_eq!(page("b.rs", 2).await, ["c"]);
    assert_eq!(page("", 9).await.len(), 2);
    assert_eq!(world.fills(), 3);
}

#[tokio::test]
async fn that_something_is_not_there_is_kept_for_a_time_of_its_own() {
    let world = World::new(config::Cache {
        negative_ttl: Duration::from_millis(300),
        ..long()
    })
    .await;
    for _ in 0..3 {
        assert_eq!(world.reads.project("p").await.unwrap(), None);
    }
    assert_eq!(world.fills(), 1);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(world.reads.project("p").await.unwrap(), None);
    assert_eq!(world.fills(), 1);
    // And whoever makes it is seen at once.
    world
        .store
        .add_project(&project("p"), "ann", &[])
        .await
        .unwrap();
    assert!(world.reads.project("p").await.unwrap().is_some());
}

#[tokio::test]
async fn many_who_miss_at_once_read_the_store_once() {
    let world = World::with_project().await;
    let all = (0..100).map(|_| world.paths());
    for paths in futures::future::join_all(all).await {
        assert!(paths.is_empty());
    }
    assert_eq!(world.fills(), 1);
}

/// A removal that is lost makes a list old for the time to live and no longer; but what shows who is a member is
/// removed again by whoever hears of the change of rights.
#[tokio::test]
async fn a_lost_removal_ends_with_its_time_or_with_the_news() {
    let ttl = Duration::from_millis(700);
    let world = World::new(config::Cache { ttl, ..long() }).await;
    world
        .store
        .add_project(&project("p"), "ann", &[])
        .await
        .unwrap();
    assert!(world.paths().await.is_empty());
    assert_eq!(world.members().await, ["ann"]);
    world.cache.deaf.store(true, Ordering::Relaxed);
    world.add_document(&world.store, "d").await;
    world
        .store
        .set_member("p", "bob", Role::Viewer, 2, &[])
        .await
        .unwrap();
    world.cache.deaf.store(false, Ordering::Relaxed);
    assert!(world.paths().await.is_empty(), "the removal was lost");
    assert_eq!(world.members().await, ["ann"], "the removal was lost");

    let (tell, heard) = broadcast::channel(8);
    let follows = tokio::spawn(Arc::clone(&world.reads).follow(heard));
    let change = Some(RightsChange::Member {
        project: "p".to_owned(),
        user: "bob".to_owned(),
        role: Some(Role::Viewer),
    });
    let since = std::time::Instant::now();
    tell.send(News { change, since }).unwrap();
    drop(tell);
    follows.await.unwrap();
    assert_eq!(world.members().await, ["ann", "bob"]);
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(world.paths().await, ["d.rs"]);
}

/// A node that missed changes of rights reads from the store what shows who is a member.
#[tokio::test]
async fn missed_news_are_no_reason_to_trust() {
    let world = World::with_project().await;
    assert_eq!(world.members().await, ["ann"]);
    // Past the cache: nothing is removed.
    world
        .raw
        .set_member("p", "bob", Role::Viewer, 2, &[])
        .await
        .unwrap();
    world.add_document(&world.raw, "d").await;
    assert_eq!(world.members().await, ["ann"]);
    let (tell, heard) = broadcast::channel(8);
    let since = std::time::Instant::now();
    tell.send(News {
        change: None,
        since,
    })
    .unwrap();
    drop(tell);
    Arc::clone(&world.reads).follow(heard).await;
    assert_eq!(world.members().await, ["ann", "bob"]);
    assert_eq!(world.projects("bob").await.len(), 1);
}

/// The store that everything else has hands every read on: what decides about rights can't be old.
#[tokio::test]
async fn rights_are_read_from_the_store() {
    let world = World::with_project().await;
    assert_eq!(world.members().await, ["ann"]);
    world
        .raw
        .set_member("p", "bob", Role::Viewer, 2, &[])
        .await
        .unwrap();
    assert_eq!(world.members().await, ["ann"], "the cache does not know");
    let store = &world.store;
    assert_eq!(store.role("p", "bob").await.unwrap(), Some(Role::Viewer));
    assert_eq!(store.members("p", "", 10).await.unwrap().len(), 2);
    world.raw.remove_member("p", "bob", &[]).await.unwrap();
    assert_eq!(store.role("p", "bob").await.unwrap(), None);
    assert!(store.rights_head().await.unwrap() >= 1);
}

/// Whoever gives up waiting for a write leaves nothing old behind.
#[tokio::test]
async fn a_write_that_nobody_waits_for_is_forgotten_all_the_same() {
    let world = World::with_project().await;
    assert!(world.paths().await.is_empty());
    let (store, given_up) = (Arc::clone(&world.store), document("d"));
    let mut write = Box::pin(async move { store.add_document(&given_up, &[]).await });
    // Polled once: it is under way, and the store finishes it or not.
    assert!((&mut write).now_or_never().is_none());
    drop(write);
    world.add_document(&world.raw, "other").await;
    for _ in 0..500 {
        if world.paths().await.contains(&"other.rs".to_owned()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the list was not forgotten");
}

#[tokio::test]
async fn what_is_switched_off_is_read_from_the_store() {
    for settings in [
        config::Cache {
            ttl: Duration::ZERO,
            ..long()
        },
        config::Cache {
            kinds: vec![Cached::Text],
            ..long()
        },
    ] {
        let world = World::new(settings).await;
        world
            .store
            .add_project(&project("p"), "ann", &[])
            .await
            .unwrap();
        assert!(world.paths().await.is_empty());
        world.add_document(&world.raw, "d").await;
        assert_eq!(world.paths().await, ["d.rs"]);
        assert_eq!(world.fills(), 0);
    }
}

/// What somebody else has written under a key of ours is no failure.
#[tokio::test]
async fn foreign_bytes_are_read_past() {
    let world = World::with_project().await;
    let key = keys::row(Cached::Project, "p");
    world
        .cache
        .put(&key, "{\"id\":7}".into(), Duration::from_secs(60))
        .await;
    assert_eq!(world.reads.project("p").await.unwrap(), Some(project("p")));
    assert_eq!(world.cache.get(&key).await, None);
}

#[tokio::test]
async fn texts_are_made_once_per_state() {
    let world = World::with_project().await;
    let state = |text: &str| {
        let mut replica = Replica::new();
        replica.replace_text("content", text).unwrap();
        Bytes::from(replica.state().unwrap())
    };
    let (one, two) = ("one ".repeat(10_000), "two ".repeat(10_000));
    let (first, second) = (state(&one), state(&two));
    for _ in 0..3 {
        let read = world.reads.text_of(first.clone(), "content".into()).await;
        assert_eq!(read.unwrap(), one);
        let read = world.reads.text_of(second.clone(), "content".into()).await;
        assert_eq!(read.unwrap(), two);
        let other = world.reads.text_of(first.clone(), "other".into()).await;
        assert_eq!(other.unwrap(), "");
    }
    assert_eq!(world.fills(), 3);
    let small = state("small");
    let read = world.reads.text_of(small, "content".into()).await;
    assert_eq!(read.unwrap(), "small");
    assert_eq!(world.fills(), 0, "a small one is made each time");
    let broken = Bytes::from(vec![0xff; SMALL_STATE + 1]);
    let read = world.reads.text_of(broken, "content".into()).await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
}

//! A document on several nodes: convergence over a mesh that loses messages, the causal cut, and
//! compaction beside other nodes' edits.
//!
//! Each node is the hub's own [`Documents`] on one database file; only the sockets are missing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::limiter::local::LocalLimiter;
use backplane::mesh::local::LocalMesh;
use backplane::mesh::{Membership, Mesh, MeshEvent};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Document, Project, Store, User};
use bytes::Bytes;
use hub::auth::Auth;
use hub::auth::watch::Watch;
use hub::collab::{Dialect, Documents, Order, Peer, PeerSpec};
use hub::config::Settings;
use hub::limits::MemoryBudget;
use hub::sendq::{SendQueue, Taken};
use protocol::ysync::Message;
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A mesh that loses some of what is sent over it.
struct Lossy {
    inner: LocalMesh,
    /// Of a hundred messages so many are lost.
    loss: AtomicU64,
}

#[async_trait]
impl Mesh for Lossy {
    fn node(&self) -> &Arc<str> {
        self.inner.node()
    }

    fn has_peers(&self) -> bool {
        true
    }

    fn send(&self, topic: &str, payload: Bytes) {
        if rand::rng().random_range(0..100) >= self.loss.load(Ordering::Relaxed) {
            self.inner.send(topic, payload);
        }
    }

    async fn join(&self, topic: &str, inbox: mpsc::UnboundedSender<MeshEvent>) -> Membership {
        self.inner.join(topic, inbox).await
    }

    fn silence(&self) -> Duration {
        match self.loss.load(Ordering::Relaxed) {
            100 => Duration::from_secs(3600),
            _ => Duration::ZERO,
        }
    }
}

struct Node {
    documents: Documents,
    mesh: Arc<Lossy>,
    store: Arc<dyn Store>,
}

struct World {
    folder: tempfile::TempDir,
    root: LocalMesh,
    settings: Settings,
    document: Document,
}

async fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path).await.unwrap())
}

impl World {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("test.db")).await;
        let user = User {
            id: "user".into(),
            login: "user".into(),
            name: "User".into(),
            password_hash: String::new(),
            created_at: 1,
        };
        store.add_user(&user).await.unwrap();
        let project = Project {
            id: "project".into(),
            name: "Project".into(),
            created_at: 1,
        };
        store.add_project(&project, "user", &[]).await.unwrap();
        let document = Document {
            id: "document".into(),
            project_id: "project".into(),
            path: "a.txt".into(),
            created_at: 1,
            updated_at: 1,
            head: 0,
        };
        store.add_document(&document, &[]).await.unwrap();
        store.close().await;
        let mut settings = Settings::default();
        change(&mut settings);
        Self {
            folder,
            root: LocalMesh::new(),
            settings,
            document,
        }
    }

    async fn node(&self, loss: u64) -> Node {
        let store = open(&self.folder.path().join("test.db")).await;
        let mesh = Arc::new(Lossy {
            inner: self.root.peer(),
            loss: AtomicU64::new(loss),
        });
        let shared: Arc<dyn Mesh> = Arc::clone(&mesh) as Arc<dyn Mesh>;
        let auth = Auth::open(
            &self.settings.auth,
            self.folder.path(),
            Arc::clone(&store),
            Arc::clone(&shared),
            Arc::new(LocalLimiter::new(1000)),
        )
        .await;
        let auth = Arc::new(auth.unwrap());
        // Without it a node that can have peers takes no writes.
        let watch = Watch::start(Arc::clone(&auth)).await.unwrap();
        tokio::spawn(watch.run(CancellationToken::new()));
        let documents = Documents::new(
            Arc::clone(&store),
            auth,
            Arc::new(self.settings.clone()),
            Arc::new(MemoryBudget::new(0)),
            shared,
        );
        Node {
            documents,
            mesh,
            store,
        }
    }

    /// What the log says, read by nobody's memory.
    async fn stored(&self) -> String {
        let store = open(&self.folder.path().join("test.db")).await;
        let loaded = store.load("document").await.unwrap();
        let text = Replica::from_loaded(&loaded).unwrap().text(DEFAULT_ROOT);
        store.close().await;
        text
    }
}

impl Node {
    /// A client of this node that sends edits.
    async fn editor(&self, world: &World) -> Editor {
        let queue = Arc::new(SendQueue::new(64 << 20));
        let spec = PeerSpec {
            dialect: Dialect::YWebsocket,
            queue: Arc::clone(&queue),
            stream: 1,
            user: "user".into(),
            tally: Arc::default(),
            writable: true,
            expires_ms: u64::MAX,
        };
        let (peer, _) = self.documents.join(&world.document, spec).await.unwrap();
        Editor {
            peer,
            queue,
            replica: Replica::new(),
        }
    }

    /// The document as this node has it, all of it durable.
    async fn text(&self) -> String {
        let captured = self.documents.capture("document").await.unwrap();
        Replica::from_state(&captured.state)
            .unwrap()
            .text(DEFAULT_ROOT)
    }
}

struct Editor {
    peer: Peer,
    queue: Arc<SendQueue>,
    replica: Replica,
}

impl Editor {
    /// The updates that have been queued for it since it was last asked.
    fn updates(&self) -> Vec<Bytes> {
        let mut updates = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut take = |frame: hub::sendq::Frame| {
            let payload = payload_of(&frame);
            if let Ok(Message::Update(update)) = Message::parse(payload) {
                updates.push(Bytes::copy_from_slice(update));
            }
        };
        while let Poll::Ready(Taken::Frames) =
            self.queue.poll_take(&mut cx, 1 << 20, false, &mut take)
        {}
        updates
    }

    /// What has been queued for it since it was last asked.
    fn told(&self) -> Vec<u8> {
        let mut told = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut take = |frame: hub::sendq::Frame| told.extend_from_slice(&frame);
        while let Poll::Ready(Taken::Frames) =
            self.queue.poll_take(&mut cx, 1 << 20, false, &mut take)
        {}
        told
    }

    /// Adds a word at the end of its own text; the update.
    async fn write(&mut self, word: &str) -> Bytes {
        let text = self.replica.text(DEFAULT_ROOT) + word;
        let update = self.replica.replace_text(DEFAULT_ROOT, &text).unwrap();
        let update = Bytes::from(update.unwrap());
        self.peer.update(update.clone()).await.unwrap();
        update
    }
}

/// The payload of an unfragmented, unmasked frame (RFC 6455, 5.2).
fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    &frame[header..]
}

async fn until_equal(nodes: &[&Node], within: Duration) -> String {
    let start = Instant::now();
    loop {
        let mut texts = Vec::new();
        for node in nodes {
            texts.push(node.text().await);
        }
        if texts.iter().all(|text| *text == texts[0]) {
            return texts.swap_remove(0);
        }
        assert!(start.elapsed() < within, "they differ: {texts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn both_write(world: &World, a: &Node, b: &Node, count: usize) {
    let (mut ann, mut bob) = (a.editor(world).await, b.editor(world).await);
    for n in 0..count {
        ann.write(&format!("[a{n}]")).await;
        bob.write(&format!("[b{n}]")).await;
        if n % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

fn assert_all(text: &str, count: usize) {
    for n in 0..count {
        for who in ["a", "b"] {
            let word = format!("[{who}{n}]");
            assert_eq!(text.matches(&word).count(), 1, "{word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_converge_whatever_the_mesh_loses() {
    for loss in [0, 30, 100] {
        let world = World::new(|_| {}).await;
        let (a, b) = (world.node(loss).await, world.node(loss).await);
        both_write(&world, &a, &b, 200).await;
        let text = until_equal(&[&a, &b], Duration::from_secs(15)).await;
        assert_all(&text, 200);
        assert_eq!(world.stored().await, text, "{loss} % lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_shown_on_the_other_node_without_a_read_of_the_log() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(0).await, world.node(0).await);
    let mut ann = a.editor(&world).await;
    let bob = b.editor(&world).await;
    // From here on nothing that is shown can come from the store.
    b.store.close().await;
    ann.write("[live]").await;
    let start = Instant::now();
    while !bob.told().windows(6).any(|word| word == b"[live]") {
        assert!(start.elapsed() < Duration::from_secs(2), "it was not shown");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_mesh_loses_is_shown_from_the_log() {
    for loss in [50, 100] {
        let world = World::new(|_| {}).await;
        let (a, b) = (world.node(loss).await, world.node(loss).await);
        let mut ann = a.editor(&world).await;
        let bob = b.editor(&world).await;
        let mut shown = Replica::new();
        for n in 0..20 {
            ann.write(&format!("[a{n}]")).await;
        }
        let wanted = ann.replica.text(DEFAULT_ROOT);
        let start = Instant::now();
        while shown.text(DEFAULT_ROOT) != wanted {
            // With everything lost the store is looked at every half second, else every three.
            assert!(start.elapsed() < Duration::from_secs(5), "{loss} % lost");
            for update in bob.updates() {
                // What rests on something that comes later is in that, too.
                let _ = shown.apply(&update);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_edit_rests_on_is_in_the_log_before_it_is_acknowledged() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(0).await, world.node(0).await);
    let mut ann = a.editor(&world).await;
    let mut bob = b.editor(&world).await;
    a.store.close().await;
    let lost = ann.write("[unlogged]").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.stored().await, "", "its node can't log it");
    // Bob has seen it, and types behind it.
    bob.replica.apply(&lost).unwrap();
    bob.write("[on top]").await;
    assert_eq!(b.text().await, "[unlogged][on top]");
    // Both nodes and both authors are gone now; the log alone is left.
    assert_eq!(world.stored().await, "[unlogged][on top]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_node_never_logs_is_logged_by_those_who_saw_it() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(0).await, world.node(0).await);
    let mut ann = a.editor(&world).await;
    let _bob = b.editor(&world).await;
    a.store.close().await;
    ann.write("[seen]").await;
    let start = Instant::now();
    while world.stored().await != "[seen]" {
        assert!(start.elapsed() < Duration::from_secs(5), "nobody logged it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_cuts_off_nothing_that_another_node_wrote() {
    let world = World::new(|settings| {
        settings.collab.compact_updates = 10;
        settings.collab.version_edits = 50;
    })
    .await;
    let (a, b) = (world.node(50).await, world.node(50).await);
    both_write(&world, &a, &b, 300).await;
    let text = until_equal(&[&a, &b], Duration::from_secs(15)).await;
    assert_all(&text, 300);
    let loaded = a.store.load("document").await.unwrap();
    assert!(loaded.snapshot.is_some(), "it was compacted");
    assert_eq!(world.stored().await, text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_node_catches_up_past_a_snapshot() {
    let world = World::new(|settings| settings.collab.compact_updates = 10).await;
    let (a, b) = (world.node(100).await, world.node(100).await);
    let _bob = b.editor(&world).await;
    let mut ann = a.editor(&world).await;
    for n in 0..100 {
        ann.write(&format!("[a{n}]")).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let text = until_equal(&[&a, &b], Duration::from_secs(10)).await;
    assert!(text.ends_with("[a99]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_on_one_node_sees_what_another_has_acknowledged() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(100).await, world.node(100).await);
    let _bob = b.editor(&world).await;
    let mut ann = a.editor(&world).await;
    for n in 0..20 {
        ann.write(&format!("[{n}]")).await;
        let acknowledged = a.text().await;
        assert_eq!(b.text().await, acknowledged);
    }
    b.documents
        .edit("document", &Order::whole(DEFAULT_ROOT, "all new"))
        .await
        .unwrap();
    assert_eq!(a.text().await, "all new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_opens_late_misses_nothing() {
    let world = World::new(|_| {}).await;
    let a = world.node(0).await;
    let mut ann = a.editor(&world).await;
    for n in 0..50 {
        ann.write(&format!("[a{n}]")).await;
        if n == 25 {
            let b = world.node(0).await;
            let _bob = b.editor(&world).await;
            ann.write("[while it opens]").await;
            assert!(
                until_equal(&[&a, &b], Duration::from_secs(5))
                    .await
                    .contains("[while it opens]")
            );
            b.documents.flush(Duration::from_secs(5)).await;
        }
    }
    assert_eq!(a.text().await, world.stored().await);
    assert!(a.mesh.has_peers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_deleted_while_somebody_types_ends_everywhere() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(0).await, world.node(0).await);
    let mut ann = a.editor(&world).await;
    let bob = b.editor(&world).await;
    ann.write("[before]").await;
    a.text().await;
    assert!(a.store.delete_document("document", &[]).await.unwrap());
    // Its log refuses this one, and the other node learns of the deletion from the store alone.
    ann.write("[after]").await;
    let start = Instant::now();
    while !ann.peer.is_gone() || !bob.peer.is_gone() {
        assert!(start.elapsed() < Duration::from_secs(8), "it did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing is left that a node which leaves would wait for.
    assert!(a.documents.flush(Duration::from_secs(1)).await);
    assert!(b.documents.flush(Duration::from_secs(1)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_though_the_others_go_on_typing() {
    let world = World::new(|_| {}).await;
    let (a, b) = (world.node(0).await, world.node(0).await);
    let _bob = b.editor(&world).await;
    let mut ann = a.editor(&world).await;
    let typing = tokio::spawn(async move {
        for n in 0.. {
            ann.write(&format!("[{n}]")).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        b.documents.flush(Duration::from_secs(3)).await,
        "it did not settle"
    );
    typing.abort();
}

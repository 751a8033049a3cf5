//! Rights across nodes: two of them on one store, with a mesh or a store that fails.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use async_trait::async_trait;
use backplane::limiter::local::LocalLimiter;
use backplane::mesh::local::LocalMesh;
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Change, Keep, Project, SigningKey, Store};
use bytes::Bytes;
use protocol::Role;
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

use super::super::{Principal, Tokens};
use super::*;
use crate::config;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "a good password";
/// The promise.
const LIVE: Duration = Duration::from_secs(1);

/// A mesh that can be cut.
struct Cable {
    mesh: LocalMesh,
    cut: Mutex<Option<Instant>>,
}

impl Cable {
    fn cut(&self) {
        *self.cut.lock().unwrap() = Some(Instant::now());
    }

    fn is_cut(&self) -> bool {
        self.cut.lock().unwrap().is_some()
    }
}

#[async_trait]
impl Mesh for Cable {
    fn node(&self) -> &Arc<str> {
        self.mesh.node()
    }

    fn has_peers(&self) -> bool {
        self.mesh.has_peers()
    }

    fn send(&self, topic: &str, payload: Bytes) {
        if !self.is_cut() {
            self.mesh.send(topic, payload);
        }
    }

    async fn join(&self, topic: &str, inbox: mpsc::UnboundedSender<MeshEvent>) -> Membership {
        self.mesh.join(topic, inbox).await
    }

    fn silence(&self) -> Duration {
        let cut = *self.cut.lock().unwrap();
        cut.map_or(Duration::ZERO, |cut| cut.elapsed())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Works,
    Fails,
    Hangs,
}

/// What a node sees of the store: it can be out of its reach.
struct Path {
    store: Arc<dyn Store>,
    mode: Mutex<Mode>,
}

impl Path {
    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let mode = *self.mode.lock().unwrap();
        match mode {
            Mode::Works => Ok(()),
            Mode::Fails => Err(StoreError::Unavailable("out of reach".into())),
            Mode::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Rights for Path {
    async fn rights_head(&self) -> Result<u64, StoreError> {
        self.pass().await?;
        self.store.rights_head().await
    }

    async fn rights_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, Change)>, StoreError> {
        self.pass().await?;
        self.store.rights_after(seq, limit).await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.store.signing_keys().await
    }

    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        self.store.add_signing_key(key).await
    }

    async fn drop_signing_key(&self, kid: &str) -> Result<bool, StoreError> {
        self.store.drop_signing_key(kid).await
    }
}

struct Node {
    auth: Arc<Auth>,
    mesh: Arc<Cable>,
    path: Arc<Path>,
    changes: Receiver<News>,
}

struct World {
    a: Node,
    b: Node,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn node(store: &Arc<dyn Store>, mesh: LocalMesh, folder: &tempfile::TempDir) -> Node {
    let mesh = Arc::new(Cable {
        mesh,
        cut: Mutex::default(),
    });
    let settings = config::Auth::default();
    let limiter = Arc::new(LocalLimiter::new(1000));
    let auth = Auth::open(
        &settings,
        folder.path(),
        store.clone(),
        mesh.clone(),
        limiter,
    )
    .await;
    let auth = Arc::new(auth.unwrap());
    Node {
        changes: auth.changes(),
        auth,
        mesh,
        path: Arc::new(Path {
            store: store.clone(),
            mode: Mutex::new(Mode::Works),
        }),
    }
}

impl Node {
    async fn watch(&self) -> Watch {
        let watch = Watch::start_on(self.auth.clone(), self.path.clone()).await;
        watch.unwrap()
    }

    /// The next change that is told on this node.
    async fn told(&mut self) -> Option<RightsChange> {
        let news = timeout(LIVE, self.changes.recv()).await;
        news.expect("within a second").unwrap().change
    }

    async fn until_writes(&self, allowed: bool) -> Duration {
        let began = Instant::now();
        while self.auth.writes_allowed() != allowed {
            assert!(
                began.elapsed() < LIVE * 3,
                "writes are not {allowed} in time"
            );
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }
}

async fn store() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("test.db")).await;
    (Arc::new(store.unwrap()), folder)
}

async fn world() -> World {
    let (store, folder) = store().await;
    let first = LocalMesh::new();
    let second = first.peer();
    let a = node(&store, first, &folder).await;
    let b = node(&store, second, &folder).await;
    let stop = CancellationToken::new();
    for node in [&a, &b] {
        tokio::spawn(node.watch().await.run(stop.clone()));
    }
    World {
        a,
        b,
        store,
        stop,
        _folder: folder,
    }
}

impl World {
    async fn login(&self) -> (Tokens, Principal) {
        let tokens = self.a.auth.register("alice", PASSWORD, None, HOME).await;
        let tokens = match tokens {
            Err(AuthError::LoginTaken) => self.a.auth.login("alice", PASSWORD, HOME).await,
            registered => registered,
        };
        let tokens = tokens.unwrap();
        let known = self.b.auth.authenticate(&tokens.access_token).await;
        (tokens, known.unwrap())
    }
}

#[tokio::test]
async fn a_revocation_is_told_on_the_other_node_at_once() {
    let mut world = world().await;
    let began = Instant::now();
    for _ in 0..5 {
        let (tokens, who) = world.login().await;
        world.a.auth.logout(&who.login_session).await.unwrap();
        let sid = who.login_session.to_string();
        assert_eq!(world.b.told().await, Some(RightsChange::Login { sid }));
        let refused = world.b.auth.authenticate(&tokens.access_token).await;
        assert!(matches!(refused, Err(AuthError::Revoked)));
    }
    // By asking twice a second alone it would take two seconds.
    assert!(began.elapsed() < POLL * 4, "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_the_mesh_it_is_told_within_a_second_and_once() {
    let mut world = world().await;
    let (_, who) = world.login().await;
    world.a.mesh.cut();
    world.b.mesh.cut();
    sleep(LIVE).await;
    assert!(world.b.auth.writes_allowed(), "the store answers");
    world.a.auth.logout_all(&who.user).await.unwrap();
    let user = who.user.to_string();
    assert_eq!(world.b.told().await, Some(RightsChange::User { user }));
    sleep(POLL + POLL / 2).await;
    assert!(world.b.changes.try_recv().is_err(), "told once");
}

#[tokio::test]
async fn a_node_that_hears_neither_store_nor_mesh_refuses_writes_until_it_does() {
    for mode in [Mode::Fails, Mode::Hangs] {
        let mut world = world().await;
        let (_, who) = world.login().await;
        assert!(world.b.auth.check_writes().is_ok());
        world.b.mesh.cut();
        world.b.path.set(mode);
        world.a.auth.logout(&who.login_session).await.unwrap();
        let took = world.b.until_writes(false).await;
        assert!(took < LIVE + Duration::from_millis(20), "{took:?}");
        let refused = world.b.auth.check_writes();
        assert!(matches!(refused, Err(AuthError::Unsure)));
        assert!(world.a.auth.writes_allowed(), "the other node goes on");
        sleep(LIVE).await;
        assert!(!world.b.auth.writes_allowed(), "and so it stays");
        world.b.path.set(Mode::Works);
        assert!(world.b.until_writes(true).await < LIVE);
        let sid = who.login_session.to_string();
        assert_eq!(world.b.told().await, Some(RightsChange::Login { sid }));
    }
}

#[tokio::test]
async fn while_the_store_is_down_for_all_the_mesh_says_that_nothing_changes() {
    let mut world = world().await;
    let (_, who) = world.login().await;
    sleep(POLL).await;
    world.b.path.set(Mode::Fails);
    sleep(LIVE + POLL).await;
    assert!(
        world.b.auth.writes_allowed(),
        "there was no hint of a change"
    );
    // The other node still reaches it: what it hints at can't be read here.
    world.a.auth.logout(&who.login_session).await.unwrap();
    let took = world.b.until_writes(false).await;
    assert!(took < LIVE / 2, "{took:?}");
    world.b.path.set(Mode::Works);
    assert!(world.b.until_writes(true).await < LIVE);
    let sid = who.login_session.to_string();
    assert_eq!(world.b.told().await, Some(RightsChange::Login { sid }));
}

#[tokio::test]
async fn what_changed_is_not_older_than_the_last_reading_before_it() {
    let mut world = world().await;
    let (_, who) = world.login().await;
    world.a.mesh.cut();
    sleep(POLL * 2).await;
    let before = Instant::now();
    world.a.auth.logout(&who.login_session).await.unwrap();
    let news = timeout(LIVE, world.b.changes.recv()).await;
    let since = news.unwrap().unwrap().since;
    assert!(since <= before && before - since < POLL * 2);
}

#[tokio::test]
async fn changes_that_are_gone_unread_make_everyone_check() {
    let (store, folder) = store().await;
    let mut node = node(&store, LocalMesh::new(), &folder).await;
    let tokens = node.auth.register("alice", PASSWORD, None, HOME).await;
    let user = tokens.unwrap().user.id;
    let project = Project {
        id: "p1".into(),
        name: "p1".into(),
        created_at: 1,
    };
    store.add_project(&project, &user, &[]).await.unwrap();
    let mut watch = node.watch().await;
    let change = async |role| {
        let other = ["bob", "carl"];
        for login in other {
            let user = node.auth.ensure_user(login, PASSWORD, login).await.unwrap();
            let set = store.set_member("p1", &user.id, role, 1, &[]);
            set.await.unwrap();
        }
    };
    let keep = Keep {
        ended_since: 0,
        auto_versions: 10,
        inbox_since: 0,
        changes_since: i64::MAX as u64,
        notified_since: 0,
        logged_since: 0,
    };
    // All are gone: the newest number alone says that there were some.
    change(Role::Viewer).await;
    store.housekeep(&keep).await.unwrap();
    watch.catch_up().await;
    let news = node.changes.try_recv().unwrap();
    assert_eq!(news.change, None);
    assert!(node.changes.try_recv().is_err());
    // The oldest are gone.
    let seq = watch.seq;
    change(Role::Editor).await;
    store.housekeep(&keep).await.unwrap();
    change(Role::Viewer).await;
    assert_eq!(store.rights_head().await.unwrap(), seq + 4);
    watch.catch_up().await;
    assert_eq!(node.changes.try_recv().unwrap().change, None);
    assert!(node.changes.try_recv().is_err());
    // From there on each is told again.
    change(Role::Editor).await;
    watch.catch_up().await;
    for _ in 0..2 {
        let news = node.changes.try_recv().unwrap();
        assert!(matches!(news.change, Some(RightsChange::Member { .. })));
    }
    assert_eq!(watch.seq, seq + 6);
}

#[tokio::test]
async fn a_node_that_is_alone_has_nothing_to_read() {
    let (store, folder) = store().await;
    let node = node(&store, LocalMesh::alone(), &folder).await;
    assert!(node.auth.writes_allowed());
    let run = node.watch().await.run(CancellationToken::new());
    timeout(LIVE, run).await.expect("it ends at once");
    node.path.set(Mode::Fails);
    assert!(node.auth.writes_allowed());
}

#[tokio::test]
async fn with_peers_nothing_is_written_before_the_changes_are_taken_up() {
    let (store, folder) = store().await;
    let node = node(&store, LocalMesh::new(), &folder).await;
    assert!(!node.auth.writes_allowed());
    let _watch = node.watch().await;
    assert!(node.auth.writes_allowed());
}

#[tokio::test]
async fn a_token_signed_with_a_key_of_another_node_is_good_at_once() {
    let world = world().await;
    let (store, folder) = store().await;
    // A key of a node that started beside the others.
    let stranger = node(&store, LocalMesh::new(), &folder).await;
    drop(stranger);
    let mut key = store.signing_keys().await.unwrap().remove(0);
    key.active_from = crate::now_ms();
    world.store.add_signing_key(&key).await.unwrap();
    world.a.auth.keys.reread().await.unwrap();
    let (tokens, _) = world.login().await;
    let head = jsonwebtoken::decode_header(&tokens.access_token).unwrap();
    assert_eq!(head.kid, Some(key.kid));
}

//! Orders on one node and between two.

use backplane::mesh::local::LocalMesh;
use backplane::store::sqlite::SqliteStore;
use backplane::store::{NodeRecord, Presence};
use protocol::Encoding;

use super::*;
use crate::auth::Principal;
use crate::limits::MemoryBudget;
use crate::sendq::{Notice, SendQueue, Taken};

struct Node {
    connections: Arc<Connections>,
    orders: Arc<Orders>,
    stop: CancellationToken,
}

async fn node(mesh: LocalMesh, store: &Arc<dyn Store>) -> Node {
    let connections = Connections::new(10, 10, Arc::new(MemoryBudget::new(0)));
    let mesh: Arc<dyn Mesh> = Arc::new(mesh);
    let record = NodeRecord {
        id: mesh.node().to_string(),
        address: String::new(),
        broker: Some("redis:x".into()),
        version: "1".into(),
    };
    let entered = store.enter(&record, Duration::from_secs(60)).await;
    assert_eq!(entered.unwrap(), Presence::Admitted);
    let orders = Orders::new(Arc::clone(&connections), mesh, Arc::clone(store));
    let (stop, ear) = (CancellationToken::new(), orders.listen().await);
    tokio::spawn(Arc::clone(&orders).obey(ear, stop.clone()));
    Node {
        connections,
        orders,
        stop,
    }
}

fn enter(node: &Node, user: &str, encoding: Option<Encoding>) -> (Arc<SendQueue>, Place) {
    let queue = Arc::new(SendQueue::new(1024));
    let place = node.connections.admit(&queue, encoding).unwrap();
    if encoding.is_some() {
        place.accept_orders();
    }
    let who = Principal {
        user: user.into(),
        name: user.into(),
        login_session: "l".into(),
        expires_ms: u64::MAX,
    };
    place.identify(&who).unwrap();
    assert!(queue.take_recheck());
    (queue, place)
}

fn next(queue: &SendQueue) -> Option<Taken> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match queue.poll_take(&mut context, 1024, true, &mut |_| {}) {
        std::task::Poll::Ready(taken) => Some(taken),
        std::task::Poll::Pending => None,
    }
}

fn subscribe(channel: &str) -> Order {
    Order::Subscribe {
        channel: channel.into(),
    }
}

async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let store = SqliteStore::open(&folder.path().join("test.db")).await;
    Arc::new(store.unwrap())
}

#[tokio::test]
async fn an_order_reaches_the_user_on_every_node_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let mesh = LocalMesh::new();
    let (here, there) = (
        node(mesh.peer(), &store).await,
        node(mesh.peer(), &store).await,
    );
    let json = Some(Encoding::Json);
    let (own, bobs) = (enter(&here, "ann", json), enter(&here, "bob", json));
    let (other, editor) = (enter(&there, "ann", json), enter(&there, "ann", None));
    let all = |sessions| Reached {
        sessions,
        complete: true,
    };
    assert_eq!(here.orders.give("ann", Order::Count).await, all(3));
    assert_eq!(here.orders.give("nobody", Order::Count).await, all(0));
    // A document's socket follows no channels.
    let order = subscribe("room:p1/lobby");
    assert_eq!(there.orders.give("ann", order.clone()).await, all(2));
    for (queue, place) in [&own, &other] {
        assert_eq!(next(queue), Some(Taken::Notice(Notice::Orders)));
        assert_eq!(place.take_orders(), std::slice::from_ref(&order));
        assert_eq!(next(queue), None);
    }
    let away = Order::Disconnect { reconnect: false };
    assert_eq!(here.orders.give("ann", away).await, all(3));
    for (queue, _) in [&own, &other, &editor] {
        let code = CloseCode::SentAway;
        let closed = Taken::Closed(code.code(), code.reason());
        assert_eq!(next(queue), Some(closed));
    }
    assert_eq!(next(&bobs.0), None);
    assert!(here.orders.waiting.is_empty(), "nobody waits for ever");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let mesh = LocalMesh::new();
    let (here, there) = (
        node(mesh.peer(), &store).await,
        node(mesh.peer(), &store).await,
    );
    let _own = enter(&here, "ann", Some(Encoding::Json));
    there.stop.cancel();
    let reached = here.orders.give("ann", Order::Count).await;
    let expected = Reached {
        sessions: 1,
        complete: false,
    };
    assert_eq!(reached, expected);
    store.close().await;
    let reached = here.orders.give("ann", Order::Count).await;
    assert_eq!(reached, expected, "nobody knows who there is");
}

#[tokio::test]
async fn orders_for_one_session_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let here = node(LocalMesh::alone(), &store).await;
    let (_queue, place) = enter(&here, "ann", Some(Encoding::Json));
    for n in 0..MOST_WAITING + 5 {
        let taken = here.connections.carry_out("ann", &subscribe("feed:me"));
        assert_eq!(taken == 1, n < MOST_WAITING);
    }
    assert_eq!(place.take_orders().len(), MOST_WAITING);
}

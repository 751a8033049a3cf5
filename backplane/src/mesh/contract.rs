//! The contract of a mesh: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`mesh_contract!`](crate::mesh_contract) with a factory that makes a
//! fresh [`Subject`]; the same names then pass, or fail, for each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Membership, Mesh, MeshEvent};

/// Three nodes of one mesh.
pub struct Subject {
    /// The nodes.
    pub nodes: [Arc<dyn Mesh>; 3],
}

/// A member that a test listens with.
pub struct Listener {
    inbox: mpsc::UnboundedReceiver<MeshEvent>,
    membership: Membership,
}

impl Listener {
    /// Joins a topic.
    pub async fn join(mesh: &dyn Mesh, topic: &str) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let membership = mesh.join(topic, sender).await;
        Self { inbox, membership }
    }

    /// The next event.
    ///
    /// # Panics
    /// If none comes within ten seconds.
    pub async fn event(&mut self) -> MeshEvent {
        let event = tokio::time::timeout(Duration::from_secs(10), self.inbox.recv()).await;
        event.expect("an event in time").expect("a live member")
    }

    /// The next message: who sent it, and what.
    ///
    /// # Panics
    /// If none comes within ten seconds, or something else does.
    pub async fn message(&mut self) -> (Arc<str>, Bytes) {
        match self.event().await {
            MeshEvent::Message { from, payload } => (from, payload),
            MeshEvent::Restored => panic!("a message was expected"),
        }
    }

    /// Leaves, and returns what had arrived and still arrives after.
    pub fn leave(self) -> mpsc::UnboundedReceiver<MeshEvent> {
        drop(self.membership);
        self.inbox
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Each sender's messages arrive in its order, all of them, under its name.
pub async fn each_senders_order_holds(subject: Subject) {
    let [one, two, three] = subject.nodes;
    let mut listener = Listener::join(&*three, "order").await;
    let count = 2000_u32;
    for n in 0..count {
        one.send("order", Bytes::copy_from_slice(&n.to_be_bytes()));
        two.send("order", Bytes::copy_from_slice(&n.to_be_bytes()));
    }
    let mut next = [0_u32; 2];
    while next != [count; 2] {
        let (from, payload) = listener.message().await;
        let sender = usize::from(&from != one.node());
        assert_eq!(&from, if sender == 0 { one.node() } else { two.node() });
        assert_eq!(*payload, next[sender].to_be_bytes());
        next[sender] += 1;
    }
}

/// What a node sends reaches the others, not its own members.
pub async fn a_node_does_not_hear_itself(subject: Subject) {
    let [one, two, _] = subject.nodes;
    let mut own = Listener::join(&*one, "self").await;
    let mut other = Listener::join(&*two, "self").await;
    one.send("self", bytes("mine"));
    assert_eq!(
        other.message().await,
        (Arc::clone(one.node()), bytes("mine"))
    );
    two.send("self", bytes("theirs"));
    assert_eq!(
        own.message().await,
        (Arc::clone(two.node()), bytes("theirs"))
    );
}

/// A topic's messages reach its members only, whatever its name is made of.
pub async fn topics_are_apart(subject: Subject) {
    let [one, two, _] = subject.nodes;
    let names = [
        "doc:1", "doc:11", "{doc:1}", "doc 1\n", "dóc:1", "beat:x", "",
    ];
    let mut listeners = Vec::new();
    for name in names {
        listeners.push(Listener::join(&*two, name).await);
    }
    for name in names {
        one.send(name, bytes(name));
    }
    for (name, listener) in names.iter().zip(&mut listeners) {
        assert_eq!(listener.message().await.1, bytes(name));
    }
}

/// Messages sent after a join has returned arrive: nothing has to warm up.
pub async fn a_member_hears_from_its_join_on(subject: Subject) {
    let [one, two, _] = subject.nodes;
    for n in 0..100 {
        let topic = format!("fresh:{n}");
        let mut listener = Listener::join(&*two, &topic).await;
        one.send(&topic, bytes("first"));
        assert_eq!(listener.message().await.1, bytes("first"));
    }
}

/// A member that left hears nothing that is sent after.
pub async fn who_left_hears_no_more(subject: Subject) {
    let [one, two, _] = subject.nodes;
    let mut stays = Listener::join(&*two, "leave").await;
    let leaves = Listener::join(&*two, "leave").await;
    let mut left = leaves.leave();
    one.send("leave", bytes("after"));
    assert_eq!(stays.message().await.1, bytes("after"));
    assert!(left.recv().await.is_none(), "its inbox was let go");
}

/// Several members of one node each hear everything, and one that leaves takes nothing from the other.
pub async fn members_of_one_node_are_counted(subject: Subject) {
    let [one, two, _] = subject.nodes;
    let mut first = Listener::join(&*two, "twice").await;
    let mut second = Listener::join(&*two, "twice").await;
    one.send("twice", bytes("both"));
    assert_eq!(first.message().await.1, bytes("both"));
    assert_eq!(second.message().await.1, bytes("both"));
    drop(first.leave());
    for n in 0..20 {
        let text = n.to_string();
        one.send("twice", bytes(&text));
        assert_eq!(second.message().await.1, bytes(&text));
    }
}

/// Who leaves and comes back at once, again and again, hears what is sent after the last join.
pub async fn coming_back_at_once_works(subject: Subject) {
    let [one, two, _] = subject.nodes;
    for n in 0..200 {
        let mut listener = Listener::join(&*two, "again").await;
        let text = n.to_string();
        one.send("again", bytes(&text));
        assert_eq!(listener.message().await.1, bytes(&text));
    }
}

/// Payloads are any bytes, none to a mebibyte of them.
pub async fn payloads_are_any_bytes(subject: Subject) {
    let [one, two, _] = subject.nodes;
    let mut listener = Listener::join(&*two, "bytes").await;
    let all: Vec<u8> = (0..=255).collect();
    let big: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let payloads = [Bytes::new(), all.into(), big.into(), bytes("\r\n$-1\r\n")];
    for payload in &payloads {
        one.send("bytes", payload.clone());
    }
    for payload in &payloads {
        assert!(
            listener.message().await.1 == *payload,
            "{} bytes",
            payload.len()
        );
    }
}

/// A mesh that works is not silent.
pub async fn silence_is_short(subject: Subject) {
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for node in &subject.nodes {
        // A busy machine may hold one heartbeat back, not one after the other.
        let mut shortest = Duration::MAX;
        for _ in 0..20 {
            shortest = shortest.min(node.silence());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(shortest < Duration::from_millis(500), "{shortest:?}");
        assert!(node.has_peers());
    }
}

/// Makes a test of each guarantee; `$factory` is an async closure or function that makes a [`Subject`].
#[macro_export]
macro_rules! mesh_contract {
    ($factory:expr) => {
        $crate::mesh_contract!($factory;
            each_senders_order_holds,
            a_node_does_not_hear_itself,
            topics_are_apart,
            a_member_hears_from_its_join_on,
            who_left_hears_no_more,
            members_of_one_node_are_counted,
            coming_back_at_once_works,
            payloads_are_any_bytes,
            silence_is_short,
        );
    };
    ($factory:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::mesh::contract::$name($factory().await).await;
            }
        )*
    };
}

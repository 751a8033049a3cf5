//! The mesh contract inside one process, and the embedded mode's mesh.

use std::sync::Arc;
use std::time::Duration;

use backplane::mesh::Mesh;
use backplane::mesh::contract::{Listener, Subject};
use backplane::mesh::local::LocalMesh;

async fn local() -> Subject {
    let first = LocalMesh::new();
    let nodes = [
        Arc::new(first.peer()),
        Arc::new(first.peer()),
        Arc::new(first),
    ];
    Subject {
        nodes: nodes.map(|node| node as Arc<dyn Mesh>),
    }
}

backplane::mesh_contract!(local);

#[tokio::test]
async fn a_mesh_of_one_has_no_peers_and_keeps_nothing() {
    let alone = LocalMesh::alone();
    assert!(!alone.has_peers());
    assert_eq!(alone.silence(), Duration::ZERO);
    let listener = Listener::join(&alone, "topic").await;
    alone.send("topic", "unheard".into());
    let mut left = listener.leave();
    assert!(left.recv().await.is_none());
    assert_ne!(alone.node(), LocalMesh::alone().node());
}

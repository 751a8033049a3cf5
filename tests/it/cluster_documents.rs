//! Documents between nodes: replicas converge, carets are seen, and what was acknowledged is on every
//! node, whatever goes away meanwhile.

use std::time::Duration;

use loadtest::proxy::Mode;
use protocol::ysync::{AwarenessEntry, encode_awareness_update, parse_awareness};

use crate::world::editor::{replica_of, text_of};
use crate::world::{Cluster, Editor, Kind};

#[tokio::test]
async fn editors_on_two_nodes_see_one_document() {
    let cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut editors = Vec::new();
    for node in 0..2 {
        for kind in Kind::ALL {
            editors.push(Editor::join(kind, cluster.hub(node), &owner, &document).await);
        }
    }
    let mut expected = String::new();
    for round in 0..2 {
        for writer in 0..editors.len() {
            let words = format!("{round}/{writer}: grüße 🙂\n");
            editors[writer].append(&words).await;
            expected.push_str(&words);
            for editor in &mut editors {
                editor.reads(&expected).await;
            }
        }
    }
    // Deletions move no state vector, and reach everyone all the same.
    let all = editors[0].len();
    editors[0].edit(0, all - 1, "").await;
    for editor in &mut editors {
        editor.reads("\n").await;
    }
    for node in 0..2 {
        cluster.reads(node, &owner, &document, "\n").await;
    }
}

/// The newest awareness state of a client that an editor has heard.
fn caret(editor: &Editor, client: u64) -> Option<String> {
    let updates = editor.awareness.iter().rev();
    updates
        .flat_map(|update| parse_awareness(update, 100).expect("an awareness update"))
        .find(|entry| entry.client == client)
        .map(|entry| entry.state.to_owned())
}

#[tokio::test]
async fn carets_are_seen_across_nodes_and_go_with_their_node() {
    let mut cluster =
        Cluster::start_with(2, false, &[("TANDEM_COLLAB_AWARENESS_TIMEOUT", "5s")]).await;
    let (owner, document) = cluster.workspace().await;
    let mut watcher = Editor::join(Kind::Collab, cluster.hub(0), &owner, &document).await;
    let mut guests = Vec::new();
    for (client, kind) in [(1000, Kind::Collab), (1001, Kind::Json)] {
        let mut guest = Editor::join(kind, cluster.hub(1), &owner, &document).await;
        let state = format!(r#"{{"caret":{client}}}"#);
        let entry = AwarenessEntry {
            client,
            clock: 1,
            state: &state,
        };
        guest.announce(&encode_awareness_update(&[entry])).await;
        watcher
            .until("the caret of the other node", |watcher| {
                caret(watcher, client).as_ref() == Some(&state)
            })
            .await;
        guests.push((client, guest));
    }
    let (client, leaver) = guests.pop().expect("a guest");
    leaver.leave().await;
    let is_gone =
        |client| move |watcher: &Editor| caret(watcher, client).as_deref() == Some("null");
    watcher
        .until("the leaver's caret goes", is_gone(client))
        .await;
    let (client, _silent) = guests.pop().expect("a guest");
    cluster.nodes[1].hub.kill9().await;
    watcher
        .until("the dead node's caret goes", is_gone(client))
        .await;
}

#[tokio::test]
async fn what_a_dead_node_acknowledged_is_on_the_others() {
    let mut cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut reader = Editor::join(Kind::Collab, cluster.hub(1), &owner, &document).await;
    let mut expected = String::new();
    for round in 0..3 {
        let mut writers = Vec::new();
        for kind in Kind::ACKNOWLEDGING {
            writers.push(Editor::join(kind, cluster.hub(0), &owner, &document).await);
        }
        for n in 0..30 {
            for writer in &mut writers {
                writer.reads(&expected).await;
                let word = format!("{round}.{n} ");
                writer.append(&word).await;
                writer.settled().await;
                expected.push_str(&word);
            }
        }
        cluster.nodes[0].hub.kill9().await;
        drop(writers);
        reader.reads(&expected).await;
        cluster.reads(1, &owner, &document, &expected).await;
        cluster.nodes[0].hub.restart().await;
        cluster.ready(0).await;
        cluster.reads(0, &owner, &document, &expected).await;
    }
}

#[tokio::test]
async fn without_redis_editing_goes_on_through_the_store() {
    let mut cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut left = Editor::join(Kind::Json, cluster.hub(0), &owner, &document).await;
    let mut right = Editor::join(Kind::Hocuspocus, cluster.hub(1), &owner, &document).await;
    left.append("both are here. ").await;
    right.reads("both are here. ").await;
    cluster.redis.kill().await;
    left.append("left, alone. ").await;
    left.settled().await;
    right.reads("both are here. left, alone. ").await;
    right.append("right, alone. ").await;
    right.settled().await;
    let all = "both are here. left, alone. right, alone. ";
    left.reads(all).await;
    // Who comes now finds it too, on either node.
    for node in 0..2 {
        let mut late = Editor::join(Kind::Collab, cluster.hub(node), &owner, &document).await;
        late.reads(all).await;
    }
    cluster.redis.start_again().await.expect("Redis");
    right.edit(0, 5, "").await;
    left.reads("are here. left, alone. right, alone. ").await;
}

#[tokio::test]
async fn without_the_store_nothing_is_acknowledged_until_it_is_back() {
    let mut cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut left = Editor::join(Kind::MsgPack, cluster.hub(0), &owner, &document).await;
    let mut right = Editor::join(Kind::Hocuspocus, cluster.hub(1), &owner, &document).await;
    left.append("before. ").await;
    left.settled().await;
    right.reads("before. ").await;
    right.settled().await;
    cluster.postgres.kill().await;
    left.append("during. ").await;
    right.reads("before. during. ").await;
    right.append("on top. ").await;
    left.reads("before. during. on top. ").await;
    for editor in [&mut left, &mut right] {
        editor.turn_for(Duration::from_millis(700)).await;
        assert_eq!(editor.durable + 1, editor.sent, "{}", editor.state());
        assert_eq!(editor.refused, 0, "{}", editor.state());
    }
    cluster.postgres.start_again().await.expect("PostgreSQL");
    for editor in [&mut left, &mut right] {
        editor.settled().await;
        assert_eq!(editor.refused, 0, "{}", editor.state());
    }
    drop((left, right));
    for node in 0..2 {
        cluster.nodes[node].hub.kill9().await;
    }
    let fresh = cluster.add().await;
    cluster
        .reads(fresh, &owner, &document, "before. during. on top. ")
        .await;
}

#[tokio::test]
async fn what_is_acknowledged_is_whole_though_what_it_rests_on_was_anothers() {
    for kind in Kind::ACKNOWLEDGING {
        let mut cluster = Cluster::start(2).await;
        let (owner, document) = cluster.workspace().await;
        let mut left = Editor::join(Kind::Collab, cluster.hub(0), &owner, &document).await;
        let mut right = Editor::join(kind, cluster.hub(1), &owner, &document).await;
        left.append("one ").await;
        right.reads("one ").await;
        right.append("two ").await;
        right.settled().await;
        left.reads("one two ").await;
        // The first node can't write its editor's edit down any more; it only passes it on.
        cluster.nodes[0].postgres.set(Mode::Stall);
        left.append("unlogged ").await;
        right.reads("one two unlogged ").await;
        let acknowledged = right.durable;
        right.append("on top").await;
        right.settled().await;
        assert!(right.durable > acknowledged);
        // The author, its node and the second node all go.
        cluster.nodes[0].hub.kill9().await;
        drop(left);
        cluster.nodes[1].hub.kill9().await;
        drop(right);
        let fresh = cluster.add().await;
        let state = owner.state(cluster.hub(fresh), &document).await;
        assert_eq!(
            text_of(&replica_of(&state)),
            "one two unlogged on top",
            "{kind:?}"
        );
    }
}

//! What the hub does to a document beside the edits: limits on its size, unloading, compaction.

use std::time::Duration;

use crate::world::people::workspace;
use crate::world::{Editor, Kind, TestHub, soon};

#[tokio::test]
async fn sizes_have_limits() {
    let hub = TestHub::start(&[
        ("TANDEM_COLLAB_UPDATE_BYTES", "2KiB"),
        ("TANDEM_COLLAB_DOCUMENT_BYTES", "8KiB"),
        ("TANDEM_COLLAB_MESSAGE_BYTES", "16KiB"),
    ])
    .await;
    let (owner, _) = workspace(&hub).await;
    for kind in Kind::ALL {
        let name = format!("p1/size-{kind:?}");
        let mut watcher = Editor::join(Kind::Json, &hub, &owner, &name).await;
        let mut editor = Editor::join(kind, &hub, &owner, &name).await;
        editor.append("small ").await;
        watcher.reads("small ").await;
        let (refused, denials) = (editor.refused, editor.denials.len());
        editor.append(&"x".repeat(3000)).await;
        let said = |editor: &Editor| editor.refused > refused || editor.denials.len() > denials;
        editor.until("the update is over its limit", said).await;
        // What follows rests on it: a replica of its own goes on.
        let mut other = Editor::join(kind, &hub, &owner, &name).await;
        for _ in 0..8 {
            other.append(&"y".repeat(1500)).await;
        }
        let said = |editor: &Editor| editor.refused > 0 || !editor.denials.is_empty();
        other.until("the document is full", said).await;
        let text = soon(
            "the stored text",
            owner.get(&hub, "/api/projects/p1/documents"),
        )
        .await;
        assert_eq!(text.status, 200);
        watcher.turn_for(Duration::from_millis(200)).await;
        assert!(watcher.text().starts_with("small ") && watcher.len() < 9000);
    }
    let mut big = Editor::join(Kind::Collab, &hub, &owner, "p1/message").await;
    big.append(&"z".repeat(20_000)).await;
    assert_eq!(big.close_code().await, 1009);
}

#[tokio::test]
async fn a_document_is_unloaded_and_comes_back_equal() {
    let hub = TestHub::start(&[("TANDEM_COLLAB_IDLE_UNLOAD", "200ms")]).await;
    let (owner, document) = workspace(&hub).await;
    let mut expected = String::new();
    for (round, kind) in Kind::ALL.into_iter().enumerate() {
        let mut editor = Editor::join(kind, &hub, &owner, &document).await;
        editor.reads(&expected).await;
        for n in 0..30 {
            editor.insert(0, &format!("{round}.{n} ")).await;
        }
        let mut watcher = Editor::join(Kind::Json, &hub, &owner, &document).await;
        watcher.reads(&editor.text()).await;
        expected = editor.text();
        editor.leave().await;
        watcher.leave().await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(owner.text(&hub, &document).await, expected);
}

#[tokio::test]
async fn compaction_changes_nothing() {
    let mut hub = TestHub::start(&[
        ("TANDEM_COLLAB_COMPACT_UPDATES", "10"),
        ("TANDEM_COLLAB_IDLE_UNLOAD", "100ms"),
    ])
    .await;
    let (owner, document) = workspace(&hub).await;
    let mut one = Editor::join(Kind::Json, &hub, &owner, &document).await;
    let mut two = Editor::join(Kind::Hocuspocus, &hub, &owner, &document).await;
    for n in 0..150_u32 {
        one.insert(0, &format!("[{n}]")).await;
        two.append(&format!("({n})")).await;
        if n % 7 == 0 {
            one.settled().await;
            two.settled().await;
            let removed = one.len().min(5);
            one.edit(0, removed, "").await;
        }
    }
    one.settled().await;
    two.settled().await;
    let text = owner.text(&hub, &document).await;
    one.reads(&text).await;
    two.reads(&text).await;
    let head = owner
        .get(&hub, &format!("/api/documents/{document}"))
        .await
        .json()["head"]
        .as_u64();
    assert!(
        head > Some(100),
        "{head:?} log entries are too few to show anything"
    );
    for round in 0..2 {
        match round {
            0 => hub.kill9().await,
            _ => assert!(hub.terminate().await.success()),
        }
        hub.restart().await;
        assert_eq!(owner.text(&hub, &document).await, text);
        let mut again = Editor::join(Kind::MsgPack, &hub, &owner, &document).await;
        again.reads(&text).await;
    }
}

//! Documents across all three protocols: what one types the others see, acknowledged once durable;
//! readers, held updates, limits, awareness, unloading and compaction.

use crate::world::editor::{replica, replica_of, text_of};
use crate::world::people::workspace;
use crate::world::wire::doc_frame;
use crate::world::{Editor, Encoding, ErrorCode, Kind, ServerFrame, Session, TestHub, eventually};
use protocol::frame::{ClientDocOp, ServerDocOp};
use protocol::ysync::{AwarenessEntry, encode_awareness_update, parse_awareness};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn what_one_types_all_others_see_over_every_protocol() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push(Editor::join(kind, &hub, &owner, &document).await);
    }
    let mut expected = String::new();
    for round in 0..3 {
        for writer in 0..editors.len() {
            let words = format!("{round}/{writer}: grüße 🙂\n");
            editors[writer].append(&words).await;
            expected.push_str(&words);
            for editor in &mut editors {
                editor.reads(&expected).await;
            }
        }
    }
    for (kind, editor) in Kind::ALL.into_iter().zip(&mut editors) {
        if Kind::ACKNOWLEDGING.contains(&kind) {
            editor.settled().await;
        }
    }
    assert_eq!(owner.text(&hub, &document).await, expected);
    assert_eq!(
        text_of(&replica_of(&owner.state(&hub, &document).await)),
        expected
    );
    // By its path it is the same document.
    for kind in Kind::ALL {
        let mut joiner = Editor::join(kind, &hub, &owner, "p1/main.rs").await;
        joiner.reads(&expected).await;
    }
}

#[tokio::test]
async fn durable_counts_this_sessions_own_updates() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    for kind in Kind::ACKNOWLEDGING {
        let mut editor = Editor::join(kind, &hub, &owner, &document).await;
        let mut other = Editor::join(Kind::Collab, &hub, &owner, &document).await;
        editor.settled().await;
        let at_start = editor.durable;
        for _ in 0..40 {
            editor.append("a").await;
            other.append("b").await;
        }
        editor.settled().await;
        assert_eq!(
            (editor.durable - at_start, editor.refused),
            (40, 0),
            "{kind:?}"
        );
        // A repeat changes nothing and is acknowledged all the same.
        let repeat = editor.update();
        editor.send(&repeat).await;
        editor.settled().await;
        // One acknowledgement each and no more: `turn` fails at one too many.
        editor.turn_for(Duration::from_millis(100)).await;
        assert_eq!(editor.durable - at_start, 41);
    }
}

#[tokio::test]
async fn a_replica_that_was_edited_offline_is_taken_over() {
    let hub = TestHub::start(&[]).await;
    let owner = hub.person("owner").await;
    owner.project(&hub, "p1").await;
    for kind in Kind::ALL {
        let name = format!("p1/offline-{kind:?}");
        let mut first = Editor::join(Kind::Json, &hub, &owner, &name).await;
        first.append("online ").await;
        first.settled().await;

        let mut offline = Editor::join(kind, &hub, &owner, &name).await;
        offline.reads("online ").await;
        let kept = replica_of(&offline.update());
        offline.leave().await;
        {
            use yrs::{Text as _, Transact as _};
            let text = kept.get_or_insert_text("text");
            text.push(&mut kept.transact_mut(), "offline");
        }
        let mut back = Editor::join_with(kind, &hub, &owner, &name, kept).await;
        first.reads("online offline").await;
        if Kind::ACKNOWLEDGING.contains(&kind) {
            back.settled().await;
            assert!(back.durable >= 1, "{kind:?}: {}", back.state());
        }
    }
}

#[tokio::test]
async fn a_reader_reads_and_changes_nothing() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let mut writer = Editor::join(Kind::Json, &hub, &owner, &document).await;
    writer.append("for all to read").await;
    writer.settled().await;
    for kind in Kind::ALL {
        let mut reader = Editor::join(kind, &hub, &viewer, &document).await;
        reader.reads("for all to read").await;
        let denied = reader.refused;
        reader.append("!").await;
        match kind {
            Kind::Hocuspocus => {
                reader
                    .until("the status says no", |reader| reader.refused > denied)
                    .await;
                assert!(!reader.writable, "the scope is readonly");
            }
            _ => {
                reader
                    .until("it is denied", |reader| !reader.denials.is_empty())
                    .await
            }
        }
        assert!(
            reader.ended.is_none() && reader.closed.is_none(),
            "{}",
            reader.state()
        );
    }
    // It goes on reading.
    let mut reader = Editor::join(Kind::MsgPack, &hub, &viewer, &document).await;
    writer.append(", and more").await;
    reader.reads("for all to read, and more").await;
    assert_eq!(
        owner.text(&hub, &document).await,
        "for all to read, and more"
    );
}

#[tokio::test]
async fn an_update_that_comes_too_early_waits_for_what_it_rests_on() {
    let hub = TestHub::start(&[("TANDEM_COLLAB_HELD_UPDATES", "8")]).await;
    let (owner, _) = workspace(&hub).await;
    for kind in Kind::ALL {
        let name = format!("p1/early-{kind:?}");
        let mut watcher = Editor::join(Kind::Json, &hub, &owner, &name).await;
        let mut editor = Editor::join(kind, &hub, &owner, &name).await;
        // Hocuspocus has its Step2 acknowledged first.
        editor.turn_for(Duration::from_millis(100)).await;
        let at_start = editor.durable;
        let updates: Vec<Vec<u8>> = ["one ", "two ", "three "]
            .iter()
            .map(|word| editor.edit_alone(editor.len(), 0, word))
            .collect();
        editor.send(&updates[2]).await;
        editor.send(&updates[1]).await;
        editor.turn_for(Duration::from_millis(200)).await;
        // A real client that is asked for what is missing sends it: then all has settled by now.
        if matches!(kind, Kind::Json | Kind::MsgPack) {
            assert_eq!(editor.durable, at_start, "acknowledged without its base");
            assert_eq!(watcher.text(), "");
        }
        editor.send(&updates[0]).await;
        watcher.reads("one two three ").await;
        if Kind::ACKNOWLEDGING.contains(&kind) {
            editor.settled().await;
            assert_eq!(editor.refused, 0, "{kind:?}: {}", editor.state());
        }
        // Too many that rest on nothing end the document for this editor, for the others nothing.
        let orphans = replica_with_gaps(12);
        for update in &orphans {
            editor.send(update).await;
        }
        editor.sent_off().await;
        watcher.append("still here").await;
        watcher.settled().await;
        let mut again = Editor::join(kind, &hub, &owner, &name).await;
        again.reads("one two three still here").await;
    }
}

/// Updates of a stranger, the first of which is withheld.
fn replica_with_gaps(count: usize) -> Vec<Vec<u8>> {
    use yrs::{Text as _, Transact as _};
    let doc = replica();
    let text = doc.get_or_insert_text("text");
    let updates = (0..=count).map(|n| {
        let mut txn = doc.transact_mut();
        text.push(&mut txn, &format!("{n} "));
        txn.encode_update_v1()
    });
    updates.skip(1).collect()
}

fn caret(client: u64, clock: u64, state: &str) -> Vec<u8> {
    encode_awareness_update(&[AwarenessEntry {
        client,
        clock,
        state,
    }])
}

fn heard(editor: &Editor, client: u64) -> Option<String> {
    let entries = editor.awareness.iter().flat_map(|update| {
        let entries = parse_awareness(update, 100).expect("an awareness update");
        entries
            .into_iter()
            .map(|entry| (entry.client, entry.state.to_owned()))
            .collect::<Vec<_>>()
    });
    entries
        .filter(|(id, _)| *id == client)
        .map(|(_, state)| state)
        .next_back()
}

#[tokio::test]
async fn carets_are_seen_across_protocols_and_go_with_their_owner() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut watcher = Editor::join(Kind::Json, &hub, &owner, &document).await;
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        let client = 1000 + n as u64;
        let state = json!({ "user": { "name": format!("{kind:?}") } }).to_string();
        let mut editor = Editor::join(kind, &hub, &owner, &document).await;
        editor.announce(&caret(client, 1, &state)).await;
        watcher
            .until("the caret", |watcher| {
                heard(watcher, client).as_ref() == Some(&state)
            })
            .await;
        // A late joiner is told of it; who echoes it does not become its owner.
        let mut late = Editor::join(Kind::Collab, &hub, &owner, &document).await;
        late.until("the caret", |late| {
            heard(late, client).as_ref() == Some(&state)
        })
        .await;
        late.announce(&caret(9, 1, "{}")).await;
        late.announce(&caret(client, 1, &state)).await;
        late.leave().await;
        watcher.turn_for(Duration::from_millis(150)).await;
        assert_eq!(
            heard(&watcher, client).as_ref(),
            Some(&state),
            "it went with who echoed it"
        );
        // Not with a farewell: cut off.
        drop(editor);
        let gone = |watcher: &Editor| heard(watcher, client).as_deref() == Some("null");
        watcher.until("the caret goes", gone).await;
    }
}

#[tokio::test]
async fn steps_out_of_turn_are_refused_in_words() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::MsgPack).await;
    let open = |id| doc_frame(Some(id), &document, ClientDocOp::Open, None);
    assert!(matches!(
        session.request(open).await,
        ServerFrame::Doc {
            op: ServerDocOp::Opened,
            ..
        }
    ));
    assert_eq!(
        session.refused(open).await.0,
        ErrorCode::Conflict,
        "open already"
    );
    let without = |id| doc_frame(Some(id), &document, ClientDocOp::Update, None);
    assert_eq!(
        session.refused(without).await.0,
        ErrorCode::Invalid,
        "no data"
    );
    let bad = |id| doc_frame(Some(id), &document, ClientDocOp::Sync, Some(vec![0xff; 20]));
    assert_eq!(
        session.refused(bad).await.0,
        ErrorCode::Invalid,
        "no state vector"
    );
    let none = |id| doc_frame(Some(id), "p1/../x", ClientDocOp::Open, None);
    let refused = session.refused(none).await.0;
    assert!(
        matches!(refused, ErrorCode::Invalid | ErrorCode::NotFound),
        "{refused:?}"
    );
    let close = |id| doc_frame(Some(id), &document, ClientDocOp::Close, None);
    assert!(matches!(
        session.request(close).await,
        ServerFrame::Doc {
            op: ServerDocOp::Closed,
            ..
        }
    ));
    assert_eq!(session.refused(close).await.0, ErrorCode::NotSubscribed);
}

#[tokio::test]
async fn the_first_editor_makes_a_missing_document_and_a_viewer_does_not() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    for kind in Kind::ALL {
        let name = format!("p1/deep/new-{kind:?}.rs");
        let mut reader = Editor::open(kind, &hub, &viewer, &name, replica()).await;
        reader.sent_off().await;
        let mut editor = Editor::join(kind, &hub, &owner, &name).await;
        editor.append("made").await;
        let mut reader = Editor::join(kind, &hub, &viewer, &name).await;
        reader.reads("made").await;
    }
    eventually("all four are listed", || async {
        let listed = owner
            .get(&hub, "/api/projects/p1/documents")
            .await
            .expect(200)
            .json();
        let items = listed["items"].as_array().map_or(0, Vec::len);
        items == 5
    })
    .await;
}

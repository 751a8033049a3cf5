//! P1: an acknowledged edit is never lost, whether the hub is killed or asked to leave.
//!
//! Writers replay a recorded session into one document over different protocols, each on top of what
//! the others have written, so that updates rest on one another. Whatever was acknowledged must be in
//! the document after the restart; nothing the writers still hold may heal it, so that they start from
//! an empty replica each time.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Deserialize;
use yrs::{ReadTxn as _, Text as _, Transact as _};

use crate::world::editor::{apply, replica, replica_of};
use crate::world::people::workspace;
use crate::world::{
    CloseCode, ENCODINGS, Editor, Kind, Person, ServerFrame, Session, TestHub, binary, soon, within,
};

#[derive(Deserialize)]
struct Trace {
    txns: Vec<Transaction>,
}

#[derive(Deserialize)]
struct Transaction {
    patches: Vec<(u32, u32, String)>,
}

/// The patches of a recorded session, in order.
fn trace() -> Vec<(u32, u32, String)> {
    let path = binary::workspace().join("tests/data/rustcode.json.gz");
    let file = std::fs::File::open(path).expect("the recorded session");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("gzip");
    let trace: Trace = serde_json::from_str(&text).expect("a trace");
    trace.txns.into_iter().flat_map(|txn| txn.patches).collect()
}

/// What a writer knows of its updates when it ends.
#[derive(Default)]
struct Written {
    acknowledged: Vec<Vec<u8>>,
    sent: usize,
}

/// Most updates that a writer has under way.
const WINDOW: u64 = 40;

/// Types until the hub is gone.
async fn write(mut editor: Editor, patches: Arc<Vec<(u32, u32, String)>>, seed: u64) -> Written {
    let mut random = StdRng::seed_from_u64(seed);
    let mut at = random.random_range(0..patches.len());
    // A Step2 of a Hocuspocus client is acknowledged like an update.
    editor.settled().await;
    let first = editor.durable;
    let mut updates = Vec::new();
    'typing: while editor.ended.is_none() {
        let (position, removed, inserted) = &patches[at % patches.len()];
        at += 1;
        // The others write too: the recorded place is taken modulo what is there.
        let len = editor.len();
        let position = position % (len + 1);
        let removed = (*removed).min(len - position);
        // Halves of what UTF-16 needs two units for are no text: positions must not fall between.
        let inserted: String = inserted.chars().filter(|c| c.len_utf16() == 1).collect();
        if removed == 0 && inserted.is_empty() {
            continue;
        }
        updates.push(editor.edit_alone(position, removed, &inserted));
        if !editor.send(updates.last().expect("just pushed")).await {
            break;
        }
        editor.turn_for(Duration::from_micros(200)).await;
        while editor.sent - editor.durable > WINDOW {
            if editor.ended.is_some() {
                break 'typing;
            }
            soon("an acknowledgement", editor.turn()).await;
        }
    }
    // What the hub said before it died may still be in the socket.
    while editor.ended.is_none() {
        soon("the end of the socket", editor.turn()).await;
    }
    assert_eq!(editor.refused, 0, "{}", editor.state());
    let acknowledged = (editor.durable - first) as usize;
    let sent = updates.len();
    updates.truncate(acknowledged);
    Written {
        acknowledged: updates,
        sent,
    }
}

/// Whether a state holds an update, deletions included: applying it must change nothing.
fn missing(state: &[u8], updates: &[Vec<u8>]) -> usize {
    let doc = replica_of(state);
    let mut missing = 0;
    for update in updates {
        let before = doc.transact().snapshot();
        apply(&doc, update);
        if doc.transact().snapshot() != before {
            missing += 1;
        }
    }
    missing
}

#[test]
fn a_lost_update_would_be_noticed() {
    let doc = replica();
    let text = doc.get_or_insert_text("text");
    let step = |act: &dyn Fn(&mut yrs::TransactionMut<'_>)| {
        let mut txn = doc.transact_mut();
        act(&mut txn);
        txn.encode_update_v1()
    };
    let first = step(&|txn| text.insert(txn, 0, "first "));
    let before = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    let second = step(&|txn| text.insert(txn, 6, "second"));
    let deletion = step(&|txn| text.remove_range(txn, 0, 3));
    let after = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    let all = [first, second, deletion];
    assert_eq!((missing(&before, &all), missing(&after, &all)), (2, 0));
}

async fn writers(hub: &TestHub, owner: &Person, document: &str) -> Vec<Editor> {
    let mut editors = Vec::new();
    for kind in [
        Kind::Json,
        Kind::MsgPack,
        Kind::Hocuspocus,
        Kind::Hocuspocus,
    ] {
        editors.push(Editor::join(kind, hub, owner, document).await);
    }
    editors
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_replay_loses_nothing_acknowledged() {
    let patches = Arc::new(trace());
    let mut hub = TestHub::start(&[("TANDEM_COLLAB_COMPACT_UPDATES", "300")]).await;
    let (owner, document) = workspace(&hub).await;
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    let mut random = StdRng::seed_from_u64(3);
    for round in 0..5_u64 {
        let mut tasks = Vec::new();
        for (n, editor) in writers(&hub, &owner, &document)
            .await
            .into_iter()
            .enumerate()
        {
            let patches = Arc::clone(&patches);
            tasks.push(tokio::spawn(write(editor, patches, round * 10 + n as u64)));
        }
        let life = Duration::from_millis(random.random_range(300..1500));
        tokio::time::sleep(life).await;
        hub.kill9().await;
        let mut sent = 0;
        let before = acknowledged.len();
        for task in tasks {
            let written = soon("a writer ends with its hub", task)
                .await
                .expect("a writer");
            assert!(
                !written.acknowledged.is_empty(),
                "round {round}: nothing was acknowledged"
            );
            acknowledged.extend(written.acknowledged);
            sent += written.sent;
        }
        let fresh = acknowledged.len() - before;
        println!("round {round}: {fresh} of {sent} acknowledged after {life:?}");
        hub.restart().await;
        let state = owner.state(&hub, &document).await;
        let missing = missing(&state, &acknowledged);
        assert_eq!(
            missing,
            0,
            "round {round}: of {} acknowledged updates",
            acknowledged.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_loses_nothing_and_sends_everyone_away_politely() {
    let patches = Arc::new(trace());
    let mut hub = TestHub::start(&[("TANDEM_SHUTDOWN_RECONNECT_SPREAD", "2s")]).await;
    let (owner, document) = workspace(&hub).await;
    let mut idle = Vec::new();
    for n in 0..20 {
        let mut session = Session::open(&hub, &owner, ENCODINGS[n % 2]).await;
        session.follow("room:p1/lobby").await;
        idle.push(session);
    }
    let mut yws = Editor::join(Kind::Collab, &hub, &owner, &document).await;
    let mut tasks = Vec::new();
    for (n, editor) in writers(&hub, &owner, &document)
        .await
        .into_iter()
        .enumerate()
    {
        tasks.push(tokio::spawn(write(
            editor,
            Arc::clone(&patches),
            100 + n as u64,
        )));
    }
    let reading = tokio::spawn(async move { yws.close_code().await });
    tokio::time::sleep(Duration::from_millis(800)).await;
    hub.ask_to_leave();
    let asked = Instant::now();
    let mut delays = Vec::new();
    for session in &mut idle {
        let is_reconnect = |frame: &ServerFrame| matches!(frame, ServerFrame::Reconnect { .. });
        let ServerFrame::Reconnect { after_ms, .. } =
            session.pushed("`reconnect`", is_reconnect).await
        else {
            unreachable!("it was picked");
        };
        assert!(after_ms <= 2000, "{after_ms} ms");
        delays.push(after_ms);
        assert_eq!(session.close_code().await, CloseCode::Draining.code());
    }
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 5, "each has its own delay: {delays:?}");
    assert_eq!(
        soon("the y-websocket client is sent away", reading)
            .await
            .expect("a reader"),
        4503
    );
    let mut acknowledged = Vec::new();
    for task in tasks {
        let written = soon("a writer ends with its hub", task)
            .await
            .expect("a writer");
        assert!(!written.acknowledged.is_empty());
        acknowledged.extend(written.acknowledged);
    }
    let status = within(
        Duration::from_secs(11),
        "it exits",
        hub.ended(Duration::from_secs(11)),
    )
    .await;
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(11));
    hub.restart().await;
    let state = owner.state(&hub, &document).await;
    assert_eq!(
        missing(&state, &acknowledged),
        0,
        "of {} acknowledged",
        acknowledged.len()
    );
}

#[tokio::test]
async fn a_client_that_does_not_leave_holds_nobody_up() {
    let mut hub = TestHub::start(&[("TANDEM_SHUTDOWN_TIMEOUT", "2s")]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    editor.append("kept").await;
    editor.settled().await;
    // It reads nothing from now on, not even the close frame.
    let _stubborn = Session::open_narrow(&hub, &owner, ENCODINGS[0]).await;
    let asked = Instant::now();
    hub.terminate().await;
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    hub.restart().await;
    assert_eq!(owner.text(&hub, &document).await, "kept");
}

#[tokio::test]
async fn a_restart_keeps_the_port_where_asked_and_everything_in_it() {
    let mut hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editor = Editor::join(Kind::MsgPack, &hub, &owner, &document).await;
    editor.append("before").await;
    editor.settled().await;
    let address = hub.address();
    hub.kill9().await;
    hub.restart_in_place().await;
    hub.ready().await;
    assert_eq!(hub.address(), address);
    assert_eq!(owner.text(&hub, &document).await, "before");
    let members = owner
        .get(&hub, "/api/projects/p1/members")
        .await
        .expect(200)
        .json();
    assert_eq!(members["items"][0]["role"], "owner");
}

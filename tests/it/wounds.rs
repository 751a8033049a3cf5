//! Wounds that have healed: each test holds the hub to something that it once did wrong.
//!
//! Owns no scenario of its own beyond the one that showed the fault.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use protocol::frame::{ClientDocOp, ServerDocOp};
use protocol::hocuspocus::{
    Scope, encode_authenticated, encode_close, encode_denied, encode_sync, encode_sync_status,
};
use protocol::ysync::{AwarenessEntry, Sync, encode_awareness_update, parse_awareness};
use protocol::{DeliveryClass, Position};
use serde_json::json;
use yrs::{Doc, Text as _, Transact as _};

use crate::world::editor::replica;
use crate::world::people::workspace;
use crate::world::session::publish_as;
use crate::world::socket::Opening;
use crate::world::wire::{auth_frame, doc_frame};
use crate::world::{
    ClientFrame, ENCODINGS, Editor, Encoding, ErrorCode, Heard, Kind, ServerFrame, Session, Socket,
    TestHub, soon, within,
};

/// What no Yjs decoder takes.
const GARBAGE: &[u8] = &[0xff; 12];

/// An update that adds text to a replica.
fn add(doc: &Doc, text: &str) -> Vec<u8> {
    let root = doc.get_or_insert_text("text");
    let mut txn = doc.transact_mut();
    root.push(&mut txn, text);
    txn.encode_update_v1()
}

/// A Hocuspocus socket whose documents the test speaks for one by one.
struct Hocus(Socket);

impl Hocus {
    async fn open(hub: &TestHub) -> Self {
        let opened = Opening::default().open(hub, "/hocuspocus").await;
        Self(opened.expect("an upgrade"))
    }

    async fn authenticate(&mut self, document: &str, token: &str) {
        self.0.send_binary(&auth_frame(document, token)).await;
        let let_in = encode_authenticated(document, Scope::ReadWrite);
        self.hears("`Authenticated`", |bytes| bytes == let_in).await;
    }

    async fn update(&mut self, document: &str, update: &[u8]) {
        let frame = encode_sync(document, Sync::Update(update));
        assert!(self.0.send_binary(&frame).await, "the socket has ended");
    }

    async fn saves(&mut self, document: &str, update: &[u8]) {
        self.update(document, update).await;
        let saved = encode_sync_status(document, true);
        self.hears("the update is saved", |bytes| bytes == saved)
            .await;
    }

    async fn hears(&mut self, what: &str, is_meant: impl Fn(&[u8]) -> bool) {
        soon(what, async {
            loop {
                match self.0.hear_any().await {
                    Heard::Binary(bytes) if is_meant(&bytes) => return,
                    end @ (Heard::Closed(..) | Heard::Cut) => panic!("{what}: {end:?}"),
                    _ => {}
                }
            }
        })
        .await;
    }

    /// Every message that comes within that time.
    async fn all_within(&mut self, most: Duration) -> Vec<Vec<u8>> {
        let until = Instant::now() + most;
        let mut all = Vec::new();
        while let Some(heard) = self.0.hear_within(until - Instant::now()).await {
            match heard {
                Heard::Binary(bytes) => all.push(bytes),
                end @ (Heard::Closed(..) | Heard::Cut) => panic!("the socket ended: {end:?}"),
                _ => {}
            }
            if Instant::now() >= until {
                break;
            }
        }
        all
    }
}

#[tokio::test]
async fn rights_on_a_shared_socket_are_each_users_own() {
    let hub = TestHub::start(&[]).await;
    let (owner, one) = workspace(&hub).await;
    let two = owner.document(&hub, "p1", "two.rs").await;
    let (first, second) = (hub.person("first").await, hub.person("second").await);
    for person in [&first, &second] {
        owner.give(&hub, "p1", person, "editor").await;
    }
    let (his, hers) = (replica(), replica());
    let mut socket = Hocus::open(&hub).await;
    socket.authenticate(&one, &first.token).await;
    socket.authenticate(&two, &second.token).await;
    socket.saves(&one, &add(&his, "before")).await;
    socket.saves(&two, &add(&hers, "before")).await;

    owner.remove(&hub, "p1", &first).await;
    socket.update(&one, &add(&his, ", after")).await;
    socket.update(&two, &add(&hers, ", after")).await;
    let heard = socket.all_within(Duration::from_secs(2)).await;
    assert!(!heard.contains(&encode_sync_status(&one, true)), "saved");
    assert!(heard.contains(&encode_sync_status(&two, true)), "not saved");
    assert_eq!(owner.text(&hub, &one).await, "before");
    assert_eq!(owner.text(&hub, &two).await, "before, after");
}

/// The parts of a pushed `doc` frame that these tests look at.
fn doc_step(frame: &ServerFrame) -> Option<(ServerDocOp, Option<u64>)> {
    match frame {
        ServerFrame::Doc { op, n, .. } => Some((*op, *n)),
        _ => None,
    }
}

/// Opens a document; its id.
async fn open(session: &mut Session, name: &str) -> String {
    let reply = session.request(|id| doc_frame(Some(id), name, ClientDocOp::Open, None));
    match reply.await {
        ServerFrame::Doc {
            op: ServerDocOp::Opened,
            document: Some(document),
            ..
        } => document,
        other => panic!("{name} is not opened: {other:?}"),
    }
}

/// Hands in an update without an id.
async fn hand_in(session: &mut Session, name: &str, update: &[u8]) {
    let frame = doc_frame(None, name, ClientDocOp::Update, Some(update.to_vec()));
    assert!(session.send(&frame).await, "the session has ended");
}

#[tokio::test]
async fn a_denied_update_counts_and_holds_up_none_behind_it() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let name = format!("p1/denied-{encoding:?}");
        let mut session = Session::open(&hub, &owner, encoding).await;
        let document = open(&mut session, &name).await;
        hand_in(&mut session, &name, GARBAGE).await;
        hand_in(&mut session, &name, &add(&replica(), "good")).await;
        let denied =
            |frame: &ServerFrame| doc_step(frame).is_some_and(|(op, _)| op == ServerDocOp::Denied);
        let denied = session.pushed("`denied`", denied).await;
        assert_eq!(doc_step(&denied), Some((ServerDocOp::Denied, Some(1))));
        let both = |frame: &ServerFrame| doc_step(frame) == Some((ServerDocOp::Durable, Some(2)));
        session.pushed("`durable` of both", both).await;
        assert_eq!(owner.text(&hub, &document).await, "good");
    }
}

#[tokio::test]
async fn a_new_opening_hears_nothing_of_the_one_before() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::MsgPack).await;
    open(&mut session, &document).await;
    let doc = replica();
    for _ in 0..500 {
        hand_in(&mut session, &document, &add(&doc, "x")).await;
    }
    for op in [ClientDocOp::Close, ClientDocOp::Open] {
        let id = session.take_id();
        session
            .send(&doc_frame(Some(id), &document, op, None))
            .await;
    }
    let closed = |frame: &ServerFrame| doc_step(frame) == Some((ServerDocOp::Closed, None));
    while !closed(&session.next().await) {}
    let mut opened = false;
    while let Some(frame) = session.next_within(Duration::from_secs(1)).await {
        let step = doc_step(&frame).map(|(op, _)| op);
        assert_ne!(step, Some(ServerDocOp::Durable), "{frame:?}");
        opened |= step == Some(ServerDocOp::Opened);
    }
    assert!(opened, "it is not opened again");
    assert_eq!(owner.text(&hub, &document).await, "x".repeat(500));

    hand_in(&mut session, &document, &add(&doc, "y")).await;
    let durable =
        |frame: &ServerFrame| doc_step(frame).is_some_and(|(op, _)| op == ServerDocOp::Durable);
    let durable = session.pushed("`durable`", durable).await;
    assert_eq!(doc_step(&durable), Some((ServerDocOp::Durable, Some(1))));
}

#[tokio::test]
async fn who_was_sent_off_in_band_may_come_back_on_the_same_socket() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut socket = Hocus::open(&hub).await;
    socket.authenticate(&document, &owner.token).await;
    socket.update(&document, GARBAGE).await;
    let mut close = encode_close(&document, "");
    // Whatever the reason is.
    close.pop();
    socket
        .hears("`Close`", |bytes| bytes.starts_with(&close))
        .await;
    socket.authenticate(&document, &owner.token).await;
    socket.saves(&document, &add(&replica(), "back")).await;
    assert_eq!(owner.text(&hub, &document).await, "back");
}

#[tokio::test]
async fn a_deleted_document_leaves_its_session_usable() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &owner, encoding).await;
        let doomed = open(&mut session, "p1/doomed.rs").await;
        assert_eq!(open(&mut session, &doomed).await, doomed);
        let path = format!("/api/documents/{doomed}");
        owner.delete(&hub, &path).await.expect(204);
        for name in ["p1/doomed.rs", &doomed] {
            let closed = |frame: &ServerFrame| {
                let ServerFrame::Doc { doc, op, .. } = frame else {
                    return false;
                };
                doc == name && *op == ServerDocOp::Closed
            };
            session.pushed("`closed`", closed).await;
        }
        assert_eq!(open(&mut session, &document).await, document);
        let again = session.refused(|id| doc_frame(Some(id), &doomed, ClientDocOp::Open, None));
        assert_eq!(again.await.0, ErrorCode::NotFound);
        assert_ne!(open(&mut session, "p1/doomed.rs").await, doomed);
    }
}

fn caret(client: u64, clock: u64, state: &str) -> Vec<u8> {
    encode_awareness_update(&[AwarenessEntry {
        client,
        clock,
        state,
    }])
}

/// Whether the last that an editor heard of a client is this.
fn heard(editor: &Editor, client: u64, state: &str) -> bool {
    let mut newest = None;
    for update in &editor.awareness {
        for entry in parse_awareness(update, 1000).expect("an awareness update") {
            assert!(entry.clock <= u64::from(u32::MAX), "no client can hold it");
            if entry.client == client {
                newest = Some(entry.state.to_owned());
            }
        }
    }
    newest.as_deref() == Some(state)
}

/// Says back whatever was heard, as y-websocket clients do.
async fn echo(editor: &mut Editor) {
    for update in editor.awareness.clone() {
        editor.announce(&update).await;
    }
}

#[tokio::test]
async fn a_clock_at_its_end_harms_none_of_the_others() {
    const LAST: u64 = u32::MAX as u64;
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut ann = Editor::join(Kind::Collab, &hub, &owner, &document).await;
    let mut bob = Editor::join(Kind::Collab, &hub, &owner, &document).await;
    ann.announce(&caret(1, 1, "1")).await;
    bob.announce(&caret(2, 1, "2")).await;
    for turn in 0..3_u64 {
        let mut eve = Editor::join(Kind::Collab, &hub, &owner, &document).await;
        eve.announce(&caret(7, LAST, "{}")).await;
        if turn == 0 {
            ann.until("the caret", |ann| heard(ann, 7, "{}")).await;
        } else {
            // Let in or sent off: that is between the hub and this client.
            eve.turn_for(Duration::from_millis(200)).await;
        }
        echo(&mut ann).await;
        echo(&mut bob).await;
        eve.leave().await;
        ann.until("the caret goes", |ann| heard(ann, 7, "null"))
            .await;
        let (from_ann, from_bob) = (format!("\"a{turn}\""), format!("\"b{turn}\""));
        ann.announce(&caret(1, turn + 2, &from_ann)).await;
        bob.announce(&caret(2, turn + 2, &from_bob)).await;
        bob.until("Ann's caret", |bob| heard(bob, 1, &from_ann))
            .await;
        ann.until("Bob's caret", |ann| heard(ann, 2, &from_bob))
            .await;
        assert!(ann.ended.is_none() && bob.ended.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_many_ids_is_ended_and_delays_nobody() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    for takes_back in [false, true] {
        let mut flood = Editor::join(Kind::Collab, &hub, &viewer, &document).await;
        let flooding = tokio::spawn(async move {
            for client in 1000..6000 {
                let mut sent = flood.announce(&caret(client, 1, "{}")).await;
                if takes_back {
                    sent &= flood.announce(&caret(client, 2, "null")).await;
                }
                if !sent {
                    break;
                }
            }
            flood.sent_off().await;
        });
        for _ in 0..5 {
            editor.append("edit ").await;
            let settled = editor.settled();
            within(Duration::from_secs(2), "the edit is durable", settled).await;
        }
        soon("the viewer is ended", flooding)
            .await
            .expect("the flood ends");
    }
    assert_eq!(editor.durable, 10);
}

/// A replica of a few MB in many pieces, so that to encode it takes its time.
fn large_replica() -> Doc {
    let doc = replica();
    let text = doc.get_or_insert_text("text");
    let piece = "p".repeat(150);
    let mut txn = doc.transact_mut();
    for _ in 0..20_000 {
        text.insert(&mut txn, 0, &piece);
    }
    drop(txn);
    doc
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_large_state_do_not_hold_up_an_edit() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let large = large_replica();
    let mut editor = Editor::join_with(Kind::Hocuspocus, &hub, &owner, &document, large).await;
    editor.settled().await;
    let (hub, owner, document) = (&hub, &owner, &document);
    let readers = join_all((0..16).map(|_| async move {
        loop {
            let state = owner.state(hub, document).await;
            assert!(state.len() > 3_000_000, "{} bytes", state.len());
        }
    }));
    let edits = async {
        for _ in 0..5 {
            editor.insert(0, "edit ").await;
            let settled = editor.settled();
            within(Duration::from_secs(5), "the edit is durable", settled).await;
        }
    };
    tokio::select! {
        _ = readers => unreachable!("readers read on"),
        () = edits => {}
    }
    assert_eq!(editor.refused, 0, "{}", editor.state());
}

#[tokio::test]
async fn junk_auth_frames_leave_nothing_behind() {
    const FRAMES: usize = 50_000;
    const BATCH: usize = 100;
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut junk = Hocus::open(&hub).await;
    let before = hub.resident_kib();
    let padding = "j".repeat(1000);
    'junk: for batch in 0..FRAMES / BATCH {
        let names = (0..BATCH).map(|n| format!("{}-{padding}", batch * BATCH + n));
        let names: Vec<String> = names.collect();
        for name in &names {
            if !junk.0.send_binary(&auth_frame(name, "junk")).await {
                break 'junk;
            }
        }
        for name in &names {
            let mut denied = encode_denied(name, "");
            denied.pop();
            match junk.0.hear().await {
                Heard::Binary(bytes) => assert!(bytes.starts_with(&denied), "{bytes:?}"),
                // To close it is as good an answer.
                Heard::Closed(..) | Heard::Cut => break 'junk,
                _ => {}
            }
        }
    }
    let grown = hub.resident_kib().saturating_sub(before);
    assert!(grown < 30 * 1024, "{grown} KiB more");
    let mut honest = Hocus::open(&hub).await;
    honest.authenticate(&document, &owner.token).await;
    honest.saves(&document, &add(&replica(), "served")).await;
}

#[tokio::test]
async fn a_new_subscriber_gets_every_newest_value_once() {
    const ROOM: &str = "room:p1/values";
    // More than a send queue holds, and all of it kept.
    let hub = TestHub::start(&[("TANDEM_CHANNELS_HISTORY_BYTES", "16MiB")]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::MsgPack).await;
    let value = json!("v".repeat(200_000));
    let keys: BTreeSet<String> = (0..8).map(|n| format!("k{n}")).collect();
    for key in &keys {
        let (value, class) = (value.clone(), DeliveryClass::Latest);
        let ack = sender.request(|id| publish_as(id, ROOM, value, class, Some(key)));
        assert!(matches!(ack.await, ServerFrame::Ack { .. }));
    }
    for encoding in ENCODINGS {
        let mut reader = Session::open(&hub, &owner, encoding).await;
        reader.follow(ROOM).await;
        let mut got = BTreeSet::new();
        while got.len() < keys.len() {
            match reader.next().await {
                ServerFrame::Message { key, data, .. } => {
                    assert_eq!(data.as_ref(), Some(&value));
                    let key = key.expect("a key");
                    assert!(got.insert(key.clone()), "{key} came twice");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, keys);
        let more = reader.next_within(Duration::from_millis(300)).await;
        assert!(more.is_none(), "a value came twice");
    }
}

#[tokio::test]
async fn many_long_replays_in_one_session_do_not_end_it() {
    const MESSAGES: u64 = 10;
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::MsgPack).await;
    let padding = "m".repeat(20_000);
    let mut resume: BTreeMap<String, Position> = BTreeMap::new();
    for room in 0..60 {
        let room = format!("room:p1/replay-{room}");
        let mut start = sender.say(&room, json!("seen")).await;
        for n in 1..=MESSAGES {
            start.epoch = sender.say(&room, json!([n, padding])).await.epoch;
        }
        resume.insert(room, start);
    }
    for (encoding, by_connect) in ENCODINGS.into_iter().flat_map(|e| [(e, true), (e, false)]) {
        let mut reader = Session::open(&hub, &owner, encoding).await;
        if by_connect {
            let id = reader.take_id();
            let (token, resume) = (None, resume.clone());
            reader
                .send(&ClientFrame::Connect { id, token, resume })
                .await;
        } else {
            for (channel, position) in &resume {
                let id = reader.take_id();
                let subscribe = ClientFrame::Subscribe {
                    id,
                    channel: channel.clone(),
                    position: Some(position.clone()),
                    presence: false,
                };
                reader.send(&subscribe).await;
            }
        }
        for (room, position) in &resume {
            for n in 1..=MESSAGES {
                let offset = Some(position.offset + n);
                let (at, data) = reader.message(room).await;
                assert_eq!((at, &data[0]), (offset, &json!(n)), "{room}");
            }
        }
        reader.ping().await;
    }
}

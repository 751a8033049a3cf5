//! An editor of one document: a Yjs replica of its own, joined over any of the three protocols.
//!
//! Owns the replica, the link, and the count of what was sent, acknowledged and refused. Answers the
//! hub as real clients do (a Step2 to its Step1), and nothing more.

use std::time::Duration;

use protocol::frame::ClientDocOp;
use protocol::hocuspocus;
use protocol::ysync::{self, Sync};
use yrs::updates::decoder::Decode as _;
use yrs::updates::encoder::Encode as _;
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, TextRef,
    Transact as _, Update,
};

use super::socket::Opening;
use super::wire::{Event, auth_frame, doc_frame, of_collab, of_hocuspocus, of_session};
use super::{Encoding, Heard, Person, Session, Socket, TestHub, soon};

/// The three protocols, `/ws` in both encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    MsgPack,
    Collab,
    Hocuspocus,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::MsgPack, Self::Collab, Self::Hocuspocus];
    /// Those that say when an update is durable.
    pub(crate) const ACKNOWLEDGING: [Self; 3] = [Self::Json, Self::MsgPack, Self::Hocuspocus];
}

enum Link {
    Session(Box<Session>, String),
    Collab(Box<Socket>),
    Hocuspocus(Box<Socket>, String),
}

/// An editor in a document.
pub(crate) struct Editor {
    link: Link,
    doc: Doc,
    text: TextRef,
    /// Updates handed in.
    pub(crate) sent: u64,
    /// Updates known to be committed.
    pub(crate) durable: u64,
    /// Updates known to be refused, and why where it was said.
    pub(crate) refused: u64,
    pub(crate) denials: Vec<String>,
    pub(crate) writable: bool,
    pub(crate) synced: bool,
    /// Why the hub ended it.
    pub(crate) closed: Option<String>,
    pub(crate) ended: Option<Heard>,
    /// How many updates of others were heard.
    pub(crate) updates: usize,
    /// Awareness updates heard, newest last.
    pub(crate) awareness: Vec<Vec<u8>>,
}

/// A replica as editors have it.
pub(crate) fn replica() -> Doc {
    Doc::with_options(Options {
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    })
}

/// A replica of a state.
pub(crate) fn replica_of(state: &[u8]) -> Doc {
    let doc = replica();
    apply(&doc, state);
    doc
}

/// Applies an update that must be one.
pub(crate) fn apply(doc: &Doc, update: &[u8]) {
    let update = Update::decode_v1(update).expect("an update of the hub");
    doc.transact_mut()
        .apply_update(update)
        .expect("an update of the hub");
}

/// The text of a replica.
pub(crate) fn text_of(doc: &Doc) -> String {
    let text = doc.get_or_insert_text("text");
    text.get_string(&doc.transact())
}

impl Editor {
    /// Joins a document and waits until the replica holds what the hub has.
    pub(crate) async fn join(kind: Kind, hub: &TestHub, person: &Person, document: &str) -> Self {
        Self::join_with(kind, hub, person, document, replica()).await
    }

    /// As [`Self::join`], with a replica that may hold something already.
    pub(crate) async fn join_with(
        kind: Kind,
        hub: &TestHub,
        person: &Person,
        document: &str,
        doc: Doc,
    ) -> Self {
        let mut editor = Self::open(kind, hub, person, document, doc).await;
        let what = format!("{kind:?} is in {document}");
        soon(&what, async {
            while !editor.synced {
                editor.turn().await;
                assert!(
                    editor.ended.is_none() && editor.closed.is_none(),
                    "{:?}",
                    editor.state()
                );
            }
        })
        .await;
        editor
    }

    /// Opens the link and says hello; nothing is waited for.
    pub(crate) async fn open(
        kind: Kind,
        hub: &TestHub,
        person: &Person,
        document: &str,
        doc: Doc,
    ) -> Self {
        Self::open_by(Opening::default(), kind, hub, person, document, doc).await
    }

    /// As [`Self::open`], over a connection of that kind.
    pub(crate) async fn open_by(
        opening: Opening,
        kind: Kind,
        hub: &TestHub,
        person: &Person,
        document: &str,
        doc: Doc,
    ) -> Self {
        let vector = doc.transact().state_vector().encode_v1();
        let link = match kind {
            Kind::Json | Kind::MsgPack => {
                let encoding = if kind == Kind::Json {
                    Encoding::Json
                } else {
                    Encoding::MsgPack
                };
                let mut session = Session::open_by(opening, hub, person, encoding).await;
                let id = session.take_id();
                let frame = doc_frame(Some(id), document, ClientDocOp::Open, Some(vector));
                session.send(&frame).await;
                Link::Session(Box::new(session), document.to_owned())
            }
            Kind::Collab => {
                let path = format!("/collab/{document}?token={}", person.token);
                let mut socket = opening.open(hub, &path).await.expect("an upgrade");
                socket.send_binary(&ysync::encode_step1(&vector)).await;
                Link::Collab(Box::new(socket))
            }
            Kind::Hocuspocus => {
                let opened = opening.open(hub, "/hocuspocus").await;
                let mut socket = opened.expect("an upgrade");
                socket
                    .send_binary(&auth_frame(document, &person.token))
                    .await;
                let step1 = hocuspocus::encode_sync(document, Sync::Step1(&vector));
                socket.send_binary(&step1).await;
                Link::Hocuspocus(Box::new(socket), document.to_owned())
            }
        };
        let text = doc.get_or_insert_text("text");
        Self {
            link,
            doc,
            text,
            sent: 0,
            durable: 0,
            refused: 0,
            denials: Vec::new(),
            writable: true,
            synced: false,
            closed: None,
            ended: None,
            updates: 0,
            awareness: Vec::new(),
        }
    }

    /// Inserts text, tells the hub, and gives the update.
    pub(crate) async fn insert(&mut self, at: u32, text: &str) -> Vec<u8> {
        self.edit(at, 0, text).await
    }

    /// Adds text at the end.
    pub(crate) async fn append(&mut self, text: &str) -> Vec<u8> {
        self.edit(self.len(), 0, text).await
    }

    /// Replaces text, tells the hub, and gives the update.
    pub(crate) async fn edit(&mut self, at: u32, removed: u32, inserted: &str) -> Vec<u8> {
        let update = self.edit_alone(at, removed, inserted);
        self.send(&update).await;
        update
    }

    /// Replaces text in the replica alone.
    pub(crate) fn edit_alone(&mut self, at: u32, removed: u32, inserted: &str) -> Vec<u8> {
        let mut txn = self.doc.transact_mut();
        if removed > 0 {
            self.text.remove_range(&mut txn, at, removed);
        }
        if !inserted.is_empty() {
            self.text.insert(&mut txn, at, inserted);
        }
        txn.encode_update_v1()
    }

    /// Hands in an update; `false` if the connection has ended.
    pub(crate) async fn send(&mut self, update: &[u8]) -> bool {
        self.sent += 1;
        match &mut self.link {
            Link::Session(session, name) => {
                let frame = doc_frame(None, name, ClientDocOp::Update, Some(update.to_vec()));
                session.send(&frame).await
            }
            Link::Collab(socket) => socket.send_binary(&ysync::encode_update(update)).await,
            Link::Hocuspocus(socket, name) => {
                let frame = hocuspocus::encode_sync(name, Sync::Update(update));
                socket.send_binary(&frame).await
            }
        }
    }

    /// Sends an awareness update.
    pub(crate) async fn announce(&mut self, update: &[u8]) -> bool {
        match &mut self.link {
            Link::Session(session, name) => {
                let frame = doc_frame(None, name, ClientDocOp::Awareness, Some(update.to_vec()));
                session.send(&frame).await
            }
            Link::Collab(socket) => socket.send_binary(&ysync::encode_awareness(update)).await,
            Link::Hocuspocus(socket, name) => {
                socket
                    .send_binary(&hocuspocus::encode_awareness(name, update))
                    .await
            }
        }
    }

    /// Length of the text in UTF-16 units.
    pub(crate) fn len(&self) -> u32 {
        self.text.len(&self.doc.transact())
    }

    /// The text of the replica.
    pub(crate) fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// The state of the replica.
    pub(crate) fn update(&self) -> Vec<u8> {
        self.doc.transact().encode_diff_v1(&StateVector::default())
    }

    /// What it knows, for messages of failed tests.
    pub(crate) fn state(&self) -> String {
        format!(
            "sent {}, durable {}, refused {} {:?}, closed {:?}, ended {:?}",
            self.sent, self.durable, self.refused, self.denials, self.closed, self.ended
        )
    }

    /// Hears one thing and acts on it. Cancelling it loses nothing.
    pub(crate) async fn turn(&mut self) {
        let event = self.hear().await;
        match event {
            Event::Wanted(vector) => self.answer(&vector).await,
            Event::Synced(update) => {
                apply(&self.doc, &update);
                self.synced = true;
            }
            Event::Update(update) => {
                self.updates += 1;
                apply(&self.doc, &update);
            }
            Event::Awareness(update) => self.awareness.push(update),
            Event::Durable(n) => {
                assert!(
                    n > self.durable && n <= self.sent,
                    "durable {n}: {}",
                    self.state()
                );
                self.durable = n;
            }
            Event::Status(true) => self.durable += 1,
            Event::Status(false) => self.refused += 1,
            Event::Denied(reason) => self.denials.push(reason),
            Event::Writable(writable) => self.writable = writable,
            Event::Closed(reason) => self.closed = Some(reason),
            Event::Ended(how) => self.ended = Some(how),
            Event::Other => {}
        }
        assert!(self.durable + self.refused <= self.sent, "{}", self.state());
    }

    /// Turns for that long.
    pub(crate) async fn turn_for(&mut self, time: Duration) {
        let turns = async {
            while self.ended.is_none() {
                self.turn().await;
            }
        };
        // Ended or not: the time is what counts.
        let _ = tokio::time::timeout(time, turns).await;
    }

    /// Turns until it is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let turns = async {
            while !is_so(self) {
                assert!(self.ended.is_none(), "{what}: {}", self.state());
                self.turn().await;
            }
        };
        let done = tokio::time::timeout(super::SOON, turns).await;
        assert!(
            done.is_ok(),
            "not in time: {what}: {}; text {:?}",
            self.state(),
            self.text()
        );
    }

    /// Turns until all that it sent is acknowledged.
    pub(crate) async fn settled(&mut self) {
        self.until("all is durable", |editor| {
            editor.durable + editor.refused >= editor.sent
        })
        .await;
    }

    /// Turns until the text is that.
    pub(crate) async fn reads(&mut self, text: &str) {
        let what = format!("the text is {text:?}");
        self.until(&what, |editor| editor.text() == text).await;
    }

    /// Turns until the hub has ended it, by word or by close frame.
    pub(crate) async fn sent_off(&mut self) {
        soon("the hub ends the document for this editor", async {
            while self.ended.is_none() && self.closed.is_none() {
                self.turn().await;
            }
        })
        .await;
    }

    /// The code that the socket was closed with, once it is.
    pub(crate) async fn close_code(&mut self) -> u16 {
        soon("the hub closes the socket", async {
            while self.ended.is_none() {
                self.turn().await;
            }
        })
        .await;
        match &self.ended {
            Some(Heard::Closed(code, _)) => *code,
            _ => 1006,
        }
    }

    /// Sends what the hub lacks, as an answer to its state vector.
    async fn answer(&mut self, vector: &[u8]) {
        let vector = StateVector::decode_v1(vector).expect("a state vector of the hub");
        let lacks = self.doc.transact().encode_diff_v1(&vector);
        match &mut self.link {
            // A session answers with an update, and only if there is something to tell.
            Link::Session(..) => {
                if lacks != [0, 0] {
                    self.send(&lacks).await;
                }
            }
            Link::Collab(socket) => {
                socket.send_binary(&ysync::encode_step2(&lacks)).await;
            }
            Link::Hocuspocus(socket, name) => {
                self.sent += 1;
                socket
                    .send_binary(&hocuspocus::encode_sync(name, Sync::Step2(&lacks)))
                    .await;
            }
        }
    }

    async fn hear(&mut self) -> Event {
        match &mut self.link {
            Link::Session(session, _) => match session.read().await {
                Some(frame) => of_session(frame),
                None => Event::Ended(session.ended.clone().unwrap_or(Heard::Cut)),
            },
            Link::Collab(socket) => match socket.hear_any().await {
                Heard::Binary(bytes) => of_collab(&bytes),
                end @ (Heard::Closed(..) | Heard::Cut) => Event::Ended(end),
                _ => Event::Other,
            },
            Link::Hocuspocus(socket, _) => match socket.hear_any().await {
                Heard::Binary(bytes) => of_hocuspocus(&bytes),
                end @ (Heard::Closed(..) | Heard::Cut) => Event::Ended(end),
                _ => Event::Other,
            },
        }
    }

    /// Ends it as a client should.
    pub(crate) async fn leave(self) {
        match self.link {
            Link::Session(session, _) => session.socket.leave().await,
            Link::Collab(socket) | Link::Hocuspocus(socket, _) => socket.leave().await,
        }
    }
}

//! Coming back: each reliable message once and in order, or `reset`.
//!
//! The shadow model is the list of what the publisher had acknowledged: a reader must hold exactly
//! that, whatever was cut or stalled on the way.

use crate::world::people::workspace;
use crate::world::session::{publish, subprotocol};
use crate::world::socket::Opening;
use crate::world::{
    ClientFrame, ENCODINGS, Encoding, Person, ServerFrame, Session, TestHub, within,
};
use protocol::Position;
use protocol::frame::ResetReason;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const ROOM: &str = "room:p1/stream";

/// Settings under which a client that does not read is soon behind, and everything is kept.
pub(crate) const NARROW: &[(&str, &str)] = &[
    ("TANDEM_SESSION_QUEUE_BYTES", "16KiB"),
    ("TANDEM_CHANNELS_HISTORY_MESSAGES", "100000"),
    ("TANDEM_CHANNELS_HISTORY_BYTES", "256MiB"),
    ("TANDEM_SESSION_WRITE_TIMEOUT", "60s"),
];

fn at(epoch: &str, offset: u64) -> Option<Position> {
    Some(Position {
        epoch: epoch.to_owned(),
        offset,
    })
}

#[tokio::test]
async fn who_resumes_gets_exactly_what_was_missed() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::Json).await;
    let start = sender.follow(ROOM).await;
    for n in 1..=600_u64 {
        sender.say(ROOM, json!(n)).await;
    }
    for encoding in ENCODINGS {
        for seen in [0, 1, 250, 599, 600] {
            let mut reader = Session::open(&hub, &owner, encoding).await;
            let reply = reader.subscribe(ROOM, at(&start.epoch, seen), false).await;
            let ServerFrame::Subscribed {
                recovered,
                reset,
                offset,
                ..
            } = reply
            else {
                panic!("{reply:?}");
            };
            assert!(
                recovered && reset.is_none() && offset == seen,
                "{seen}: {reply:?}"
            );
            for n in seen + 1..=600 {
                assert_eq!(reader.message(ROOM).await, (Some(n), json!(n)));
            }
            assert!(
                reader
                    .next_within(Duration::from_millis(50))
                    .await
                    .is_none()
            );
        }
        // The same through `connect`.
        let opening = Opening::default()
            .header("authorization", format!("Bearer {}", owner.token))
            .offer(&[subprotocol(encoding)]);
        let socket = opening.open(&hub, "/ws").await.expect("an upgrade");
        let mut reader = Session::from_socket(socket, encoding);
        reader.next().await;
        let resume = BTreeMap::from([
            (ROOM.to_owned(), at(&start.epoch, 590).expect("a position")),
            (
                "room:elsewhere/x".to_owned(),
                at(&start.epoch, 1).expect("a position"),
            ),
        ]);
        let reply = reader
            .request(|id| ClientFrame::Connect {
                id,
                token: None,
                resume,
            })
            .await;
        assert!(matches!(reply, ServerFrame::Connected { .. }), "{reply:?}");
        for n in 591..=600_u64 {
            assert_eq!(reader.message(ROOM).await, (Some(n), json!(n)));
        }
        let refused = reader.pushed("the other channel is refused", |frame| {
            matches!(frame, ServerFrame::Error { id: Some(0), .. })
        });
        refused.await;
    }
}

async fn reset_of(session: &mut Session, position: Option<Position>) -> (ResetReason, Position) {
    match session.subscribe(ROOM, position, false).await {
        ServerFrame::Subscribed {
            recovered: false,
            reset: Some(reason),
            epoch,
            offset,
            ..
        } => (reason, Position { epoch, offset }),
        other => panic!("not reset: {other:?}"),
    }
}

#[tokio::test]
async fn who_cannot_be_served_is_told_why() {
    let mut hub = TestHub::start(&[("TANDEM_CHANNELS_HISTORY_MESSAGES", "10")]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::Json).await;
    let start = sender.follow(ROOM).await;
    for n in 1..=50_u64 {
        sender.say(ROOM, json!(n)).await;
    }
    let mut last = 50;
    for encoding in ENCODINGS {
        for wanted in [ResetReason::Expired, ResetReason::Ahead, ResetReason::Epoch] {
            let position = match wanted {
                ResetReason::Expired => at(&start.epoch, last - 20),
                ResetReason::Ahead => at(&start.epoch, last + 1),
                ResetReason::Epoch => at("another", last),
            };
            let mut reader = Session::open(&hub, &owner, encoding).await;
            let (told, newest) = reset_of(&mut reader, position).await;
            assert_eq!((told, Some(newest)), (wanted, at(&start.epoch, last)));
            // It goes on from there.
            last = sender.say(ROOM, json!("next")).await.offset;
            assert_eq!(reader.message(ROOM).await.0, Some(last));
        }
    }
    // Channels live in memory: a restart is another epoch.
    hub.terminate().await;
    hub.restart().await;
    let mut reader = Session::open(&hub, &owner, Encoding::Json).await;
    let (reason, newest) = reset_of(&mut reader, at(&start.epoch, 50)).await;
    assert_eq!(reason, ResetReason::Epoch);
    assert_ne!(newest.epoch, start.epoch);
}

/// What the publisher knows to be in the channel, by offset.
pub(crate) type Shadow = BTreeMap<u64, Value>;

/// Publishes `count` messages of about a KiB each, many under way at once; what was acknowledged.
pub(crate) async fn pour(hub: &TestHub, owner: &Person, count: u64, pause: Duration) -> Shadow {
    let mut sender = Session::open(hub, owner, Encoding::MsgPack).await;
    let padding = "p".repeat(1000);
    let mut shadow = Shadow::new();
    for chunk in (1..=count).collect::<Vec<_>>().chunks(50) {
        let mut waiting = BTreeMap::new();
        for n in chunk {
            let id = sender.take_id();
            let data = json!({ "n": n, "padding": padding });
            sender.send(&publish(id, ROOM, data.clone())).await;
            waiting.insert(id, data);
        }
        for (id, data) in waiting {
            let ServerFrame::Ack {
                position: Some(position),
                ..
            } = sender.reply_to(id).await
            else {
                panic!("not published");
            };
            assert!(
                shadow.insert(position.offset, data).is_none(),
                "an offset twice"
            );
        }
        tokio::time::sleep(pause).await;
    }
    shadow
}

/// A reader's own account of the channel.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) position: Option<Position>,
    pub(crate) read: Shadow,
}

impl Account {
    /// Notes a message: the next one, and no other.
    pub(crate) fn note(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message {
                offset: Some(offset),
                data,
                ..
            } => {
                let position = self.position.as_mut().expect("it is subscribed");
                assert_eq!(offset, position.offset + 1, "a gap or a double");
                position.offset = offset;
                self.read.insert(offset, data.expect("data"));
            }
            ServerFrame::Reset { .. } => {
                panic!("everything is kept, nothing may be reset: {frame:?}")
            }
            _ => {}
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.offset)
    }
}

/// Reads until `end`, cutting and stalling at random, and resuming each time.
async fn read_badly(hub: &TestHub, owner: &Person, seed: u64, end: u64, from: Position) -> Account {
    let mut random = StdRng::seed_from_u64(seed);
    let mut account = Account {
        position: Some(from),
        ..Account::default()
    };
    while account.offset() < end {
        let encoding = ENCODINGS[random.random_range(0..2)];
        let mut session = Session::open_narrow(hub, owner, encoding).await;
        let reply = session
            .subscribe(ROOM, account.position.clone(), false)
            .await;
        let resumed = matches!(
            reply,
            ServerFrame::Subscribed {
                recovered: true,
                ..
            }
        );
        assert!(resumed, "seed {seed}: {reply:?}");
        for _ in 0..random.random_range(1..6) {
            match random.random_range(0..4) {
                0 => tokio::time::sleep(Duration::from_millis(random.random_range(1..400))).await,
                _ => {
                    for _ in 0..random.random_range(1..400) {
                        if account.offset() >= end {
                            break;
                        }
                        account.note(session.next().await);
                    }
                }
            }
        }
        if random.random_bool(0.5) {
            session.socket.leave().await;
        }
    }
    account
}

/// Reads a session to its end, so that it holds nobody up.
fn drain_beside(mut session: Session) {
    tokio::spawn(async move { while session.read().await.is_some() {} });
}

#[tokio::test(flavor = "multi_thread")]
async fn random_cuts_and_stalls_lose_nothing_and_double_nothing() {
    const MESSAGES: u64 = 4000;
    let hub = TestHub::start(NARROW).await;
    let (owner, _) = workspace(&hub).await;
    // An empty channel that nobody follows is forgotten, its epoch with it: this one is followed.
    let mut follower = Session::open(&hub, &owner, Encoding::Json).await;
    let from = follower.follow(ROOM).await;
    drain_beside(follower);
    let readers = (0..4).map(|seed| read_badly(&hub, &owner, seed, MESSAGES, from.clone()));
    let all = async {
        tokio::join!(
            pour(&hub, &owner, MESSAGES, Duration::from_millis(10)),
            futures::future::join_all(readers)
        )
    };
    let (shadow, accounts) = within(Duration::from_secs(90), "all have read all", all).await;
    assert_eq!(shadow.len() as u64, MESSAGES);
    for (seed, account) in accounts.into_iter().enumerate() {
        assert!(
            account.read == shadow,
            "the reader of seed {seed} holds something else"
        );
    }
}

//! A client that stops reading: what each delivery class does about it, and that it is not cut off.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::DeliveryClass;
use protocol::frame::ResetReason;
use serde_json::json;

use crate::replay::{Account, NARROW, ROOM, pour};
use crate::world::editor::replica;
use crate::world::people::workspace;
use crate::world::session::publish_as;
use crate::world::socket::Opening;
use crate::world::{ENCODINGS, Editor, Encoding, Kind, ServerFrame, Session, TestHub, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_replayed_without_gap_or_double() {
    const MESSAGES: u64 = 10_000;
    let hub = TestHub::start(NARROW).await;
    let (owner, _) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let mut stalled = Session::open_narrow(&hub, &owner, encoding).await;
        let mut brisk = Session::open(&hub, &owner, encoding).await;
        let from = stalled.follow(ROOM).await;
        brisk.follow(ROOM).await;
        let end = from.offset + MESSAGES;
        let mut account = Account {
            position: Some(from.clone()),
            ..Account::default()
        };
        let mut other = Account {
            position: Some(from),
            ..Account::default()
        };
        let read_briskly = async {
            while other.offset() < end {
                other.note(brisk.next().await);
            }
        };
        let poured =
            async { tokio::join!(pour(&hub, &owner, MESSAGES, Duration::ZERO), read_briskly).0 };
        let shadow = within(Duration::from_secs(60), "the brisk reader has all", poured).await;
        assert!(
            other.read == shadow,
            "the brisk reader holds something else"
        );
        // Now the other one wakes up; not one of its frames was read until here.
        let catch_up = async {
            while account.offset() < end {
                account.note(stalled.next().await);
            }
        };
        within(
            Duration::from_secs(60),
            "the stalled reader has all",
            catch_up,
        )
        .await;
        assert!(
            account.read == shadow,
            "the stalled reader holds something else"
        );
        stalled.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_falls_behind_what_is_kept_is_reset_in_the_session() {
    const MESSAGES: u64 = 10_000;
    let hub = TestHub::start(&[
        ("TANDEM_SESSION_QUEUE_BYTES", "16KiB"),
        ("TANDEM_CHANNELS_HISTORY_MESSAGES", "50"),
        ("TANDEM_SESSION_WRITE_TIMEOUT", "60s"),
    ])
    .await;
    let (owner, _) = workspace(&hub).await;
    let mut stalled = Session::open_narrow(&hub, &owner, Encoding::Json).await;
    let mut position = stalled.follow(ROOM).await;
    let shadow = pour(&hub, &owner, MESSAGES, Duration::ZERO).await;
    let mut resets = 0;
    let read = async {
        while position.offset < MESSAGES {
            match stalled.next().await {
                ServerFrame::Message {
                    offset: Some(offset),
                    data,
                    ..
                } => {
                    assert_eq!(offset, position.offset + 1, "a gap without a reset");
                    assert_eq!(data.as_ref(), shadow.get(&offset));
                    position.offset = offset;
                }
                ServerFrame::Reset {
                    reason,
                    position: newest,
                    ..
                } => {
                    assert_eq!(reason, ResetReason::Expired);
                    assert!(newest.offset > position.offset, "a reset leads forward");
                    assert_eq!(newest.epoch, position.epoch);
                    position = newest;
                    resets += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    within(Duration::from_secs(30), "the newest message", read).await;
    assert!(
        resets >= 1,
        "10 MB passed a client that did not read, and it was told of no loss"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_gets_the_newest_values_and_no_backlog() {
    const VALUES: u64 = 10_000;
    let hub = TestHub::start(NARROW).await;
    let (owner, _) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let room = format!("room:p1/latest-{encoding:?}");
        let mut stalled = Session::open_narrow(&hub, &owner, encoding).await;
        stalled.follow(&room).await;
        let mut sender = Session::open(&hub, &owner, Encoding::MsgPack).await;
        let padding = "p".repeat(1000);
        for n in 1..=VALUES {
            let key = ["a", "b", "c"][n as usize % 3];
            let data = json!({ "n": n, "padding": padding });
            let id = sender.take_id();
            sender
                .send(&publish_as(
                    id,
                    &room,
                    data,
                    DeliveryClass::Latest,
                    Some(key),
                ))
                .await;
            if n % 50 == 0 {
                sender.reply_to(id).await;
            }
        }
        sender.ping().await;
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        let mut received = 0;
        let read = async {
            while newest.values().min() < Some(&(VALUES - 2)) || newest.len() < 3 {
                let ServerFrame::Message {
                    key: Some(key),
                    data,
                    version,
                    ..
                } = stalled.next().await
                else {
                    continue;
                };
                received += 1;
                let n = data.expect("data")["n"].as_u64().expect("a number");
                let before = newest.insert(key.clone(), n);
                assert!(
                    before < Some(n),
                    "an older value of {key} after a newer one"
                );
                let version = version.expect("a version");
                assert!(versions.insert(key, version) < Some(version));
            }
        };
        within(
            Duration::from_secs(30),
            "the newest value of each key",
            read,
        )
        .await;
        assert!(
            received < VALUES * 9 / 10,
            "{received} values of {VALUES}: a backlog"
        );
        stalled.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_misses_lossy_messages_and_no_reliable_one() {
    const MESSAGES: u64 = 10_000;
    let hub = TestHub::start(NARROW).await;
    let (owner, _) = workspace(&hub).await;
    let mut stalled = Session::open_narrow(&hub, &owner, Encoding::Json).await;
    let from = stalled.follow(ROOM).await;
    let mut sender = Session::open(&hub, &owner, Encoding::MsgPack).await;
    let padding = "p".repeat(1000);
    for n in 1..=MESSAGES {
        let data = json!({ "n": n, "padding": padding });
        let id = sender.take_id();
        let class = if n % 100 == 0 {
            DeliveryClass::Reliable
        } else {
            DeliveryClass::Lossy
        };
        sender.send(&publish_as(id, ROOM, data, class, None)).await;
        if n % 50 == 0 {
            sender.reply_to(id).await;
        }
    }
    let (mut reliable, mut lossy, mut last) = (from.offset, 0, 0);
    let read = async {
        while reliable < MESSAGES / 100 {
            let ServerFrame::Message { offset, data, .. } = stalled.next().await else {
                continue;
            };
            let n = data.expect("data")["n"].as_u64().expect("a number");
            match offset {
                Some(offset) => {
                    assert_eq!((offset, n), (reliable + 1, (reliable + 1) * 100));
                    reliable = offset;
                }
                None => {
                    assert!(n > last, "lossy messages out of order");
                    last = n;
                    lossy += 1;
                }
            }
        }
    };
    within(Duration::from_secs(30), "every reliable message", read).await;
    assert!(lossy > 0, "a client that has room gets lossy messages");
    assert!(
        lossy < MESSAGES * 9 / 10,
        "{lossy} lossy messages waited for a client that did not read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_that_stops_reading_is_brought_up_to_date_at_once() {
    const EDITS: usize = 6000;
    let hub = TestHub::start(NARROW).await;
    let (owner, _) = workspace(&hub).await;
    for kind in Kind::ALL {
        let name = format!("p1/stalled-{kind:?}");
        let mut writer = Editor::join(Kind::MsgPack, &hub, &owner, &name).await;
        let doc = replica();
        let mut stalled = Editor::open_by(Opening::narrow(), kind, &hub, &owner, &name, doc).await;
        stalled.until("it is in", |stalled| stalled.synced).await;
        stalled.turn_for(Duration::from_millis(50)).await;
        for n in 0..EDITS {
            // The text stays short, what passes does not.
            let removed = writer.len().saturating_sub(1000);
            let line = format!("{n} {}\n", "p".repeat(1000));
            writer.edit(0, removed, &line).await;
            if n % 100 == 0 {
                writer.settled().await;
            }
        }
        writer.settled().await;
        stalled.reads(&writer.text()).await;
        assert!(stalled.ended.is_none() && stalled.closed.is_none());
        let most = EDITS * 9 / 10;
        assert!(
            stalled.updates < most,
            "{kind:?}: {} of {EDITS} updates waited for it",
            stalled.updates
        );
        // Both ways as before.
        stalled.append("awake").await;
        writer.reads(&stalled.text()).await;
    }
}

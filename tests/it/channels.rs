//! Channels between sessions and encodings: order, offsets, resends, presence, history, delivery
//! classes. What happens to a client that comes back or falls behind is in `replay`.

use std::collections::HashSet;
use std::time::Duration;

use protocol::frame::Member;
use protocol::{Blob, DeliveryClass, Position};
use serde_json::{Value, json};

use crate::world::people::workspace;
use crate::world::session::{publish, publish_as};
use crate::world::{
    ClientFrame, ENCODINGS, Encoding, ErrorCode, ServerFrame, Session, TestHub, eventually,
};

const ROOM: &str = "room:p1/lobby";

#[tokio::test]
async fn a_message_reaches_both_encodings_with_gapless_offsets() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::MsgPack).await;
    let mut readers = Vec::new();
    for encoding in ENCODINGS {
        let mut reader = Session::open(&hub, &owner, encoding).await;
        reader.follow(ROOM).await;
        readers.push(reader);
    }
    let start = sender.follow(ROOM).await;
    for n in 0..50_u64 {
        let position = sender
            .say(ROOM, json!({ "n": n, "text": "grüße 🙂" }))
            .await;
        assert_eq!(position.epoch, start.epoch);
        assert_eq!(position.offset, start.offset + n + 1);
    }
    readers.push(sender);
    for reader in &mut readers {
        for n in 0..50_u64 {
            let (offset, data) = reader.message(ROOM).await;
            assert_eq!(offset, Some(start.offset + n + 1));
            assert_eq!(data, json!({ "n": n, "text": "grüße 🙂" }));
        }
    }
}

#[tokio::test]
async fn bytes_travel_as_bytes() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::Json).await;
    let mut reader = Session::open(&hub, &owner, Encoding::MsgPack).await;
    reader.follow(ROOM).await;
    let all: Vec<u8> = (0..=255).collect();
    let sent = all.clone();
    let ack = sender.request(|id| ClientFrame::Publish {
        id,
        channel: ROOM.to_owned(),
        data: None,
        bytes: Some(Blob::from(sent)),
        class: None,
        key: None,
        idempotency_key: None,
    });
    assert!(matches!(ack.await, ServerFrame::Ack { .. }));
    let is_message = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { .. });
    let ServerFrame::Message {
        bytes,
        data,
        from,
        time,
        ..
    } = reader.pushed("the bytes", is_message).await
    else {
        unreachable!("it was picked");
    };
    assert_eq!(bytes.expect("bytes").0.to_vec(), all);
    assert_eq!((data, from), (None, Some(owner.id.clone())));
    assert!(time.abs_diff(crate::world::now_ms()) < 60_000);

    let both = json!({ "type": "publish", "id": 8, "channel": ROOM, "data": 1, "bytes": "AA==" });
    sender.send_value(&both).await;
    assert!(matches!(
        sender.reply_to(8).await,
        ServerFrame::Error {
            code: ErrorCode::Invalid,
            ..
        }
    ));
}

#[tokio::test]
async fn a_resend_with_its_key_is_not_sent_again() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    owner.give(&hub, "p1", &other, "editor").await;
    let mut reader = Session::open(&hub, &owner, Encoding::Json).await;
    reader.follow(ROOM).await;
    let keyed = |id: u32, data: Value| ClientFrame::Publish {
        id,
        channel: ROOM.to_owned(),
        data: Some(data),
        bytes: None,
        class: None,
        key: None,
        idempotency_key: Some("k1".to_owned()),
    };
    let mut first = None;
    for attempt in 0..3 {
        // Each attempt on a session of its own, as after a lost connection.
        let mut sender = Session::open(&hub, &owner, ENCODINGS[attempt % 2]).await;
        let ServerFrame::Ack {
            position,
            duplicate,
            ..
        } = sender.request(|id| keyed(id, json!("once"))).await
        else {
            panic!("not published");
        };
        assert_eq!(duplicate, attempt > 0);
        assert_eq!(&position, first.get_or_insert_with(|| position.clone()));
    }
    // Another user's equal key is another key.
    let mut foreign = Session::open(&hub, &other, Encoding::Json).await;
    let ack = foreign.request(|id| keyed(id, json!("another"))).await;
    assert!(
        matches!(
            ack,
            ServerFrame::Ack {
                duplicate: false,
                ..
            }
        ),
        "{ack:?}"
    );
    assert_eq!(reader.message(ROOM).await.1, json!("once"));
    assert_eq!(reader.message(ROOM).await.1, json!("another"));
}

async fn members(session: &mut Session) -> Vec<Member> {
    let channel = ROOM.to_owned();
    match session
        .request(|id| ClientFrame::Presence { id, channel })
        .await
    {
        ServerFrame::Presence { joined, left, .. } => {
            assert!(left.is_empty());
            joined
        }
        other => panic!("no presence: {other:?}"),
    }
}

/// Presence as a client keeps it: whatever the hub pushed, applied.
async fn follow_presence(session: &mut Session, known: &mut Vec<Member>) -> usize {
    let mut frames = 0;
    while let Some(frame) = session.next_within(Duration::from_millis(600)).await {
        if let ServerFrame::Presence {
            id: None,
            joined,
            left,
            ..
        } = frame
        {
            frames += 1;
            known.retain(|member| {
                !left.contains(&member.session)
                    && joined.iter().all(|newer| newer.session != member.session)
            });
            known.extend(joined);
        }
    }
    frames
}

#[tokio::test]
async fn presence_tells_who_is_here_with_their_state() {
    let hub = TestHub::start(&[("TANDEM_CHANNELS_PRESENCE_INTERVAL", "200ms")]).await;
    let (owner, _) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let mut watcher = Session::open(&hub, &owner, Encoding::Json).await;
    let ServerFrame::Subscribed {
        members: Some(at_start),
        ..
    } = watcher.subscribe(ROOM, None, true).await
    else {
        panic!("no members");
    };
    assert_eq!(at_start.len(), 1, "the watcher itself: {at_start:?}");
    let mut known = at_start;
    follow_presence(&mut watcher, &mut known).await;

    let mut comers = Vec::new();
    for n in 0..20 {
        let mut comer = Session::open(&hub, &viewer, ENCODINGS[n % 2]).await;
        comer.subscribe(ROOM, None, true).await;
        for step in 0..5 {
            let data = json!({ "comer": n, "step": step });
            let channel = ROOM.to_owned();
            let ack = comer
                .request(|id| ClientFrame::State { id, channel, data })
                .await;
            assert!(matches!(ack, ServerFrame::Ack { .. }), "{ack:?}");
        }
        comers.push(comer);
    }
    let frames = follow_presence(&mut watcher, &mut known).await;
    assert!(
        frames <= 40,
        "{frames} presence frames for 120 changes: not gathered"
    );
    let mut asked = members(&mut watcher).await;
    let order = |member: &Member| member.session.clone();
    asked.sort_by_key(order);
    known.sort_by_key(order);
    assert_eq!(known, asked, "what was pushed adds up to what is so");
    assert_eq!(known.len(), 21);
    let states: HashSet<String> = known
        .iter()
        .filter_map(|member| Some(member.state.as_ref()?.to_string()))
        .collect();
    assert_eq!(states.len(), 20);
    assert!(
        states.iter().all(|state| state.contains("\"step\":4")),
        "the newest state: {states:?}"
    );

    // A plain subscriber is not seen; one may leave by word, by farewell, or by being cut off.
    let mut plain = Session::open(&hub, &viewer, Encoding::Json).await;
    plain.follow(ROOM).await;
    assert_eq!(members(&mut plain).await.len(), 21);
    let mut by_word = comers.pop().expect("a comer");
    let channel = ROOM.to_owned();
    by_word
        .request(|id| ClientFrame::Unsubscribe { id, channel })
        .await;
    comers.pop().expect("a comer").socket.leave().await;
    drop(comers);
    follow_presence(&mut watcher, &mut known).await;
    assert_eq!(known.len(), 1, "all have left: {known:?}");
    assert_eq!(members(&mut watcher).await.len(), 1);
}

#[tokio::test]
async fn a_state_can_be_cleared_and_needs_presence() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    for encoding in ENCODINGS {
        let mut session = Session::open(&hub, &owner, encoding).await;
        let set = |data: Value| {
            move |id| ClientFrame::State {
                id,
                channel: ROOM.to_owned(),
                data,
            }
        };
        let refused = session.refused(set(json!(1))).await;
        assert_eq!(refused.0, ErrorCode::NotSubscribed);
        session.subscribe(ROOM, None, true).await;
        session.request(set(json!({ "caret": 7 }))).await;
        assert_eq!(
            members(&mut session).await[0].state,
            Some(json!({ "caret": 7 }))
        );
        session.request(set(Value::Null)).await;
        assert_eq!(members(&mut session).await[0].state, None);
        session.socket.leave().await;
        let mut other = Session::open(&hub, &owner, encoding).await;
        let other = tokio::sync::Mutex::new(&mut other);
        eventually("the leaver is gone", || async {
            members(&mut **other.lock().await).await.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn history_comes_in_pages() {
    let hub = TestHub::start(&[("TANDEM_SESSION_HISTORY_PAGE", "40")]).await;
    let (owner, _) = workspace(&hub).await;
    for (room, encoding) in [
        ("room:p1/h1", Encoding::Json),
        ("room:p1/h2", Encoding::MsgPack),
    ] {
        let mut session = Session::open(&hub, &owner, encoding).await;
        for n in 1..=100 {
            session.say(room, json!(n)).await;
        }
        let (mut since, mut read, mut pages) = (None, Vec::new(), 0);
        loop {
            let (channel, from) = (room.to_owned(), since.clone());
            let page = session.request(|id| ClientFrame::History {
                id,
                channel,
                since: from,
                limit: Some(1000),
            });
            let ServerFrame::History {
                epoch,
                offset,
                messages,
                more,
                ..
            } = page.await
            else {
                panic!("no history");
            };
            assert_eq!(offset, 100, "the newest");
            assert!(messages.len() <= 40, "a page is capped");
            pages += 1;
            let last = messages.last().expect("messages").offset;
            read.extend(
                messages
                    .into_iter()
                    .map(|message| (message.offset, message.data)),
            );
            if !more {
                break;
            }
            since = Some(Position {
                epoch,
                offset: last,
            });
        }
        assert_eq!(pages, 3);
        let expected: Vec<_> = (1..=100_u64).map(|n| (n, Some(json!(n)))).collect();
        assert_eq!(read, expected);
    }
}

#[tokio::test]
async fn a_late_joiner_gets_the_newest_value_of_each_key() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut sender = Session::open(&hub, &owner, Encoding::Json).await;
    for n in 0..10 {
        for key in ["a", "b"] {
            let data = json!({ "key": key, "n": n });
            let latest = DeliveryClass::Latest;
            let ack = sender
                .request(|id| publish_as(id, ROOM, data, latest, Some(key)))
                .await;
            assert!(
                matches!(ack, ServerFrame::Ack { position: None, .. }),
                "{ack:?}"
            );
        }
    }
    let refused = sender.refused(|id| publish_as(id, ROOM, json!(1), DeliveryClass::Latest, None));
    assert_eq!(
        refused.await.0,
        ErrorCode::Invalid,
        "a value of class `latest` needs a key"
    );
    for encoding in ENCODINGS {
        let mut joiner = Session::open(&hub, &owner, encoding).await;
        joiner.follow(ROOM).await;
        let mut seen = Vec::new();
        while let Some(frame) = joiner.next_within(Duration::from_millis(500)).await {
            if let ServerFrame::Message {
                key,
                data,
                version,
                offset,
                ..
            } = frame
            {
                assert_eq!(offset, None);
                assert!(version.is_some());
                seen.push((key.expect("a key"), data.expect("data")["n"].clone()));
            }
        }
        seen.sort_by_key(|(key, _)| key.clone());
        assert_eq!(
            seen,
            [("a".to_owned(), json!(9)), ("b".to_owned(), json!(9))]
        );
    }
}

#[tokio::test]
async fn only_rooms_take_messages_from_clients() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    for channel in ["feed:me", "project:p1", &format!("doc:{document}")] {
        session.follow(channel).await;
        let refused = session.refused(|id| publish(id, channel, json!(1))).await;
        assert_eq!(refused.0, ErrorCode::Forbidden, "{channel}");
    }
    let unknown = session.subscribe("plan:none", None, false).await;
    assert!(
        matches!(
            unknown,
            ServerFrame::Error {
                code: ErrorCode::NotFound,
                ..
            }
        ),
        "{unknown:?}"
    );
}

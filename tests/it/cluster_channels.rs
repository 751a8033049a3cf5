//! Channels between nodes: one order for all, resuming elsewhere, presence, and Redis going away.

use std::time::{Duration, Instant};

use loadtest::proxy::Mode;
use protocol::Position;
use serde_json::json;

use crate::world::{
    ClientFrame, Cluster, ENCODINGS, Encoding, ErrorCode, Person, ServerFrame, Session, within,
};

const ROOM: &str = "room:p1/lobby";

/// Subscribes from a position that must be honoured.
async fn resume(session: &mut Session, position: &Position) {
    let reply = session.subscribe(ROOM, Some(position.clone()), false).await;
    assert!(
        matches!(
            reply,
            ServerFrame::Subscribed {
                recovered: true,
                ..
            }
        ),
        "{reply:?}"
    );
}

#[tokio::test]
async fn two_nodes_are_one_channel() {
    let cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    let mut sessions = Vec::new();
    for (node, encoding) in [(0, Encoding::Json), (1, Encoding::MsgPack)] {
        let mut session = Session::open(cluster.hub(node), &owner, encoding).await;
        session.follow(ROOM).await;
        sessions.push(session);
    }
    for n in 0..40_u64 {
        let sender = n as usize % 2;
        let position = sessions[sender].say(ROOM, json!({ "n": n })).await;
        assert_eq!(position.offset, n + 1, "offsets are the channel's");
    }
    for session in &mut sessions {
        for n in 0..40_u64 {
            let heard = session.message(ROOM).await;
            assert_eq!(heard, (Some(n + 1), json!({ "n": n })));
        }
    }
}

#[tokio::test]
async fn a_session_goes_on_at_another_node_where_it_was() {
    let cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    let mut sender = Session::open(cluster.hub(0), &owner, Encoding::Json).await;
    let start = sender.follow(ROOM).await;
    let mut seen = start;
    let mut said = 0;
    for round in 0..6 {
        // Each time at the other node, in the other encoding.
        let hub = cluster.hub(round % 2);
        let mut reader = Session::open(hub, &owner, ENCODINGS[round % 2]).await;
        for _ in 0..5 {
            said += 1;
            sender.say(ROOM, json!(said)).await;
        }
        resume(&mut reader, &seen).await;
        for _ in 0..5 {
            said += 1;
            sender.say(ROOM, json!(said)).await;
        }
        while seen.offset < said {
            let (offset, data) = reader.message(ROOM).await;
            assert_eq!(offset, Some(seen.offset + 1), "once and in order");
            assert_eq!(data, json!(seen.offset + 1));
            seen.offset += 1;
        }
        assert!(
            reader
                .next_within(Duration::from_millis(30))
                .await
                .is_none()
        );
        reader.socket.leave().await;
    }
}

/// Who is in the room, by the user's name and the session.
async fn members(session: &mut Session) -> Vec<String> {
    let channel = ROOM.to_owned();
    match session
        .request(|id| ClientFrame::Presence { id, channel })
        .await
    {
        ServerFrame::Presence { joined, .. } => {
            joined.into_iter().map(|member| member.session).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn wait_for_members(session: &mut Session, count: usize, most: Duration) {
    within(most, "the members of the room", async {
        while members(session).await.len() != count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_here_is_seen_everywhere_and_the_dead_are_not() {
    let mut cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    let mut watcher = Session::open(cluster.hub(0), &owner, Encoding::Json).await;
    watcher.subscribe(ROOM, None, true).await;
    let mut guests = Vec::new();
    for encoding in ENCODINGS {
        let mut guest = Session::open(cluster.hub(1), &owner, encoding).await;
        guest.subscribe(ROOM, None, true).await;
        guests.push(guest);
    }
    wait_for_members(&mut watcher, 3, Duration::from_secs(5)).await;
    assert_eq!(members(&mut guests[0]).await, members(&mut watcher).await);
    guests.pop().expect("a guest").socket.leave().await;
    wait_for_members(&mut watcher, 2, Duration::from_secs(5)).await;
    let killed = Instant::now();
    cluster.nodes[1].hub.kill9().await;
    wait_for_members(&mut watcher, 1, Duration::from_secs(16)).await;
    println!("gone {:?} after their node was killed", killed.elapsed());
    let told = watcher
        .pushed("that the last guest left", |frame| {
            matches!(frame, ServerFrame::Presence { id: None, left, .. } if !left.is_empty())
        })
        .await;
    assert!(matches!(told, ServerFrame::Presence { .. }));
}

/// Publishes until it is taken; where it stands. Refused for the moment: again, with the same key.
async fn publish_until_taken(session: &mut Session, key: &str, n: u64) -> Position {
    within(Duration::from_secs(20), "a message is taken", async {
        loop {
            let reply = session
                .request(|id| ClientFrame::Publish {
                    id,
                    channel: ROOM.to_owned(),
                    data: Some(json!(n)),
                    bytes: None,
                    class: None,
                    key: None,
                    idempotency_key: Some(key.to_owned()),
                })
                .await;
            match reply {
                ServerFrame::Ack {
                    position: Some(position),
                    ..
                } => return position,
                ServerFrame::Error {
                    code: ErrorCode::Unavailable | ErrorCode::Timeout,
                    ..
                } => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await
}

/// Hears the room until a message of that number, or until a reset if none is wanted; the numbers
/// heard, and how often it was reset.
async fn hear(session: &mut Session, last: Option<u64>) -> (Vec<u64>, usize) {
    let (mut heard, mut resets) = (Vec::new(), 0);
    loop {
        let frame = session.pushed("a message or a reset", |frame| {
            matches!(
                frame,
                ServerFrame::Message { .. } | ServerFrame::Reset { .. }
            )
        });
        match frame.await {
            ServerFrame::Message { data, .. } => {
                heard.push(data.and_then(|data| data.as_u64()).expect("a number"));
            }
            _ => resets += 1,
        }
        let is_last = last.is_some() && heard.last() == last.as_ref();
        if is_last || (last.is_none() && resets > 0) {
            return (heard, resets);
        }
    }
}

async fn outlives_redis(cluster: &mut Cluster, owner: &Person, keeps: bool) {
    let mut sender = Session::open(cluster.hub(0), owner, Encoding::Json).await;
    let mut reader = Session::open(cluster.hub(1), owner, Encoding::MsgPack).await;
    reader.follow(ROOM).await;
    for n in 1..=5 {
        publish_until_taken(&mut sender, &format!("{keeps}-{n}"), n).await;
    }
    assert_eq!(hear(&mut reader, Some(5)).await.0, [1, 2, 3, 4, 5]);
    cluster.redis.kill().await;
    if keeps {
        cluster.redis.start_again().await.expect("Redis");
    } else {
        cluster.redis.restart_empty().await.expect("Redis");
    }
    for n in 6..=10 {
        publish_until_taken(&mut sender, &format!("{keeps}-{n}"), n).await;
    }
    // Another run of the server is another epoch: a reader is told before it hears anything of it. What
    // was published until then, that word covers.
    let told = hear(&mut reader, None).await;
    assert_eq!(told, (Vec::new(), 1));
    for n in 11..=15 {
        publish_until_taken(&mut sender, &format!("{keeps}-{n}"), n).await;
    }
    let (heard, resets) = hear(&mut reader, Some(15)).await;
    let all: Vec<u64> = (6..=15).collect();
    assert!(all.ends_with(&heard) && heard.len() >= 5, "heard {heard:?}");
    assert_eq!(resets, 0, "told once");
}

#[tokio::test]
async fn a_killed_redis_loses_nothing_unsaid() {
    let mut cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    for keeps in [true, false] {
        outlives_redis(&mut cluster, &owner, keeps).await;
    }
}

#[tokio::test]
async fn a_way_to_redis_that_breaks_leaves_no_gap() {
    let cluster = Cluster::start(2).await;
    let (owner, _) = cluster.workspace().await;
    let mut sender = Session::open(cluster.hub(0), &owner, Encoding::Json).await;
    let mut reader = Session::open(cluster.hub(1), &owner, Encoding::Json).await;
    let mut seen = reader.follow(ROOM).await;
    let mut n = 0;
    for mode in [Mode::Cut, Mode::Stall, Mode::StallToClient] {
        cluster.nodes[1].redis.set(mode);
        for _ in 0..20 {
            n += 1;
            publish_until_taken(&mut sender, &n.to_string(), n).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.nodes[1].heal();
        // A node that can't replay now may send its sessions away; they come back with what they have.
        within(Duration::from_secs(20), "everything is heard", async {
            while seen.offset < n {
                match reader.read().await {
                    Some(ServerFrame::Message { offset, data, .. }) => {
                        assert_eq!(offset, Some(seen.offset + 1), "{mode:?}: once and in order");
                        seen.offset += 1;
                        assert_eq!(data, Some(json!(seen.offset)), "{mode:?}");
                    }
                    Some(other) => panic!("{mode:?}: {other:?}"),
                    None => reader = come_back(&cluster, &owner, &seen).await,
                }
            }
        })
        .await;
    }
}

/// A new session on the second node that goes on from a position, as soon as the node can serve it.
async fn come_back(cluster: &Cluster, owner: &Person, seen: &Position) -> Session {
    loop {
        let mut session = Session::open(cluster.hub(1), owner, Encoding::MsgPack).await;
        match session.subscribe(ROOM, Some(seen.clone()), false).await {
            ServerFrame::Subscribed {
                recovered: true, ..
            } => return session,
            ServerFrame::Error {
                code: ErrorCode::Unavailable,
                ..
            } => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
}

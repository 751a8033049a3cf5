//! P2 without a WebSocket: streams and polls see each reliable message once, in order, on any node, or are told
//! `reset`; a client goes from one transport to another and loses nothing.

use std::time::Duration;

use protocol::{DeliveryClass, Position};
use serde_json::{Value, json};
use yrs::updates::decoder::Decode as _;
use yrs::{GetString as _, ReadTxn as _, Transact as _, Update};

use crate::world::fallback::{Events, Poller, resume};
use crate::world::people::{ask, workspace};
use crate::world::session::publish_as;
use crate::world::{Cluster, Editor, Encoding, Kind, ServerFrame, Session, TestHub, within};

const ROOM: &str = "room:p1/lobby";

/// What a client has seen of the room, and that it is gapless.
#[derive(Default)]
struct Seen {
    position: Option<Position>,
    count: u64,
}

impl Seen {
    fn started(&mut self, epoch: &str, offset: u64) {
        match &self.position {
            // Where it stood, or not at all.
            Some(position) => assert_eq!((&*position.epoch, position.offset), (epoch, offset)),
            None => {
                self.position = Some(Position {
                    epoch: epoch.to_owned(),
                    offset,
                });
            }
        }
    }

    fn message(&mut self, offset: u64, n: u64) {
        let position = self.position.as_mut().expect("a start before messages");
        assert_eq!(offset, position.offset + 1, "once and in order");
        assert_eq!(n, self.count, "once and in order");
        position.offset = offset;
        self.count += 1;
    }

    fn frame(&mut self, frame: &Value) {
        match frame["type"].as_str().expect("a type") {
            "subscribed" => {
                assert!(frame["reset"].is_null(), "{frame}");
                let epoch = frame["epoch"].as_str().expect("an epoch");
                self.started(epoch, frame["offset"].as_u64().expect("an offset"));
            }
            "message" => {
                let offset = frame["offset"].as_u64().expect("an offset");
                self.message(offset, frame["data"]["n"].as_u64().expect("a number"));
            }
            "connected" => {}
            _ => panic!("{frame}"),
        }
    }
}

/// Reads some messages on a WebSocket, from where the client stands.
async fn by_socket(
    cluster: &Cluster,
    node: usize,
    who: &crate::world::Person,
    seen: &mut Seen,
    most: u64,
) {
    let mut session = Session::open(cluster.hub(node), who, Encoding::MsgPack).await;
    let reply = session.subscribe(ROOM, seen.position.clone(), false).await;
    let ServerFrame::Subscribed {
        epoch,
        offset,
        reset: None,
        ..
    } = reply
    else {
        panic!("{reply:?}");
    };
    seen.started(&epoch, offset);
    let until = seen.count + most;
    while seen.count < until {
        let (offset, data) = session.message(ROOM).await;
        seen.message(
            offset.expect("reliable"),
            data["n"].as_u64().expect("a number"),
        );
    }
    // Cut, not closed: what was on its way is lost with it.
    drop(session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_between_transports_and_nodes_during_ten_thousand_messages() {
    const MESSAGES: u64 = 10_000;
    let cluster = Cluster::start_with(
        2,
        false,
        &[
            ("TANDEM_CHANNELS_HISTORY_MESSAGES", "20000"),
            ("TANDEM_CHANNELS_HISTORY_BYTES", "64MiB"),
        ],
    )
    .await;
    let (owner, _) = cluster.workspace().await;
    let mut seen = Seen::default();
    by_socket(&cluster, 0, &owner, &mut seen, 0).await;
    let mut writer = Session::open(cluster.hub(1), &owner, Encoding::Json).await;
    let writing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            writer.say(ROOM, json!({ "n": n })).await;
        }
    });
    let query = format!("channels={ROOM}");
    let all = async {
        let mut round = 0;
        while seen.count < MESSAGES {
            let left = MESSAGES - seen.count;
            by_socket(&cluster, round % 2, &owner, &mut seen, left.min(700)).await;
            // The stream goes on from the socket's position, at the other node.
            let position = seen.position.clone().expect("a position");
            let from = format!("{query}&{}", resume(ROOM, &position));
            let mut events = Events::open(cluster.hub((round + 1) % 2), &owner, &from, None).await;
            let until = (seen.count + 300).min(MESSAGES);
            while seen.count < until {
                seen.frame(&events.next().await.expect("a frame"));
            }
            // It is cut, and comes back at another node as a browser would.
            let Some(last) = events.last.clone() else {
                break;
            };
            drop(events);
            let mut events =
                Events::open(cluster.hub(round % 2), &owner, &query, Some(&last)).await;
            let until = (seen.count + 300).min(MESSAGES);
            while seen.count < until {
                seen.frame(&events.next().await.expect("a frame"));
            }
            let mut poller = Poller::new(&query, events.last.clone());
            drop(events);
            let until = (seen.count + 300).min(MESSAGES);
            while seen.count < until {
                round += 1;
                for frame in poller.poll(cluster.hub(round % 2), &owner, 10).await {
                    seen.frame(&frame);
                }
            }
            round += 1;
        }
    };
    within(Duration::from_secs(150), "ten thousand messages", all).await;
    writing.await.expect("the writer");
    assert_eq!(seen.count, MESSAGES);
}

#[tokio::test]
async fn a_poll_waits_for_news_and_tells_where_to_go_on() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let mut poller = Poller::new(&format!("channels={ROOM},feed:me"), None);
    let first = poller.poll(&hub, &owner, 20).await;
    let kinds: Vec<_> = first.iter().map(|frame| frame["type"].as_str()).collect();
    assert_eq!(kinds, [Some("subscribed"); 2], "the first answers at once");
    assert!(poller.poll(&hub, &owner, 0).await.is_empty());
    let (frames, ()) = tokio::join!(poller.poll(&hub, &owner, 20), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        session.say(ROOM, json!("news")).await;
    });
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["data"], "news");
    assert!(poller.poll(&hub, &owner, 0).await.is_empty(), "once");
}

#[tokio::test]
async fn latest_values_come_once_to_who_polls_and_to_who_streams() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let latest = |key: &'static str, value: u64| {
        move |id| publish_as(id, ROOM, json!(value), DeliveryClass::Latest, Some(key))
    };
    session.request(latest("a", 1)).await;
    session.request(latest("b", 2)).await;
    let query = format!("channels={ROOM}");
    let mut poller = Poller::new(&query, None);
    let values = |frames: &[Value]| {
        let messages = frames.iter().filter(|frame| frame["type"] == "message");
        let mut all: Vec<u64> = messages
            .filter_map(|frame| frame["data"].as_u64())
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(values(&poller.poll(&hub, &owner, 5).await), [1, 2]);
    assert_eq!(values(&poller.poll(&hub, &owner, 0).await), [0_u64; 0]);
    session.request(latest("a", 3)).await;
    assert_eq!(values(&poller.poll(&hub, &owner, 5).await), [3]);
    let mut events = Events::open(&hub, &owner, &query, poller.cursor.as_deref()).await;
    session.request(latest("b", 4)).await;
    assert_eq!(events.next_of("message").await["data"], 4);
    let last = events.last.clone();
    drop(events);
    let mut events = Events::open(&hub, &owner, &query, last.as_deref()).await;
    session.request(latest("a", 5)).await;
    assert_eq!(
        events.next_of("message").await["data"],
        5,
        "4 is not told again"
    );
}

#[tokio::test]
async fn what_is_lost_is_told_as_a_reset() {
    let hub = TestHub::start(&[("TANDEM_CHANNELS_HISTORY_MESSAGES", "10")]).await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let query = format!("channels={ROOM}");
    let mut poller = Poller::new(&query, None);
    poller.poll(&hub, &owner, 5).await;
    for n in 0..30 {
        session.say(ROOM, json!(n)).await;
    }
    let cursor = poller.cursor.clone();
    let frames = poller.poll(&hub, &owner, 5).await;
    assert_eq!(frames[0]["type"], "subscribed");
    assert_eq!(frames[0]["reset"], "expired");
    assert_eq!(frames[0]["offset"], 30);
    let mut events = Events::open(&hub, &owner, &query, cursor.as_deref()).await;
    assert_eq!(events.next_of("subscribed").await["reset"], "expired");
    session.say(ROOM, json!("next")).await;
    assert_eq!(events.next_of("message").await["offset"], 31);
}

/// What a followed document's frames make.
fn text_of(frames: &[Value]) -> String {
    let doc = yrs::Doc::new();
    let text = doc.get_or_insert_text("text");
    for frame in frames.iter().filter(|frame| frame["type"] == "doc") {
        use base64::Engine as _;
        let Some(data) = frame["data"].as_str() else {
            continue;
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data)
            .expect("base64");
        let update = Update::decode_v1(&bytes).expect("an update");
        doc.transact_mut().apply_update(update).expect("it applies");
    }
    let read = doc.transact();
    assert!(
        read.store().pending_update().is_none(),
        "nothing is missing"
    );
    text.get_string(&read)
}

#[tokio::test]
async fn a_document_streams_from_its_log_on_another_node_and_through_a_cut() {
    let cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut editor = Editor::join(Kind::ALL[0], cluster.hub(0), &owner, &document).await;
    editor.append("before ").await;
    editor.settled().await;
    let query = format!("documents={document}");
    let mut events = Events::open(cluster.hub(1), &owner, &query, None).await;
    let mut frames = vec![events.next_of("doc").await];
    assert_eq!(frames[0]["op"], "sync");
    editor.append("live ").await;
    while text_of(&frames) != "before live " {
        frames.push(events.next_of("doc").await);
    }
    let last = events.last.clone();
    drop(events);
    editor.append("missed ").await;
    editor.settled().await;
    let mut poller = Poller::new(&query, last);
    while text_of(&frames) != "before live missed " {
        let more = poller.poll(cluster.hub(0), &owner, 10).await;
        assert!(
            more.iter().all(|frame| frame["op"] == "update"),
            "from where it was: {more:?}"
        );
        frames.extend(more);
    }
    assert!(poller.poll(cluster.hub(1), &owner, 0).await.is_empty());
    // Deleted: who follows it is told.
    let mut events = Events::open(cluster.hub(1), &owner, &query, None).await;
    events.next_of("doc").await;
    owner
        .delete(cluster.hub(0), &format!("/api/documents/{document}"))
        .await
        .expect(204);
    assert_eq!(events.next_of("doc").await["op"], "closed");
}

#[tokio::test]
async fn rights_and_tokens_end_a_stream() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let guest = hub.person("guest").await;
    owner.give(&hub, "p1", &guest, "viewer").await;
    let query = format!("channels={ROOM},feed:me&documents={document}");
    let mut events = Events::open(&hub, &guest, &query, None).await;
    events.next_of("doc").await;
    owner.remove(&hub, "p1", &guest).await;
    let (mut channel, mut closed) = (false, false);
    while !(channel && closed) {
        let frame = events.next().await.expect("the feed goes on");
        channel |= frame["type"] == "revoked" && frame["channel"] == ROOM;
        closed |= frame["type"] == "doc" && frame["op"] == "closed";
    }
    // What is no longer allowed is refused at the next request, by name.
    let path = format!("/api/poll?{query}");
    let refused = ask(&hub, Some(&guest.token), reqwest::Method::GET, &path, None)
        .await
        .expect(404);
    assert!(
        refused.json()["detail"]
            .as_str()
            .expect("a detail")
            .contains(ROOM)
    );
    guest
        .post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    let end = events.next_of("closed").await;
    assert_eq!(
        (&end["code"], &end["reconnect"]),
        (&json!(4410), &json!(false))
    );
    assert!(events.next().await.is_none() && events.ended);
}

#[tokio::test]
async fn a_token_that_runs_out_ends_a_stream_at_the_second() {
    let hub = TestHub::start(&[("TANDEM_AUTH_ACCESS_TTL", "5s")]).await;
    let owner = hub.person("owner").await;
    let mut events = Events::open(&hub, &owner, "channels=feed:me", None).await;
    assert!(
        events.next_of("expiring").await["in_ms"]
            .as_u64()
            .expect("a time")
            <= 5000
    );
    let end = events.next_of("closed").await;
    assert_eq!(
        (&end["code"], &end["reconnect"]),
        (&json!(4501), &json!(true))
    );
}

#[tokio::test]
async fn a_node_that_leaves_sends_its_streams_away() {
    let mut hub = TestHub::start(&[("TANDEM_SHUTDOWN_RECONNECT_SPREAD", "1s")]).await;
    let (owner, _) = workspace(&hub).await;
    let query = format!("channels={ROOM}");
    let mut events = Events::open(&hub, &owner, &query, None).await;
    events.next_of("subscribed").await;
    let leaving = tokio::spawn(async move {
        hub.terminate().await;
        hub
    });
    let away = events.next_of("reconnect").await;
    assert!(away["after_ms"].as_u64().expect("a time") <= 1000);
    assert_eq!(events.next_of("closed").await["code"], 4503);
    assert!(events.next().await.is_none());
    leaving.await.expect("it leaves");
}

#[tokio::test]
async fn wrong_questions_are_named() {
    let hub = TestHub::start(&[("TANDEM_SESSION_CHANNELS", "40")]).await;
    let (owner, _) = workspace(&hub).await;
    let many: Vec<String> = (0..41).map(|n| format!("room:p1/{n}")).collect();
    let long: Vec<String> = (0..40)
        .map(|n| format!("room:p1/{}{n}", "x".repeat(120)))
        .collect();
    let rows = [
        ("", 422, "channels"),
        ("channels=nonsense", 422, "channels"),
        ("channels=feed:somebody", 422, "channels"),
        ("channels=feed:me,feed:me", 422, "channels"),
        ("channels=feed:me&cursor=%25", 422, "cursor"),
        ("channels=feed:me&resume=x", 422, "resume"),
        ("channels=feed:me&presence=room:p1/x", 422, "presence"),
        ("channels=room:p9/x", 404, ""),
        ("documents=nowhere", 404, ""),
    ];
    for (query, status, field) in rows {
        for endpoint in ["stream", "poll"] {
            let path = format!("/api/{endpoint}?{query}");
            let answer = ask(&hub, Some(&owner.token), reqwest::Method::GET, &path, None).await;
            let answer = answer.expect(status).json();
            if !field.is_empty() {
                assert_eq!(answer["errors"][0]["field"], field, "{path}: {answer}");
            }
        }
    }
    for names in [many, long] {
        let path = format!("/api/poll?channels={}", names.join(","));
        let answer = ask(&hub, Some(&owner.token), reqwest::Method::GET, &path, None).await;
        assert_eq!(answer.expect(409).json()["code"], "limit_reached");
    }
    let nobody = ask(
        &hub,
        None,
        reqwest::Method::GET,
        "/api/stream?channels=feed:me",
        None,
    )
    .await;
    nobody.expect(401);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_caught_up_and_harms_nobody() {
    let hub = TestHub::start(&[
        ("TANDEM_SESSION_QUEUE_BYTES", "64KiB"),
        ("TANDEM_CHANNELS_HISTORY_MESSAGES", "20000"),
        ("TANDEM_CHANNELS_HISTORY_BYTES", "64MiB"),
    ])
    .await;
    let (owner, _) = workspace(&hub).await;
    let mut session = Session::open(&hub, &owner, Encoding::Json).await;
    let mut slow = Events::open(&hub, &owner, &format!("channels={ROOM}"), None).await;
    slow.next_of("subscribed").await;
    let filler = "x".repeat(2000);
    for n in 0..3000_u64 {
        session.say(ROOM, json!({ "n": n, "filler": filler })).await;
    }
    for n in 0..3000_u64 {
        let frame = slow.next_of("message").await;
        assert_eq!(
            (frame["offset"].as_u64(), frame["data"]["n"].as_u64()),
            (Some(n + 1), Some(n))
        );
    }
    assert!(slow.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn the_probe_comes_in_pieces() {
    let hub = TestHub::start(&[]).await;
    let answer = reqwest::get(hub.url("/api/stream/probe")).await;
    let mut answer = answer.expect("an answer");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    assert!(answer.headers().get("content-encoding").is_none());
    let began = std::time::Instant::now();
    let mut times = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("a chunk") {
        let events = String::from_utf8_lossy(&chunk).matches("data: ").count();
        times.extend(std::iter::repeat_n(began.elapsed(), events));
    }
    assert_eq!(times.len(), 5);
    assert!(
        times[4] - times[0] >= Duration::from_millis(700),
        "{times:?}"
    );
}

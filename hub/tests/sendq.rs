//! What the send queue promises of each delivery class at its bound, one thread at a time. Its
//! interleavings are modelled in `sendq_model.rs`.

#![allow(missing_docs, reason = "a test")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hub::sendq::{Frame, Missed, Notice, Pushed, SendQueue, Taken};

const LIMIT: usize = 10_000;

fn frame(len: usize) -> Frame {
    Arc::from(vec![b'x'; len])
}

fn key(name: &str) -> Arc<str> {
    name.into()
}

/// What the consumer finds now; nothing if it would wait.
fn poll(queue: &SendQueue, room: usize, notices: bool) -> Option<(Taken, Vec<Frame>)> {
    let mut frames = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    match queue.poll_take(&mut cx, room, notices, &mut |frame| frames.push(frame)) {
        Poll::Ready(taken) => Some((taken, frames)),
        Poll::Pending => None,
    }
}

/// The lengths of the frames that wait, up to a notice or the end.
fn lengths(queue: &SendQueue) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((Taken::Frames, frames)) = poll(queue, LIMIT, false) {
        lengths.extend(frames.iter().map(|frame| frame.len()));
    }
    lengths
}

fn notice(queue: &SendQueue) -> Option<Notice> {
    match poll(queue, LIMIT, true) {
        Some((Taken::Notice(notice), frames)) if frames.is_empty() => Some(notice),
        _ => None,
    }
}

fn closed(queue: &SendQueue) -> Option<u16> {
    match poll(queue, LIMIT, true) {
        Some((Taken::Closed(code, _), _)) => Some(code),
        _ => None,
    }
}

#[test]
fn frames_leave_in_order_and_by_the_room_there_is() {
    let queue = SendQueue::new(LIMIT);
    for len in [10, 20, 5000, 1] {
        queue.reply(frame(len));
    }
    let take = |room| {
        let (taken, frames) = poll(&queue, room, true).unwrap();
        assert_eq!(taken, Taken::Frames);
        frames.iter().map(|frame| frame.len()).collect::<Vec<_>>()
    };
    assert_eq!(take(30), [10, 20]);
    // One that is larger than the room goes alone.
    assert_eq!(take(30), [5000]);
    assert_eq!(take(30), [1]);
    assert_eq!(poll(&queue, 30, true), None);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_place_counts_beside_its_bytes() {
    let queue = SendQueue::new(LIMIT);
    let mut queued = 0;
    while queue.lossy(&frame(2)) == Pushed::Queued {
        queued += 1;
    }
    assert!((50..LIMIT / 32).contains(&queued), "{queued}");
    assert!(queue.bytes() <= LIMIT);
}

#[test]
fn each_bounded_class_is_left_out_at_the_bound() {
    let queue = SendQueue::new(LIMIT);
    queue.reply(frame(LIMIT));
    assert!(queue.is_full());
    assert_eq!(queue.lossy(&frame(1)), Pushed::LeftOut);
    assert_eq!(queue.reliable(1, 5, &frame(1)), Pushed::LeftOut);
    assert_eq!(queue.document(2, &frame(1)), Pushed::LeftOut);
    assert_eq!(queue.latest(3, &key("k"), 1, &frame(1)), Pushed::LeftOut);
    assert_eq!(lengths(&queue), [LIMIT]);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert_eq!(queue.behind(1), Some(4));
    assert_eq!(notice(&queue), Some(Notice::CatchUp(2)));
    assert_eq!(notice(&queue), Some(Notice::CatchUp(3)));
    // It lost nothing reliable.
    assert_eq!(queue.behind(3), None);
    assert_eq!(queue.missed(3), Some(Missed::Keys(vec![key("k")])));
    assert_eq!(queue.missed(3), None);
    assert_eq!(notice(&queue), None);
}

#[test]
fn an_empty_queue_has_room_for_one_frame_of_any_size() {
    type Push = fn(&SendQueue, &Frame) -> Pushed;
    let pushes: [Push; 4] = [
        |queue, frame| queue.lossy(frame),
        |queue, frame| queue.reliable(1, 1, frame),
        |queue, frame| queue.document(1, frame),
        |queue, frame| queue.latest(1, &"k".into(), 1, frame),
    ];
    for push in pushes {
        let queue = SendQueue::new(LIMIT);
        assert_eq!(push(&queue, &frame(3 * LIMIT)), Pushed::Queued);
        assert!(queue.is_full());
        assert_eq!(queue.lossy(&frame(1)), Pushed::LeftOut);
        assert_eq!(lengths(&queue), [3 * LIMIT]);
        assert_eq!(queue.bytes(), 0);
    }
}

#[test]
fn an_overflow_takes_out_the_stream_that_overflows_and_no_other() {
    let queue = SendQueue::new(LIMIT);
    assert_eq!(queue.reliable(1, 41, &frame(100)), Pushed::Queued);
    assert_eq!(queue.reliable(2, 7, &frame(200)), Pushed::Queued);
    assert_eq!(queue.reliable(1, 42, &frame(300)), Pushed::Queued);
    assert_eq!(queue.reliable(1, 43, &frame(LIMIT)), Pushed::LeftOut);
    assert_eq!(queue.reliable(1, 44, &frame(1)), Pushed::LeftOut);
    assert_eq!(lengths(&queue), [200]);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    // From before the first that was taken out.
    assert_eq!(queue.behind(1), Some(40));
    assert!(!queue.caught_up(1, 43), "44 was left out meanwhile");
    assert_eq!(queue.behind(1), Some(43));
    assert!(queue.caught_up(1, 44));
    assert_eq!(queue.reliable(1, 45, &frame(1)), Pushed::Queued);
}

#[test]
fn a_document_gives_way_as_a_whole() {
    let queue = SendQueue::new(LIMIT);
    for len in [1, 2, 3] {
        assert_eq!(queue.document(1, &frame(len)), Pushed::Queued);
    }
    assert_eq!(queue.document(2, &frame(9)), Pushed::Queued);
    assert_eq!(queue.document(1, &frame(LIMIT)), Pushed::LeftOut);
    assert_eq!(queue.document(1, &frame(4)), Pushed::LeftOut);
    assert_eq!(lengths(&queue), [9]);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert!(queue.caught_up(1, 0));
    assert_eq!(queue.document(1, &frame(5)), Pushed::Queued);
}

#[test]
fn of_a_key_only_the_newest_value_waits_where_the_first_stood() {
    let queue = SendQueue::new(LIMIT);
    queue.latest(1, &key("a"), 1, &frame(10));
    queue.reply(frame(1));
    queue.latest(1, &key("b"), 2, &frame(20));
    queue.latest(1, &key("a"), 4, &frame(40));
    // Late, and of another stream's key.
    queue.latest(1, &key("a"), 3, &frame(30));
    queue.latest(2, &key("a"), 1, &frame(50));
    assert_eq!(lengths(&queue), [40, 1, 20, 50]);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_value_that_grows_past_the_bound_gives_way_to_a_catch_up() {
    let queue = SendQueue::new(LIMIT);
    for name in 0..10u64 {
        queue.latest(1, &key(&name.to_string()), name, &frame(10));
    }
    for name in 0..10u64 {
        queue.latest(1, &key(&name.to_string()), 10 + name, &frame(LIMIT / 4));
        assert!(queue.bytes() <= LIMIT);
    }
    assert_eq!(lengths(&queue), [LIMIT / 4; 3]);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    let Some(Missed::Keys(missed)) = queue.missed(1) else {
        panic!("keys were left out");
    };
    assert_eq!(missed.len(), 7);
    assert_eq!(queue.bytes(), 0);
}

/// A replay that finds no room goes on with what it had to leave out, and so comes to an end.
#[test]
fn a_replay_of_values_larger_than_the_queue_ends() {
    let queue = SendQueue::new(LIMIT);
    let values: Vec<Arc<str>> = (0..20).map(|name| key(&name.to_string())).collect();
    queue.hold(1);
    queue.catch_up_from(1, 0);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert!(queue.caught_up(1, 0));
    let (mut sent, mut rounds) = (0, 0);
    while let Some(missed) = queue.missed(1) {
        rounds += 1;
        for value in &values {
            let wanted = match &missed {
                Missed::All => true,
                Missed::Keys(keys) => keys.contains(value),
            };
            if wanted {
                queue.latest(1, value, 1, &frame(LIMIT / 4));
            }
        }
        sent += lengths(&queue).len();
        let expected = (sent < values.len()).then_some(Notice::CatchUp(1));
        assert_eq!(notice(&queue), expected);
    }
    assert_eq!(sent, values.len());
    assert_eq!(rounds, 7);
}

#[test]
fn a_forgotten_stream_leaves_nothing() {
    let queue = SendQueue::new(LIMIT);
    queue.reliable(1, 1, &frame(10));
    queue.document(1, &frame(20));
    queue.latest(1, &key("k"), 1, &frame(30));
    queue.reliable(2, 1, &frame(40));
    queue.latest(2, &key("k"), 1, &frame(50));
    // Both fall behind.
    queue.reliable(1, 2, &frame(LIMIT));
    queue.latest(1, &key("l"), 1, &frame(LIMIT));
    queue.hold(3);
    queue.catch_up_from(3, 5);
    queue.forget(1);
    queue.forget(3);
    assert_eq!(lengths(&queue), [40, 50]);
    assert_eq!(notice(&queue), None);
    assert_eq!((queue.behind(1), queue.missed(1)), (None, None));
    assert_eq!((queue.behind(3), queue.missed(3)), (None, None));
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.reliable(1, 9, &frame(1)), Pushed::Queued);
}

#[test]
fn replies_pass_the_bound_until_the_client_is_given_up_as_slow() {
    let queue = SendQueue::new(LIMIT);
    let mut queued = 0;
    while closed_now(&queue).is_none() {
        queue.reply(frame(1000));
        queued += 1;
        assert!(queued < 200);
    }
    assert!((60..100).contains(&queued), "{queued}");
    assert_eq!(queue.bytes(), 0);
    assert_eq!(closed(&queue), Some(protocol::CloseCode::Slow.code()));
    queue.reply(frame(1));
    assert_eq!(queue.bytes(), 0);
}

/// Whether the queue refuses everything.
fn closed_now(queue: &SendQueue) -> Option<()> {
    let before = queue.bytes();
    (before == 0 && closed(queue).is_some()).then_some(())
}

/// Two documents of many limits each are not a slow client: it may be loading them.
#[test]
fn large_replies_are_not_a_slow_client() {
    let queue = SendQueue::new(LIMIT);
    for _ in 0..2 {
        queue.reply(frame(10 * LIMIT));
    }
    for _ in 0..10 {
        queue.reply(frame(100));
    }
    assert_eq!(lengths(&queue).len(), 12);
    assert_eq!(closed(&queue), None);
}

#[test]
fn a_close_comes_after_what_is_queued_and_the_first_code_stays() {
    let queue = SendQueue::new(LIMIT);
    queue.reply(frame(1));
    queue.hold(1);
    queue.catch_up_from(1, 0);
    queue.reply(frame(2));
    queue.close(4000, "first");
    queue.close(4001, "second");
    queue.reply(frame(3));
    assert_eq!(queue.lossy(&frame(3)), Pushed::LeftOut);
    assert_eq!(queue.reliable(2, 1, &frame(3)), Pushed::LeftOut);
    assert_eq!(queue.document(3, &frame(3)), Pushed::LeftOut);
    assert_eq!(queue.latest(4, &key("k"), 1, &frame(3)), Pushed::LeftOut);
    queue.catch_up_from(1, 0);
    // No catch-up: nothing that it would queue is sent any more.
    assert_eq!(lengths(&queue), [1, 2]);
    assert_eq!(closed(&queue), Some(4000));
    assert_eq!(closed(&queue), Some(4000));
}

#[test]
fn a_recheck_overtakes_and_a_busy_consumer_gets_frames_only() {
    let queue = SendQueue::new(LIMIT);
    queue.reply(frame(1));
    queue.hold(1);
    queue.catch_up_from(1, 0);
    queue.reply(frame(2));
    queue.recheck();
    queue.recheck();
    assert_eq!(lengths(&queue), [1]);
    assert_eq!(poll(&queue, LIMIT, false), None, "a notice holds back");
    assert_eq!(notice(&queue), Some(Notice::Recheck));
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert_eq!(lengths(&queue), [2]);
}

#[test]
fn orders_come_after_a_recheck_and_before_what_is_queued() {
    let queue = SendQueue::new(LIMIT);
    queue.reply(frame(1));
    queue.bring_orders();
    queue.bring_orders();
    queue.recheck();
    assert_eq!(lengths(&queue), [1], "a busy session gets frames only");
    queue.reply(frame(1));
    assert_eq!(notice(&queue), Some(Notice::Recheck));
    assert_eq!(notice(&queue), Some(Notice::Orders));
    assert_eq!(lengths(&queue), [1]);
    queue.close(4000, "bye");
    queue.bring_orders();
    assert_eq!(
        closed(&queue),
        Some(4000),
        "nobody carries them out any more"
    );
}

#[test]
fn a_held_stream_takes_nothing_until_it_begins() {
    let queue = SendQueue::new(LIMIT);
    queue.hold(1);
    assert_eq!(queue.reliable(1, 8, &frame(1)), Pushed::LeftOut);
    assert_eq!(notice(&queue), None);
    queue.catch_up_from(1, 6);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert_eq!(queue.behind(1), Some(6));
    assert!(!queue.caught_up(1, 7));
    assert!(queue.caught_up(1, 8));
    assert_eq!(queue.missed(1), Some(Missed::All));
}

#[test]
fn a_broken_channel_goes_on_from_history_whatever_was_left_out_before() {
    let queue = SendQueue::new(1000);
    queue.reliable(1, 7, &frame(1));
    queue.interrupt(1, 7);
    // Messages of the new epoch wait for the catch-up, behind what was queued.
    assert_eq!(queue.reliable(1, 1, &frame(1)), Pushed::LeftOut);
    assert_eq!(lengths(&queue), [1]);
    assert_eq!(notice(&queue), Some(Notice::CatchUp(1)));
    assert_eq!(queue.behind(1), Some(7));
    assert!(queue.caught_up(1, 1));
    assert_eq!(queue.reliable(1, 2, &frame(1)), Pushed::Queued);
}

#[test]
fn a_break_during_a_catch_up_makes_it_look_again() {
    let queue = SendQueue::new(10);
    for offset in 1..=500 {
        queue.reliable(1, offset, &frame(8));
    }
    assert!(queue.behind(1).is_some());
    queue.interrupt(1, 500);
    // The page that was read before the break may be of an epoch that is over.
    assert!(!queue.caught_up(1, 500));
    assert_eq!(queue.behind(1), Some(500));
    // In the new epoch small offsets are new: the old ones' size must not hold the stream back.
    queue.reliable(1, 3, &frame(1));
    assert!(!queue.caught_up(1, 2));
    assert!(queue.caught_up(1, 3));
}

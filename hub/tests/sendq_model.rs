//! The send queue under loom: every interleaving, within a bound on preemptions, of producers that
//! push and the consumer that takes.
//!
//! The queue's own source is taken in, with loom's lock in the place of the real one, so that what is
//! modelled is what runs. What one thread alone does is tested in `sendq.rs`.

#![allow(missing_docs, reason = "a test")]

use std::future::poll_fn;
use std::sync::Arc;

use loom::thread;

use sendq::{Frame, Notice, Pushed, SendQueue, Taken};

/// What `crate::sync` is to the queue's source.
mod sync {
    pub(crate) use loom::sync::Mutex;
}

#[allow(dead_code, unreachable_pub, reason = "not all of it is modelled")]
#[path = "../src/sendq.rs"]
mod sendq;

/// As long as a preemption bound of three stays within seconds.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

fn frame(bytes: &[u8]) -> Frame {
    Arc::from(bytes)
}

/// Room for `count` frames of one byte: each is counted with its place.
fn room(count: usize) -> usize {
    let probe = SendQueue::new(0);
    probe.reply(frame(b"x"));
    probe.bytes() * count
}

/// The consumer: waits for what comes next, as the connection's task does.
fn take(queue: &SendQueue) -> (Taken, Vec<Frame>) {
    let mut frames = Vec::new();
    let taken = loom::future::block_on(poll_fn(|cx| {
        queue.poll_take(cx, 2, true, &mut |frame| frames.push(frame))
    }));
    (taken, frames)
}

/// A lost wake-up would leave the consumer waiting for good, which loom reports as a deadlock.
#[test]
fn nothing_is_lost_doubled_or_reordered_and_the_close_comes_last() {
    model(|| {
        let queue = Arc::new(SendQueue::new(room(8)));
        let producers: Vec<_> = [b'a', b'b']
            .into_iter()
            .map(|name| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    queue.reply(frame(&[name, 1]));
                    assert_eq!(queue.lossy(&frame(&[name, 2])), Pushed::Queued);
                })
            })
            .collect();
        let mut got: Vec<Vec<u8>> = Vec::new();
        while got.len() < 4 {
            let (taken, frames) = take(&queue);
            assert_eq!(taken, Taken::Frames);
            got.extend(frames.iter().map(|frame| frame.to_vec()));
        }
        for producer in producers {
            producer.join().unwrap();
        }
        for name in [b'a', b'b'] {
            let of: Vec<u8> = got.iter().filter(|f| f[0] == name).map(|f| f[1]).collect();
            assert_eq!(of, [1, 2]);
        }
        assert_eq!(queue.bytes(), 0);
    });
}

#[test]
fn a_close_is_seen_after_what_was_queued_before_it() {
    model(|| {
        let queue = Arc::new(SendQueue::new(room(8)));
        let closer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.reply(frame(b"1"));
                queue.close(4000, "bye");
                queue.reply(frame(b"too late"));
            })
        };
        let rechecker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.recheck();
                queue.bring_orders();
            })
        };
        let (mut got, mut rechecked, mut ordered) = (Vec::new(), 0, 0);
        loop {
            match take(&queue) {
                (Taken::Frames, frames) => got.extend(frames),
                (Taken::Notice(Notice::Recheck), _) => rechecked += 1,
                (Taken::Notice(Notice::Orders), _) => ordered += 1,
                (Taken::Notice(other), _) => panic!("{other:?}"),
                (Taken::Closed(code, reason), _) => {
                    assert_eq!((code, reason), (4000, "bye"));
                    break;
                }
            }
        }
        closer.join().unwrap();
        rechecker.join().unwrap();
        assert_eq!(got, [frame(b"1")]);
        assert!(rechecked <= 1 && ordered <= 1);
    });
}

/// The consumer's side of a subscription: takes frames, and replays from `history` when it is told to.
/// `history` plays the broker: it has a message before the queue is offered it.
fn follow(queue: &SendQueue, history: &sync::Mutex<u64>, until: u64) -> Vec<u64> {
    let (mut seen, mut notices) = (Vec::new(), 0);
    while seen.last() != Some(&until) {
        match take(queue) {
            (Taken::Frames, frames) => seen.extend(frames.iter().map(|frame| u64::from(frame[0]))),
            (Taken::Notice(notice), _) => {
                assert_eq!(notice, Notice::CatchUp(7));
                notices += 1;
                while let Some(from) = queue.behind(7) {
                    let newest = *history.lock().unwrap();
                    for offset in from + 1..=newest {
                        queue.reply(frame(&[offset as u8]));
                    }
                    if queue.caught_up(7, newest) {
                        break;
                    }
                }
            }
            (closed, _) => panic!("{closed:?}"),
        }
    }
    assert!(notices <= until, "a notice for each overflow at most");
    seen
}

/// The broker publishes to history and pushes under one lock, as its channel does.
fn publish(queue: &SendQueue, history: &sync::Mutex<u64>, offset: u64) {
    let mut newest = history.lock().unwrap();
    *newest = offset;
    queue.reliable(7, offset, &frame(&[offset as u8]));
}

#[test]
fn an_overflowing_stream_is_caught_up_without_a_gap() {
    model(|| {
        // Room for one: the second message already overflows, unless the consumer was faster.
        let queue = Arc::new(SendQueue::new(room(1)));
        let history = Arc::new(sync::Mutex::new(0));
        let publisher = {
            let (queue, history) = (Arc::clone(&queue), Arc::clone(&history));
            thread::spawn(move || {
                for offset in 1..=3 {
                    publish(&queue, &history, offset);
                }
            })
        };
        let seen = follow(&queue, &history, 3);
        publisher.join().unwrap();
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(queue.behind(7), None);
        assert_eq!(queue.bytes(), 0);
    });
}

#[test]
fn a_held_stream_begins_without_a_gap() {
    model(|| {
        let queue = Arc::new(SendQueue::new(room(8)));
        let history = Arc::new(sync::Mutex::new(0));
        queue.hold(7);
        let publisher = {
            let (queue, history) = (Arc::clone(&queue), Arc::clone(&history));
            thread::spawn(move || {
                for offset in 1..=2 {
                    publish(&queue, &history, offset);
                }
            })
        };
        queue.catch_up_from(7, 0);
        let seen = follow(&queue, &history, 2);
        publisher.join().unwrap();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn an_overflow_leaves_one_notice_however_much_follows() {
    model(|| {
        let queue = Arc::new(SendQueue::new(room(1)));
        // Something of another stream stands in front, so that there is no room.
        queue.reply(frame(b"r"));
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.document(9, &frame(b"d")))
            })
            .collect();
        let left_out = producers
            .into_iter()
            .map(|producer| producer.join().unwrap())
            .filter(|pushed| *pushed == Pushed::LeftOut)
            .count();
        assert_eq!(left_out, 2);
        assert_eq!(take(&queue), (Taken::Frames, vec![frame(b"r")]));
        let notice = Taken::Notice(Notice::CatchUp(9));
        assert_eq!(take(&queue), (notice, Vec::new()));
        assert!(queue.caught_up(9, 0));
        queue.close(1000, "");
        assert_eq!(take(&queue), (Taken::Closed(1000, ""), Vec::new()));
    });
}

#[test]
fn of_a_key_the_newest_value_wins_whoever_is_first() {
    model(|| {
        let queue = Arc::new(SendQueue::new(room(8)));
        let key: Arc<str> = "step".into();
        let producers: Vec<_> = [1, 2]
            .into_iter()
            .map(|version| {
                let (queue, key) = (Arc::clone(&queue), Arc::clone(&key));
                thread::spawn(move || {
                    queue.latest(3, &key, version, &frame(&[version as u8]));
                })
            })
            .collect();
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || take(&queue).1)
        };
        for producer in producers {
            producer.join().unwrap();
        }
        let mut got = consumer.join().unwrap();
        queue.close(1000, "");
        while let (Taken::Frames, frames) = take(&queue) {
            got.extend(frames);
        }
        // Each value at most once, and the newest always.
        assert!(got.contains(&frame(&[2])), "{got:?}");
        assert!(got.len() <= 2);
        assert_eq!(queue.bytes(), 0);
    });
}

//! Pushes and pages in every order that a connection can bring them in.

use std::sync::Arc;

use protocol::{ChannelName, DeliveryClass, Position};

use super::*;
use crate::broker::Publication;
use crate::broker::contract::Recorder;
use protocol::frame::ResetReason;

fn publication(class: DeliveryClass, offset: u64, version: u64) -> Arc<Publication> {
    Arc::new(Publication {
        class,
        offset,
        key: None,
        version,
        data: None,
        bytes: None,
        event: None,
        from: None,
        time: 0,
    })
}

fn reliable(epoch: &str, offset: u64) -> Push {
    Push::Message {
        epoch: epoch.into(),
        newest: offset,
        message: publication(DeliveryClass::Reliable, offset, 0),
    }
}

fn page(epoch: &str, newest: u64, offsets: impl IntoIterator<Item = u64>) -> LogPage {
    let messages = offsets.into_iter();
    let messages = messages.map(|offset| publication(DeliveryClass::Reliable, offset, 0));
    LogPage {
        newest: Position {
            epoch: epoch.into(),
            offset: newest,
        },
        version: 0,
        reset: None,
        messages: messages.collect(),
    }
}

/// A channel whose subscription stands at an offset of epoch `e`.
struct World {
    local: Local,
    recorder: Recorder,
    name: ChannelName,
}

impl World {
    fn at(offset: u64) -> Self {
        let name = ChannelName::Project("p".into());
        let local = Local::new(name.clone(), "{project:p}".into());
        let recorder = Recorder::default();
        let (opened, begins) = local.add();
        assert!(opened.is_some() && begins);
        let task = local.task();
        assert!(task.since.is_none());
        assert_eq!(
            local.take_page(&page("e", offset, []), &recorder),
            Taken::Level
        );
        assert!(local.end_fill(task.waiting, &recorder));
        Self {
            local,
            recorder,
            name,
        }
    }

    /// `true` if a fill has to begin.
    fn push(&self, push: Push) -> bool {
        self.local.push(push, &self.recorder)
    }

    fn offsets(&self) -> Vec<u64> {
        let messages = self.recorder.messages(&self.name);
        messages.iter().map(|message| message.offset).collect()
    }
}

#[test]
fn a_gap_is_filled_and_what_waited_follows() {
    let world = World::at(2);
    assert!(!world.push(reliable("e", 2)), "known already");
    assert!(!world.push(reliable("e", 3)));
    assert!(world.push(reliable("e", 6)));
    assert!(!world.push(reliable("e", 7)), "the fill is under way");
    let task = world.local.task();
    assert_eq!((task.since.unwrap().offset, task.waiting), (3, 2));
    let first = page("e", 7, [4, 5]);
    assert_eq!(world.local.take_page(&first, &world.recorder), Taken::More);
    let last = page("e", 7, [6, 7]);
    assert_eq!(world.local.take_page(&last, &world.recorder), Taken::Level);
    assert!(!world.push(reliable("e", 8)));
    assert!(world.local.end_fill(2, &world.recorder));
    assert_eq!(world.offsets(), [3, 4, 5, 6, 7, 8]);
    assert_eq!(world.recorder.broken(&world.name), 0);
}

#[test]
fn what_comes_behind_the_page_is_filled_next() {
    let world = World::at(0);
    assert!(world.push(reliable("e", 2)));
    let task = world.local.task();
    world.push(reliable("e", 4));
    world
        .local
        .take_page(&page("e", 2, [1, 2]), &world.recorder);
    assert!(!world.local.end_fill(task.waiting, &world.recorder));
    let task = world.local.task();
    assert_eq!((task.since.unwrap().offset, task.waiting), (2, 1));
    world
        .local
        .take_page(&page("e", 4, [3, 4]), &world.recorder);
    assert!(world.local.end_fill(task.waiting, &world.recorder));
    assert_eq!(world.offsets(), [1, 2, 3, 4]);
}

#[test]
fn a_push_of_an_epoch_that_is_over_ends_no_fill_and_begins_no_endless_one() {
    let world = World::at(5);
    assert!(world.push(reliable("new", 1)));
    let task = world.local.task();
    let mut gone = page("new", 1, []);
    gone.reset = Some(ResetReason::Epoch);
    world.local.take_page(&gone, &world.recorder);
    assert!(world.local.end_fill(task.waiting, &world.recorder));
    assert_eq!(world.recorder.broken(&world.name), 1);
    assert!(
        world.push(reliable("e", 6)),
        "it can't be told from a newer epoch's"
    );
    let task = world.local.task();
    world.local.take_page(&page("new", 1, []), &world.recorder);
    assert!(world.local.end_fill(task.waiting, &world.recorder));
    assert!(!world.push(reliable("new", 2)));
    assert_eq!(world.offsets(), [2]);
    assert_eq!(world.recorder.broken(&world.name), 1);
}

#[test]
fn more_than_can_wait_is_read_again() {
    let world = World::at(0);
    assert!(world.push(reliable("e", 2)));
    let task = world.local.task();
    for offset in 3..=MAX_WAITING as u64 + 10 {
        assert!(!world.push(reliable("e", offset)));
    }
    world
        .local
        .take_page(&page("e", 2, [1, 2]), &world.recorder);
    assert!(!world.local.end_fill(task.waiting, &world.recorder));
    let newest = MAX_WAITING as u64 + 10;
    let task = world.local.task();
    world
        .local
        .take_page(&page("e", newest, 3..=newest), &world.recorder);
    assert!(world.local.end_fill(task.waiting, &world.recorder));
    assert_eq!(world.offsets(), (1..=newest).collect::<Vec<_>>());
}

#[test]
fn an_older_value_never_follows_a_newer_one() {
    let world = World::at(0);
    let value = |version| Push::Message {
        epoch: "e".into(),
        newest: 0,
        message: publication(DeliveryClass::Latest, 0, version),
    };
    assert!(!world.push(value(1)));
    assert!(world.local.begin_fill(true));
    let task = world.local.task();
    world.push(value(2));
    world.push(value(4));
    let mut level = page("e", 0, []);
    level.version = 3;
    assert_eq!(
        world.local.take_page(&level, &world.recorder),
        Taken::Values
    );
    let values = Values {
        epoch: "e".into(),
        version: 3,
        messages: vec![
            publication(DeliveryClass::Latest, 0, 1),
            publication(DeliveryClass::Latest, 0, 3),
        ],
    };
    world.local.take_values(&values, &world.recorder);
    assert!(world.local.end_fill(task.waiting, &world.recorder));
    let versions: Vec<_> = world.recorder.messages(&world.name);
    let versions: Vec<_> = versions.iter().map(|message| message.version).collect();
    assert_eq!(versions, [1, 3, 4]);
}

#[test]
fn nothing_is_delivered_after_the_last_subscription() {
    let world = World::at(0);
    let (opened, begins) = world.local.add();
    assert!(opened.is_none() && !begins);
    assert!(!world.local.remove());
    world.push(reliable("e", 1));
    assert!(world.local.remove());
    assert!(!world.push(reliable("e", 2)));
    assert!(!world.local.begin_fill(true));
    assert_eq!(world.offsets(), [1]);
    assert_eq!(world.local.if_subscribed(|| ()), None);
}

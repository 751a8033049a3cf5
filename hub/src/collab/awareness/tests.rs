//! Ownership, echoes, returns and bounds of awareness, on one node and between nodes.

use super::*;
use std::time::Duration;

const BOUNDS: Bounds = Bounds {
    entry_bytes: 100,
    entries: 2,
    timeout: Duration::from_secs(30),
};

struct World {
    awareness: Awareness,
    now: Instant,
    spoken: std::collections::HashSet<PeerId>,
}

impl World {
    fn new() -> Self {
        Self {
            awareness: Awareness::new(BOUNDS),
            now: Instant::now(),
            spoken: std::collections::HashSet::new(),
        }
    }

    fn say(
        &mut self,
        peer: PeerId,
        user: &str,
        client: u64,
        clock: u64,
        state: &str,
    ) -> Result<Vec<u64>, Refused> {
        let update = encode_awareness_update(&[AwarenessEntry {
            client,
            clock,
            state,
        }]);
        let first = self.spoken.insert(peer);
        let user: Arc<str> = user.into();
        let speaker = Speaker {
            peer,
            user: &user,
            first,
            is_node: false,
        };
        let news = self.awareness.receive(&speaker, &update, self.now)?;
        Ok(news.changed)
    }

    /// What another node says of its clients.
    fn hear(&mut self, node: PeerId, user: &str, update: &[u8]) -> News {
        let speaker = Speaker {
            peer: node,
            user: &user.into(),
            first: true,
            is_node: true,
        };
        self.awareness.receive(&speaker, update, self.now).unwrap()
    }

    /// Tells the other what this one's own clients say.
    fn tell(&self, other: &mut World, node: PeerId, ids: Option<&[u64]>) {
        let own = self.awareness.encode_by_user(ids, |owner| owner < 100);
        for (user, update) in own {
            other.hear(node, &user, &update);
        }
    }

    fn told(&self) -> Vec<(u64, u64, String)> {
        let update = self.awareness.encode_all();
        let entries = parse_awareness(&update, 100).unwrap();
        entries
            .into_iter()
            .map(|e| (e.client, e.clock, e.state.to_owned()))
            .collect()
    }
}

#[test]
fn an_echo_is_dropped_and_owns_nothing() {
    let mut world = World::new();
    assert_eq!(world.say(1, "ann", 7, 1, "{}"), Ok(vec![7]));
    assert_eq!(world.say(2, "bob", 8, 1, "{}"), Ok(vec![8]));
    assert_eq!(world.say(2, "bob", 7, 1, "{}"), Ok(vec![]));
    assert_eq!(world.say(2, "bob", 7, 9, "{\"stolen\":1}"), Ok(vec![]));
    assert_eq!(world.awareness.leave(2, world.now), [8]);
    assert_eq!(world.told(), [(7, 1, "{}".to_owned())]);
}

#[test]
fn an_echo_after_leaving_does_not_resurrect() {
    let mut world = World::new();
    world.say(2, "bob", 8, 1, "{}").unwrap();
    world.say(1, "ann", 7, 3, "{}").unwrap();
    assert_eq!(world.awareness.leave(1, world.now), [7]);
    assert_eq!(world.say(2, "bob", 7, 3, "{}"), Ok(vec![]));
    assert_eq!(world.told().len(), 1);
}

#[test]
fn a_return_with_the_same_clock_is_seen() {
    let mut world = World::new();
    world.say(1, "ann", 7, 3, "{}").unwrap();
    world.awareness.leave(1, world.now);
    assert_eq!(world.say(2, "ann", 7, 3, "{}"), Ok(vec![7]));
    assert_eq!(world.told(), [(7, 4, "{}".to_owned())]);
    world.say(2, "ann", 7, 4, "{\"x\":1}").unwrap();
    assert_eq!(world.told()[0].1, 5);
}

#[test]
fn a_return_before_the_old_connection_ends_is_not_removed_with_it() {
    let mut world = World::new();
    world.say(1, "ann", 7, 3, "{}").unwrap();
    assert_eq!(world.say(2, "ann", 7, 3, "{}"), Ok(vec![]));
    assert_eq!(world.awareness.leave(1, world.now), Vec::<u64>::new());
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.awareness.leave(2, world.now), [7]);
}

#[test]
fn a_second_tab_that_echoes_does_not_take_over() {
    let mut world = World::new();
    world.say(1, "ann", 7, 3, "{}").unwrap();
    world.say(2, "ann", 9, 1, "{}").unwrap();
    world.say(2, "ann", 7, 3, "{}").unwrap();
    assert_eq!(world.awareness.leave(2, world.now), [9]);
}

#[test]
fn nodes_speak_for_their_own_clients_alone() {
    let (mut a, mut b) = (World::new(), World::new());
    a.say(1, "ann", 7, 1, "{}").unwrap();
    b.say(1, "bob", 8, 1, "{}").unwrap();
    a.tell(&mut b, 100, None);
    b.tell(&mut a, 100, None);
    assert_eq!(a.told().len(), 2);
    assert_eq!(a.told(), b.told());
    assert_eq!(b.awareness.leave(100, b.now), [7]);
    assert_eq!(b.told().iter().filter(|told| told.2 != "null").count(), 1);
}

#[test]
fn a_client_that_moves_to_another_node_is_not_removed_with_the_old_connection() {
    let (mut a, mut b) = (World::new(), World::new());
    a.say(1, "ann", 7, 3, "{}").unwrap();
    a.tell(&mut b, 100, None);
    // The same clock: only the owner changes, and the node that thinks it is its own is told.
    assert_eq!(b.say(1, "ann", 7, 3, "{}"), Ok(vec![]));
    b.tell(&mut a, 100, Some(&[7]));
    assert_eq!(a.awareness.leave(1, a.now), Vec::<u64>::new());
    a.tell(&mut b, 100, Some(&[7]));
    assert_eq!(b.told(), [(7, 3, "{}".to_owned())]);
}

#[test]
fn a_client_that_left_one_node_is_seen_when_it_comes_to_another() {
    let (mut a, mut b) = (World::new(), World::new());
    a.say(1, "ann", 7, 3, "{}").unwrap();
    a.tell(&mut b, 100, None);
    a.awareness.leave(1, a.now);
    a.tell(&mut b, 100, Some(&[7]));
    assert_eq!(b.say(1, "ann", 7, 3, "{}"), Ok(vec![7]));
    assert_eq!(b.told(), [(7, 4, "{}".to_owned())]);
    b.tell(&mut a, 100, Some(&[7]));
    assert_eq!(a.told(), b.told());
}

#[test]
fn silence_is_swept_and_then_forgotten() {
    let mut world = World::new();
    world.say(1, "ann", 7, 1, "{}").unwrap();
    world.now += Duration::from_secs(29);
    assert!(world.awareness.sweep(world.now).is_empty());
    world.now += Duration::from_secs(2);
    assert_eq!(world.awareness.sweep(world.now), [7]);
    world.now += Duration::from_secs(61);
    world.awareness.sweep(world.now);
    assert!(world.awareness.is_empty());
}

#[test]
fn bounds_and_json_are_checked() {
    let mut world = World::new();
    assert_eq!(world.say(1, "ann", 1, 1, "{oops"), Err(Refused::NotJson));
    let long = format!("\"{}\"", "x".repeat(100));
    assert_eq!(world.say(1, "ann", 1, 1, &long), Err(Refused::TooLong));
    world.say(1, "ann", 1, 1, "1").unwrap();
    world.say(1, "ann", 2, 1, "2").unwrap();
    assert_eq!(world.say(1, "ann", 3, 1, "3"), Err(Refused::TooMany));
    let run_out = world.say(2, "bob", 9, u64::from(u32::MAX), "1");
    assert_eq!(run_out, Ok(vec![9]));
    world.awareness.leave(2, world.now);
    let back = world.say(3, "bob", 9, u64::from(u32::MAX), "1");
    assert!(matches!(back, Err(Refused::Malformed(_))));
    assert!(matches!(
        world.awareness.receive(
            &Speaker {
                peer: 1,
                user: &"ann".into(),
                first: false,
                is_node: false,
            },
            &[0xff, 0xff],
            world.now
        ),
        Err(Refused::Malformed(_))
    ));
}

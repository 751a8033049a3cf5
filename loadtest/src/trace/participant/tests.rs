//! Whole sessions through several participants in memory: no network, any order that keeps each
//! sender's own.

use super::*;
use crate::trace::Rotation;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::path::PathBuf;

fn load(file: &str, authors: usize) -> Arc<Trace> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(file);
    Arc::new(Trace::load(&path, Rotation { authors, block: 50 }).unwrap())
}

/// Carries updates between participants, as the hub would: one order for all. Each reads at its own
/// pace; with `merges` some backlogs are handed over merged, as after a resynchronisation, and what
/// repeats others' deletions is handed to nobody.
fn replay(trace: &Arc<Trace>, count: usize, seed: u64, merges: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let book = Arc::new(Book::new(trace.transactions.len()));
    let mut all: Vec<_> = (0..count)
        .map(|number| Participant::new(trace.clone(), book.clone(), number, count))
        .collect();
    let mut hub = Replica::new(1_000, trace.astral);
    let mut log: Vec<(usize, Bytes)> = Vec::new();
    let mut read = vec![0; count];
    let mut finished = 0;
    while finished < count {
        let turn = random.random_range(0..count);
        let participant = &mut all[turn];
        for _ in 0..random.random_range(0..64) {
            match participant.produce(|_| true).unwrap() {
                Some(Made { update: None }) => {}
                Some(Made {
                    update: Some(update),
                }) => {
                    if !merges {
                        log.push((turn, update));
                    } else if !hub.holdings().cover(&update).unwrap() {
                        hub.apply(&update).unwrap();
                        log.push((turn, update));
                    }
                }
                None => {
                    if merges && random.random_bool(0.02) {
                        participant.look_closer().unwrap();
                    }
                    break;
                }
            }
        }
        let until = random.random_range(read[turn]..=log.len());
        let others: Vec<_> = log[read[turn]..until]
            .iter()
            .filter(|(from, _)| *from != turn)
            .collect();
        if merges && others.len() > 1 && random.random_bool(0.05) {
            let merged = yrs::merge_updates_v1(others.iter().map(|(_, update)| update)).unwrap();
            participant.receive(&merged).unwrap();
        } else {
            for (_, update) in others {
                participant.receive(update).unwrap();
            }
        }
        read[turn] = until;
        finished = all
            .iter_mut()
            .filter_map(|p| p.is_complete().then_some(()))
            .count();
    }
    for (number, participant) in all.iter_mut().enumerate() {
        assert_eq!(participant.waits_for(), "nothing");
        assert!(
            participant.text() == trace.end,
            "participant {number} ends with another text"
        );
    }
}

#[test]
fn rustcode_through_four() {
    replay(&load("rustcode.json.gz", 4), 4, 1, false);
}

#[test]
fn sveltecomponent_through_three_with_resynchronisations() {
    replay(&load("sveltecomponent.json.gz", 3), 3, 2, true);
}

#[test]
fn clownschool_through_as_many_as_wrote_it() {
    replay(&load("clownschool.json.gz", 0), 3, 3, false);
}

#[test]
fn clownschool_through_fewer_and_more() {
    let trace = load("clownschool.json.gz", 0);
    replay(&trace, 2, 4, false);
    replay(&trace, 5, 5, false);
}

#[test]
fn clownschool_with_resynchronisations() {
    replay(&load("clownschool.json.gz", 0), 3, 6, true);
}

#[test]
fn two_may_delete_the_same_character() {
    let json = r#"{"kind":"concurrent","endContent":"ac","numAgents":2,"txns":[
        {"parents":[],"agent":0,"patches":[[0,0,"abc"]]},
        {"parents":[0],"agent":0,"patches":[[1,1,""]]},
        {"parents":[0],"agent":1,"patches":[[1,1,""]]},
        {"parents":[1,2],"agent":1,"patches":[]},
        {"parents":[3],"agent":0,"patches":[[1,0,"😀"],[1,1,""]]}]}"#;
    let rotation = Rotation {
        authors: 0,
        block: 1,
    };
    let trace = Arc::new(Trace::parse(json.as_bytes(), rotation).unwrap());
    for seed in 0..20 {
        replay(&trace, 2, seed, true);
    }
}

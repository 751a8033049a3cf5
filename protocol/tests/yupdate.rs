//! The walk over Yjs updates, held against yrs: random documents, cut, mutated, shuffled and merged.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::yupdate::{MAX_CLOCK, UpdateError, UpdateShape, parse_state_vector};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ClientID, ReadTxn, StateVector, Text, Transact, Update};

#[path = "yupdate/random.rs"]
mod random;
use random::{DOCS, new_doc, run, steps, vector_of};

/// What yrs calls an update's state vector: runs from 0, up to the first skip.
fn assert_agrees(shape: &UpdateShape, bytes: &[u8]) {
    let update = Update::decode_v1(bytes).unwrap();
    let theirs: BTreeMap<u64, u64> = update
        .state_vector()
        .iter()
        .map(|(client, clock)| (client.get(), u64::from(*clock)))
        .collect();
    for range in &shape.clients {
        let whole = range.first == 0 && range.skipped_to == 0 && range.end > 0;
        if whole {
            assert_eq!(theirs.get(&range.client), Some(&range.end));
        }
        if range.first > 0 {
            assert_eq!(theirs.get(&range.client), None);
        }
    }
    assert!(
        theirs
            .keys()
            .all(|c| shape.clients.iter().any(|r| r.client == *c))
    );
    let deleted: BTreeMap<u64, u64> = update
        .delete_set()
        .iter()
        .filter_map(|(client, ranges)| {
            ranges
                .iter()
                .next_back()
                .map(|range| (client.get(), u64::from(range.end)))
        })
        .collect();
    assert_eq!(
        shape.deletes.iter().copied().collect::<BTreeMap<_, _>>(),
        deleted
    );
}

/// Whether yrs takes the update whole: nothing pending, and no hole left in a client's run.
fn taken_whole(state: &[u8], update: &[u8], shape: &UpdateShape) -> bool {
    let doc = new_doc(1);
    let mut txn = doc.transact_mut();
    txn.apply_update(Update::decode_v1(state).unwrap()).unwrap();
    txn.apply_update(Update::decode_v1(update).unwrap())
        .unwrap();
    let vector = txn.state_vector();
    let whole = |client: u64, end: u64| u64::from(vector.get(&ClientID::new(client))) >= end;
    !txn.has_missing_updates()
        && shape
            .clients
            .iter()
            .all(|range| whole(range.client, range.end))
}

/// The bytes with some of them replaced (0), inserted (1) or removed (2).
fn mutated(bytes: &[u8], edit: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte, kind) in edit {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes
}

proptest! {
    #[test]
    fn real_updates_are_accepted_and_agree_with_yrs(steps in steps(40)) {
        let (docs, mut updates) = run(&steps);
        updates.extend(docs.iter().map(|doc| doc.transact().encode_diff_v1(&StateVector::default())));
        for update in &updates {
            let shape = UpdateShape::parse(update).unwrap();
            assert_agrees(&shape, update);
        }
        for doc in &docs {
            let vector = doc.transact().state_vector().encode_v1();
            let ours: BTreeMap<u64, u64> = parse_state_vector(&vector, DOCS).unwrap().into_iter().collect();
            prop_assert_eq!(ours, vector_of(doc));
            for cut in 0..vector.len() {
                prop_assert!(parse_state_vector(&vector[..cut], DOCS).is_err());
            }
        }
    }

    #[test]
    fn every_cut_is_rejected(steps in steps(25)) {
        let (docs, _) = run(&steps);
        for doc in &docs {
            let update = doc.transact().encode_diff_v1(&StateVector::default());
            for cut in 0..update.len() {
                prop_assert!(UpdateShape::parse(&update[..cut]).is_err(), "cut at {} of {}", cut, update.len());
            }
            let mut longer = update;
            longer.push(0);
            prop_assert_eq!(UpdateShape::parse(&longer), Err(UpdateError::Lib0(protocol::lib0::Lib0Error::Trailing)));
        }
    }

    #[test]
    fn mutations_never_panic_and_what_is_accepted_yrs_reads(
        steps in steps(25),
        edits in vec(vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4), 60),
    ) {
        let (docs, updates) = run(&steps);
        let full = docs[0].transact().encode_diff_v1(&StateVector::default());
        let pool: Vec<_> = updates.iter().chain([&full]).collect();
        for (round, edit) in edits.iter().enumerate() {
            let bytes = mutated(pool[round % pool.len()], edit);
            let _ = parse_state_vector(&bytes, 100);
            if let Ok(shape) = UpdateShape::parse(&bytes) {
                assert_agrees(&shape, &bytes);
            }
        }
    }

    /// What the walk accepts and calls ready may still be refused by yrs (a parent that is no shared
    /// type), but neither makes it panic nor stays pending, and the document can be read afterwards.
    #[test]
    fn ready_mutations_leave_the_document_alive(
        steps in steps(25),
        edits in vec(vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4), 60),
    ) {
        let (docs, updates) = run(&steps);
        for (edit, update) in edits.iter().zip(updates.iter().cycle()) {
            let bytes = mutated(update, edit);
            let Ok(shape) = UpdateShape::parse(&bytes) else { continue };
            for base in &docs {
                let have = vector_of(base);
                if !shape.is_ready(|client| have.get(&client).copied().unwrap_or(0)) {
                    continue;
                }
                let state = base.transact().encode_diff_v1(&StateVector::default());
                let doc = new_doc(1);
                let mut txn = doc.transact_mut();
                txn.apply_update(Update::decode_v1(&state).unwrap()).unwrap();
                if txn.apply_update(Update::decode_v1(&bytes).unwrap()).is_ok() {
                    prop_assert!(!txn.has_missing_updates());
                }
                drop(txn);
                let after = doc.transact().encode_diff_v1(&StateVector::default());
                prop_assert!(UpdateShape::parse(&after).is_ok());
            }
        }
    }

    #[test]
    fn readiness_agrees_with_yrs_in_any_order(
        steps in steps(30),
        order in vec(any::<u32>(), 30),
        merges in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let (docs, mut updates) = run(&steps);
        // Merging two updates of one client leaves a skip where what lies between them is missing.
        for (a, b) in merges.iter().filter(|_| !updates.is_empty()).collect::<Vec<_>>() {
            let pair = [a.get(&updates).clone(), b.get(&updates).clone()];
            updates.push(yrs::merge_updates_v1(pair).unwrap());
        }
        let mut queue: Vec<_> = updates.into_iter().enumerate().collect();
        queue.sort_by_key(|(at, _)| order.get(*at).copied().unwrap_or(0));
        let doc = new_doc(1);
        loop {
            let before = queue.len();
            let mut later = Vec::new();
            for (at, update) in queue {
                let shape = UpdateShape::parse(&update).unwrap();
                let have = vector_of(&doc);
                let ready = shape.is_ready(|client| have.get(&client).copied().unwrap_or(0));
                let state = doc.transact().encode_diff_v1(&StateVector::default());
                prop_assert_eq!(ready, taken_whole(&state, &update, &shape), "{:?} onto {:?}", shape, have);
                if ready {
                    doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
                } else {
                    later.push((at, update));
                }
            }
            queue = later;
            if queue.len() == before {
                break;
            }
        }
        prop_assert!(queue.is_empty(), "every update becomes ready in the end");
        let mut want = BTreeMap::new();
        for each in &docs {
            for (client, clock) in vector_of(each) {
                let most = want.entry(client).or_insert(0);
                *most = clock.max(*most);
            }
        }
        prop_assert_eq!(vector_of(&doc), want);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = UpdateShape::parse(&bytes);
        let _ = parse_state_vector(&bytes, 10);
    }
}

/// An update of hand-made runs: each `(client, clock, struct bytes)`, no deletes.
fn update_of(runs: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![runs.len() as u8];
    for (client, clock, item) in runs {
        bytes.extend([1, *client, *clock]);
        bytes.extend_from_slice(item);
    }
    bytes.push(0);
    bytes
}

#[test]
fn a_claimed_count_is_not_believed() {
    // 2^32-1 clients; 2^31 structs; a million deletes; an array of 2^40 values.
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[1, 0x80, 0x80, 0x80, 0x80, 0x08, 1, 0],
        &[0, 1, 1, 0xc0, 0x84, 0x3d],
        &[
            1, 1, 1, 0, 0x08, 1, 1, b't', 1, 117, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20,
        ],
    ] {
        assert!(matches!(
            UpdateShape::parse(bytes),
            Err(UpdateError::Lib0(_))
        ));
    }
    assert_eq!(
        parse_state_vector(&[0xff, 0xff, 0x03], 1_000),
        Err(UpdateError::TooManyClients(1_000))
    );
    assert_eq!(
        parse_state_vector(&[2, 7, 1, 7, 2], 9),
        Err(UpdateError::DuplicateClient(7))
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut item = vec![0x08, 1, 1, b't', 1];
        for _ in 0..depth {
            item.extend([117, 1]);
        }
        item.push(126);
        update_of(&[(1, 0, &item)])
    };
    assert!(UpdateShape::parse(&nested(64)).is_ok());
    assert_eq!(UpdateShape::parse(&nested(65)), Err(UpdateError::TooDeep));
    assert_eq!(
        UpdateShape::parse(&nested(100_000)),
        Err(UpdateError::TooDeep)
    );
    let json = format!("{}1{}", "[".repeat(1_000), "]".repeat(1_000));
    let mut item = vec![0x05, 1, 1, b't'];
    protocol::lib0::write_str(&mut item, &json);
    assert_eq!(
        UpdateShape::parse(&update_of(&[(1, 0, &item)])),
        Err(UpdateError::NotJson)
    );
}

#[test]
fn clocks_are_bounded() {
    let mut bytes = vec![1, 2, 1];
    protocol::lib0::write_var_uint(&mut bytes, MAX_CLOCK - 1);
    let mut fits = bytes.clone();
    fits[1] = 1;
    fits.extend([0, 1, 0]);
    assert_eq!(UpdateShape::parse(&fits).unwrap().clients[0].end, MAX_CLOCK);
    bytes.extend([0, 1, 0, 1, 0]);
    assert_eq!(UpdateShape::parse(&bytes), Err(UpdateError::Clock));
}

#[test]
fn circles_are_refused() {
    // An item with an origin: info, origin client, origin clock, a string of one unit.
    let after = |client: u8, clock: u8| [0x84, client, clock, 1, b'x'];
    let own = update_of(&[(1, 3, &after(1, 3))]);
    assert_eq!(UpdateShape::parse(&own), Err(UpdateError::Circular));
    let pair = update_of(&[(2, 0, &after(1, 0)), (1, 0, &after(2, 0))]);
    assert_eq!(UpdateShape::parse(&pair), Err(UpdateError::Circular));
    let ring = update_of(&[
        (3, 0, &after(2, 0)),
        (2, 0, &after(1, 0)),
        (1, 0, &after(3, 0)),
    ]);
    assert_eq!(UpdateShape::parse(&ring), Err(UpdateError::Circular));
    let chain = update_of(&[
        (3, 0, &after(2, 0)),
        (2, 0, &after(1, 0)),
        (1, 0, &after(4, 0)),
    ]);
    let shape = UpdateShape::parse(&chain).unwrap();
    assert!(!shape.is_ready(|_| 0));
    assert!(shape.is_ready(|client| u64::from(client == 4)));
}

#[test]
fn what_yrs_and_yjs_read_differently_is_refused() {
    let root = |rest: &[u8], info: u8| [&[info, 1, 1, b't'][..], rest].concat();
    for (item, error) in [
        (
            root(&[1, 1, b'1', 1, b'2'], 0x02),
            UpdateError::UnknownStruct(0x02),
        ),
        (root(&[1, b'x'], 0x14), UpdateError::UnknownStruct(0x14)),
        (root(&[5, 1, b'k'], 0x07), UpdateError::UnknownType(5)),
        (root(&[15], 0x07), UpdateError::UnknownType(15)),
        (root(&[], 0x0b), UpdateError::UnknownStruct(0x0b)),
        (
            vec![0x04, 2, 1, b't', 1, b'x'],
            UpdateError::UnknownParent(2),
        ),
        (vec![0x00, 0], UpdateError::Empty),
    ] {
        assert_eq!(UpdateShape::parse(&update_of(&[(1, 0, &item)])), Err(error));
    }
    let text = root(&[1, b'x'], 0x04);
    let twice = update_of(&[(1, 0, &text), (1, 1, &text)]);
    assert_eq!(
        UpdateShape::parse(&twice),
        Err(UpdateError::DuplicateClient(1))
    );
    assert_eq!(
        UpdateShape::parse(&[0, 1, 1, 2, 5, 1, 4, 1]),
        Err(UpdateError::DeleteOrder)
    );
    assert!(UpdateShape::parse(&[0, 0]).unwrap().is_empty());
}

#[test]
fn strings_count_utf16_units() {
    let doc = new_doc(7);
    let text = doc.get_or_insert_text("text");
    let mut txn = doc.transact_mut();
    text.insert(&mut txn, 0, "a𝄞é");
    let shape = UpdateShape::parse(&txn.encode_update_v1()).unwrap();
    assert_eq!(shape.clients[0].end, 4);
}

//! The model must see what is wrong, or it would prove nothing.

use super::*;

fn at(epoch: &str, offset: u64) -> Position {
    Position {
        epoch: epoch.to_owned(),
        offset,
    }
}

#[test]
fn a_document_that_lost_or_doubled_something_is_seen() {
    let mut ledger = DocumentLedger::default();
    let insert = |name: &str| Edit::Insert(name.to_owned());
    for name in ["a", "b", "c"] {
        ledger.send(&insert(name));
    }
    ledger.acknowledge(&insert("a"));
    ledger.acknowledge(&insert("b"));
    let removal = Edit::Remove("b".to_owned());
    ledger.send(&removal);
    // "b" may be there or not; "c" was never acknowledged.
    for text in ["a\n", "a\nb\n", "c\na\n"] {
        assert!(ledger.check(text).is_empty(), "{text:?}");
    }
    ledger.acknowledge(&removal);
    assert_eq!(ledger.check("a\n").len(), 0);
    assert_eq!(ledger.check("").len(), 1, "a is lost");
    assert_eq!(ledger.check("a\nb\n").len(), 1, "b came back");
    assert_eq!(ledger.check("a\na\n").len(), 1, "a is doubled");
    assert_eq!(ledger.check("a\nx\n").len(), 1, "x is nobody's");
}

fn followed() -> (ChannelLedger, Reader) {
    let mut ledger = ChannelLedger::default();
    let reader = Reader(1);
    ledger.subscribed(reader, None, &at("e", 0), false);
    (ledger, reader)
}

#[test]
fn a_gap_a_repetition_and_an_exchange_are_seen() {
    let (mut ledger, reader) = followed();
    ledger.heard(reader, 1, "m1");
    assert!(ledger.wrong(0).is_empty());
    ledger.heard(reader, 3, "m3");
    assert_eq!(ledger.wrong(0).len(), 1, "2 was skipped");
    ledger.heard(reader, 3, "m3");
    assert_eq!(ledger.wrong(0).len(), 2, "3 came again");
    ledger.accepted_at("other", &at("e", 1), Instant::now());
    assert_eq!(ledger.wrong(0).len(), 3, "m1 stands there");
    ledger.heard(reader, 4, "m1");
    assert_eq!(ledger.wrong(0).len(), 4, "m1 was published twice");
}

#[test]
fn what_was_accepted_must_be_seen_or_covered_by_a_reset() {
    let (mut ledger, reader) = followed();
    ledger.accepted_at("m1", &at("e", 1), Instant::now());
    ledger.accepted("event", Instant::now());
    assert_eq!(ledger.missing().len(), 3);
    ledger.heard(reader, 1, "m1");
    assert_eq!(ledger.missing(), ["Reader(1) has not seen event"]);
    ledger.reset(reader, &at("f", 7));
    assert!(ledger.missing().is_empty());
    assert!(ledger.wrong(1).is_empty());
    assert_eq!(ledger.wrong(0).len(), 1, "an epoch more than lives");
    // Another epoch may hold the same message again; the same one may not.
    ledger.heard(reader, 8, "m1");
    assert_eq!((ledger.repeated(), ledger.wrong(1).len()), (1, 0));
}

#[test]
fn being_let_in_elsewhere_than_asked_is_seen() {
    let (mut ledger, reader) = followed();
    let asked = at("e", 5);
    ledger.subscribed(reader, Some(&asked), &at("e", 5), true);
    assert!(ledger.wrong(0).is_empty());
    ledger.subscribed(reader, Some(&asked), &at("e", 6), true);
    assert_eq!(ledger.wrong(0).len(), 1);
    ledger.subscribed(reader, Some(&asked), &at("g", 6), false);
    assert_eq!(ledger.counts().2, 1, "a reset");
}

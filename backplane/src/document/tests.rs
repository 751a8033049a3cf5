//! Tests of the replica: what is applied, held back, refused, and edited.

use super::*;

fn typed(text: &str) -> Vec<u8> {
    let mut replica = Replica::new();
    replica.replace_text(DEFAULT_ROOT, text).unwrap().unwrap()
}

#[test]
fn an_update_applies_once() {
    let update = typed("héllo");
    let mut replica = Replica::new();
    assert_eq!(replica.apply(&update), Ok(Applied::Whole));
    assert_eq!(replica.apply(&update), Ok(Applied::Nothing));
    assert_eq!(replica.text(DEFAULT_ROOT), "héllo");
}

#[test]
fn an_update_waits_for_what_it_rests_on_without_touching_the_document() {
    let mut writer = Replica::new();
    let first = writer.replace_text(DEFAULT_ROOT, "one").unwrap().unwrap();
    let second = writer
        .replace_text(DEFAULT_ROOT, "one two")
        .unwrap()
        .unwrap();
    let mut reader = Replica::new();
    let before = reader.state().unwrap();
    assert_eq!(reader.apply(&second), Err(Refused::NotReady));
    assert_eq!(reader.state().unwrap(), before);
    reader.apply(&first).unwrap();
    reader.apply(&second).unwrap();
    assert_eq!(reader.text(DEFAULT_ROOT), "one two");
}

#[test]
fn what_was_known_is_left_out_of_the_change() {
    let mut writer = Replica::new();
    let first = writer
        .replace_text(DEFAULT_ROOT, &"x".repeat(1000))
        .unwrap()
        .unwrap();
    writer
        .replace_text(DEFAULT_ROOT, &"x".repeat(1001))
        .unwrap();
    let mut reader = Replica::from_state(&first).unwrap();
    let Applied::Part(change) = reader.apply(&writer.state().unwrap()).unwrap() else {
        panic!("the state overlaps what the reader has");
    };
    assert!(change.len() < 100, "{} bytes", change.len());
    let mut third = Replica::from_state(&first).unwrap();
    third.apply(&change).unwrap();
    assert_eq!(third.text(DEFAULT_ROOT).len(), 1001);
}

#[test]
fn a_delete_alone_is_a_change() {
    let mut writer = Replica::new();
    let first = writer.replace_text(DEFAULT_ROOT, "gone").unwrap().unwrap();
    let delete = writer.replace_text(DEFAULT_ROOT, "").unwrap().unwrap();
    let mut reader = Replica::from_state(&first).unwrap();
    assert_eq!(reader.apply(&delete), Ok(Applied::Whole));
    assert_eq!(reader.apply(&delete), Ok(Applied::Nothing));
    assert_eq!(reader.text(DEFAULT_ROOT), "");
}

#[test]
fn equal_content_has_one_digest_however_it_came() {
    let mut writer = Replica::new();
    let mut updates = Vec::new();
    for text in ["one", "one two", "two", "", "three"] {
        updates.push(writer.replace_text(DEFAULT_ROOT, text).unwrap().unwrap());
    }
    let whole = Replica::from_state(&writer.state().unwrap()).unwrap();
    assert_eq!(whole.digest(), writer.digest());
    let mut behind = Replica::new();
    for update in &updates[..3] {
        behind.apply(update).unwrap();
    }
    let vector = behind.state_vector();
    let before = behind.digest();
    behind.apply(&updates[3]).unwrap();
    assert_eq!(behind.state_vector(), vector, "a delete moves no vector");
    assert_ne!(behind.digest(), before);
}

#[test]
fn text_is_replaced_by_what_differs() {
    for (from, to) in [
        ("", "a"),
        ("a", ""),
        ("a😀c", "a😁c"),
        ("same", "same"),
        ("aaa", "aa"),
        ("one two three", "one 2 three"),
    ] {
        let mut replica = Replica::from_state(&typed("seed")).unwrap();
        replica.replace_text(DEFAULT_ROOT, from).unwrap();
        replica.replace_text(DEFAULT_ROOT, to).unwrap();
        assert_eq!(replica.text(DEFAULT_ROOT), to);
    }
}

#[test]
fn hostile_bytes_are_refused() {
    let mut replica = Replica::from_state(&typed("alive")).unwrap();
    let endless = b"\xff\xff\xff\xff\x0f";
    for bytes in [&b""[..], b"\xff", endless, b"\x01\x01\x01", b"garbage"] {
        let refused = replica.apply(bytes);
        assert!(matches!(refused, Err(Refused::Hostile(_))), "{bytes:?}");
    }
    for vector in [&b""[..], b"\xff", endless, b"\x02\x01\x01", b"garbage"] {
        let refused = replica.diff(vector);
        assert!(matches!(refused, Err(Refused::Hostile(_))), "{vector:?}");
    }
    assert_eq!(replica.text(DEFAULT_ROOT), "alive");
}

/// How large the document is that a fork was made of does not change what the fork's edits do there.
#[test]
fn an_edit_of_a_fork_is_an_update_of_the_document() {
    let mut replica = Replica::from_state(&typed("one three")).unwrap();
    let mut fork = replica.fork(77).unwrap();
    let edit = fork
        .replace_text(DEFAULT_ROOT, "one two three")
        .unwrap()
        .unwrap();
    replica
        .replace_text(DEFAULT_ROOT, "one three!")
        .unwrap()
        .unwrap();
    assert_eq!(replica.apply(&edit), Ok(Applied::Whole));
    assert_eq!(replica.text(DEFAULT_ROOT), "one two three!");
    // The next fork goes on under the same client.
    let mut fork = replica.fork(77).unwrap();
    let edit = fork.replace_text(DEFAULT_ROOT, "two").unwrap().unwrap();
    assert_eq!(replica.apply(&edit), Ok(Applied::Whole));
    assert_eq!(replica.text(DEFAULT_ROOT), "two");
}

#[test]
fn a_rich_text_is_not_edited_by_places() {
    let rich = Doc::new();
    let text = rich.get_or_insert_text(DEFAULT_ROOT);
    let mut txn = rich.transact_mut();
    text.insert(&mut txn, 0, "before after");
    text.insert_embed(&mut txn, 6, yrs::Any::from("picture"));
    let update = txn.encode_update_v1();
    drop(txn);
    let mut replica = Replica::from_state(&update).unwrap();
    let before = replica.state().unwrap();
    assert_eq!(
        replica.replace_text(DEFAULT_ROOT, "after"),
        Err(Refused::Rich)
    );
    assert_eq!(replica.state().unwrap(), before);
}

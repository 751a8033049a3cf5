//! Random documents of yrs, edited at random and synchronised now and then.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use yrs::types::Attrs;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, ClientID, Doc, GetString, Map, MapPrelim, OffsetKind, Options,
    ReadTxn, Text, TextPrelim, Transact, Update, WriteTxn, XmlElementPrelim, XmlFragment,
    XmlTextPrelim,
};

pub(super) const DOCS: usize = 3;

pub(super) fn new_doc(client: u64) -> Doc {
    let mut options = Options::with_client_id(ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    Doc::with_options(options)
}

/// Client ids that take different widths on the wire.
fn client_id(doc: usize) -> u64 {
    [5, 300_000, (1 << 53) - 1][doc]
}

/// One thing that somebody does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Insert(usize, String),
    Remove(usize, usize),
    Format(usize, usize, String),
    Embed(usize),
    Set(String, u8),
    Unset(String),
    Push(u8),
    Drop(usize),
    Sync(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..64_usize, "[a-zé€𝄞 \n]{1,6}").prop_map(|(at, text)| Op::Insert(at, text)),
        3 => (0..64_usize, 1..6_usize).prop_map(|(at, len)| Op::Remove(at, len)),
        1 => (0..64_usize, 1..6_usize, "[a-z]{1,4}").prop_map(|(at, len, name)| Op::Format(at, len, name)),
        1 => (0..64_usize).prop_map(Op::Embed),
        2 => ("[a-d]", 0..6_u8).prop_map(|(key, kind)| Op::Set(key, kind)),
        1 => "[a-d]".prop_map(Op::Unset),
        2 => (0..6_u8).prop_map(Op::Push),
        1 => (0..8_usize).prop_map(Op::Drop),
        3 => (0..DOCS).prop_map(Op::Sync),
    ]
}

fn value(kind: u8) -> Any {
    match kind {
        0 => Any::from(vec![Any::Null, Any::from(-70_000_i64), Any::from(0.5)]),
        1 => Any::from(vec![1_u8, 2, 3]),
        2 => Any::from(
            BTreeMap::from([("k", Any::from("v"))])
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<std::collections::HashMap<_, _>>(),
        ),
        3 => Any::from(true),
        _ => Any::from("text 𝄞"),
    }
}

/// The text's boundaries in UTF-16 units: an edit must not split a pair.
fn boundaries(text: &str) -> Vec<u32> {
    let mut at = 0;
    let mut all = vec![0];
    for c in text.chars() {
        at += c.len_utf16() as u32;
        all.push(at);
    }
    all
}

/// Carries out an operation; returns the update that it made.
fn apply(docs: &[Doc], which: usize, op: &Op) -> Option<Vec<u8>> {
    let doc = &docs[which];
    if let Op::Sync(from) = op {
        let vector = doc.transact().state_vector();
        let update = docs[*from].transact().encode_diff_v1(&vector);
        if *from != which {
            let update = Update::decode_v1(&update).unwrap();
            doc.transact_mut().apply_update(update).unwrap();
        }
        return Some(update);
    }
    let mut txn = doc.transact_mut();
    let text = txn.get_or_insert_text("text");
    let all = boundaries(&text.get_string(&txn));
    // Embeds take a clock that the string does not show: stay inside of both.
    let last = all.len() - 1;
    match op {
        Op::Insert(at, chunk) => text.insert(&mut txn, all[at % all.len()], chunk),
        Op::Remove(at, len) if last > 0 => {
            let start = at % last;
            let end = (start + len).min(last);
            text.remove_range(&mut txn, all[start], all[end] - all[start]);
        }
        Op::Format(at, len, name) if last > 0 => {
            let start = at % last;
            let end = (start + len).min(last);
            let attrs = Attrs::from([(name.as_str().into(), Any::from(true))]);
            text.format(&mut txn, all[start], all[end] - all[start], attrs);
        }
        Op::Embed(kind) => {
            let notes = txn.get_or_insert_text("notes");
            notes.insert_embed(&mut txn, 0, value(*kind as u8 % 6));
        }
        Op::Set(key, kind) => set(&mut txn, key, *kind),
        Op::Unset(key) => {
            let map = txn.get_or_insert_map("map");
            map.remove(&mut txn, key);
        }
        Op::Push(kind) => push(&mut txn, *kind),
        Op::Drop(at) => {
            let list = txn.get_or_insert_array("list");
            let len = list.len(&txn);
            if len > 0 {
                list.remove(&mut txn, *at as u32 % len);
            }
        }
        _ => return None,
    }
    Some(txn.encode_update_v1())
}

fn set(txn: &mut yrs::TransactionMut<'_>, key: &str, kind: u8) {
    let map = txn.get_or_insert_map("map");
    match kind {
        0 => {
            map.insert(txn, key, TextPrelim::new("nested"));
        }
        1 => {
            map.insert(txn, key, MapPrelim::from([("inner", 1)]));
        }
        other => {
            map.insert(txn, key, value(other));
        }
    }
}

fn push(txn: &mut yrs::TransactionMut<'_>, kind: u8) {
    match kind {
        0 => {
            let list = txn.get_or_insert_array("list");
            list.push_back(txn, ArrayPrelim::from([1, 2, 3]));
        }
        1 => {
            let xml = txn.get_or_insert_xml_fragment("xml");
            let element = xml.push_back(txn, XmlElementPrelim::empty("p"));
            element.push_back(txn, XmlTextPrelim::new("words"));
        }
        2 => {
            let list = txn.get_or_insert_array("list");
            list.push_back(txn, Doc::new());
        }
        other => {
            let list = txn.get_or_insert_array("list");
            list.push_back(txn, value(other));
        }
    }
}

pub(super) fn run(steps: &[(usize, Op)]) -> (Vec<Doc>, Vec<Vec<u8>>) {
    let docs: Vec<_> = (0..DOCS).map(|doc| new_doc(client_id(doc))).collect();
    let updates = steps
        .iter()
        .filter_map(|(which, op)| apply(&docs, *which, op))
        .collect();
    (docs, updates)
}

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<(usize, Op)>> {
    vec((0..DOCS, op()), 1..most)
}

pub(super) fn vector_of(doc: &Doc) -> BTreeMap<u64, u64> {
    doc.transact()
        .state_vector()
        .iter()
        .map(|(client, clock)| (client.get(), u64::from(*clock)))
        .collect()
}

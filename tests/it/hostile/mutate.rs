//! Real updates of all kinds, and how they are spoilt: a seeded generator.

use protocol::lib0::write_var_uint;
use rand::Rng as _;
use rand::rngs::StdRng;
use yrs::types::Attrs;
use yrs::{
    Any, Array as _, ArrayPrelim, ClientID, Doc, Map as _, MapPrelim, OffsetKind, Options,
    Text as _, TextPrelim, Transact as _, XmlElementPrelim, XmlFragment as _, XmlTextPrelim,
};

/// Updates of a document that holds something of everything, none of which is the attacked one's.
pub(super) fn corpus() -> Vec<Vec<u8>> {
    // Always the same id, so that a seed always gives the same bytes.
    let doc = Doc::with_options(Options {
        client_id: ClientID::new(4242),
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    });
    let text = doc.get_or_insert_text("text");
    let map = doc.get_or_insert_map("map");
    let array = doc.get_or_insert_array("array");
    let xml = doc.get_or_insert_xml_fragment("xml");
    let mut updates = Vec::new();
    let mut step = |act: &mut dyn FnMut(&mut yrs::TransactionMut<'_>)| {
        let mut txn = doc.transact_mut();
        act(&mut txn);
        updates.push(txn.encode_update_v1());
    };
    step(&mut |txn| text.insert(txn, 0, "fn main() { println!(\"grüße 🙂\"); }\n"));
    step(&mut |txn| text.insert(txn, 3, "the_"));
    step(&mut |txn| text.remove_range(txn, 1, 5));
    let bold = Attrs::from([("bold".into(), true.into())]);
    step(&mut |txn| text.insert_with_attributes(txn, 0, "bold", bold.clone()));
    step(&mut |txn| {
        map.insert(txn, "number", 42.5);
        map.insert(txn, "null", Any::Null);
        map.insert(txn, "nested", MapPrelim::from([("a", "b")]));
        map.insert(txn, "text", TextPrelim::new("inner"));
    });
    step(&mut |txn| {
        map.remove(txn, "number");
    });
    step(&mut |txn| {
        array.insert_range(txn, 0, [1, 2, 3]);
        array.insert(txn, 1, ArrayPrelim::from(["x", "y"]));
        array.insert(txn, 0, Any::Buffer(vec![1, 2, 3].into()));
    });
    step(&mut |txn| array.remove_range(txn, 1, 2));
    step(&mut |txn| {
        let element = xml.insert(txn, 0, XmlElementPrelim::empty("p"));
        element.insert(txn, 0, XmlTextPrelim::new("paragraph"));
    });
    updates
}

/// One of many ways to spoil bytes.
pub(super) fn spoil(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut spoilt = bytes.to_vec();
    for _ in 0..random.random_range(1..4) {
        if spoilt.is_empty() {
            spoilt.push(random.random());
        }
        let at = random.random_range(0..spoilt.len());
        match random.random_range(0..8) {
            0 => spoilt[at] ^= 1 << random.random_range(0..8),
            1 => spoilt[at] = random.random(),
            2 => spoilt.truncate(at),
            3 => spoilt.insert(at, random.random()),
            4 => drop(spoilt.remove(at)),
            5 => {
                let end = (at + random.random_range(1..16)).min(spoilt.len());
                let part = spoilt[at..end].to_vec();
                spoilt.splice(at..at, part);
            }
            6 => spoilt.extend((0..random.random_range(1..32)).map(|_| random.random::<u8>())),
            _ => {
                // A number that claims far more than is there.
                let mut number = Vec::new();
                let claims = [
                    0x7f,
                    0xffff,
                    u64::from(u32::MAX),
                    1 << 40,
                    (1 << 53) - 1,
                    u64::MAX,
                ];
                write_var_uint(&mut number, claims[random.random_range(0..claims.len())]);
                spoilt.splice(at..=at, number);
            }
        }
    }
    spoilt
}

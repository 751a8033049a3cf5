//! A Yjs update against a document with text in it: applied or refused, and the document goes on either way.

#![no_main]

use backplane::document::{DEFAULT_ROOT, Refused, Replica};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|update: &[u8]| {
    let mut replica = Replica::new();
    let _ = replica.replace_text(DEFAULT_ROOT, "the document that must live");
    let state = replica.state().expect("a fresh document");
    match replica.apply(update) {
        // The hub loads the document again then; here that is a new one.
        Err(Refused::Broken) => replica = Replica::from_state(&state).expect("its own state"),
        Ok(_) | Err(_) => {}
    }
    let after = replica.state().expect("the document lives");
    Replica::from_state(&after).expect("and so does a copy of it");
    let _ = replica.diff(update);
});

//! The WebSocket codec: any bytes, cut anywhere, give the same events as whole, and never a panic.

#![no_main]

use hub::transport::frame::{Codec, Step};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fn events(bytes: &[u8], cut: usize) -> (Vec<String>, bool) {
    let mut codec = Codec::new(LIMIT);
    let mut told = Vec::new();
    let mut held = Vec::new();
    for part in bytes.chunks(cut.max(1)) {
        held.extend_from_slice(part);
        loop {
            match codec.next(&mut held) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Event(event, used)) => {
                    told.push(format!("{event:?}"));
                    held.drain(..used);
                }
                Err(_) => return (told, true),
            }
        }
    }
    (told, false)
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (cut, bytes) = input;
    let whole = events(&bytes, bytes.len());
    let parts = events(&bytes, usize::from(cut));
    assert_eq!(whole, parts);
});

//! Every other parser of a peer's bytes: session frames in both encodings, the Yjs framings, awareness.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::hocuspocus::Incoming;
use protocol::yupdate::{UpdateShape, parse_state_vector};
use protocol::{ClientFrame, Encoding, ysync};

fuzz_target!(|bytes: &[u8]| {
    for encoding in [Encoding::Json, Encoding::MsgPack] {
        if let Ok(frame) = encoding.decode_client(bytes) {
            let again: ClientFrame = encoding
                .decode(&encoding.encode(&frame))
                .expect("what was encoded can be decoded");
            assert_eq!(encoding.encode(&again), encoding.encode(&frame));
        }
    }
    if let Ok(message) = ysync::Message::parse(bytes) {
        assert_eq!(message.encode().len() <= bytes.len(), true);
    }
    let _ = Incoming::parse(bytes);
    let _ = ysync::parse_awareness(bytes, 1024);
    let _ = UpdateShape::parse(bytes);
    let _ = parse_state_vector(bytes, 1024);
});

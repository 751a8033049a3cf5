//! MessagePack frames: binary messages; maps with string keys; bytes as `bin`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DecodeError;

/// Deepest nesting accepted: well below what would overflow a thread's stack.
const MAX_DEPTH: usize = 64;

pub(super) fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // Frames hold string keys and finite numbers only, so serialising to memory can't fail.
    rmp_serde::to_vec_named(frame).unwrap_or_default()
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut deserializer)
        .map_err(|e| DecodeError::Malformed("MessagePack", e.to_string()))
}

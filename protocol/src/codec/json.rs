//! JSON frames: text messages; bytes as base64.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DecodeError;

pub(super) fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // Frames hold string keys and finite numbers only, so serialising to memory can't fail.
    serde_json::to_vec(frame).unwrap_or_default()
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|e| DecodeError::Malformed("JSON", e.to_string()))
}

//! The content of an item: walked for its length, never kept.
//!
//! Owns the kinds of content, the shared types, lib0's `any` values and embedded JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, UpdateError};
use crate::lib0::Reader;

const DELETED: u8 = 1;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const DOC: u8 = 9;

/// Walks the content that `info` names; returns how many clocks it takes.
///
/// JSON content (2) is refused: Yjs 13 never creates it, and yrs 0.28.1 reads one string too many.
pub(super) fn read(reader: &mut Reader<'_>, info: u8) -> Result<u64, UpdateError> {
    match info & 0x0f {
        DELETED => Ok(reader.var_uint()?),
        BINARY => {
            reader.buf()?;
            Ok(1)
        }
        // Clocks count UTF-16 units, as JavaScript strings do.
        STRING => Ok(reader.str()?.chars().map(|c| c.len_utf16() as u64).sum()),
        EMBED => {
            json(reader.str()?)?;
            Ok(1)
        }
        FORMAT => {
            reader.str()?;
            json(reader.str()?)?;
            Ok(1)
        }
        TYPE => {
            shared_type(reader)?;
            Ok(1)
        }
        ANY => {
            let count = reader.var_uint()?;
            for _ in 0..count {
                any(reader, 0)?;
            }
            Ok(count)
        }
        DOC => {
            reader.str()?;
            any(reader, 0)?;
            Ok(1)
        }
        _ => Err(UpdateError::UnknownStruct(info)),
    }
}

/// Array, map, text, XML element, fragment and text. Refused: XML hooks (5), whose key yrs does not
/// read; weak links (7), which Yjs does not know; and what only yrs knows (9, 15).
fn shared_type(reader: &mut Reader<'_>) -> Result<(), UpdateError> {
    match reader.u8()? {
        0..=2 | 4 | 6 => Ok(()),
        3 => {
            reader.str()?;
            Ok(())
        }
        other => Err(UpdateError::UnknownType(other)),
    }
}

/// One lib0 `any` value.
fn any(reader: &mut Reader<'_>, depth: usize) -> Result<(), UpdateError> {
    if depth > MAX_DEPTH {
        return Err(UpdateError::TooDeep);
    }
    match reader.u8()? {
        // undefined, null, true, false
        127 | 126 | 121 | 120 => {}
        125 => {
            reader.var_int()?;
        }
        124 => {
            reader.take(4)?;
        }
        123 | 122 => {
            reader.take(8)?;
        }
        119 => {
            reader.str()?;
        }
        118 => {
            for _ in 0..reader.var_uint()? {
                reader.str()?;
                any(reader, depth + 1)?;
            }
        }
        117 => {
            for _ in 0..reader.var_uint()? {
                any(reader, depth + 1)?;
            }
        }
        116 => {
            reader.buf()?;
        }
        other => return Err(UpdateError::UnknownValue(other)),
    }
    Ok(())
}

/// Checks that an embedded text is JSON of the kind that yrs reads. serde_json bounds its depth.
fn json(text: &str) -> Result<(), UpdateError> {
    serde_json::from_str::<Json>(text)
        .map(|_| ())
        .map_err(|_| UpdateError::NotJson)
}

/// A JSON value that is read in full and dropped. Unlike serde's `IgnoredAny` it checks numbers, escapes
/// and depth the way that building the value would.
struct Json;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        i64::try_from(value).map(|_| Json).map_err(E::custom)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json)
    }

    fn visit_str<E>(self, _: &str) -> Result<Json, E> {
        Ok(Json)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        while seq.next_element::<Json>()?.is_some() {}
        Ok(Json)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        while map.next_entry::<Json, Json>()?.is_some() {}
        Ok(Json)
    }
}

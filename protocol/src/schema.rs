//! The protocol for readers that are not Rust: TypeScript, JSON Schema, AsyncAPI.
//!
//! Owns [`files`], the generated files by name, made from the types themselves; `cargo run -p protocol
//! --bin schema` writes them. Never writes a file itself, and orders everything, so that the same
//! types always give the same bytes.

mod asyncapi;
mod typescript;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{ClientFrame, ErrorCode, Event, Role, ServerFrame};

/// A generated file: its name and its text.
pub type File = (&'static str, String);

/// Every generated file.
#[must_use]
pub fn files() -> Vec<File> {
    vec![
        ("tandem.ts", typescript::text()),
        ("tandem.schema.json", pretty(&json_schema())),
        ("asyncapi.json", pretty(&asyncapi::document())),
    ]
}

/// The JSON Schema (2020-12) of all that crosses a socket as JSON.
fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tandem session protocol",
        "description": "A session message is a ClientFrame or a ServerFrame. In MessagePack the same maps are used, with `bin` in the place of base64 strings.",
        "anyOf": [
            { "$ref": "#/$defs/ClientFrame" },
            { "$ref": "#/$defs/ServerFrame" },
        ],
        "$defs": definitions("/$defs"),
    })
}

/// All definitions by name, with references that point below `path`.
fn definitions(path: &'static str) -> Map<String, Value> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = path.into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    add::<ClientFrame>(&mut generator);
    add::<ServerFrame>(&mut generator);
    add::<Event>(&mut generator);
    add::<ErrorCode>(&mut generator);
    add::<Role>(&mut generator);
    generator.take_definitions(true)
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    // The reference is not needed: asking for it is what adds the definition.
    let _ = generator.subschema_for::<T>();
}

/// Pretty JSON with sorted keys, whatever order the map type keeps in this build.
fn pretty(value: &Value) -> String {
    // A value of strings, numbers and maps can't fail to serialise.
    let mut text = serde_json::to_string_pretty(&sorted(value)).unwrap_or_default();
    text.push('\n');
    text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries
                .into_iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn generated_files_are_current() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
        for (name, text) in files() {
            let kept = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert_eq!(
                kept, text,
                "{name} is old: run `cargo run -p protocol --bin schema`"
            );
        }
    }

    /// Every reference in `value` must point at something in `root`.
    fn check_references(value: &Value, root: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(root.pointer(pointer).is_some(), "{target} points nowhere");
                }
                map.values().for_each(|value| check_references(value, root));
            }
            Value::Array(items) => items.iter().for_each(|value| check_references(value, root)),
            _ => {}
        }
    }

    #[test]
    fn references_resolve() {
        for document in [json_schema(), asyncapi::document()] {
            check_references(&document, &document);
        }
    }
}

//! The document is whole: every operation says what it is, what it takes and how it refuses.

use std::collections::HashSet;

use serde_json::Value;

use crate::config::Settings;

fn document() -> Value {
    let (_, api) = super::super::parts(&Settings::default());
    serde_json::to_value(api).expect("a document")
}

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("an item") {
            found.push((format!("{method} {path}"), operation.clone()));
        }
    }
    found
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let tags: HashSet<&str> = document["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    let mut wrong = Vec::new();
    let mut ids = HashSet::new();
    for (name, operation) in operations(&document) {
        let mut say = |what: &str| wrong.push(format!("{name}: {what}"));
        if operation["summary"].as_str().is_none_or(str::is_empty) {
            say("has no summary");
        }
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        if !tags.contains(tag) {
            say("has no tag of the list");
        }
        if !ids.insert(
            operation["operationId"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ) {
            say("shares its operationId");
        }
        let responses = operation["responses"].as_object().expect("responses");
        if !responses.keys().any(|status| status.starts_with('2')) {
            say("has no success");
        }
        for status in ["400", "429", "500", "503", "504"] {
            if !responses.contains_key(status) {
                say(&format!("does not say {status}"));
            }
        }
        for (status, response) in responses {
            if status.starts_with(['4', '5'])
                && response["content"]["application/problem+json"]["schema"]["$ref"]
                    != "#/components/schemas/Problem"
            {
                say(&format!("{status} is no problem document"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(ids.len() > 20, "only {} operations", ids.len());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    into.push(to.clone());
                }
                map.values().for_each(|value| references(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// A copy lies in the repository, so that a change of the surface is seen in review. `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_copy_in_the_repository_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let made = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).expect("the copy can be written");
    }
    let copy = std::fs::read_to_string(path).unwrap_or_default();
    let differs = copy.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        copy == made,
        "docs/openapi.json is not current (line {:?}): run with UPDATE_DOCS=1",
        differs.map(|at| at + 1)
    );
}

//! The reader of a plan's text, and the judge of a plan.

use proptest::prelude::*;
use serde_json::{Value, json};
use workers::planning::partial::{Ended, Reader};
use workers::planning::schema::{self, SCHEMA};

use super::world::good;

fn plan() -> impl Strategy<Value = Value> {
    // Quotes, brackets and escapes are what could confuse the reader.
    let text = "[a-c\"\\\\{}\\[\\]:,\n\tü🙂]{1,30}";
    let step = (text, text, 0_u32..100).prop_map(|(title, detail, minutes)| {
        json!({ "title": title, "files": ["a/b.rs"], "detail": detail, "minutes": minutes })
    });
    (text, prop::collection::vec(step, 1..6), any::<bool>()).prop_map(|(summary, steps, first)| {
        // Fields in another order, and one that nobody knows.
        match first {
            true => json!({ "summary": summary, "steps": steps }),
            false => {
                json!({ "a": { "steps": [{ "title": "no" }] }, "steps": steps, "summary": summary })
            }
        }
    })
}

/// Text around a plan.
fn around() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("", ""),
        ("```json\n", "\n```\nDone."),
        (
            "Here is {the plan} {\"x\" y}: ",
            " {\"steps\": [{\"title\": \"t\"}]}",
        ),
        ("{\"note\": 1}\n", "}"),
        ("[1] {", "]"),
    ])
}

fn fed(pieces: impl Iterator<Item = String>) -> (Reader, Vec<Ended>) {
    let mut reader = Reader::default();
    let mut ended = Vec::new();
    for piece in pieces {
        ended.extend(reader.feed(&piece));
        let _ = reader.under_way();
    }
    (reader, ended)
}

proptest! {
    #[test]
    fn any_split_of_a_plan_gives_the_same_steps(
        plan in plan(), around in around(), pretty in any::<bool>(), sizes in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&plan) } else { serde_json::to_string(&plan) };
        let text = format!("{}{}{}", around.0, text.unwrap(), around.1);
        let chars: Vec<char> = text.chars().collect();
        let (mut at, mut pieces) = (0, Vec::new());
        for size in sizes.iter().cycle() {
            if at >= chars.len() { break; }
            let end = (at + size).min(chars.len());
            pieces.push(chars[at..end].iter().collect::<String>());
            at = end;
        }
        let (reader, ended) = fed(pieces.into_iter());
        let steps: Vec<Value> = ended.iter().map(|step| serde_json::from_str(&step.json).unwrap()).collect();
        prop_assert_eq!(Value::Array(steps), plan["steps"].clone());
        for (position, step) in (0..).zip(&ended) {
            prop_assert_eq!(step.position, position);
        }
        let whole: Value = serde_json::from_str(reader.plan().unwrap()).unwrap();
        prop_assert_eq!(whole, plan);
    }

    #[test]
    fn what_is_under_way_is_a_beginning(plan in plan(), cut in any::<prop::sample::Index>()) {
        let text = plan.to_string();
        let (reader, ended) = fed([text[..text.floor_char_boundary(cut.index(text.len()))].to_owned()].into_iter());
        if let Some(step) = reader.under_way() {
            prop_assert_eq!(step.position as usize, ended.len());
            let whole = &plan["steps"][step.position as usize];
            prop_assert!(whole["title"].as_str().unwrap().starts_with(&step.title));
            prop_assert!(whole["detail"].as_str().unwrap().starts_with(&step.detail));
        }
    }

    #[test]
    fn no_text_is_too_odd(pieces in prop::collection::vec("([{}\\[\\]\":,\\\\u0-9a-f ]|\"steps\"|\"title\"|\\PC){0,40}", 0..20)) {
        let (reader, _) = fed(pieces.into_iter());
        if let Some(plan) = reader.plan() {
            let _ = schema::read(plan);
        }
    }
}

#[test]
fn half_an_escape_is_left_out() {
    for (cut, title) in [
        (r#"{"steps":[{"title":"a\"#, "a"),
        (r#"{"steps":[{"title":"a\u00"#, "a"),
        (r#"{"steps":[{"title":"a\ud83d"#, "a"),
        (r#"{"steps":[{"title":"a\ud83d\ude"#, "a"),
        (r#"{"steps":[{"title":"a\ud83d\ude42"#, "a🙂"),
        (r#"{"steps":[{"title":"a\\"#, "a\\"),
        (r#"{"steps":[{"title":"a\\\n"#, "a\\\n"),
    ] {
        let (reader, _) = fed([cut.to_owned()].into_iter());
        assert_eq!(reader.under_way().unwrap().title, title, "{cut}");
    }
}

/// What the schema says of a value: as much of JSON Schema as it uses.
fn fits(schema: &Value, value: &Value) -> bool {
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "null" => value.is_null(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("{other}"),
    };
    let bound = |name: &str| schema[name].as_f64();
    let within = |size: f64, least: &str, most: &str| {
        bound(least).is_none_or(|least| size >= least)
            && bound(most).is_none_or(|most| size <= most)
    };
    types.iter().any(is)
        && match value {
            Value::String(text) => within(text.chars().count() as f64, "minLength", "maxLength"),
            Value::Number(number) => within(number.as_f64().unwrap(), "minimum", "maximum"),
            Value::Array(list) => {
                within(list.len() as f64, "minItems", "maxItems")
                    && list.iter().all(|one| fits(&schema["items"], one))
            }
            Value::Object(fields) => {
                let required = schema["required"].as_array().into_iter().flatten();
                let mut required = required.filter_map(Value::as_str);
                let properties = schema["properties"].as_object().unwrap();
                required.all(|name| fields.contains_key(name))
                    && properties
                        .iter()
                        .all(|(name, of)| fields.get(name).is_none_or(|value| fits(of, value)))
            }
            _ => true,
        }
}

/// Each of these differs from a good plan in one thing that the schema can say.
#[test]
fn the_judge_agrees_with_the_schema() {
    let shape: Value = serde_json::from_str(SCHEMA).unwrap();
    let text = |count: usize| json!("ü".repeat(count));
    let values = [
        json!(null),
        json!(true),
        json!({}),
        json!([]),
        json!(0),
        json!(3.0),
        json!(-1),
        json!(2.5),
        json!(10_000),
        json!(10_001),
        json!(1e300),
        text(0),
        text(1),
        text(200),
        text(201),
        text(512),
        text(513),
        text(4000),
        text(4001),
        text(8000),
        text(8001),
        json!([1]),
        json!(["a"]),
        json!([""]),
        json!([0, 0]),
        json!([null]),
        json!(vec!["a"; 50]),
        json!(vec!["a"; 51]),
        json!(vec![0; 50]),
        json!(vec![0; 51]),
        json!([text(512)]),
        json!([text(513)]),
    ];
    let places = [
        "/summary",
        "/steps",
        "/steps/1",
        "/steps/1/title",
        "/steps/1/detail",
        "/steps/1/files",
        "/steps/1/depends_on",
        "/steps/1/minutes",
    ];
    let (mut right, mut wrong) = (0, 0);
    let mut judge = |plan: &Value| {
        let expected = fits(&shape, plan);
        let judged = schema::read(&plan.to_string());
        // Beyond the schema: step 1 rests on step 0 alone.
        let beyond = plan.pointer("/steps/1/depends_on") == Some(&json!([1]));
        assert_eq!(judged.is_ok(), expected && !beyond, "{judged:?}");
        *(if expected { &mut right } else { &mut wrong }) += 1;
    };
    for place in places {
        for value in &values {
            let mut plan = good();
            *plan.pointer_mut(place).unwrap() = value.clone();
            judge(&plan);
        }
        let mut plan = good();
        let (parent, name) = place.rsplit_once('/').unwrap();
        if let Some(fields) = plan.pointer_mut(parent).and_then(Value::as_object_mut) {
            fields.remove(name);
            judge(&plan);
        }
    }
    for count in [50, 51] {
        let step = json!({ "title": "a", "detail": "b" });
        judge(&json!({ "summary": "s", "steps": vec![step; count] }));
    }
    assert!(right > 20 && wrong > 100, "{right} {wrong}");
}

#[test]
fn paths_stay_in_the_project() {
    for path in ["a", "src/a.rs", "..a/b..", ".github/ci.yml", "a b/ü.rs"] {
        assert!(schema::is_sane(path), "{path}");
    }
    for path in [
        "/etc/passwd",
        "~/x",
        "..",
        "a/../b",
        "a/..",
        "C:/x",
        "a\\b",
        "a\0b",
        "a\nb",
    ] {
        assert!(!schema::is_sane(path), "{path}");
        let mut plan = good();
        plan["steps"][0]["files"] = json!([path]);
        assert!(schema::read(&plan.to_string()).is_err(), "{path}");
    }
}

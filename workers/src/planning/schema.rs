//! What a plan must be: its JSON Schema, and the same judged in words.
//!
//! Owns the bounds. The schema is what models are shown; [`read`] holds an answer to it and to what a schema
//! can't say: steps rest on earlier ones alone, and paths stay in the project. Pure.

use serde_json::Value;

/// Most steps of a plan.
pub const STEPS: usize = 50;
/// Most characters of a summary.
pub const SUMMARY_CHARS: usize = 4000;
/// Most characters of a title.
pub const TITLE_CHARS: usize = 200;
/// Most characters of a detail.
pub const DETAIL_CHARS: usize = 8000;
/// Most files of a step.
pub const FILES: usize = 50;
/// Most characters of a path.
pub const PATH_CHARS: usize = 512;
/// Most minutes of a step.
pub const MINUTES: u64 = 10_000;
/// Errors that are told of one answer.
const ERRORS: usize = 20;

/// The JSON Schema of a plan.
pub const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["summary", "steps"],
  "properties": {
    "summary": { "type": "string", "minLength": 1, "maxLength": 4000 },
    "steps": {
      "type": "array", "minItems": 1, "maxItems": 50,
      "items": {
        "type": "object",
        "required": ["title", "detail"],
        "properties": {
          "title": { "type": "string", "minLength": 1, "maxLength": 200 },
          "detail": { "type": "string", "minLength": 1, "maxLength": 8000 },
          "files": { "type": "array", "maxItems": 50, "items": { "type": "string", "minLength": 1, "maxLength": 512 } },
          "depends_on": { "type": "array", "maxItems": 50, "items": { "type": "integer", "minimum": 0, "maximum": 49 } },
          "minutes": { "type": ["integer", "null"], "minimum": 0, "maximum": 10000 }
        }
      }
    }
  }
}"#;

/// What holds beyond the schema, for whoever writes a plan.
pub const RULES: &str = "depends_on names positions of earlier steps only, counted from 0. Paths are relative to the \
project's root, with forward slashes, without `..`. No text has a NUL character.";

/// A plan as it was worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// In a few sentences.
    pub summary: String,
    /// In order.
    pub steps: Vec<DraftStep>,
}

/// A step as it was worked out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DraftStep {
    /// In a few words.
    pub title: String,
    /// In more.
    pub detail: String,
    /// Paths that it touches.
    pub files: Vec<String>,
    /// Positions of the steps that it rests on.
    pub depends_on: Vec<u32>,
    /// How long it may take a person.
    pub minutes: Option<u32>,
}

/// Reads a plan.
///
/// # Errors
/// What is wrong with it, in words, at most twenty.
pub fn read(json: &str) -> Result<Draft, Vec<String>> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| vec![format!("the answer is no valid JSON: {error}")])?;
    let mut judge = Judge::default();
    let draft = judge.plan(&value);
    match draft {
        Some(draft) if judge.errors.is_empty() => Ok(draft),
        _ => Err(judge.errors),
    }
}

/// Reads the step at a position, alone.
///
/// # Errors
/// As [`read`].
pub fn read_step(json: &str, position: u32) -> Result<DraftStep, Vec<String>> {
    let value: Value = serde_json::from_str(json).map_err(|error| vec![error.to_string()])?;
    let mut judge = Judge::default();
    if position as usize >= STEPS {
        judge.wrong("steps", &format!("has 1 to {STEPS} steps"));
    }
    let step = judge.step(&value, position as usize);
    match step {
        Some(step) if judge.errors.is_empty() => Ok(step),
        _ => Err(judge.errors),
    }
}

/// Whether a path stays in the project, and could be one on any system.
#[must_use]
pub fn is_sane(path: &str) -> bool {
    let drive = path.as_bytes().get(1) == Some(&b':');
    !path.starts_with(['/', '~'])
        && !drive
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "..")
}

#[derive(Default)]
struct Judge {
    errors: Vec<String>,
}

impl Judge {
    fn wrong(&mut self, at: &str, what: &str) {
        if self.errors.len() < ERRORS {
            self.errors.push(format!("{at}: {what}"));
        }
    }

    fn plan(&mut self, value: &Value) -> Option<Draft> {
        let Some(fields) = value.as_object() else {
            self.wrong("the plan", "is a JSON object");
            return None;
        };
        let summary = self.text(fields.get("summary"), "summary", SUMMARY_CHARS);
        let Some(list) = fields.get("steps").and_then(Value::as_array) else {
            self.wrong("steps", "is a list, and required");
            return None;
        };
        if list.is_empty() || list.len() > STEPS {
            self.wrong("steps", &format!("has 1 to {STEPS} steps"));
        }
        let steps = list.iter().take(STEPS).enumerate();
        let steps: Vec<DraftStep> = steps
            .filter_map(|(position, step)| self.step(step, position))
            .collect();
        Some(Draft {
            summary: summary?,
            steps,
        })
    }

    fn step(&mut self, value: &Value, position: usize) -> Option<DraftStep> {
        let at = format!("steps[{position}]");
        let Some(fields) = value.as_object() else {
            self.wrong(&at, "is a JSON object");
            return None;
        };
        let title = self.text(fields.get("title"), &format!("{at}.title"), TITLE_CHARS);
        let detail = self.text(fields.get("detail"), &format!("{at}.detail"), DETAIL_CHARS);
        let files = self.files(fields.get("files"), &format!("{at}.files"));
        let depends_on = fields.get("depends_on");
        let depends_on = self.rests_on(depends_on, &format!("{at}.depends_on"), position);
        let minutes = match fields.get("minutes") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let minutes = whole(value).filter(|minutes| *minutes <= MINUTES);
                if minutes.is_none() {
                    let bounds = format!("is a whole number from 0 to {MINUTES}, or null");
                    self.wrong(&format!("{at}.minutes"), &bounds);
                }
                minutes.map(|minutes| minutes as u32)
            }
        };
        Some(DraftStep {
            title: title?,
            detail: detail?,
            files: files?,
            depends_on: depends_on?,
            minutes,
        })
    }

    fn text(&mut self, value: Option<&Value>, at: &str, most: usize) -> Option<String> {
        let Some(text) = value.and_then(Value::as_str) else {
            self.wrong(at, "is a text, and required");
            return None;
        };
        let chars = text.chars().take(most + 1).count();
        if chars == 0 || chars > most {
            self.wrong(at, &format!("has 1 to {most} characters"));
            return None;
        }
        if text.contains('\0') {
            self.wrong(at, "has no NUL character");
            return None;
        }
        Some(text.to_owned())
    }

    fn list<'a>(&mut self, value: Option<&'a Value>, at: &str, most: usize) -> Option<&'a [Value]> {
        let Some(value) = value else {
            return Some(&[]);
        };
        let list = value.as_array().filter(|list| list.len() <= most);
        if list.is_none() {
            self.wrong(at, &format!("is a list of at most {most}"));
        }
        list.map(Vec::as_slice)
    }

    fn files(&mut self, value: Option<&Value>, at: &str) -> Option<Vec<String>> {
        let list = self.list(value, at, FILES)?;
        let mut files: Vec<String> = Vec::new();
        for value in list {
            let path = self.text(Some(value), at, PATH_CHARS)?;
            if !is_sane(&path) {
                let told = clipped(&path, 80);
                let what = format!("{told:?} is not a path relative to the project, without `..`");
                self.wrong(at, &what);
                return None;
            }
            if !files.contains(&path) {
                files.push(path);
            }
        }
        Some(files)
    }

    fn rests_on(&mut self, value: Option<&Value>, at: &str, position: usize) -> Option<Vec<u32>> {
        let list = self.list(value, at, STEPS)?;
        let mut positions: Vec<u32> = Vec::new();
        for value in list {
            let Some(earlier) = whole(value).filter(|earlier| *earlier < position as u64) else {
                let what = format!("names positions of earlier steps, below {position}");
                self.wrong(at, &what);
                return None;
            };
            if !positions.contains(&(earlier as u32)) {
                positions.push(earlier as u32);
            }
        }
        Some(positions)
    }
}

/// A whole number that is not negative; 3.0 is one too, as in JSON Schema.
fn whole(value: &Value) -> Option<u64> {
    let float = || {
        let float = value.as_f64()?;
        let is_whole = float.fract() == 0.0 && (0.0..1e15).contains(&float);
        is_whole.then_some(float as u64)
    };
    value.as_u64().or_else(float)
}

/// A text's first bytes, at most `most`, cut at a character.
#[must_use]
pub fn clipped(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

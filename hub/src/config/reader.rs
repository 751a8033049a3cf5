//! Walks the table of settings over a TOML file and the environment, collecting every error.
//!
//! A reader of our own, because figment and serde stop at the first error, and a person who sets up
//! a server wants to see all of them at once. Never stops early, never panics on what it reads.

use std::collections::BTreeMap;

use super::rule::{Raw, Rule};
use super::{Described, PREFIX};

/// One thing that is wrong, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting as it was written: a key of the file or a variable of the environment.
    pub at: String,
    /// What is wrong with it.
    pub why: String,
}

/// The state of one reading.
pub(super) struct Reader<'a> {
    file: &'a toml::Table,
    env: &'a BTreeMap<String, String>,
    /// What was wrong so far.
    pub(super) problems: Vec<Problem>,
}

/// The key of a setting as the file and the documentation write it.
pub(super) fn key_of(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// The variable of the environment that sets a key.
pub(super) fn env_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a toml::Table, env: &'a BTreeMap<String, String>) -> Self {
        Self {
            file,
            env,
            problems: Vec::new(),
        }
    }

    /// The value of one setting: the environment's, else the file's, else `default`. A value that is
    /// overridden is checked all the same: it would surprise later.
    pub(super) fn take<T>(&mut self, section: &str, name: &str, default: T, rule: &Rule<T>) -> T {
        let key = key_of(section, name);
        let variable = env_of(&key);
        let table = match section {
            "" => Some(self.file),
            _ => self.file.get(section).and_then(toml::Value::as_table),
        };
        let written = table.and_then(|table| table.get(name));
        let from_file = written.and_then(|value| self.check(rule, Raw::Toml(value), &key));
        let env = self.env;
        let from_env = env
            .get(&variable)
            .and_then(|text| self.check(rule, Raw::Text(text), &variable));
        from_env.or(from_file).unwrap_or(default)
    }

    fn check<T>(&mut self, rule: &Rule<T>, raw: Raw<'_>, at: &str) -> Option<T> {
        match (rule.read)(raw) {
            Ok(value) => Some(value),
            Err(why) => {
                self.problems.push(Problem {
                    at: at.to_owned(),
                    why,
                });
                None
            }
        }
    }

    /// Reports keys of the file and variables of the environment that no setting reads.
    pub(super) fn unknown(&mut self, known: &[Described]) {
        let file = self.file;
        for (name, value) in file {
            let is_section = known.iter().any(|one| section_of(&one.key) == name);
            match value {
                toml::Value::Table(table) if is_section => {
                    for inner in table.keys() {
                        self.unknown_key(&key_of(name, inner), known);
                    }
                }
                _ if is_section => self.problems.push(Problem {
                    at: name.clone(),
                    why: format!("is a section: write [{name}] and its settings below"),
                }),
                _ => self.unknown_key(name, known),
            }
        }
        let env = self.env;
        for variable in env.keys() {
            self.unknown_variable(variable, known);
        }
    }

    fn unknown_key(&mut self, key: &str, known: &[Described]) {
        if known.iter().any(|one| one.key == key) {
            return;
        }
        let why = match nearest(key, known.iter().map(|one| one.key.as_str())) {
            Some((name, _)) => format!("is not a setting; did you mean `{name}`?"),
            None => "is not a setting".to_owned(),
        };
        self.problems.push(Problem {
            at: key.to_owned(),
            why,
        });
    }

    /// Container platforms set variables with our prefix for their own ends (a service called
    /// `tandem` brings TANDEM_PORT and TANDEM_SERVICE_HOST), so only what names one of our sections,
    /// or is a slip of the pen away from a setting, is an error.
    fn unknown_variable(&mut self, variable: &str, known: &[Described]) {
        if variable == super::FILE_VARIABLE || known.iter().any(|one| one.env == variable) {
            return;
        }
        let near = nearest(variable, known.iter().map(|one| one.env.as_str()));
        let ours = known.iter().map(|one| section_of(&one.key)).any(|section| {
            !section.is_empty() && variable.starts_with(&format!("{}_", env_of(section)))
        });
        let why = match near {
            Some((name, distance)) if ours || distance <= 2 => {
                format!("is not a setting; did you mean `{name}`?")
            }
            None if ours => "is not a setting".to_owned(),
            _ => return,
        };
        self.problems.push(Problem {
            at: variable.to_owned(),
            why,
        });
    }
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or("", |(section, _)| section)
}

/// The known name with the fewest letters different, if it is near enough to be meant.
pub(super) fn nearest<'k>(
    name: &str,
    known: impl Iterator<Item = &'k str>,
) -> Option<(&'k str, usize)> {
    let allowed = (name.chars().count() / 3).max(2);
    known
        .map(|candidate| (candidate, distance(name, candidate)))
        .filter(|(_, distance)| *distance <= allowed)
        .min_by_key(|(_, distance)| *distance)
}

/// Levenshtein distance; over a hundred letters nothing is near.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    if left.len() > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        let known = ["auth.issuer", "auth.audience"];
        assert_eq!(
            nearest("auth.isuer", known.into_iter()),
            Some(("auth.issuer", 1))
        );
        assert_eq!(nearest("completely.different", known.into_iter()), None);
    }
}

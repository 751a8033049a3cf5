//! One table of the services' file while it is read: values by their rules, keys that nobody knows.
//!
//! Never stops at the first error: each is kept with the key where it stands.

use super::super::reader::{Problem, nearest};
use super::super::rule::{Raw, Rule};

/// A table, where it stands in the file, and what was wrong in it so far.
pub(super) struct Section<'a> {
    at: String,
    table: &'a toml::Table,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> Section<'a> {
    pub(super) fn new(at: String, table: &'a toml::Table) -> Self {
        Self {
            at,
            table,
            known: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.at)
        }
    }

    /// Notes what is wrong there.
    pub(super) fn wrong(&mut self, at: &str, why: String) {
        self.problems.push(Problem {
            at: at.to_owned(),
            why,
        });
    }

    /// Notes what is wrong with a key of this table.
    pub(super) fn wrong_key(&mut self, name: &str, why: String) {
        let at = self.key(name);
        self.wrong(&at, why);
    }

    fn check<T>(&mut self, name: &str, value: &toml::Value, rule: &Rule<T>) -> Option<T> {
        match (rule.read)(Raw::Toml(value)) {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong_key(name, why);
                None
            }
        }
    }

    /// The value of a key, `default` if it is not there; `None` if it is wrong.
    pub(super) fn take<T>(&mut self, name: &'static str, default: T, rule: &Rule<T>) -> Option<T> {
        self.known.push(name);
        match self.table.get(name) {
            Some(value) => self.check(name, value, rule),
            None => Some(default),
        }
    }

    /// The value of a key that must be there.
    pub(super) fn need<T>(&mut self, name: &'static str, rule: &Rule<T>) -> Option<T> {
        self.known.push(name);
        match self.table.get(name) {
            Some(value) => self.check(name, value, rule),
            None => {
                self.wrong_key(name, format!("is missing: {}", rule.bounds));
                None
            }
        }
    }

    /// What a table within this one says; an empty one if it is not there.
    pub(super) fn table<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let empty = toml::Table::new();
        let table = match self.table.get(name) {
            None => &empty,
            Some(toml::Value::Table(table)) => table,
            Some(_) => {
                self.wrong_key(name, "must be a table".to_owned());
                return None;
            }
        };
        let mut inner = Section::new(self.key(name), table);
        let value = read(&mut inner);
        self.adopt(inner);
        value
    }

    /// As [`Self::table`]; `Some(None)` if it is not there.
    pub(super) fn optional_table<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.table.contains_key(name) {
            return self.table(name, read).map(Some);
        }
        self.known.push(name);
        Some(None)
    }

    /// The tables in the table of that name, with their keys.
    pub(super) fn tables(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Vec<(String, &'a toml::Table)> {
        self.known.push(name);
        let outer = match self.table.get(name) {
            None => return Vec::new(),
            Some(toml::Value::Table(outer)) => outer,
            Some(_) => {
                self.wrong_key(name, "must be a table of tables".to_owned());
                return Vec::new();
            }
        };
        if outer.len() > most {
            self.wrong_key(name, format!("has {} entries, {most} at most", outer.len()));
        }
        let mut found = Vec::new();
        for (key, value) in outer {
            match value {
                toml::Value::Table(table) => found.push((key.clone(), table)),
                _ => self.wrong_key(&format!("{name}.{key}"), "must be a table".to_owned()),
            }
        }
        found
    }

    /// The tables of a list, with where they stand; counted from 1.
    pub(super) fn list_of_tables(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Vec<(String, &'a toml::Table)> {
        self.known.push(name);
        let items = match self.table.get(name) {
            None => return Vec::new(),
            Some(toml::Value::Array(items)) => items,
            Some(_) => {
                self.wrong_key(name, "must be a list of tables".to_owned());
                return Vec::new();
            }
        };
        if items.len() > most {
            self.wrong_key(name, format!("has {} entries, {most} at most", items.len()));
        }
        let mut found = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let at = format!("{name}[{}]", number + 1);
            match item {
                toml::Value::Table(table) => found.push((self.key(&at), table)),
                _ => self.wrong_key(&at, "must be a table".to_owned()),
            }
        }
        found
    }

    /// Takes over what was wrong in a table within this one.
    pub(super) fn adopt(&mut self, inner: Section<'_>) {
        self.problems.append(&mut inner.end());
    }

    /// All that was wrong, keys that nobody asked for included.
    pub(super) fn end(mut self) -> Vec<Problem> {
        for key in self.table.keys() {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let why = match nearest(key, self.known.iter().copied()) {
                Some((near, _)) => format!("is not known here; did you mean `{near}`?"),
                None => format!("is not known here; there are {}", self.known.join(", ")),
            };
            let at = self.key(key);
            self.problems.push(Problem { at, why });
        }
        self.problems
    }
}

//! The house's own rules, checked by reading the sources: which room may name which, how long a file
//! is, what it opens with, and what must not be in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::world::binary::workspace;

/// Longest file in lines.
const LINES: usize = 500;

/// The crates whose sources are read.
const CRATES: [&str; 6] = [
    "protocol",
    "backplane",
    "workers",
    "hub",
    "loadtest",
    "tests",
];

/// A source file: its path within the workspace, and its text.
struct Source {
    path: String,
    text: String,
}

fn gather(folder: &Path, ends: &[&str], into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules" | "dist")
                && !name.starts_with('.')
            {
                gather(&path, ends, into);
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            into.push(path);
        }
    }
}

fn sources(folders: &[&str], ends: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        gather(&workspace().join(folder), ends, &mut paths);
    }
    paths.sort();
    let read = paths.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).expect("a source file"),
        path: path
            .strip_prefix(workspace())
            .expect("within")
            .display()
            .to_string(),
    });
    let read: Vec<Source> = read.collect();
    assert!(
        !read.is_empty(),
        "no sources in {folders:?}: the check would check nothing"
    );
    read
}

fn rust() -> Vec<Source> {
    sources(&CRATES, &[".rs"])
}

/// Fails with everything that was found.
fn none_of(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The rooms of the hub from the ground up; a room may name those below it, and its own floor.
const FLOORS: [&[&str]; 4] = [
    &[
        "config",
        "error",
        "events",
        "limits",
        "sendq",
        "sync",
        "transport",
        "auth",
        "cached",
        "connections",
        "metrics",
        "usage",
    ],
    &["channels", "collab"],
    &[
        "session", "rest", "gateway", "mcp", "listener", "health", "app",
    ],
    &[
        "http", "backends", "guard", "jobs", "node", "demo", "doctor", "main", "cli", "lib",
        "replay", "worker",
    ],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The room of a file below `hub/src`.
fn room(path: &str) -> &str {
    let inside = path.strip_prefix("hub/src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The rooms that a line names by `crate::`, in a list of imports as well.
fn named(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let list = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let names = list.map_or(rest, |(list, _)| list);
        let count = if list.is_some() { usize::MAX } else { 1 };
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for name in names.split(',').take(count) {
            let name: String = name
                .trim_start()
                .chars()
                .take_while(|c| is_name(*c))
                .collect();
            rooms.push(name);
        }
    }
    rooms
}

/// The code of a file, without comments and without its unit tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_of_the_hub_name_only_rooms_below_them() {
    let mut found = Vec::new();
    let mut arrows = 0;
    for Source { path, text } in sources(&["hub/src"], &[".rs"]) {
        let from = room(&path);
        let Some(own) = floor(from) else {
            found.push(format!(
                "{path}: the room {from} has no floor: give it one in this test"
            ));
            continue;
        };
        for to in named(&code(&text)) {
            // What is no room is something of the crate's root.
            let Some(other) = floor(&to) else { continue };
            arrows += 1;
            if other > own {
                found.push(format!(
                    "{path}: {from} (floor {}) names {to} (floor {})",
                    own + 1,
                    other + 1
                ));
            }
            let second = &FLOORS[1];
            if own == 1 && second.contains(&to.as_str()) && to != from {
                found.push(format!(
                    "{path}: {from} calls {to}, a room of its own floor"
                ));
            }
        }
    }
    assert!(
        arrows > 50,
        "only {arrows} arrows were found: the check reads the wrong thing"
    );
    none_of(&found);
}

#[test]
fn the_second_floor_knows_no_http_and_the_protocol_no_runtime() {
    let mut found = Vec::new();
    for Source { path, text } in sources(&["hub/src"], &[".rs"]) {
        let code = code(&text);
        if floor(room(&path)) == Some(1) {
            for foreign in ["axum", "hyper", "crate::session", "tower"] {
                if code.contains(&format!("{foreign}::")) {
                    found.push(format!("{path}: names {foreign}"));
                }
            }
        }
    }
    for Source { path, text } in sources(&["protocol/src"], &[".rs"]) {
        for foreign in [
            "tokio",
            "std::net",
            "std::fs",
            "std::time::SystemTime",
            "std::thread",
        ] {
            let is_tool = path == "protocol/src/bin/schema.rs";
            if code(&text).contains(foreign) && !is_tool {
                found.push(format!("{path}: names {foreign}"));
            }
        }
    }
    let manifest = fs::read_to_string(workspace().join("protocol/Cargo.toml")).expect("a manifest");
    let (wanted, _) = manifest
        .split_once("[dev-dependencies]")
        .unwrap_or((&manifest, ""));
    for foreign in ["tokio", "axum", "hyper", "sqlx"] {
        if wanted.lines().any(|line| line.starts_with(foreign)) {
            found.push(format!("protocol/Cargo.toml: depends on {foreign}"));
        }
    }
    none_of(&found);
}

#[test]
fn crates_depend_one_way() {
    let allowed: [(&str, &[&str]); 6] = [
        ("protocol", &[]),
        ("backplane", &["protocol"]),
        ("workers", &["protocol", "backplane"]),
        ("hub", &["protocol", "backplane", "workers"]),
        ("loadtest", &["protocol"]),
        (
            "tests",
            &["protocol", "backplane", "workers", "hub", "loadtest"],
        ),
    ];
    let mut found = Vec::new();
    for (name, may) in allowed {
        let path = workspace().join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(path).expect("a manifest");
        let mut in_tests = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_tests = line == "[dev-dependencies]";
            }
            // What misbehaves on purpose in tests is shared; it depends on the protocol alone.
            if in_tests && name == "workers" && line.starts_with("loadtest.") {
                continue;
            }
            let on = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if CRATES.contains(&on) && on != name && !may.contains(&on) {
                found.push(format!("{name} depends on {on}"));
            }
        }
    }
    none_of(&found);
}

#[test]
fn files_are_short_and_say_what_they_own() {
    let mut found = Vec::new();
    for Source { path, text } in rust() {
        let lines = text.lines().count();
        if lines > LINES {
            found.push(format!("{path}: {lines} lines, {LINES} at most"));
        }
        if !text.starts_with("//!") {
            found.push(format!("{path}: does not open with `//!`"));
        }
        if path.ends_with("/mod.rs") || path.ends_with("/utils.rs") || path.ends_with("/common.rs")
        {
            found.push(format!("{path}: no mod.rs, no utils, no common"));
        }
    }
    let scripts = sources(&["clients/web/src", "tests/clients"], &[".ts", ".mjs"]);
    for Source { path, text } in scripts {
        if !text.starts_with("//") && !text.starts_with("/*") && !text.starts_with("#!") {
            found.push(format!("{path}: does not open with a comment"));
        }
    }
    none_of(&found);
}

#[test]
fn nothing_is_left_to_do_and_nothing_is_machine_specific() {
    // Put together here, so that this file does not hold what it looks for.
    let unfinished = ["todo!", "dbg!", "unimplemented!"].map(|name| format!("{name}("));
    let notes = ["TO", "FIX"]
        .iter()
        .zip(["DO", "ME"])
        .map(|(a, b)| format!("{a}{b}:"));
    let homes = ["work", "root", "home"].map(|name| format!("/{name}/"));
    let wanted: Vec<String> = unfinished.into_iter().chain(notes).chain(homes).collect();
    let folders = [&CRATES[..], &["docs", "clients", "migrations"]].concat();
    let ends = [
        ".rs", ".ts", ".mjs", ".toml", ".sql", ".md", ".css", ".html", ".snap",
    ];
    let mut found = Vec::new();
    for Source { path, text } in sources(&folders, &ends) {
        for (n, line) in text.lines().enumerate() {
            for sign in &wanted {
                if line.contains(sign.as_str()) {
                    found.push(format!("{path}:{}: {sign}", n + 1));
                }
            }
        }
    }
    none_of(&found);
}

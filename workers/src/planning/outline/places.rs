//! The places of a project that a request is about: files to change, who rests on them, tests, docs.
//!
//! Owns what counts as a test and as documentation, and where a project keeps its tests. What the search does not find
//! is not there; a search that fails finds nothing.

use std::collections::BTreeSet;

use super::super::schema::{PATH_CHARS, is_sane};
use super::words::{Asked, Verb, identifiers, parts};
use crate::context::{Defined, Found, Search};

/// Files of one plan that are changed.
const TARGETS: usize = 6;
/// Files that are taken when the request names no place.
const GUESSED: usize = 3;
/// Files that rest on what is changed; tests; documents.
const CALLERS: usize = 8;
const TESTS: usize = 4;
const DOCS: usize = 3;
/// Chunks that are searched for one name.
const MENTIONS: u32 = 10;
/// Definitions that are read of the files to change.
const DEFINED: u32 = 200;
/// Definitions that are named of one file.
const NAMED: usize = 8;

/// Lines of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) lines: Vec<(u32, u32)>,
    /// Definitions that fit, with their line.
    pub(super) defined: Vec<(String, u32)>,
}

/// The places.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) targets: Vec<Spot>,
    pub(super) callers: Vec<Spot>,
    pub(super) tests: Vec<Spot>,
    pub(super) docs: Vec<Spot>,
    /// Where a new test belongs, if there is anything that it could test.
    pub(super) new_test: Option<String>,
    /// Nothing in the request names a place: the files are what the search thinks best.
    pub(super) guessed: bool,
}

/// Finds them.
pub(super) async fn find(
    search: &dyn Search,
    project: &str,
    asked: &Asked,
    mut chunks: Vec<Found>,
    mut outline: Vec<Defined>,
) -> Places {
    chunks.retain(|chunk| is_usable(&chunk.path));
    outline.retain(|one| is_usable(&one.path));
    let mut mentions: Vec<Found> = Vec::new();
    for name in &asked.names {
        let found = search.search(project, name, MENTIONS).await;
        let found = found.inspect_err(|error| tracing::debug!(project, %error, "no mentions"));
        let names_it = |chunk: &Found| identifiers(&chunk.text).any(|one| one == name);
        let found = found.unwrap_or_default().into_iter().chain(chunks.clone());
        mentions.extend(found.filter(|chunk| is_usable(&chunk.path) && names_it(chunk)));
    }
    let known: BTreeSet<String> = paths_of(&chunks, &mentions, &outline);
    let mut places = Places::default();
    let targets = places.choose(asked, &chunks, &mentions, &outline, &known);
    if !targets.is_empty()
        && let Ok(defined) = search.outline(project, &targets, DEFINED).await
    {
        let new = defined.into_iter().filter(|one| is_usable(&one.path));
        let new: Vec<Defined> = new.filter(|one| !outline.contains(one)).collect();
        outline.extend(new);
    }
    places.targets = targets
        .into_iter()
        .map(|path| spot(path, asked, &chunks, &mentions, &outline))
        .collect();
    places.follow(asked, &chunks, &mentions, &known);
    places
}

impl Places {
    fn choose(
        &mut self,
        asked: &Asked,
        chunks: &[Found],
        mentions: &[Found],
        outline: &[Defined],
        known: &BTreeSet<String>,
    ) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        let mut add = |path: &str, most: usize| {
            if targets.len() < most && !targets.iter().any(|one| one == path) {
                targets.push(path.to_owned());
            }
        };
        for path in &asked.paths {
            let end = format!("/{path}");
            let at = known.iter().find(|one| *one == path || one.ends_with(&end));
            add(at.unwrap_or(path), TARGETS);
        }
        let is_code = |path: &str| !is_test(path) && !is_doc(path);
        let defines = |symbol: &str| {
            identifiers(symbol).any(|one| asked.names.iter().any(|name| name == one))
        };
        for one in outline
            .iter()
            .filter(|one| is_code(&one.path) && defines(&one.symbol))
        {
            add(&one.path, TARGETS);
        }
        let chunk_defines = |chunk: &&Found| chunk.symbol.as_deref().is_some_and(defines);
        for one in mentions.iter().filter(chunk_defines) {
            if is_code(&one.path) {
                add(&one.path, TARGETS);
            }
        }
        for one in mentions.iter().filter(|one| is_code(&one.path)) {
            add(&one.path, 1);
        }
        if targets.is_empty() {
            self.guessed = true;
            let best = chunks.first().map_or(0.0, |chunk| chunk.score);
            let fits = |chunk: &&Found| is_code(&chunk.path) && chunk.score >= best / 2.0;
            for one in chunks.iter().filter(fits).take(GUESSED) {
                if targets.len() < GUESSED && !targets.contains(&one.path) {
                    targets.push(one.path.clone());
                }
            }
        }
        targets
    }

    /// Who rests on the files to change, their tests and their documentation.
    fn follow(
        &mut self,
        asked: &Asked,
        chunks: &[Found],
        mentions: &[Found],
        known: &BTreeSet<String>,
    ) {
        let targets: Vec<String> = self.targets.iter().map(|spot| spot.path.clone()).collect();
        let is_target = |path: &str| targets.iter().any(|one| one == path);
        for one in mentions.iter().filter(|one| !is_target(&one.path)) {
            let (list, most) = match (is_test(&one.path), is_doc(&one.path)) {
                (true, _) => (&mut self.tests, TESTS),
                (_, true) => (&mut self.docs, DOCS),
                _ => (&mut self.callers, CALLERS),
            };
            note(list, most, one);
        }
        let stems: Vec<&str> = targets.iter().map(|path| stem(path)).collect();
        for one in chunks.iter().filter(|one| !is_target(&one.path)) {
            if is_test(&one.path) && stems.iter().any(|stem| is_named_in(stem, &one.path)) {
                note(&mut self.tests, TESTS, one);
            } else if is_doc(&one.path) && asked.names.is_empty() {
                note(&mut self.docs, DOCS, one);
            }
        }
        for path in known {
            let fits = is_test(path) && stems.iter().any(|stem| is_named_in(stem, path));
            let is_known = self.tests.iter().any(|spot| spot.path == *path);
            if fits && !is_target(path) && !is_known && self.tests.len() < TESTS {
                self.tests.push(whole(path));
            }
        }
        let told = [Verb::Add, Verb::Rename, Verb::Remove, Verb::Document].contains(&asked.verb);
        if self.docs.is_empty() && told {
            let readme = known
                .iter()
                .find(|path| stem(path).eq_ignore_ascii_case("readme"));
            self.docs.extend(readme.map(|path| whole(path)));
        }
        if self.tests.is_empty()
            && let Some(target) = targets.iter().find(|path| !is_test(path) && !is_doc(path))
        {
            self.new_test = Some(new_test(target, known));
        }
    }
}

fn is_usable(path: &str) -> bool {
    !path.is_empty() && is_sane(path) && path.chars().count() <= PATH_CHARS
}

fn paths_of(chunks: &[Found], mentions: &[Found], outline: &[Defined]) -> BTreeSet<String> {
    let found = chunks.iter().chain(mentions).map(|chunk| &chunk.path);
    found
        .chain(outline.iter().map(|one| &one.path))
        .cloned()
        .collect()
}

fn whole(path: &str) -> Spot {
    Spot {
        path: path.to_owned(),
        lines: Vec::new(),
        defined: Vec::new(),
    }
}

fn note(list: &mut Vec<Spot>, most: usize, chunk: &Found) {
    let lines = (chunk.first_line, chunk.last_line);
    if let Some(spot) = list.iter_mut().find(|spot| spot.path == chunk.path) {
        if !spot.lines.contains(&lines) && spot.lines.len() < NAMED {
            spot.lines.push(lines);
        }
    } else if list.len() < most {
        list.push(Spot {
            lines: vec![lines],
            ..whole(&chunk.path)
        });
    }
}

/// A file to change, with the definitions that the request names; else those that have its words.
fn spot(
    path: String,
    asked: &Asked,
    chunks: &[Found],
    mentions: &[Found],
    outline: &[Defined],
) -> Spot {
    let here = || outline.iter().filter(|one| one.path == path);
    let is_asked = |one: &str| asked.names.iter().any(|name| name == one);
    let has_word = |one: &str| parts(one).iter().any(|part| asked.words.contains(part));
    let fitting = |fits: &dyn Fn(&str) -> bool| -> Vec<(String, u32)> {
        let fitting = here().filter(|one| identifiers(&one.symbol).any(fits));
        let fitting = fitting.map(|one| (one.symbol.clone(), one.line));
        fitting.take(NAMED).collect()
    };
    let mut defined = fitting(&is_asked);
    if defined.is_empty() {
        defined = fitting(&has_word);
    }
    let mut found = Vec::new();
    let of = if mentions.is_empty() {
        chunks
    } else {
        mentions
    };
    for chunk in of.iter().filter(|chunk| chunk.path == path) {
        note(&mut found, 1, chunk);
    }
    let lines = found.pop().map(|spot| spot.lines).unwrap_or_default();
    Spot {
        path,
        lines,
        defined,
    }
}

fn file(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A file's name without its end: `mod.rs` and `index.ts` go by their folder.
fn stem(path: &str) -> &str {
    let stem = file(path).split('.').next().unwrap_or("");
    let folder = path.rsplit('/').nth(1);
    match stem {
        "mod" | "index" | "lib" | "main" | "__init__" => folder.unwrap_or(stem),
        _ => stem,
    }
}

fn is_named_in(stem: &str, path: &str) -> bool {
    stem.len() >= 3 && file(path).contains(stem)
}

/// Whether a file is a test, by its path.
pub(super) fn is_test(path: &str) -> bool {
    let name = file(path);
    let folders = path.split('/').rev().skip(1);
    folders
        .into_iter()
        .any(|one| ["tests", "test", "__tests__", "spec"].contains(&one))
        || [".test.", ".spec.", "_test."]
            .iter()
            .any(|mark| name.contains(mark))
        || name.starts_with("test_")
        || name == "tests.rs"
}

/// Whether a file is documentation, by its path.
pub(super) fn is_doc(path: &str) -> bool {
    let end = path.rsplit_once('.').map_or("", |(_, end)| end);
    ["md", "mdx", "rst", "adoc", "txt"].contains(&end)
        || path.starts_with("docs/")
        || path.starts_with("doc/")
}

/// Where a test of a file belongs, by the tests that there are, else by its language.
fn new_test(target: &str, known: &BTreeSet<String>) -> String {
    let end = file(target).rsplit_once('.').map_or("", |(_, end)| end);
    let stem = stem(target);
    let folder = target.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = |name: String| match folder {
        "" => name,
        folder => format!("{folder}/{name}"),
    };
    let like = known
        .iter()
        .find(|path| is_test(path) && path.ends_with(&format!(".{end}")));
    let name = match (end, like.map(|path| file(path))) {
        (_, Some(name)) if name.contains(".test.") => format!("{stem}.test.{end}"),
        (_, Some(name)) if name.contains(".spec.") => format!("{stem}.spec.{end}"),
        (_, Some(name)) if name.contains("_test.") => format!("{stem}_test.{end}"),
        (_, Some(name)) if name.starts_with("test_") => format!("test_{stem}.{end}"),
        (_, Some(_)) => format!("{stem}.{end}"),
        ("go", None) => format!("{stem}_test.go"),
        ("py", None) => format!("test_{stem}.py"),
        ("ts" | "tsx" | "js" | "jsx", None) => format!("{stem}.test.{end}"),
        ("", None) => stem.to_owned(),
        (_, None) => format!("{stem}.{end}"),
    };
    let in_folder = like.and_then(|path| {
        let parts: Vec<&str> = path.split('/').collect();
        let named = |part: &&str| ["tests", "test", "__tests__", "spec"].contains(part);
        let at = parts.iter().position(named)?;
        (at + 1 < parts.len()).then(|| parts[..=at].join("/"))
    });
    match (in_folder, like, end) {
        (Some(folder), ..) => format!("{folder}/{name}"),
        (None, Some(_), _) | (None, None, "go" | "ts" | "tsx" | "js" | "jsx") => beside(name),
        (None, None, "rs") => match folder.split_once("src") {
            Some((root, _)) => format!("{root}tests/{name}"),
            None => format!("tests/{name}"),
        },
        (None, None, _) => format!("tests/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_test_stands_where_the_others_do() {
        let known = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        for (target, others, expected) in [
            ("src/frame.rs", &[][..], "tests/frame.rs"),
            ("hub/src/a/frame.rs", &[], "hub/tests/frame.rs"),
            (
                "hub/src/frame.rs",
                &["hub/tests/it/other.rs"],
                "hub/tests/frame.rs",
            ),
            ("app/models.py", &[], "tests/test_models.py"),
            (
                "app/models.py",
                &["app/other_test.py"],
                "app/models_test.py",
            ),
            ("web/src/view.tsx", &[], "web/src/view.test.tsx"),
            (
                "web/src/view.ts",
                &["web/src/a.spec.ts"],
                "web/src/view.spec.ts",
            ),
            (
                "web/src/view/index.ts",
                &["web/src/__tests__/a.test.ts"],
                "web/src/__tests__/view.test.ts",
            ),
            ("pkg/frame.go", &[], "pkg/frame_test.go"),
            ("Makefile", &[], "tests/Makefile"),
        ] {
            assert_eq!(new_test(target, &known(others)), expected, "{target}");
        }
    }

    #[test]
    fn tests_and_docs_are_known_by_their_path() {
        for path in [
            "tests/a.rs",
            "a/test_b.py",
            "x.test.ts",
            "a_test.go",
            "src/a/tests.rs",
        ] {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/attest.rs", "contest/a.rs", "src/testing.rs"] {
            assert!(!is_test(path), "{path}");
        }
        assert!(is_doc("README.md") && is_doc("docs/a.html") && !is_doc("src/docs.rs"));
    }
}

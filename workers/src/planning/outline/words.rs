//! What a request names, as far as it can be seen without understanding it.
//!
//! Owns the words that are known: verbs, and how names and paths of code look. Pure.

use super::super::schema::is_sane;

/// Names that are looked for.
const NAMES: usize = 6;
/// Words that are compared with definitions.
const WORDS: usize = 24;
/// Longest name or path, bytes.
const NAME_BYTES: usize = 200;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Something new.
    Add,
    /// Something is wrong.
    Fix,
    /// Another name.
    Rename,
    /// Something goes.
    Remove,
    /// The same, better.
    Refactor,
    /// Tests alone.
    Test,
    /// Words alone.
    Document,
    /// Anything else.
    Change,
}

/// Each verb by its words; the first word of a request that is here says what is to be done.
const VERBS: &[(Verb, &[&str])] = &[
    (
        Verb::Add,
        &[
            "add",
            "adds",
            "create",
            "implement",
            "introduce",
            "support",
            "build",
            "write",
            "allow",
            "make",
        ],
    ),
    (
        Verb::Fix,
        &[
            "fix", "fixes", "repair", "correct", "debug", "resolve", "solve", "bug", "crash",
        ],
    ),
    (Verb::Rename, &["rename", "renames"]),
    (
        Verb::Remove,
        &["remove", "removes", "delete", "drop", "deprecate"],
    ),
    (
        Verb::Refactor,
        &[
            "refactor",
            "extract",
            "split",
            "simplify",
            "restructure",
            "clean",
            "move",
            "optimize",
        ],
    ),
    (Verb::Test, &["test", "tests", "cover"]),
    (
        Verb::Document,
        &["document", "documents", "describe", "explain"],
    ),
    (
        Verb::Change,
        &[
            "change", "update", "improve", "replace", "upgrade", "migrate", "use",
        ],
    ),
];

/// What makes of "add" and "write" something else.
const OBJECTS: &[(Verb, &[&str])] = &[
    (Verb::Test, &["test", "tests"]),
    (
        Verb::Document,
        &["documentation", "docs", "readme", "comments"],
    ),
];

/// Words that say nothing of a place.
const COMMON: &[&str] = &[
    "that", "this", "with", "from", "into", "when", "then", "them", "they", "have", "should",
    "must", "which", "what", "where", "there", "their", "only", "also", "each", "every", "some",
    "more", "than", "such", "file", "files", "code", "function", "class", "method", "module",
    "please", "because", "does", "like", "need", "needs", "want",
];

/// Ends of files that are paths even without a folder.
const ENDS: &[&str] = &[
    "rs", "py", "js", "jsx", "ts", "tsx", "go", "md", "toml", "json", "yml", "yaml", "sql", "html",
    "css", "sh", "txt",
];

/// What a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    /// Names of code, in their order.
    pub(super) names: Vec<String>,
    /// The name that something gets, of a renaming.
    pub(super) new_name: Option<String>,
    pub(super) paths: Vec<String>,
    /// Other words, in lower case.
    pub(super) words: Vec<String>,
}

/// Reads a request.
pub(super) fn understood(request: &str) -> Asked {
    let mut asked = Asked {
        verb: Verb::Change,
        names: Vec::new(),
        new_name: None,
        paths: Vec::new(),
        words: Vec::new(),
    };
    // Every second part stands between backticks, if the last one is closed.
    let parts: Vec<&str> = request.split('`').collect();
    let mut plain: Vec<String> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let is_quoted = at % 2 == 1 && at + 1 < parts.len();
        for token in part.split_whitespace() {
            asked.note(token, is_quoted, &mut plain);
        }
    }
    asked.verb = verb(&plain);
    if asked.verb == Verb::Rename && asked.names.len() > 1 {
        asked.new_name = Some(asked.names.remove(1));
    }
    let is_verb = |word: &String| {
        VERBS
            .iter()
            .any(|(_, words)| words.contains(&word.as_str()))
    };
    for word in plain {
        let says = word.chars().count() >= 4 && !COMMON.contains(&word.as_str());
        if says && !is_verb(&word) && !asked.words.contains(&word) && asked.words.len() < WORDS {
            asked.words.push(word);
        }
    }
    asked
}

impl Asked {
    fn note(&mut self, token: &str, is_quoted: bool, plain: &mut Vec<String>) {
        let marks = |char: char| !char.is_alphanumeric() && char != '_' && char != '/';
        // A dot at the front belongs to a path: .github/ci.yml
        let token = token.trim_end_matches(marks);
        let token = token.trim_start_matches(|char| marks(char) && char != '.');
        if token.is_empty() || token.len() > NAME_BYTES {
            return;
        }
        if is_path(token) {
            let path = token.trim_start_matches("./").trim_end_matches('/');
            push(&mut self.paths, path);
            return;
        }
        let name = token.rsplit(['.', ':', '#', '/']).next().unwrap_or(token);
        if is_name(name) || (is_quoted && is_identifier(name)) {
            push(&mut self.names, name);
        } else if token.chars().all(char::is_alphabetic) {
            plain.push(token.to_lowercase());
        }
    }
}

fn push(list: &mut Vec<String>, one: &str) {
    if list.len() < NAMES && !one.is_empty() && !list.iter().any(|known| known == one) {
        list.push(one.to_owned());
    }
}

fn verb(words: &[String]) -> Verb {
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let known = VERBS
            .iter()
            .find(|(_, words)| words.contains(&word.as_str()));
        known.map(|(verb, _)| (at, *verb))
    });
    let Some((at, verb)) = found else {
        return Verb::Change;
    };
    if verb == Verb::Add {
        for word in words.iter().skip(at + 1).take(3) {
            let object = OBJECTS
                .iter()
                .find(|(_, words)| words.contains(&word.as_str()));
            if let Some((verb, _)) = object {
                return *verb;
            }
        }
    }
    verb
}

/// `src/a.rs`, `docs/`, `README.md`; not `and/or`, not an address.
fn is_path(token: &str) -> bool {
    let plain = token
        .chars()
        .all(|char| char.is_alphanumeric() || "._-/@+".contains(char));
    let last = token.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let end = last.rsplit_once('.').map(|(_, end)| end.to_lowercase());
    let has_end = end.is_some_and(|end| ENDS.contains(&end.as_str()));
    let is_folder = token.ends_with('/') && token.len() > 1;
    plain && is_sane(token) && (has_end || is_folder)
}

fn is_identifier(name: &str) -> bool {
    let starts = |char: char| char.is_alphabetic() || char == '_';
    name.chars().next().is_some_and(starts)
        && name
            .chars()
            .all(|char| char.is_alphanumeric() || char == '_')
}

/// Looks like a name of code: `snake_case`, `camelCase`, `CamelCase`.
fn is_name(name: &str) -> bool {
    if !is_identifier(name) {
        return false;
    }
    let snake = name.trim_matches('_').contains('_');
    let chars: Vec<char> = name.chars().collect();
    let hump = chars
        .windows(2)
        .any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase());
    snake || hump
}

/// The words of an identifier, in lower case: `parseFrame`, `parse_frame` have `parse` and `frame`.
pub(super) fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for char in identifier.chars() {
        if char == '_' || (before.is_lowercase() && char.is_uppercase()) {
            parts.push(String::new());
        }
        if char != '_'
            && let Some(last) = parts.last_mut()
        {
            last.extend(char.to_lowercase());
        }
        before = char;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The identifiers in a text.
pub(super) fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_')
        .filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_verbs_names_and_paths() {
        let asked = understood("Rename `parse` to `decode` in src/frame.rs, and tell FrameReader.");
        assert_eq!(asked.verb, Verb::Rename);
        assert_eq!(asked.names, ["parse", "FrameReader"]);
        assert_eq!(asked.new_name.as_deref(), Some("decode"));
        assert_eq!(asked.paths, ["src/frame.rs"]);

        let asked =
            understood("The session crashes when read_frame() gets an empty frame and/or none");
        assert_eq!(asked.names, ["read_frame"]);
        assert_eq!(asked.paths, [""; 0]);
        assert!(asked.words.contains(&"session".to_owned()), "{asked:?}");
    }

    #[test]
    fn the_object_says_what_adding_is() {
        for (request, verb) in [
            ("Add a dark theme", Verb::Add),
            ("add some tests for the parser", Verb::Test),
            ("Write the documentation of /ws", Verb::Document),
            ("Fix the test", Verb::Fix),
            ("remove it", Verb::Remove),
            ("größer, bitte", Verb::Change),
            ("", Verb::Change),
        ] {
            assert_eq!(understood(request).verb, verb, "{request}");
        }
    }

    #[test]
    fn odd_requests_are_read_all_the_same() {
        for request in [
            "```",
            "`",
            "` `",
            "../../etc/passwd `../x.rs`",
            "C:\\x.rs",
            "/",
            "./",
            "…`ü`…",
        ] {
            let asked = understood(request);
            assert!(asked.paths.iter().all(|path| is_sane(path)), "{asked:?}");
        }
        assert_eq!(parts("parseHTTPFrame_two"), ["parse", "httpframe", "two"]);
    }
}

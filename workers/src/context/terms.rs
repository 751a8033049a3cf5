//! Words as the index has them: of a text, and of who searches, by one rule.
//!
//! A word is a run of letters, digits and underscores. It is split at underscores, between digits and letters and where
//! capitals say so; `parseURLs` is found by `parse` and `url`, and as a whole by `parse_urls`. Endings of English
//! words are cut, so that `parsing` finds `parse`. Never looks into the index.

use backplane::store::context::MOST_TERMS;

/// Longest word that is looked at, characters: what is longer is no word but data.
const LONGEST: usize = 64;
/// Most terms of one text.
const MOST: usize = 4096;

/// Words that say nothing of what somebody looks for.
const STOP: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been",
    "before", "but", "by", "can", "could", "did", "do", "does", "each", "for", "from", "had",
    "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "just", "me", "my", "of",
    "on", "or", "our", "should", "so", "some", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "to", "up", "us", "was", "we", "were",
    "what", "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
];

/// The terms of a text, in order, each as often as it stands there; at most 4,096.
#[must_use]
pub fn of_text(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
        if terms.len() >= MOST {
            break;
        }
        of_word(word, &mut terms);
    }
    terms.truncate(MOST);
    terms
}

/// The terms to search by: each once, at most as many as the store goes by.
#[must_use]
pub fn of_query(words: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    for term in of_text(words) {
        if terms.len() < MOST_TERMS && !terms.contains(&term) {
            terms.push(term);
        }
    }
    terms
}

fn of_word(word: &str, into: &mut Vec<String>) {
    if word.is_empty() || word.chars().count() > LONGEST {
        return;
    }
    let parts = parts(word);
    for part in &parts {
        // Single letters are variables; a digit or a character of another script may be meant.
        let is_letter = part.len() == 1 && part.as_bytes()[0].is_ascii_alphabetic();
        if !is_letter && !STOP.contains(&part.as_str()) {
            into.push(stem(part.clone()));
        }
    }
    if parts.len() > 1 {
        into.push(stem(parts.concat()));
    }
}

/// A word in its parts, in lower case.
fn parts(word: &str) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    let (mut parts, mut part) = (Vec::new(), String::new());
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let next = chars.get(at + 1);
        let begins = before.is_some_and(|before| {
            let after_small = c.is_uppercase() && !before.is_uppercase();
            // The last capital of several begins the next part: `HTTPServer`.
            let last_capital =
                c.is_uppercase() && before.is_uppercase() && next.is_some_and(|n| n.is_lowercase());
            after_small || last_capital || c.is_numeric() != before.is_numeric()
        });
        if (begins || c == '_') && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if c != '_' {
            // Some capitals have a mark of their own in lower case, which is no letter.
            part.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// An English word without the endings that tell its forms apart; other words stay as they are.
fn stem(mut word: String) -> String {
    if word.len() < 4 || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word;
    }
    if word.ends_with("ies") && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if word.ends_with("sses") || word.ends_with("xes") || word.ends_with("ches") {
        word.truncate(word.len() - 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        word.pop();
    }
    for (end, left) in [("ing", 3), ("ed", 3)] {
        let Some(rest) = word.strip_suffix(end) else {
            continue;
        };
        let has_vowel = rest.bytes().any(|b| b"aeiouy".contains(&b));
        if rest.len() >= left && has_vowel {
            word.truncate(rest.len());
            let bytes = word.as_bytes();
            let last = bytes[bytes.len() - 1];
            // `stopped`, but not `called`.
            if bytes.len() > 3 && bytes[bytes.len() - 2] == last && !b"lsz".contains(&last) {
                word.pop();
            }
            break;
        }
    }
    if word.len() > 3 && word.ends_with('e') {
        word.pop();
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_split_and_kept_whole() {
        let cases: [(&str, &[&str]); 12] = [
            ("parseURL", &["pars", "url", "parseurl"]),
            ("parse_url", &["pars", "url", "parseurl"]),
            ("HTTPServer2", &["http", "server", "2", "httpserver2"]),
            ("__init__", &["init"]),
            ("MAX_FILE_BYTES", &["max", "fil", "byt", "maxfilebyt"]),
            ("utf8", &["utf", "8", "utf8"]),
            ("x = y + 1", &["1"]),
            ("the list of a user", &["list", "user"]),
            ("is_empty()", &["empty", "isempty"]),
            ("Größe der Straße", &["größe", "der", "straße"]),
            ("İstanbul", &["istanbul"]),
            ("日本語 text", &["日本語", "text"]),
        ];
        for (text, expected) in cases {
            assert_eq!(of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn forms_of_a_word_are_one_term() {
        for forms in [
            &["parse", "parses", "parsed", "parsing"][..],
            &["query", "queries"],
            &["stop", "stopped", "stopping", "stops"],
            &["file", "files"],
            &["match", "matches", "matched", "matching"],
            &["call", "called", "calling"],
            &["box", "boxes"],
        ] {
            let terms: Vec<_> = forms.iter().map(|form| of_text(form)).collect();
            assert!(terms.windows(2).all(|two| two[0] == two[1]), "{terms:?}");
        }
        for (one, other) in [
            ("string", "str"),
            ("class", "clas"),
            ("bus", "bu"),
            ("red", "r"),
        ] {
            assert_ne!(of_text(one), of_text(other));
        }
    }

    #[test]
    fn a_query_has_each_term_once() {
        assert_eq!(of_query("parse the parsed URL, url!"), ["pars", "url"]);
        assert_eq!(of_query(" \u{0}\"'*() "), [""; 0]);
    }

    #[test]
    fn hostile_texts_are_bounded() {
        assert_eq!(of_text(&"x".repeat(1 << 20)), [""; 0]);
        assert_eq!(of_text(&"word ".repeat(1 << 17)).len(), MOST);
        let many: String = (0..100_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(of_query(&many).len(), MOST_TERMS);
        for term in of_text("a\u{301}b \u{0} '\\ 1e9 ²³ ﬁn ǅ \u{10ffff}x") {
            assert!(term.chars().all(char::is_alphanumeric), "{term}");
        }
    }
}

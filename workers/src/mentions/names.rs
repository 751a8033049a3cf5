//! Where a text may name somebody: `@login`.
//!
//! Owns what counts as naming. Pure: who is a member is asked elsewhere, so that `@Component` before a class names
//! nobody unless somebody is called so.
//!
//! A name begins with an `@` that follows neither a letter or digit nor one of `._@+-/`: addresses of e-mail and the web
//! name nobody. It reaches as far as a login may; punctuation at its end belongs to it only if a member is called
//! so. What is followed by a letter that no login has, or by `/` and more (`@scope/package`), is no name.

use std::collections::HashSet;

/// Most places that are looked at in a text; further ones are left out.
const PLACES: usize = 2000;
/// Longest and shortest login, bytes.
const LOGIN_BYTES: std::ops::RangeInclusive<usize> = 2..=64;
/// Most marks of punctuation that are taken off an end.
const MARKS: usize = 4;
/// Longest excerpt of a line, characters, and how many of them lie before the name at most.
const EXCERPT: usize = 200;
const BEFORE: usize = 80;

/// A place where somebody may be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Logins that it may stand for, in lower case, the best first; at least one.
    pub(super) logins: Vec<String>,
    /// Its line, from 1.
    pub(super) line: u32,
    /// What the line says around it.
    pub(super) excerpt: String,
}

/// The first place of each name, in the order of the text.
pub(super) fn places(text: &str) -> Vec<Place> {
    let (mut places, mut seen) = (Vec::new(), HashSet::new());
    for (number, line) in (1..).zip(text.lines()) {
        let mut from = 0;
        while let Some(at) = line[from..].find('@').map(|found| from + found) {
            from = at + 1;
            let Some(logins) = logins_at(line, at) else {
                continue;
            };
            if !seen.insert(logins[0].clone()) {
                continue;
            }
            if places.len() == PLACES {
                return places;
            }
            places.push(Place {
                logins,
                line: number,
                excerpt: excerpt(line, at),
            });
        }
    }
    places
}

fn in_login(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte)
}

/// What the `@` at that place may stand for.
fn logins_at(line: &str, at: usize) -> Option<Vec<String>> {
    let before = line[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || "._@+-/".contains(c)) {
        return None;
    }
    let rest = &line[at + 1..];
    let end = rest.bytes().position(|byte| !in_login(byte));
    let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
    let mut after = after.chars();
    match after.next() {
        Some('/') if after.next().is_some_and(char::is_alphanumeric) => return None,
        Some(next) if next.is_alphanumeric() => return None,
        _ => {}
    }
    if !name.as_bytes().first()?.is_ascii_alphanumeric() {
        return None;
    }
    let mut logins = Vec::new();
    let mut name = name;
    for _ in 0..=MARKS {
        if LOGIN_BYTES.contains(&name.len()) {
            logins.push(name.to_ascii_lowercase());
        }
        if name.as_bytes().last()?.is_ascii_alphanumeric() {
            break;
        }
        name = &name[..name.len() - 1];
    }
    (!logins.is_empty()).then_some(logins)
}

fn excerpt(line: &str, at: usize) -> String {
    let mut before = line[..at].char_indices().rev();
    let start = before.nth(BEFORE - 1).map_or(0, |(start, _)| start);
    let shown = &line[start..];
    let end = shown.char_indices().nth(EXCERPT);
    let shown = end.map_or(shown, |(end, _)| &shown[..end]);
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Vec<String> {
        let places = places(text);
        places
            .into_iter()
            .map(|one| one.logins[0].clone())
            .collect()
    }

    #[test]
    fn names_stand_alone() {
        for (text, named) in [
            ("@alice", &["alice"][..]),
            ("ask @Alice, or (@bob-2)!", &["alice", "bob-2"]),
            ("// @alice: \"@bob\"", &["alice", "bob"]),
            ("@alice@example.org", &["alice@example.org"]),
            ("@alice @ALICE @alice", &["alice"]),
            ("mail bob@example.org", &[]),
            ("https://example.org/@alice", &[]),
            ("import x from '@alice/utils'", &[]),
            ("@alicé @älice é@alice", &[]),
            ("@ @@ @-a @a @.b", &[]),
            ("@Component\nclass X {}", &["component"]),
            ("@app.route('/')", &["app.route"]),
            ("日本 @alice日 @bob。", &["bob"]),
        ] {
            assert_eq!(first(text), named, "{text}");
        }
        assert_eq!(first(&format!("@{}", "a".repeat(64))).len(), 1);
        assert!(first(&format!("@{}", "a".repeat(65))).is_empty());
    }

    #[test]
    fn an_end_may_be_punctuation() {
        let place = &places("Thanks @alice.-. Bye")[0];
        assert_eq!(place.logins, ["alice.-.", "alice.-", "alice.", "alice"]);
        let places = places(&format!("@{}.", "a".repeat(64)));
        assert_eq!(places[0].logins, ["a".repeat(64)]);
    }

    #[test]
    fn a_place_knows_its_line() {
        let found = places("one\n\n  see @alice here \r\n");
        assert_eq!((found[0].line, &*found[0].excerpt), (3, "see @alice here"));
        let long = format!("{}@alice{}", "ü".repeat(500), "ö".repeat(500));
        assert!(places(&long).is_empty());
        let long = format!("{} @alice {}", "ü".repeat(500), "ö".repeat(500));
        let excerpt = &places(&long)[0].excerpt;
        assert!(excerpt.contains(" @alice ö"), "{excerpt}");
        assert_eq!(excerpt.chars().count(), EXCERPT);
    }

    #[test]
    fn places_are_bounded() {
        let many: String = (0..PLACES + 5).map(|n| format!("@user{n} ")).collect();
        assert_eq!(places(&many).len(), PLACES);
    }
}

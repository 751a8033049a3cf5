//! Edits that are asked for one by one: at places, of phrases, at the end.
//!
//! Each sees what those before it made. If one can't be made none is, and the error says which.

use std::ops::Range;

use super::{Splice, units};

/// What an offset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// UTF-16 units, as Yjs and editors in browsers count.
    #[default]
    Utf16,
    /// Unicode scalar values.
    CodePoint,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextEdit {
    /// Replaces what lies between two places; nothing lies between equal ones.
    At {
        /// Where it begins.
        from: u64,
        /// Where it ends; not before `from`.
        to: u64,
        /// What both count.
        unit: Unit,
        /// What comes there.
        text: String,
    },
    /// Replaces a phrase.
    Phrase {
        /// It, as it stands in the text; not empty.
        find: String,
        /// What comes in its place.
        replace: String,
        /// Which one of several, from 1; without it there must be only one.
        occurrence: Option<u32>,
    },
    /// Adds at the end.
    Append(String),
}

/// Most characters of text that the edits of one request may walk over, all edits together: it bounds
/// how long a document's task is busy with them.
pub const MOST_WORK: usize = 64 << 20;

/// Why an edit can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A place is not in the text.
    #[error("a place lies outside of the text, which has {0} characters as it counts them")]
    OutOfRange(u64),
    /// It ends before it begins.
    #[error("it ends before it begins")]
    Backwards,
    /// A place lies between the two halves of a character.
    #[error("a place lies between the two UTF-16 halves of a character")]
    SplitsCharacter,
    /// The phrase to replace is empty.
    #[error("the phrase to find is empty")]
    EmptyPhrase,
    /// The phrase is not there.
    #[error("the phrase is not in the text")]
    NotFound,
    /// The phrase is there several times and none was chosen.
    #[error("the phrase is in the text more than once: say which occurrence, from 1")]
    Ambiguous,
    /// The phrase is not there that often.
    #[error("the phrase is in the text {0} times only")]
    TooFew(u32),
    /// All edits together would take too long.
    #[error("so many edits of so long a text are too much for one request")]
    TooMuch,
}

impl Fault {
    /// Whether another state of the text would allow it: otherwise the request itself is wrong.
    #[must_use]
    pub fn depends_on_text(self) -> bool {
        !matches!(self, Self::Backwards | Self::EmptyPhrase | Self::TooMuch)
    }
}

/// Which edit can't be made, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("edit {index}: {fault}")]
pub struct EditError {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Why.
    pub fault: Fault,
}

/// The splices that make these edits, in order.
///
/// # Errors
/// The first edit that can't be made.
pub fn splices(text: &str, edits: &[TextEdit]) -> Result<Vec<Splice>, EditError> {
    let mut text = text.to_owned();
    let mut splices = Vec::with_capacity(edits.len());
    let mut work = 0_usize;
    for (index, edit) in edits.iter().enumerate() {
        let failed = |fault| EditError { index, fault };
        work = work.saturating_add(text.len());
        if work > MOST_WORK && index > 0 {
            return Err(failed(Fault::TooMuch));
        }
        let (range, inserted) = placed(&text, edit).map_err(failed)?;
        if range.is_empty() && inserted.is_empty() {
            continue;
        }
        splices.push(Splice {
            at: units(&text[..range.start]),
            removed: units(&text[range.clone()]),
            inserted: inserted.to_owned(),
        });
        text.replace_range(range, inserted);
    }
    Ok(splices)
}

/// Which bytes go, and what comes there.
fn placed<'a>(text: &str, edit: &'a TextEdit) -> Result<(Range<usize>, &'a str), Fault> {
    match edit {
        TextEdit::Append(added) => Ok((text.len()..text.len(), added)),
        TextEdit::At {
            from,
            to,
            unit,
            text: inserted,
        } => {
            if to < from {
                return Err(Fault::Backwards);
            }
            let byte =
                |offset| byte_of(text, offset, *unit).ok_or_else(|| misplaced(text, offset, *unit));
            Ok((byte(*from)?..byte(*to)?, inserted))
        }
        TextEdit::Phrase {
            find,
            replace,
            occurrence,
        } => {
            let start = occurrence_of(text, find, *occurrence)?;
            Ok((start..start + find.len(), replace))
        }
    }
}

fn occurrence_of(text: &str, find: &str, occurrence: Option<u32>) -> Result<usize, Fault> {
    if find.is_empty() {
        return Err(Fault::EmptyPhrase);
    }
    let mut found = text.match_indices(find).map(|(at, _)| at);
    match occurrence {
        None => {
            let first = found.next().ok_or(Fault::NotFound)?;
            // Also one that overlaps the first makes it unclear which is meant.
            let next = first + text[first..].chars().next().map_or(1, char::len_utf8);
            match text[next..].contains(find) {
                true => Err(Fault::Ambiguous),
                false => Ok(first),
            }
        }
        Some(wanted) => {
            let mut count = 0;
            for at in found {
                count += 1;
                if count == wanted {
                    return Ok(at);
                }
            }
            Err(match count {
                0 => Fault::NotFound,
                _ => Fault::TooFew(count),
            })
        }
    }
}

/// The byte at which a place lies, if it lies in the text and between characters.
pub(super) fn byte_of(text: &str, offset: u64, unit: Unit) -> Option<usize> {
    let offset = usize::try_from(offset).ok()?;
    if text.is_ascii() {
        return (offset <= text.len()).then_some(offset);
    }
    let mut counted = 0;
    for (at, c) in text.char_indices() {
        if counted >= offset {
            return (counted == offset).then_some(at);
        }
        counted += match unit {
            Unit::Utf16 => c.len_utf16(),
            Unit::CodePoint => 1,
        };
    }
    (counted == offset).then_some(text.len())
}

fn misplaced(text: &str, offset: u64, unit: Unit) -> Fault {
    let length = match unit {
        Unit::Utf16 => u64::from(units(text)),
        Unit::CodePoint => text.chars().count() as u64,
    };
    match offset > length {
        true => Fault::OutOfRange(length),
        false => Fault::SplitsCharacter,
    }
}

#[cfg(test)]
mod tests {
    use super::super::spliced;
    use super::*;

    fn at(from: u64, to: u64, text: &str) -> TextEdit {
        let (unit, text) = (Unit::Utf16, text.to_owned());
        TextEdit::At {
            from,
            to,
            unit,
            text,
        }
    }

    fn phrase(find: &str, replace: &str, occurrence: Option<u32>) -> TextEdit {
        let (find, replace) = (find.to_owned(), replace.to_owned());
        TextEdit::Phrase {
            find,
            replace,
            occurrence,
        }
    }

    fn edited(text: &str, edits: &[TextEdit]) -> Result<String, (usize, Fault)> {
        let splices = splices(text, edits).map_err(|error| (error.index, error.fault))?;
        Ok(spliced(text, &splices).unwrap())
    }

    #[test]
    fn each_edit_sees_what_those_before_it_made() {
        let edits = [
            at(0, 0, "/"),
            TextEdit::Append("!".to_owned()),
            phrase("/one", "1", None),
            at(1, 2, "-"),
        ];
        assert_eq!(edited("one two", &edits).unwrap(), "1-two!");
        assert_eq!(edited("", &[TextEdit::Append("a".into())]).unwrap(), "a");
        assert_eq!(
            splices("a", &[at(1, 1, ""), phrase("a", "a", None)])
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn places_count_what_they_say() {
        let text = "a😀ü!";
        let point = |from, to| TextEdit::At {
            from,
            to,
            unit: Unit::CodePoint,
            text: "x".into(),
        };
        assert_eq!(edited(text, &[at(1, 3, "x")]).unwrap(), "axü!");
        assert_eq!(edited(text, &[point(1, 2)]).unwrap(), "axü!");
        assert_eq!(edited(text, &[at(5, 5, "x")]).unwrap(), "a😀ü!x");
        assert_eq!(
            edited(text, &[at(2, 3, "x")]),
            Err((0, Fault::SplitsCharacter))
        );
        assert_eq!(
            edited(text, &[at(0, 1, ""), at(5, 5, "")]),
            Err((1, Fault::OutOfRange(4)))
        );
        assert_eq!(edited(text, &[point(5, 5)]), Err((0, Fault::OutOfRange(4))));
        assert_eq!(edited("abc", &[at(2, 1, "")]), Err((0, Fault::Backwards)));
        assert_eq!(
            edited("abc", &[at(u64::MAX, u64::MAX, "")]),
            Err((0, Fault::OutOfRange(3)))
        );
    }

    #[test]
    fn a_phrase_must_be_clear() {
        assert_eq!(edited("x y x", &[phrase("y", "z", None)]).unwrap(), "x z x");
        assert_eq!(
            edited("x y x", &[phrase("x", "z", None)]),
            Err((0, Fault::Ambiguous))
        );
        assert_eq!(
            edited("aaa", &[phrase("aa", "z", None)]),
            Err((0, Fault::Ambiguous))
        );
        assert_eq!(
            edited("x y x", &[phrase("x", "z", Some(2))]).unwrap(),
            "x y z"
        );
        assert_eq!(
            edited("x y x", &[phrase("x", "z", Some(3))]),
            Err((0, Fault::TooFew(2)))
        );
        assert_eq!(
            edited("x", &[phrase("y", "z", Some(1))]),
            Err((0, Fault::NotFound))
        );
        assert_eq!(
            edited("x", &[phrase("", "z", None)]),
            Err((0, Fault::EmptyPhrase))
        );
        assert_eq!(
            edited("x", &[phrase("x", "z", Some(0))]),
            Err((0, Fault::TooFew(1)))
        );
    }

    #[test]
    fn the_work_of_a_request_is_bounded() {
        let long = "é".repeat(MOST_WORK / 64);
        let edits = vec![at(0, 0, "x"); 64];
        let refused = splices(&long, &edits).unwrap_err();
        assert_eq!(refused.fault, Fault::TooMuch);
        assert!(splices(&long, &edits[..8]).is_ok());
    }
}

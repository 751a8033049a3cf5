//! What differs between two texts, as few and small splices: people who edit beside it lose nothing but
//! what really changed.
//!
//! What both begin and end with is left alone. Between, words are compared if there are not too many, else
//! lines, and words within those that changed. A deadline bounds the time; past it the answer is right but
//! coarser.

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::{Splice, units};

/// How long the search for a small difference may take.
const PATIENCE: Duration = Duration::from_millis(50);
/// Words of both texts together that are compared with each other.
const WORDS: usize = 4_096;

/// The splices that turn `from` into `to`.
#[must_use]
pub fn splices(from: &str, to: &str) -> Vec<Splice> {
    let prefix = common(from.chars().zip(to.chars()));
    let (from, to, skipped) = (&from[prefix..], &to[prefix..], &from[..prefix]);
    let suffix = common(from.chars().rev().zip(to.chars().rev()));
    let (from, to) = (&from[..from.len() - suffix], &to[..to.len() - suffix]);
    let mut found = Found {
        at: units(skipped),
        splices: Vec::new(),
        deadline: Instant::now() + PATIENCE,
    };
    found.between(from, to);
    found.splices
}

fn common(pairs: impl Iterator<Item = (char, char)>) -> usize {
    let same = pairs.take_while(|(a, b)| a == b);
    same.map(|(a, _)| a.len_utf8()).sum()
}

struct Found {
    /// Where the next difference would be, in the text as the splices so far leave it.
    at: u32,
    splices: Vec<Splice>,
    deadline: Instant,
}

impl Found {
    fn between(&mut self, from: &str, to: &str) {
        if from.is_empty() || to.is_empty() {
            return self.replace(from, to);
        }
        if from.len().saturating_add(to.len()) <= 16 * WORDS {
            let (old, new) = (words(from), words(to));
            if old.len() + new.len() <= WORDS {
                return self.walk(&old, &new, Self::replace);
            }
        }
        let old: Vec<&str> = from.split_inclusive('\n').collect();
        let new: Vec<&str> = to.split_inclusive('\n').collect();
        self.walk(&old, &new, |found, from, to| {
            let (old, new) = (words(from), words(to));
            if old.len() + new.len() <= WORDS {
                found.walk(&old, &new, Self::replace);
            } else {
                found.replace(from, to);
            }
        });
    }

    /// Compares two lists of pieces; what differs goes to `differs` as two texts.
    fn walk(&mut self, old: &[&str], new: &[&str], differs: impl Fn(&mut Self, &str, &str)) {
        let ops = capture_diff_slices_deadline(Algorithm::Myers, old, new, Some(self.deadline));
        // Pieces that lie beside each other in one list lie beside each other in its text.
        let (mut gone, mut come) = (String::new(), String::new());
        for op in ops {
            if let DiffOp::Equal { old_index, len, .. } = op {
                self.flush(&mut gone, &mut come, &differs);
                let same: u32 = old[old_index..old_index + len]
                    .iter()
                    .map(|piece| units(piece))
                    .sum();
                self.at += same;
            } else {
                gone.extend(old[op.old_range()].iter().copied());
                come.extend(new[op.new_range()].iter().copied());
            }
        }
        self.flush(&mut gone, &mut come, &differs);
    }

    fn flush(
        &mut self,
        gone: &mut String,
        come: &mut String,
        differs: &impl Fn(&mut Self, &str, &str),
    ) {
        if !gone.is_empty() || !come.is_empty() {
            differs(self, gone, come);
            gone.clear();
            come.clear();
        }
    }

    fn replace(&mut self, from: &str, to: &str) {
        if from.is_empty() && to.is_empty() {
            return;
        }
        self.splices.push(Splice {
            at: self.at,
            removed: units(from),
            inserted: to.to_owned(),
        });
        self.at += units(to);
    }
}

/// A text cut into words, runs of blanks, and single other characters.
fn words(text: &str) -> Vec<&str> {
    #[derive(PartialEq)]
    enum Kind {
        Word,
        Blank,
        Other,
    }
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' => Kind::Word,
        ' ' | '\t' => Kind::Blank,
        _ => Kind::Other,
    };
    let mut words = Vec::new();
    let mut start = 0;
    let mut before: Option<Kind> = None;
    for (at, c) in text.char_indices() {
        let now = kind(c);
        if before.is_some_and(|before| before != now || now == Kind::Other) {
            words.push(&text[start..at]);
            start = at;
        }
        before = Some(now);
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spliced;
    use super::*;

    #[test]
    fn only_what_changed_is_touched() {
        let from = "fn one() {}\nfn two() { 2 }\nfn three() {}\n";
        let to = "fn uno() {}\nfn two() { 2 }\nfn tres() {}\n";
        let found = splices(from, to);
        let splice = |at, removed, inserted: &str| Splice {
            at,
            removed,
            inserted: inserted.to_owned(),
        };
        assert_eq!(found, [splice(3, 3, "uno"), splice(30, 5, "tres")]);
        assert_eq!(splices("same", "same"), []);
        assert_eq!(splices("", "a"), [splice(0, 0, "a")]);
        assert_eq!(splices("a😀c", "a😁c"), [splice(1, 2, "😁")]);
    }

    #[test]
    fn a_long_text_is_compared_by_lines_and_by_words_within_them() {
        let line = |n: usize| format!("let value_{n} = compute({n}); // some words of line {n}\n");
        let from: String = (0..5_000).map(line).collect();
        let to = from
            .replace("compute(17)", "computed(17)")
            .replace("words of line 4990", "words of the line 4990");
        let found = splices(&from, &to);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found.iter().all(|splice| splice.inserted.len() < 10),
            "{found:?}"
        );
        assert_eq!(spliced(&from, &found).unwrap(), to);
    }

    #[test]
    fn texts_with_nothing_in_common_take_no_more_time() {
        let from: String = (0..60_000_u64)
            .map(|n| format!("{}\n", n * 7919 % 60_013))
            .collect();
        let to: String = (0..60_000_u64)
            .map(|n| format!("{}\n", n * 104_729 % 60_017))
            .collect();
        let began = Instant::now();
        let found = splices(&from, &to);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(spliced(&from, &found).unwrap(), to);
    }

    proptest! {
        #[test]
        fn the_splices_make_the_one_of_the_other(
            from in "[ab \n_😀é]{0,60}",
            to in "[ab \n_😀é]{0,60}",
        ) {
            prop_assert_eq!(spliced(&from, &splices(&from, &to)).unwrap(), to);
        }
    }
}

//! Unified diffs: reading one, and applying it to a text.
//!
//! A hunk is applied where the lines that it names stand exactly so, at the place that it says or the nearest within
//! [`REACH`] lines of it; never where they differ. All hunks are applied, or none.

/// How many lines off a hunk may stand.
pub const REACH: usize = 200;
/// Most hunks of a patch.
pub const HUNKS: usize = 1_000;

/// A patch of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    hunks: Vec<Hunk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    /// The line, from 0, before which it begins.
    start: usize,
    old: Vec<String>,
    new: Vec<String>,
}

/// A patch that can't be read: where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PatchError {
    /// The line of the patch, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The hunk, from 1, whose lines are not in the text where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hunk {0}: its lines are not in the text, or not near the place that it names")]
pub struct HunkConflict(pub usize);

impl Patch {
    /// Reads a unified diff of one file. Names of files and what tools write around them are passed over.
    ///
    /// # Errors
    /// It is none, is of several files, has no hunk or more than [`HUNKS`].
    pub fn parse(text: &str) -> Result<Self, PatchError> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let failed = |at: usize, reason| PatchError {
            line: at + 1,
            reason,
        };
        let mut hunks = Vec::new();
        let mut files = 0;
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at];
            if let Some(head) = line.strip_prefix("@@ ") {
                if hunks.len() == HUNKS {
                    return Err(failed(at, "there are more than 1,000 hunks"));
                }
                let head = Head::parse(head).ok_or_else(|| failed(at, "is no head of a hunk"))?;
                let (hunk, end) = head.body(&lines, at + 1)?;
                hunks.push(hunk);
                at = end;
                continue;
            }
            if line.starts_with("--- ") {
                files += 1;
                if files > 1 {
                    return Err(failed(
                        at,
                        "a second file begins: a patch is of one document",
                    ));
                }
            }
            at += 1;
        }
        if hunks.is_empty() {
            return Err(failed(lines.len(), "there is no hunk"));
        }
        Ok(Self { hunks })
    }

    /// The text with all hunks applied, in order.
    ///
    /// # Errors
    /// The first hunk that does not fit.
    pub fn apply(&self, text: &str) -> Result<String, HunkConflict> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        // How far the hunks so far stood from where they said.
        let mut shift = 0_isize;
        for (n, hunk) in self.hunks.iter().enumerate() {
            let expected = hunk.start.saturating_add_signed(shift);
            let place = hunk
                .place(&lines, done, expected)
                .ok_or(HunkConflict(n + 1))?;
            shift = place as isize - hunk.start as isize;
            out.extend(lines[done..place].iter().copied());
            out.extend(hunk.new.iter().map(String::as_str));
            done = place + hunk.old.len();
        }
        out.extend(lines[done..].iter().copied());
        Ok(out)
    }
}

impl Hunk {
    /// The nearest place at or after `least` where its old lines stand.
    fn place(&self, lines: &[&str], least: usize, expected: usize) -> Option<usize> {
        let fits = |place: &usize| {
            let there = lines.get(*place..*place + self.old.len());
            *place >= least
                && there.is_some_and(|there| there.iter().zip(&self.old).all(|(a, b)| a == b))
        };
        let near = (0..=REACH).flat_map(|off| [expected.checked_sub(off), Some(expected + off)]);
        near.flatten().find(fits)
    }
}

/// `-start,count +start,count @@`
struct Head {
    start: usize,
    old: usize,
    new: usize,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let (ranges, _) = text.split_once(" @@")?;
        let (old, new) = ranges.split_once(' ')?;
        let (start, old) = range(old.strip_prefix('-')?)?;
        let (_, new) = range(new.strip_prefix('+')?)?;
        // A hunk without old lines stands behind the line that it names.
        let start = if old == 0 {
            start
        } else {
            start.checked_sub(1)?
        };
        Some(Self { start, old, new })
    }

    /// The lines that belong to it, and where the next thing begins.
    fn body(&self, lines: &[&str], first: usize) -> Result<(Hunk, usize), PatchError> {
        let mut hunk = Hunk {
            start: self.start,
            old: Vec::new(),
            new: Vec::new(),
        };
        let failed = |at: usize, reason| PatchError {
            line: at + 1,
            reason,
        };
        let mut at = first;
        // Which lists got the line before.
        let mut last = (false, false);
        loop {
            let full = hunk.old.len() == self.old && hunk.new.len() == self.new;
            let Some(line) = lines.get(at) else {
                match full {
                    true => break,
                    false => return Err(failed(at, "the patch ends within a hunk")),
                }
            };
            if line.starts_with('\\') {
                // "No newline at end of file" is said of the line before.
                for (told, list) in [(last.0, &mut hunk.old), (last.1, &mut hunk.new)] {
                    if told
                        && let Some(line) = list.last_mut()
                        && line.ends_with('\n')
                    {
                        line.pop();
                    }
                }
                at += 1;
                continue;
            }
            if full {
                break;
            }
            last = match line.as_bytes().first() {
                Some(b' ') => (true, true),
                Some(b'-') => (true, false),
                Some(b'+') => (false, true),
                // Mailers strip the blank of an empty line.
                Some(b'\n' | b'\r') => (true, true),
                _ => return Err(failed(at, "begins with neither a blank, `-` nor `+`")),
            };
            let bare = line.starts_with(['\n', '\r']);
            let content = if bare { line } else { &line[1..] };
            if last.0 {
                hunk.old.push(content.to_owned());
            }
            if last.1 {
                hunk.new.push(content.to_owned());
            }
            if hunk.old.len() > self.old || hunk.new.len() > self.new {
                return Err(failed(at, "the hunk has more lines than its head says"));
            }
            at += 1;
        }
        Ok((hunk, at))
    }
}

/// `start` or `start,count`.
fn range(text: &str) -> Option<(usize, usize)> {
    let number = |text: &str| text.parse::<u32>().ok().map(|number| number as usize);
    match text.split_once(',') {
        Some((start, count)) => Some((number(start)?, number(count)?)),
        None => Some((number(text)?, 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use similar::TextDiff;

    use super::*;

    fn diff(from: &str, to: &str, context: usize) -> String {
        let diff = TextDiff::from_lines(from, to);
        let mut unified = diff.unified_diff();
        unified
            .context_radius(context)
            .header("a/x", "b/x")
            .to_string()
    }

    const TEXT: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n";

    #[test]
    fn a_patch_is_applied_where_it_says_or_near() {
        let to = TEXT.replace("two\n", "2\n").replace("seven\n", "7\n7.5\n");
        let patch = Patch::parse(&diff(TEXT, &to, 1)).unwrap();
        assert_eq!(patch.apply(TEXT).unwrap(), to);
        let moved = format!("{}{TEXT}", "above\n".repeat(REACH));
        assert_eq!(
            patch.apply(&moved).unwrap(),
            format!("{}{to}", "above\n".repeat(REACH))
        );
        let too_far = format!("{}{TEXT}", "above\n".repeat(REACH + 1));
        assert_eq!(patch.apply(&too_far), Err(HunkConflict(1)));
    }

    #[test]
    fn content_that_differs_is_a_conflict_and_names_the_hunk() {
        let to = TEXT.replace("two\n", "2\n").replace("seven\n", "7\n");
        let patch = Patch::parse(&diff(TEXT, &to, 1)).unwrap();
        assert_eq!(
            patch.apply(&TEXT.replace("three", "drei")),
            Err(HunkConflict(1))
        );
        assert_eq!(
            patch.apply(&TEXT.replace("seven", "sieben")),
            Err(HunkConflict(2))
        );
        assert_eq!(patch.apply(""), Err(HunkConflict(1)));
    }

    #[test]
    fn the_last_line_may_end_without_a_newline() {
        for (from, to) in [
            ("a", "b"),
            ("a", "a\n"),
            ("a\n", "a"),
            ("", "a"),
            ("a", ""),
            ("x\na", "x\nb\n"),
        ] {
            let patch = Patch::parse(&diff(from, to, 3)).unwrap();
            assert_eq!(patch.apply(from).unwrap(), to, "{from:?} {to:?}");
        }
    }

    #[test]
    fn what_is_no_patch_is_refused_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("hello\n", 2),
            ("@@ -1 +1\n", 1),
            ("@@ -1,2 +1,1 @@\n a\n", 3),
            ("@@ -1 +1 @@\n-a\n-b\n+c\n", 3),
            ("@@ -1 +1 @@\n?a\n", 2),
            ("--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n--- c\n", 6),
            ("@@ -99999999999 +1 @@\n", 1),
            ("@@ -0,1 +1 @@\n", 1),
        ] {
            assert_eq!(Patch::parse(text).unwrap_err().line, line, "{text:?}");
        }
        let git =
            "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@ fn x\n-a\n+b\n";
        assert_eq!(Patch::parse(git).unwrap().apply("a\n").unwrap(), "b\n");
    }

    proptest! {
        #[test]
        fn any_difference_is_a_patch(from in "([abc]\n){0,30}[ab]?", to in "([abc]\n){0,30}[ab]?") {
            prop_assume!(from != to);
            let patch = Patch::parse(&diff(&from, &to, 3)).unwrap();
            prop_assert_eq!(patch.apply(&from).unwrap(), to);
        }

        #[test]
        fn any_text_is_a_patch_or_refused(text in "[-+ @\\\\0-9,ab\n]{0,80}", of in "[ab\n]{0,20}") {
            if let Ok(patch) = Patch::parse(&text) {
                let _ = patch.apply(&of);
            }
        }
    }
}

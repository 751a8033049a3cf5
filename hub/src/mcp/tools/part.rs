//! A part of a text, by lines, within a bound of bytes. Pure.

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The last line of it, from 1; one less than the first asked for if there is none.
    pub(super) last: usize,
    /// How many lines the text has.
    pub(super) lines: usize,
    pub(super) text: String,
    /// A line was cut for being too long.
    pub(super) is_cut: bool,
}

/// At most `count` lines of a text from line `first` (from 1), as many as fit into `most` bytes. A first line that is
/// longer by itself is cut at a character.
pub(super) fn part(text: &str, first: usize, count: usize, most: usize) -> Part {
    let lines = text.split_inclusive('\n').count();
    let mut taken = String::new();
    let mut last = first.saturating_sub(1);
    let mut is_cut = false;
    let asked = text.split_inclusive('\n').skip(last).take(count);
    for line in asked {
        if taken.len() + line.len() > most {
            if taken.is_empty() {
                taken.push_str(&line[..line.floor_char_boundary(most)]);
                last += 1;
                is_cut = true;
            }
            break;
        }
        taken.push_str(line);
        last += 1;
    }
    Part {
        last,
        lines,
        text: taken,
        is_cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_as_far_as_they_fit() {
        let text = "one\ntwo\n\nfünf";
        let of = |first, count, most| {
            let part = part(text, first, count, most);
            assert_eq!(part.lines, 4);
            (part.text, part.last, part.is_cut)
        };
        assert_eq!(of(1, 10, 100), (text.to_owned(), 4, false));
        assert_eq!(of(2, 2, 100), ("two\n\n".to_owned(), 3, false));
        assert_eq!(of(1, 10, 9), ("one\ntwo\n\n".to_owned(), 3, false));
        assert_eq!(of(4, 1, 2), ("f".to_owned(), 4, true));
        assert_eq!(of(5, 1, 100), (String::new(), 4, false));
        assert_eq!(of(9, 1, 100), (String::new(), 8, false));
        assert_eq!(part("", 1, 1, 1).lines, 0);
    }
}

//! From positions in code points to offsets in UTF-16 units, which Yjs counts. Pure.
//!
//! Only characters beyond the basic plane make a difference, and they are rare: the index is the
//! sorted list of where they are, so a text without any costs nothing.

/// Where the characters of two units are, as offsets in units.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Positions {
    pairs: Vec<u32>,
}

impl Positions {
    /// The index of a text.
    pub(super) fn of(text: &str) -> Self {
        Self {
            pairs: pairs(text).collect(),
        }
    }

    /// The offset in units of a position in code points.
    pub(super) fn units(&self, position: usize) -> u32 {
        let position = position as u32;
        // The i-th pair is the code point number `offset - i`.
        let mut before = 0..self.pairs.len();
        while !before.is_empty() {
            let middle = before.start.midpoint(before.end);
            if self.pairs[middle] - (middle as u32) < position {
                before.start = middle + 1;
            } else {
                before.end = middle;
            }
        }
        position + before.start as u32
    }

    /// A text was inserted at an offset in units; returns its length in units.
    pub(super) fn insert(&mut self, offset: u32, text: &str) -> u32 {
        let length = text.encode_utf16().count() as u32;
        let at = self.pairs.partition_point(|pair| *pair < offset);
        for pair in &mut self.pairs[at..] {
            *pair += length;
        }
        let inserted = pairs(text).map(|pair| offset + pair);
        self.pairs.splice(at..at, inserted);
        length
    }

    /// Units were deleted from an offset on.
    pub(super) fn remove(&mut self, offset: u32, length: u32) {
        let from = self.pairs.partition_point(|pair| *pair < offset);
        let to = self.pairs.partition_point(|pair| *pair < offset + length);
        self.pairs.drain(from..to);
        for pair in &mut self.pairs[from..] {
            *pair -= length;
        }
    }
}

/// Offsets of the characters of two units.
fn pairs(text: &str) -> impl Iterator<Item = u32> {
    let mut offset = 0;
    text.chars().filter_map(move |c| {
        let at = offset;
        offset += c.len_utf16() as u32;
        (c.len_utf16() == 2).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn follows_a_text_through_random_edits() {
        let mut random = StdRng::seed_from_u64(7);
        let mut text: Vec<char> = Vec::new();
        let mut positions = Positions::default();
        for _ in 0..2_000 {
            let at = random.random_range(0..=text.len());
            let offset = positions.units(at);
            let expected: usize = text[..at].iter().map(|c| c.len_utf16()).sum();
            assert_eq!(offset as usize, expected);
            if random.random_bool(0.4) {
                let end = random.random_range(at..=text.len().min(at + 5));
                positions.remove(offset, positions.units(end) - offset);
                text.drain(at..end);
            } else {
                let count = random.random_range(0..4);
                let inserted: String = (0..count)
                    .map(|_| ['a', 'é', '€', '😀', '𝕏'][random.random_range(0..5)])
                    .collect();
                let length = positions.insert(offset, &inserted);
                assert_eq!(length as usize, inserted.encode_utf16().count());
                text.splice(at..at, inserted.chars());
            }
        }
        let text: String = text.iter().collect();
        assert_eq!(positions, Positions::of(&text));
    }
}

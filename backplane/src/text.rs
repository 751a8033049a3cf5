//! Edits of a text, without a document: whatever is asked (places, phrases, a whole new text, a patch) becomes
//! a list of [`Splice`]s.
//!
//! Pure: a text goes in, splices or an error come out. Counts as Yjs does, in UTF-16 units; cuts only between
//! characters. Knows no CRDT and does no I/O.

pub mod difference;
pub mod edits;
pub mod patch;

/// One replacement. Its place is that in the text as the splices before it left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Where, in UTF-16 units from the start.
    pub at: u32,
    /// How many UTF-16 units go.
    pub removed: u32,
    /// What comes in their place.
    pub inserted: String,
}

impl Splice {
    /// Where what it inserts ends.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.at.saturating_add(units(&self.inserted))
    }
}

/// How many UTF-16 units a text has.
pub(crate) fn units(text: &str) -> u32 {
    let units = if text.is_ascii() {
        text.len()
    } else {
        text.chars().map(char::len_utf16).sum()
    };
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// The text after these splices; `None` if one lies outside of it or within a character.
#[must_use]
pub fn spliced(text: &str, splices: &[Splice]) -> Option<String> {
    let mut text = text.to_owned();
    for splice in splices {
        let start = edits::byte_of(&text, u64::from(splice.at), edits::Unit::Utf16)?;
        let end = u64::from(splice.at) + u64::from(splice.removed);
        let end = edits::byte_of(&text, end, edits::Unit::Utf16)?;
        text.replace_range(start..end, &splice.inserted);
    }
    Some(text)
}

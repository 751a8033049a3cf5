//! A file cut into chunks: its definitions, and what lies between them.
//!
//! Every line belongs to the innermost definition around it; a chunk is a run of lines of one owner. What is no known
//! language, or can't be parsed in time, is cut into windows of lines, Markdown at its headings. Never fails: whatever
//! the text is, there are chunks, within the limits below.

mod grammar;
mod markdown;

use backplane::store::context::{ChunkKind, Hash, NewChunk};
use sha2::{Digest, Sha256};

use super::terms;

/// Most chunks of one file; what comes after them is not found.
pub const MOST_CHUNKS: usize = 1000;
/// Most lines of a chunk.
pub const MOST_LINES: usize = 60;
/// Most bytes of a chunk.
pub const MOST_BYTES: usize = 4096;

/// Raised when the same text is cut otherwise, so that all files are indexed anew.
const VERSION: &[u8] = b"1";

/// A definition in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Definition {
    /// `fn parse`, `class Session`.
    symbol: String,
    /// Its first line, from 0: that of its comment, if it has one.
    first: usize,
    /// The line of its name.
    named: usize,
    /// Its last line.
    last: usize,
}

/// What a file's index is made of: a file with the same one has the same chunks.
#[must_use]
pub fn fingerprint(path: &str, text: &str) -> Hash {
    let mut hash = Sha256::new();
    for part in [VERSION, b"\0", path.as_bytes(), b"\0", text.as_bytes()] {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The chunks of a file, in order.
#[must_use]
pub fn cut(path: &str, text: &str) -> Vec<NewChunk> {
    // A character that one of the databases can't keep, and no code has.
    let text = text.replace('\0', "\u{fffd}");
    let extension = path.rsplit('/').next().unwrap_or(path).rsplit_once('.');
    let extension = extension.map_or("", |(_, extension)| extension);
    let definitions = match extension {
        "md" | "markdown" | "mdx" => markdown::sections(&text),
        _ => grammar::definitions(extension, &text),
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut chunks = Vec::new();
    for run in runs(&lines, &definitions) {
        pieces(&lines, &run, &mut |first, last, text, is_first| {
            if chunks.len() < MOST_CHUNKS {
                let symbol = run.owner.map(|owner| owner.symbol.as_str());
                let is_definition = run.has_name && is_first;
                chunks.push(chunk(path, first, last, symbol, is_definition, text));
            }
        });
        if chunks.len() >= MOST_CHUNKS {
            break;
        }
    }
    chunks
}

/// Lines one behind the other that belong to one definition, or to none.
struct Run<'a> {
    owner: Option<&'a Definition>,
    first: usize,
    last: usize,
    /// The definition's name is in it.
    has_name: bool,
}

fn runs<'a>(lines: &[&str], definitions: &'a [Definition]) -> Vec<Run<'a>> {
    let mut owners: Vec<Option<usize>> = vec![None; lines.len()];
    // Outer ones come first: inner ones take their lines from them.
    for (number, definition) in definitions.iter().enumerate() {
        let last = definition.last.min(lines.len().saturating_sub(1));
        for owner in owners.iter_mut().take(last + 1).skip(definition.first) {
            *owner = Some(number);
        }
    }
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut before = None;
    for (line, owner) in owners.into_iter().enumerate() {
        let definition = owner.and_then(|number| definitions.get(number));
        let has_name = definition.is_some_and(|definition| definition.named == line);
        match runs.last_mut() {
            Some(run) if before == owner => {
                run.last = line;
                run.has_name |= has_name;
            }
            _ => runs.push(Run {
                owner: definition,
                first: line,
                last: line,
                has_name,
            }),
        }
        before = owner;
    }
    runs
}

/// Cuts a run into pieces within the limits, at blank lines if there are any near; those without a letter or digit
/// are left out.
fn pieces(lines: &[&str], run: &Run<'_>, take: &mut dyn FnMut(usize, usize, &str, bool)) {
    let mut first = run.first;
    let mut is_first = true;
    while first <= run.last {
        if lines[first].trim().is_empty() {
            first += 1;
            continue;
        }
        let end = piece_end(lines, first, run.last);
        let mut last = end;
        while last > first && lines[last].trim().is_empty() {
            last -= 1;
        }
        let text = lines[first..=last].join("\n");
        let mut rest = text.trim_end();
        while rest.chars().any(char::is_alphanumeric) {
            // A single line may be longer than a chunk.
            let end = rest.floor_char_boundary(MOST_BYTES);
            let (piece, more) = rest.split_at(end);
            take(first, last, piece, is_first);
            is_first = false;
            rest = more;
        }
        first = end + 1;
    }
}

/// The last line of the piece that begins at `first`.
fn piece_end(lines: &[&str], first: usize, end: usize) -> usize {
    let (mut bytes, mut last, mut blank) = (0, first, None);
    for (line, text) in lines.iter().enumerate().take(end + 1).skip(first) {
        bytes += text.len() + 1;
        if line > first && (bytes > MOST_BYTES || line - first >= MOST_LINES) {
            // Not so early that there are many small ones.
            let enough = first + (last - first) / 2;
            return blank.filter(|line| *line > enough).unwrap_or(last);
        }
        if text.trim().is_empty() {
            blank = Some(line);
        }
        last = line;
    }
    last
}

fn chunk(
    path: &str,
    first: usize,
    last: usize,
    symbol: Option<&str>,
    is_definition: bool,
    text: &str,
) -> NewChunk {
    let mut found_by = terms::of_text(text);
    // Also its later parts are found by its name, and all by the file's.
    found_by.extend(terms::of_text(symbol.unwrap_or_default()));
    found_by.extend(terms::of_text(path));
    NewChunk {
        first_line: first as u32 + 1,
        last_line: last as u32 + 1,
        symbol: symbol.map(str::to_owned),
        kind: if is_definition {
            ChunkKind::Definition
        } else {
            ChunkKind::Text
        },
        text: text.to_owned(),
        hash: Sha256::digest(text).into(),
        terms: found_by,
    }
}

#[cfg(test)]
mod tests;

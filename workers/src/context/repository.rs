//! A repository's folder: which of its files are indexed, and their texts.
//!
//! Owns the walk: files that `.gitignore` or `.ignore` name, hidden ones, links, what is no text and what is too large
//! are left out. Never writes into the folder, and never follows a link out of it.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

/// Most files of a repository; further ones are left out.
pub const MOST_FILES: usize = 20_000;
/// Longest path, bytes.
const LONGEST: usize = 1024;

/// A project's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The project's id.
    pub project: String,
    /// Its folder.
    pub folder: PathBuf,
}

/// Hands every file's path within the folder and its text to `take`, until that says `false`.
///
/// # Errors
/// The folder, or a folder in it, can't be read: what was handed over is not all.
pub fn walk(
    folder: &Path,
    file_bytes: usize,
    mut take: impl FnMut(String, String) -> bool,
) -> Result<(), ignore::Error> {
    std::fs::read_dir(folder)?;
    let files = WalkBuilder::new(folder)
        .require_git(false)
        .git_global(false)
        .parents(false)
        .follow_links(false)
        .max_filesize(Some(file_bytes as u64))
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .build();
    let mut count = 0;
    for entry in files {
        let entry = match entry {
            Ok(entry) => entry,
            // One that went meanwhile is gone; of what can't be read nothing is known.
            Err(error) if error.io_error().is_some_and(is_gone) => continue,
            Err(error) => return Err(error),
        };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let Some(path) = relative(folder, entry.path()) else {
            continue;
        };
        let Some(text) = text_of(entry.path(), file_bytes) else {
            continue;
        };
        count += 1;
        if count > MOST_FILES {
            tracing::warn!(folder = %folder.display(), "only {MOST_FILES} files are indexed");
            return Ok(());
        }
        if !take(path, text) {
            return Ok(());
        }
    }
    Ok(())
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// The path within the folder, with slashes; none if it is no text, or too long.
fn relative(folder: &Path, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(folder).ok()?;
    let parts: Option<Vec<&str>> = inside.iter().map(|part| part.to_str()).collect();
    let path = parts?.join("/");
    (!path.is_empty() && path.len() <= LONGEST).then_some(path)
}

/// What stands in a file; none if it is no text, or has grown too large meanwhile.
fn text_of(path: &Path, file_bytes: usize) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    if bytes.len() > file_bytes || bytes.contains(&0) {
        return None;
    }
    String::from_utf8(bytes).ok()
}

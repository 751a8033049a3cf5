//! The key files of hubs before this one: `<data_dir>/keys`, one PKCS#8 file per key.
//!
//! Their names begin with their time of making. Read once; never written.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{Key, KeyError};

const EXTENSION: &str = "pk8";
/// What a file is called once the store has its key.
const TAKEN_OVER: &str = "pk8.imported";

/// A key file.
pub(super) struct KeyFile {
    path: PathBuf,
    /// PKCS#8.
    pub(super) private: Vec<u8>,
    /// Last changed, in milliseconds since the Unix epoch.
    pub(super) created_at: u64,
}

/// The key files of a folder, oldest first; none if there is no such folder.
pub(super) fn read(folder: &Path) -> Result<Vec<KeyFile>, KeyError> {
    let failed = |source| KeyError::Io {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().map(read_one).collect()
}

fn read_one(path: PathBuf) -> Result<KeyFile, KeyError> {
    let read = fs::read(&path).and_then(|private| Ok((private, fs::metadata(&path)?)));
    let (private, meta) = match read {
        Ok(read) => read,
        Err(source) => return Err(KeyError::Io { path, source }),
    };
    if Key::from_pkcs8(&private, 0).is_none() {
        return Err(KeyError::NotAKey(path));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others on this machine can read the signing key");
    }
    let changed = meta.modified().ok();
    let since = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(KeyFile {
        path,
        private,
        created_at: since.map_or(0, |since| since.as_millis() as u64),
    })
}

/// Renames the files whose keys the store has now.
pub(super) fn set_aside(files: &[KeyFile]) {
    for file in files {
        if let Err(error) = fs::rename(&file.path, file.path.with_extension(TAKEN_OVER)) {
            // It may be a mounted secret. It is not read again while the store has a key.
            tracing::warn!(path = %file.path.display(), %error, "the key file stays as it is");
        }
    }
}

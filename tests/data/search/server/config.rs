//! Settings of the server.

use std::collections::BTreeMap;

/// Reads `key = value` lines; later files override earlier ones.
pub fn load_settings(files: &[&str]) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for line in files.iter().flat_map(|file| file.lines()) {
        if let Some((key, value)) = line.split_once('=') {
            settings.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    settings
}

/// Replaces settings by environment variables that begin with a prefix.
pub fn apply_environment(settings: &mut BTreeMap<String, String>, prefix: &str) {
    for (name, value) in std::env::vars() {
        if let Some(key) = name.strip_prefix(prefix) {
            settings.insert(key.to_lowercase(), value);
        }
    }
}

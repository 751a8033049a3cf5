//! The page that documents every setting, made from the table of settings.
//!
//! Owns the text of `docs/configuration.md`. Never describes what the table does not hold.

use std::fmt::Write as _;

use super::{Described, Settings};

const HEAD: &str = "\
# Configuration

<!-- Made from hub/src/config/settings.rs by `UPDATE_DOCS=1 cargo test -p hub config`. Don't edit. -->

Nothing needs to be configured. What you do set comes from a TOML file (`tandem --config FILE`, or the
variable `TANDEM_CONFIG`) and from the environment, which wins. All of it is checked at the start, and
every error is listed at once; `tandem check-config` does only that.

Durations are written with one unit: `500ms`, `30s`, `15m`, `2h`, `30d`. Sizes are a number of bytes
or have a unit: `64KiB`, `1MiB`, `2GiB`. Lists are arrays in the file and separated by commas in the
environment.

```toml
bind = \"0.0.0.0:8080\"

[auth]
registration = false
access_ttl = \"5m\"
```
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    let all = Settings::describe();
    let mut section = |title: &str, text: &str, prefix: &str| {
        let _ = write!(page, "\n## {title}\n\n{text}\n\n");
        page.push_str("| key | variable | default | allowed | meaning |\n|---|---|---|---|---|\n");
        let rows = all.iter().filter(|one| match one.key.split_once('.') {
            Some((name, _)) => name == prefix,
            None => prefix.is_empty(),
        });
        rows.for_each(|one| row(&mut page, one));
    };
    section(
        "Top level",
        "Written before the first section of the file.",
        "",
    );
    for (name, text) in Settings::sections() {
        section(&format!("[{name}]"), text.trim(), name);
    }
    page
}

fn row(page: &mut String, one: &Described) {
    let default = match one.default.as_str() {
        "" => "–".to_owned(),
        text => format!("`{text}`"),
    };
    let _ = writeln!(
        page,
        "| `{}` | `{}` | {default} | {} | {} |",
        one.key,
        one.env,
        one.bounds.replace('|', "\\|"),
        one.text.replace('|', "\\|"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == markdown(),
            "docs/configuration.md is old: set UPDATE_DOCS=1 and test again"
        );
    }
}

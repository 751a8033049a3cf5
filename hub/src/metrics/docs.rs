//! The page that documents every metric, made from the table.
//!
//! Owns the text of `docs/metrics.md`. Never describes what the table does not hold.

use std::fmt::Write as _;

use super::table::{ALL, Kind, Metric};

const HEAD: &str = "\
# Metrics

<!-- Made from hub/src/metrics/table.rs by `UPDATE_DOCS=1 cargo test -p hub metrics`. Don't edit. -->

`GET /metrics` tells them in the text format of Prometheus, to the networks of `metrics.allow` (this machine and
private ranges, if nothing is set); for everybody else there is no such page. Behind a proxy name the proxy in
`http.trusted_proxies`: a request that a proxy passed on is judged by the address of its client, and refused if the
proxy is none that is trusted.

No metric has a label per user, document or channel. Each node tells its own; sum over nodes where that makes sense.
A histogram has `_bucket`, `_sum` and `_count`.

| metric | kind | unit | labels | meaning |
|---|---|---|---|---|
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for metric in ALL {
        row(&mut page, metric);
    }
    page
}

fn row(page: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = metric.labels.iter().map(|one| format!("`{one}`")).collect();
    let labels = match labels.is_empty() {
        true => "–".to_owned(),
        false => labels.join(", "),
    };
    let _ = writeln!(
        page,
        "| `{}` | {kind} | {} | {labels} | {} |",
        metric.name,
        metric.unit.as_str(),
        metric.text.trim(),
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == markdown(),
            "docs/metrics.md is old: set UPDATE_DOCS=1 and test again"
        );
    }

    #[test]
    fn names_follow_the_convention() {
        let mut names = BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(names.insert(name), "{name} stands twice");
            assert!(name.starts_with("tandem_"), "{name}");
            let is_counter = metric.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted() && !buckets.is_empty(), "{name}");
            }
            for per_something in ["user", "document", "channel", "project", "session"] {
                assert!(!metric.labels.contains(&per_something), "{name}");
            }
        }
    }
}

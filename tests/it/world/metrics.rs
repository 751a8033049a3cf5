//! What `/metrics` says, read by a parser that believes nothing: Prometheus' text format 0.0.4, whole.
//!
//! Owns the rules of the format. Never knows which metrics there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{TestHub, soon};

/// All series of a page, by name and labels as they stand there: `name{a="b"}`.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) series: BTreeMap<String, f64>,
    /// Type by family.
    pub(crate) families: BTreeMap<String, String>,
    /// Names of labels by family.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

fn is_name(text: &str, colons: bool) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    text.chars().all(right) && text.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

type Label = (String, String);

/// Labels in braces, escapes undone; what follows them.
fn labels(mut text: &str) -> Result<(Vec<Label>, &str), String> {
    let mut labels: Vec<Label> = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) || labels.iter().any(|(known, _)| known == name) {
            return Err(format!("label {name:?}"));
        }
        let (mut value, mut end) = (String::new(), None);
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = Some(at);
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    other => return Err(format!("escape {other:?}")),
                },
                c => value.push(c),
            }
        }
        let end = end.ok_or("a value without an end")?;
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
}

fn value(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "NaN" => Ok(f64::NAN),
        text => text.parse().map_err(|_| format!("value {text:?}")),
    }
}

/// The family that a sample's name belongs to.
fn family<'a>(name: &'a str, families: &BTreeMap<String, String>) -> Option<&'a str> {
    if families.contains_key(name) {
        return Some(name);
    }
    let parts = ["_bucket", "_sum", "_count"];
    let mut bases = parts.iter().filter_map(|part| name.strip_suffix(part));
    bases.find(|base| families.get(*base).is_some_and(|kind| kind == "histogram"))
}

impl Metrics {
    /// Reads a page.
    pub(crate) fn parse(page: &str) -> Result<Self, String> {
        let mut metrics = Self::default();
        let (mut current, mut closed) = (String::new(), BTreeSet::new());
        if !page.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in page.lines().filter(|line| !line.is_empty()) {
            let wrong = |why: String| format!("{why} in {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next(), words.next().unwrap_or_default());
                let rest = words.next().unwrap_or_default();
                if !is_name(name, true) {
                    return Err(wrong("no name".to_owned()));
                }
                match what {
                    Some("TYPE") => {
                        if !["counter", "gauge", "histogram", "summary"].contains(&rest) {
                            return Err(wrong("no type".to_owned()));
                        }
                        if !closed.insert(name.to_owned()) {
                            return Err(wrong("a family in two parts".to_owned()));
                        }
                        current = name.to_owned();
                        metrics.families.insert(current.clone(), rest.to_owned());
                    }
                    Some("HELP") if !rest.trim().is_empty() => {}
                    _ => return Err(wrong("neither HELP nor TYPE".to_owned())),
                }
                continue;
            }
            metrics.sample(line, &current).map_err(wrong)?;
        }
        metrics.check_histograms()?;
        Ok(metrics)
    }

    fn sample(&mut self, line: &str, current: &str) -> Result<(), String> {
        let at = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(at);
        if !is_name(name, true) || family(name, &self.families) != Some(current) {
            return Err("a sample outside of its family".to_owned());
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inner) => labels(inner)?,
            None => (Vec::new(), rest),
        };
        let number = value(rest.strip_prefix(' ').ok_or("no value")?)?;
        let is_gauge = self
            .families
            .get(current)
            .is_some_and(|kind| kind == "gauge");
        let is_count = number.is_finite() && number >= 0.0;
        if !is_gauge && !is_count {
            return Err("a count that is none".to_owned());
        }
        let known = self.labels.entry(current.to_owned()).or_default();
        known.extend(labels.iter().map(|(label, _)| label.clone()));
        let series = line[..line.len() - rest.len()].to_owned();
        match self.series.insert(series, number) {
            None => Ok(()),
            Some(_) => Err("a series that stands twice".to_owned()),
        }
    }

    /// Buckets grow up to the count of all.
    fn check_histograms(&self) -> Result<(), String> {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, count) in &self.series {
            if let Some((name, inner)) = series.split_once("_bucket{") {
                let (labels, _) = labels(inner)?;
                let (le, rest): (Vec<_>, Vec<_>) =
                    labels.into_iter().partition(|(name, _)| name == "le");
                let [(_, le)] = &le[..] else {
                    return Err(format!("{series} has no bound"));
                };
                let rest: Vec<String> = rest
                    .iter()
                    .map(|(name, value)| format!("{name}=\"{value}\""))
                    .collect();
                let rest = match rest.is_empty() {
                    true => String::new(),
                    false => format!("{{{}}}", rest.join(",")),
                };
                let all = buckets.entry(format!("{name}_count{rest}")).or_default();
                all.push((value(le)?, *count));
            }
        }
        for (count, mut bounds) in buckets {
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let total = self.series.get(&count).copied();
            let last = bounds.last().copied();
            if !bounds.iter().map(|(_, count)| *count).is_sorted()
                || last.map(|(le, all)| (le, Some(all))) != Some((f64::INFINITY, total))
            {
                return Err(format!("{count}: {bounds:?}"));
            }
        }
        Ok(())
    }

    /// Reads a hub's page.
    pub(crate) async fn of(hub: &TestHub) -> Self {
        let answer = soon("/metrics", reqwest::get(hub.url("/metrics"))).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let page = soon("/metrics", answer.text()).await.expect("text");
        Self::parse(&page).unwrap_or_else(|error| panic!("{error}\n{page}"))
    }

    /// A series as it stands on the page; 0 if nothing was counted yet.
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }

    /// How often reads of a kind ended so.
    pub(crate) fn cache(&self, kind: &str, outcome: &str) -> f64 {
        self.get(&format!(
            "tandem_cache_reads_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}"
        ))
    }
}

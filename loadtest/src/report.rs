//! What a run found: lines for people, figures for machines, percentiles and medians for both.
//!
//! Never measures anything itself.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The outcome of one scenario.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<String>,
    figures: Map<String, Value>,
}

impl Report {
    /// An empty report of a scenario.
    pub(crate) fn new(scenario: &str) -> Self {
        let mut report = Self {
            lines: Vec::new(),
            figures: Map::new(),
        };
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        report.set("scenario", scenario);
        report.set("time", started);
        report.set("cores", crate::process::cores());
        report
    }

    /// Adds a line to the summary.
    pub(crate) fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// Sets a figure.
    pub(crate) fn set(&mut self, key: &str, value: impl Serialize) {
        // A figure that JSON can't hold (not finite) becomes null.
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.figures.insert(key.to_owned(), value);
    }

    /// Prints the summary, and writes the figures if a file is named.
    pub(crate) fn finish(self, json: Option<&Path>) -> Result<()> {
        for line in &self.lines {
            println!("{line}");
        }
        let Some(path) = json else { return Ok(()) };
        let text = format!("{:#}\n", Value::Object(self.figures));
        std::fs::write(path, text).map_err(Error::io(path.display().to_string()))
    }
}

/// Percentiles of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// How many were recorded.
    pub(crate) count: u64,
    /// Half were faster.
    pub(crate) p50: f64,
    /// 99 of 100 were faster.
    pub(crate) p99: f64,
    /// The slowest.
    pub(crate) max: f64,
}

impl Percentiles {
    /// Reads a histogram of microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, max, .. } = self;
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")
    }
}

/// A histogram of microseconds, up to two minutes, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 120_000_000, 3)
        .unwrap_or_else(|e| unreachable!("constant bounds: {e}"));
    histogram.auto(true);
    histogram
}

/// The middle value; the mean of the two in the middle of an even number; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// A whole number with commas between thousands.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

/// A progress bar on stderr; hidden where stderr is no terminal.
pub(crate) fn progress(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn commas() {
        assert_eq!(thousands(0.4), "0");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_204_000.0), "1,204,000");
        assert_eq!(thousands(-1234.0), "-1,234");
    }

    #[test]
    fn percentiles_are_milliseconds() {
        let mut histogram = histogram();
        for micros in 1..=100 {
            histogram.saturating_record(micros * 1000);
        }
        let found = Percentiles::of(&histogram);
        assert_eq!(found.count, 100);
        assert!((found.p50 - 50.0).abs() < 0.1 && (found.p99 - 99.0).abs() < 0.1);
    }
}

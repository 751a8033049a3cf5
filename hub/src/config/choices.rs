//! The settings that are one of a few words.
//!
//! Owns the words. What each means for the hub is its reader's.

use super::rule::Choice;

/// Whether the demo project and its two users exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    /// In embedded mode.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl Choice for Demo {
    const ALL: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Choice for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// How a user is answered whose quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// 429, with the time of the next day.
    Wait,
    /// 402: more has to be paid for.
    Pay,
}

impl Choice for Exceeded {
    const ALL: &'static [(&'static str, Self)] = &[("wait", Self::Wait), ("pay", Self::Pay)];
}

/// What happens to what is limited while nobody can count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It goes on, uncounted.
    Open,
    /// It is refused.
    Closed,
}

impl Choice for Outage {
    const ALL: &'static [(&'static str, Self)] = &[("open", Self::Open), ("closed", Self::Closed)];
}

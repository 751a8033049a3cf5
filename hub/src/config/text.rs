//! The settings that are text with a rule: names of tokens, filters of the log, patterns of events, kinds of
//! cached reads.
//!
//! Owns their syntax. Never installs a logger or signs a token.

use std::fmt;
use std::str::FromStr;

/// An issuer or audience: 1 to 128 characters without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// A name known to be right.
    pub(super) fn from_static(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 128 {
            return Err("its length is wrong");
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it has a space in it");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A log filter that the logger understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive(String);

impl Directive {
    /// The filter, as `tracing_subscriber::EnvFilter` reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Directive {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for Directive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        // The filter takes any lone word for the name of a target: `verbose` would silence the log.
        let lone = text.split(',').find(|part| {
            let part = part.trim();
            !part.contains(['=', '[', ':']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
        });
        match lone {
            Some(word) => Err(format!("`{}` is no level", word.trim())),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A project's repository: `my-app=/srv/my-app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The project's id.
    pub project: String,
    /// The folder.
    pub folder: std::path::PathBuf,
}

impl FromStr for Repository {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (project, folder) = text.split_once('=').ok_or("there is no = in it")?;
        if project.is_empty() || folder.is_empty() {
            return Err("the project or the folder is missing");
        }
        Ok(Self {
            project: project.to_owned(),
            folder: folder.into(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.project, self.folder.display())
    }
}

/// A pattern of event types as AMQP's topic exchanges have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The types that are bridged when nothing else is said.
    pub(super) fn defaults() -> Vec<Self> {
        let types = [
            "plan.*",
            "notification.*",
            "document.*",
            "project.*",
            "member.*",
        ];
        types.map(|kind| Self(kind.to_owned())).to_vec()
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let right = |word: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            word == "*" || word == "#" || (!word.is_empty() && word.bytes().all(plain))
        };
        if text.len() > 255 || !text.split('.').all(right) {
            return Err("it is no list of words, * and # between dots");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A kind of read that the cache may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// A project's own row.
    Project,
    /// The projects of a user.
    Projects,
    /// The members of a project.
    Members,
    /// The documents of a project.
    Documents,
    /// The versions of a document.
    Versions,
    /// The text of a document or version.
    Text,
}

impl Cached {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Project,
        Self::Projects,
        Self::Members,
        Self::Documents,
        Self::Versions,
        Self::Text,
    ];

    /// Its name in settings, keys and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Projects => "projects",
            Self::Members => "members",
            Self::Documents => "documents",
            Self::Versions => "versions",
            Self::Text => "text",
        }
    }
}

impl FromStr for Cached {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or("nothing of that name is cached")
    }
}

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_settings() {
        assert!("tandem".parse::<Name>().is_ok());
        assert!("tan dem".parse::<Name>().is_err());
        assert!("".parse::<Name>().is_err());
        for right in ["info", "WARN", "hub=debug,info", "hub::auth=trace"] {
            assert!(right.parse::<Directive>().is_ok(), "{right}");
        }
        for wrong in ["", "verbose", "hub=loud", "info,loud"] {
            assert!(wrong.parse::<Directive>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_of_events() {
        for right in ["plan.*", "#", "*", "a.b_c.D-1.#"] {
            assert!(right.parse::<Pattern>().is_ok(), "{right}");
        }
        for wrong in ["", ".", "plan.", "plan..x", "plan x", "pl*n", "plan.ü"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}

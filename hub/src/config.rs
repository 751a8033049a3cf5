//! The settings: read from a TOML file and the environment, checked whole before anything starts.
//!
//! [`load`] is the way in; [`Settings`] is the value that the rest of the hub holds. Every error is
//! collected and said in words. Never opens a socket, never changes after the start.

mod choices;
mod docs;
pub mod issuers;
mod network;
mod reader;
mod rule;
mod secret;
pub mod services;
mod settings;
mod table;
mod text;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use choices::{Demo, Exceeded, LogFormat, Outage};
pub use docs::markdown;
pub use network::{Endpoint, Network, Origin, origin_allowed};
pub use reader::Problem;
pub use secret::Secret;
pub use settings::{
    Ai, Amqp, Auth, Bridge, Cache, Channels, Collab, Context, Database, Embeddings, Events,
    Gateway, Http, Limits, Log, Mcp, Metrics, Notifications, Plans, Rate, Redis, Session, Settings,
    Shutdown, Tls, Usage,
};
pub use text::{Cached, Directive, Name, Pattern, Repository};

use reader::{Reader, env_of, key_of};
use rule::Rule;

/// What every variable of the environment that is a setting starts with.
const PREFIX: &str = "TANDEM_";
/// The variable that names the settings file.
pub const FILE_VARIABLE: &str = "TANDEM_CONFIG";

/// One setting, for documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Key in the file: `auth.access_ttl`.
    pub key: String,
    /// Variable of the environment: `TANDEM_AUTH_ACCESS_TTL`.
    pub env: String,
    /// The default as it would be written; empty if there is none.
    pub default: String,
    /// What is allowed.
    pub bounds: String,
    /// What it does.
    pub text: String,
}

impl Described {
    fn new<T>(section: &str, name: &str, default: &T, rule: &Rule<T>, text: &str) -> Self {
        let key = key_of(section, name);
        Self {
            env: env_of(&key),
            key,
            default: (rule.show)(default),
            bounds: rule.bounds.clone(),
            text: text.trim().to_owned(),
        }
    }
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 {
            "is 1 error"
        } else {
            "are errors"
        };
        write!(f, "there {plural} in the configuration:")?;
        for problem in &self.0 {
            write!(f, "\n  {}: {}", problem.at, problem.why)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads the settings of this process: `file` (or what TANDEM_CONFIG names) below the environment.
///
/// # Errors
/// Every error at once.
pub fn load(file: Option<&Path>) -> Result<Settings, ConfigErrors> {
    load_from(file, std::env::vars_os())
}

/// As [`load`], with an environment given.
///
/// # Errors
/// Every error at once.
pub fn load_from(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, ConfigErrors> {
    let mut problems = Vec::new();
    let env = own_variables(env, &mut problems);
    let named = env
        .get(FILE_VARIABLE)
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let table = match file.map(Path::to_path_buf).or(named) {
        Some(path) => read_file(&path, &mut problems),
        None => toml::Table::new(),
    };
    let mut reader = Reader::new(&table, &env);
    let settings = Settings::read(&mut reader);
    reader.unknown(&Settings::describe());
    problems.append(&mut reader.problems);
    check_together(&settings, &mut problems);
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigErrors(problems))
    }
}

fn own_variables(
    env: impl IntoIterator<Item = (OsString, OsString)>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for (name, value) in env {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => drop(own.insert(name, value)),
            Err(_) => problems.push(Problem {
                at: name,
                why: "is not valid UTF-8".to_owned(),
            }),
        }
    }
    own
}

fn read_file(path: &Path, problems: &mut Vec<Problem>) -> toml::Table {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    // A file that is no TOML at all is the one error that hides the others in it.
    let parsed = read.and_then(|text| {
        text.parse::<toml::Table>()
            .map_err(|error| error.to_string().trim_end().to_owned())
    });
    parsed.unwrap_or_else(|why| {
        problems.push(Problem {
            at: path.display().to_string(),
            why,
        });
        toml::Table::new()
    })
}

/// What no single setting can see.
fn check_together(settings: &Settings, problems: &mut Vec<Problem>) {
    let mut wrong = |at: &str, why: String| {
        problems.push(Problem {
            at: at.to_owned(),
            why,
        })
    };
    match (&settings.tls.cert, &settings.tls.key) {
        (Some(_), None) => wrong("tls.key", "is missing, while tls.cert is set".to_owned()),
        (None, Some(_)) => wrong("tls.cert", "is missing, while tls.key is set".to_owned()),
        _ => {}
    }
    for (at, file) in [
        ("tls.cert", &settings.tls.cert),
        ("tls.key", &settings.tls.key),
    ] {
        if let Some(path) = file
            && let Err(error) = std::fs::read(path)
        {
            wrong(at, format!("can't read {}: {error}", path.display()));
        }
    }
    for (key, url, model) in [
        ("ai.model", &settings.ai.url, &settings.ai.model),
        (
            "embeddings.model",
            &settings.embeddings.url,
            &settings.embeddings.model,
        ),
    ] {
        if url.is_some() && model.is_none() {
            wrong(key, "is missing, while the address is set".to_owned());
        }
    }
    for repository in &settings.context.repositories {
        if !repository.folder.is_dir() {
            let folder = repository.folder.display();
            wrong("context.repositories", format!("{folder} is not a folder"));
        }
    }
    if settings.data_dir.exists() && !settings.data_dir.is_dir() {
        wrong(
            "data_dir",
            format!("{} is not a folder", settings.data_dir.display()),
        );
    }
    if settings
        .public_url
        .as_ref()
        .is_some_and(|url| url.as_str() == "*")
    {
        wrong("public_url", "must be an address, not *".to_owned());
    }
    let collab = &settings.collab;
    if collab.update_bytes > collab.document_bytes {
        wrong(
            "collab.update_bytes",
            "is larger than collab.document_bytes".to_owned(),
        );
    }
    if collab.update_bytes > collab.undurable_bytes {
        wrong(
            "collab.update_bytes",
            "is larger than collab.undurable_bytes".to_owned(),
        );
    }
    check_backends(settings, &mut wrong);
    check_issuers(settings, &mut wrong);
    if let Some(file) = &settings.gateway.file
        && let Err(found) = services::read(file, settings.auth.audience.as_str())
    {
        for problem in found {
            wrong(&problem.at, problem.why);
        }
    }
    if settings.auth.refresh_ttl < settings.auth.access_ttl {
        wrong(
            "auth.refresh_ttl",
            "is shorter than auth.access_ttl".to_owned(),
        );
    }
}

/// Which services may be left out while others are there.
fn check_backends(settings: &Settings, wrong: &mut impl FnMut(&str, String)) {
    let (database, redis) = (&settings.database, &settings.redis);
    if !redis.url.is_empty() && database.url.is_none() {
        wrong(
            "redis.url",
            "nodes that share Redis need a database they share: set database.url, or leave redis.url \
             empty"
                .to_owned(),
        );
    }
    if database.replica_url.is_some() && database.url.is_none() {
        wrong(
            "database.replica_url",
            "a replica needs the primary that it follows: set database.url".to_owned(),
        );
    }
    for (at, ca) in [("redis.ca", &redis.ca), ("amqp.ca", &settings.amqp.ca)] {
        if let Some(path) = ca
            && let Err(error) = std::fs::read(path)
        {
            wrong(at, format!("can't read {}: {error}", path.display()));
        }
    }
}

/// The file of outside issuers, whole.
fn check_issuers(settings: &Settings, wrong: &mut impl FnMut(&str, String)) {
    let Some(path) = &settings.auth.issuers_file else {
        return;
    };
    match issuers::load(path) {
        Ok(issuers) => {
            let own = settings.auth.issuer.as_str();
            if issuers.iter().any(|one| one.issuer.as_str() == own) {
                let why = format!("is {own}, which {} names too", path.display());
                wrong("auth.issuer", why);
            }
        }
        Err(problems) => problems
            .into_iter()
            .for_each(|problem| wrong(&problem.at, problem.why)),
    }
}

#[cfg(test)]
mod tests;

//! The command line: what `tandem` can be told to do.
//!
//! Owns the names of commands and options. What `serve` does is `node`'s.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::auth::keys::tool;
use crate::backends::open_store;
use crate::config::{ConfigErrors, Settings};
use crate::doctor::{Report, Verdict};
use crate::now_ms;

/// Tandem: the real-time hub of a collaborative code IDE.
#[derive(Debug, Clone, Parser)]
#[command(name = "tandem", version, about)]
pub struct Cli {
    /// Settings file (TOML); the environment wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `tandem` can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Subcommand)]
pub enum Command {
    /// Runs the hub.
    #[default]
    Serve,
    /// Checks the settings, says everything that is wrong with them, and exits with 2 then.
    CheckConfig,
    /// Brings the database to this version's schema, and exits.
    Migrate,
    /// Tries every configured service, says what is wrong and what to do, and exits with 1 if something
    /// has to be corrected.
    Doctor {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// The keys that access tokens are signed with.
    Keys {
        /// What to do with them.
        #[command(subcommand)]
        what: KeysCommand,
    },
}

/// What can be done with the signing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// Lists them: which one signs, and for how long the others are believed.
    List,
    /// Makes a new one; within a minute the nodes sign with it. Nobody is logged out.
    Rotate,
}

impl Cli {
    /// What to do.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.unwrap_or_default()
    }
}

/// Reads the command line; prints help or an error and exits where clap does.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

/// What `check-config` prints, and the exit code.
#[must_use]
pub fn check_config(cli: &Cli) -> (String, u8) {
    match crate::config::load(cli.config.as_deref()) {
        Ok(_) => ("configuration is valid".to_owned(), 0),
        Err(errors) => (errors.to_string(), 2),
    }
}

/// What `doctor` prints, and the exit code.
pub async fn doctor(settings: Result<Settings, ConfigErrors>, json: bool) -> (String, u8) {
    let report = match settings {
        Ok(settings) => crate::doctor::examine(&settings).await,
        Err(errors) => Report::of_settings(&errors),
    };
    let text = if json {
        report.json()
    } else {
        report.to_string()
    };
    (text, u8::from(report.worst() == Verdict::Fail))
}

/// What `keys` prints.
///
/// # Errors
/// In words: the store can't be opened, or a key can't be read with the secret that is set.
pub async fn keys(settings: &Settings, what: KeysCommand) -> Result<String, String> {
    let opened = open_store(settings).await;
    let (store, _lock) = opened.map_err(|error| error.to_string())?;
    let auth = &settings.auth;
    let said = match what {
        KeysCommand::List => tool::list(auth, store.as_ref(), now_ms()).await,
        KeysCommand::Rotate => tool::rotate(auth, store.as_ref(), now_ms())
            .await
            .map(|kid| format!("key {kid} was made: within a minute the nodes sign with it")),
    };
    store.close().await;
    said.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        <Cli as CommandFactory>::command().debug_assert();
        let bare = Cli::try_parse_from(["tandem"]).unwrap();
        assert_eq!(bare.command(), Command::Serve);
        let check = Cli::try_parse_from(["tandem", "check-config", "--config", "x.toml"]).unwrap();
        assert_eq!(check.command(), Command::CheckConfig);
        assert_eq!(check.config, Some(PathBuf::from("x.toml")));
        let doctor = Cli::try_parse_from(["tandem", "doctor", "--json"]).unwrap();
        assert_eq!(doctor.command(), Command::Doctor { json: true });
        let rotate = Cli::try_parse_from(["tandem", "keys", "rotate"]).unwrap();
        let what = KeysCommand::Rotate;
        assert_eq!(rotate.command(), Command::Keys { what });
        for wrong in [&["tandem", "dance"][..], &["tandem", "keys"]] {
            assert!(Cli::try_parse_from(wrong).is_err());
        }
    }
}

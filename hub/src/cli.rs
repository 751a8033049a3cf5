//! The command line: what `tandem` can be told to do.
//!
//! Owns the names of commands and options. What `serve` does is `node`'s.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
        assert!(Cli::try_parse_from(["tandem", "dance"]).is_err());
    }
}

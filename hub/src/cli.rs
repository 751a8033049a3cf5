//! The command line: what `tandem` can be told to do.
//!
//! Owns the names of commands and options. What `serve` does is `node`'s.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::auth::keys::tool;
use crate::auth::services::{self, Permission};
use crate::auth::{names, reset};
use crate::backends::{open_store, open_store_beside};
use crate::config::{ConfigErrors, Settings};
use crate::doctor::{Report, Verdict};
use crate::mcp::stdio::{self, Token};
use crate::now_ms;
use crate::replay::Replay;

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
#[derive(Debug, Clone, PartialEq, Eq, Default, Subcommand)]
pub enum Command {
    /// Runs the hub.
    #[default]
    Serve,
    /// Runs the background jobs alone, beside hubs on the same PostgreSQL, Redis and RabbitMQ: plans, the index,
    /// notifications, usage.
    Worker,
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
    /// The API keys of services that work in the whole hub. Works while hubs run.
    Key {
        /// What to do with them.
        #[command(subcommand)]
        what: KeyCommand,
    },
    /// Tells events of the log again, oldest first: docs/events.md says what that does. Works while hubs run.
    Replay(Replay),
    /// A server of the Model Context Protocol on stdin and stdout: hands all on to a running hub. Its token is in the
    /// environment, TANDEM_TOKEN, or in a file.
    Mcp {
        /// The hub's address; TANDEM_URL in the environment if it is left out, else http://127.0.0.1:8080.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// File that holds an access token; read again for each request, so that another may be put there.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Makes a one-time token with which a user sets a new password, and prints it. Works while hubs run.
    ResetPassword {
        /// The user's login.
        login: String,
    },
}

/// What can be done with the API keys of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Makes one, and prints it.
    Create {
        /// For people: what it is for.
        #[arg(long)]
        name: String,
        /// What it allows; give it once for each.
        #[arg(long = "permission", required = true, value_parser = permission, value_name = "PERMISSION")]
        permissions: Vec<Permission>,
        /// After how many days it is refused; never if it is left out.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=3650), value_name = "DAYS")]
        days: Option<u16>,
    },
    /// Lists them.
    List,
    /// Revokes one: it is refused from now on.
    Revoke {
        /// The key's id: what stands between `tdk_` and the next `_`.
        id: String,
    },
}

fn permission(name: &str) -> Result<Permission, String> {
    Permission::parse(name).ok_or_else(|| {
        let names: Vec<&str> = Permission::ALL.iter().map(|one| one.as_str()).collect();
        format!("a permission is one of {}", names.join(", "))
    })
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
        self.command.clone().unwrap_or_default()
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

/// Serves `mcp` until its client has gone.
///
/// # Errors
/// In words: the address is none, there is no token, or the client can't be written to.
pub async fn serve_mcp(url: Option<String>, token_file: Option<PathBuf>) -> Result<(), String> {
    let url = url.or_else(|| {
        std::env::var("TANDEM_URL")
            .ok()
            .filter(|url| !url.is_empty())
    });
    let url = url.as_deref().unwrap_or("http://127.0.0.1:8080");
    let token = match (token_file, std::env::var("TANDEM_TOKEN")) {
        (Some(file), _) => Token::File(file),
        (None, Ok(token)) if !token.trim().is_empty() => Token::Given(token.trim().to_owned()),
        _ => return Err("an access token is needed: TANDEM_TOKEN or --token-file".to_owned()),
    };
    stdio::run(url, token).await
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

/// What `key` prints.
///
/// # Errors
/// In words: the store can't be opened, a name is not allowed, or there is no such key.
pub async fn key(settings: &Settings, what: KeyCommand) -> Result<String, String> {
    if let KeyCommand::Create { name, .. } = &what {
        names::display(name).map_err(|reason| format!("the name {reason}"))?;
    }
    let opened = open_store_beside(settings).await;
    let (store, _lock) = opened.map_err(|error| error.to_string())?;
    let said = match what {
        KeyCommand::Create {
            name,
            permissions,
            days,
        } => services::tool::create(store.as_ref(), name, permissions, days, now_ms()).await,
        KeyCommand::List => services::tool::list(store.as_ref(), now_ms()).await,
        KeyCommand::Revoke { id } => services::tool::revoke(store.as_ref(), &id).await,
    };
    store.close().await;
    said.map_err(|error| error.to_string())
}

/// What `reset-password` prints.
///
/// # Errors
/// In words: the store can't be opened, or nobody has that login.
pub async fn reset_password(settings: &Settings, login: &str) -> Result<String, String> {
    let opened = open_store_beside(settings).await;
    let (store, _lock) = opened.map_err(|error| error.to_string())?;
    let made = reset::make_token(&settings.auth, store.as_ref(), login, now_ms()).await;
    store.close().await;
    let made = made.map_err(|error| error.to_string())?;
    let made = made.ok_or_else(|| format!("nobody has the login {login}"))?;
    let minutes = settings.auth.reset_ttl.as_secs() / 60;
    Ok(format!(
        "{}\ngood once, for {minutes} min: POST {{\"token\", \"password\"}} to {}",
        made.token,
        reset::REDEEM
    ))
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
        let create = ["tandem", "key", "create", "--name", "x"];
        let two = ["--permission", "publish", "--permission", "history"];
        let made = Cli::try_parse_from(create.iter().chain(&two)).unwrap();
        let what = KeyCommand::Create {
            name: "x".into(),
            permissions: vec![Permission::Publish, Permission::History],
            days: None,
        };
        assert_eq!(made.command(), Command::Key { what });
        let replay = ["tandem", "replay", "--from", "0", "--to"];
        let ranged = replay
            .iter()
            .chain(&["2026-01-31T12:00:00Z", "--type", "a.b", "--dry-run"]);
        let Command::Replay(_) = Cli::try_parse_from(ranged).unwrap().command() else {
            panic!("it is a replay");
        };
        let unreadable = replay.iter().chain(&["tomorrow"]);
        assert!(Cli::try_parse_from(unreadable).is_err());
        let mcp = Cli::try_parse_from(["tandem", "mcp", "--url", "http://hub:1"]).unwrap();
        let (url, token_file) = (Some("http://hub:1".to_owned()), None);
        assert_eq!(mcp.command(), Command::Mcp { url, token_file });
        let unknown = create.iter().chain(&["--permission", "fly"]);
        assert!(Cli::try_parse_from(unknown).is_err());
        for wrong in [
            &["tandem", "dance"][..],
            &["tandem", "keys"],
            &["tandem", "replay"],
            &create,
            &["tandem", "key", "revoke"],
            &["tandem", "reset-password"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err());
        }
    }
}

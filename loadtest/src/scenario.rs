//! The scenarios: each measures one promise of the hub, beside its limit or a known text.

pub(crate) mod chaos;
pub(crate) mod events;
pub(crate) mod fanout;
pub(crate) mod gateway;
pub(crate) mod idle;
pub(crate) mod progress;
pub(crate) mod recall;
pub(crate) mod scale;
pub(crate) mod trace;
pub(crate) mod units;

use crate::error::{Error, Result};
use crate::rest::Rest;
use crate::server::{Server, Target};

/// What a figure is compared with in the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compare {
    /// The bare loop: what the machine allows.
    Limit,
}

/// A runtime for the few REST calls of a scenario that is otherwise free of it.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(future)
}

/// Logs in at a hub; returns the access token.
fn login(server: &Server, target: &Target) -> Result<String> {
    let rest = block_on(Rest::login(&server.base(), &target.user, &target.password))?;
    Ok(rest.token().to_owned())
}

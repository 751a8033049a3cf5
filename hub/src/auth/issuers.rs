//! Outside issuers (OpenID Connect): whose tokens are accepted besides the hub's own.
//!
//! The flow of a token: its `iss`, not yet believed, chooses the issuer → `token` judges header and claims →
//! `source` has the issuer's keys (a key that is not known makes it read them again) → the signature → an
//! [`Outsider`]. `discovery` and `fetch` bring the keys, `jwks` holds them, `mapping` says what claims are
//! worth. Never knows users or the store: whom an [`Outsider`] stands for is `auth::outside`'s.

mod discovery;
mod fetch;
mod jwks;
pub(super) mod mapping;
mod source;
#[cfg(test)]
mod tests;
mod token;

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::issuers::{Issuer as Settings, load};
pub use discovery::{Probe, probe};
pub use fetch::FetchError;
use source::{Found, Source};
pub(super) use token::Outsider;
use token::{Parts, Refusal};

/// Why a token of an outside issuer is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Everything is right but its time is over.
    Expired,
    /// It is not valid; why is for the log alone.
    Invalid,
    /// The issuer can't be asked for its keys.
    Unavailable,
}

/// One issuer with its keys.
pub(super) struct Issuer {
    pub(super) settings: Arc<Settings>,
    source: Arc<Source>,
}

/// All of them.
pub(super) struct Issuers(Vec<Issuer>);

impl Issuers {
    /// Those of the file; none without one. Reads no key yet: run [`Issuers::tend`].
    ///
    /// # Errors
    /// In words: the file, or a certificate authority, can't be read.
    pub(super) fn open(file: Option<&Path>) -> Result<Self, String> {
        let Some(file) = file else {
            return Ok(Self(Vec::new()));
        };
        let settings = load(file).map_err(|problems| {
            let lines = problems
                .iter()
                .map(|one| format!("{}: {}", one.at, one.why));
            lines.collect::<Vec<_>>().join("; ")
        })?;
        let issuers = settings.into_iter().map(|settings| {
            let settings = Arc::new(settings);
            let source = Source::new(Arc::clone(&settings)).map_err(|error| error.to_string())?;
            Ok(Issuer { settings, source })
        });
        issuers.collect::<Result<Vec<_>, String>>().map(Self)
    }

    /// The issuer that a token claims to be of. It is not checked here, and serves to choose keys alone.
    pub(super) fn of(&self, token: &str) -> Option<&Issuer> {
        if self.0.is_empty() {
            return None;
        }
        let claimed = token::claimed_issuer(token)?;
        self.0
            .iter()
            .find(|issuer| issuer.settings.issuer.as_str() == claimed)
    }

    /// Keeps the keys of all issuers up to date until `stop`.
    pub(super) async fn tend(&self, stop: &CancellationToken) {
        let mut tasks = JoinSet::new();
        for issuer in &self.0 {
            tasks.spawn(Arc::clone(&issuer.source).tend(stop.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl Issuer {
    /// Whom a token speaks for, if this issuer made it for this hub and it is good at `now_ms`. A key that
    /// is not known is looked for, so this may take some seconds.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn verify(&self, token: &str, now_ms: u64) -> Result<Outsider, Refused> {
        let judged = Parts::of(token, &self.settings).and_then(|parts| {
            let outsider = token::judge(&parts, &self.settings, now_ms);
            match outsider {
                Err(Refusal::Because(why)) => Err(why),
                Ok(outsider) => Ok((parts, Some(outsider))),
                // Whether it ever was right is not known yet.
                Err(Refusal::Expired) => Ok((parts, None)),
            }
        });
        let (parts, outsider) = judged.map_err(|why| self.refuse(why))?;
        let found = match self.source.check(&parts) {
            Found::Unknown | Found::Stale if outsider.is_some() => {
                self.source.refetch().await;
                self.source.check(&parts)
            }
            found => found,
        };
        match (found, outsider) {
            (Found::Signed, Some(outsider)) => Ok(outsider),
            (Found::Signed, None) => Err(Refused::Expired),
            (Found::Refused(why), _) => Err(self.refuse(why)),
            (Found::Unknown, _) => Err(self.refuse("its key is none of the issuer's")),
            (Found::Stale, Some(_)) => {
                tracing::debug!(issuer = %self.settings.issuer, "a token can't be checked: no keys");
                Err(Refused::Unavailable)
            }
            (Found::Stale, None) => Err(self.refuse("it has expired, by its own words")),
        }
    }

    /// Tells the operator what the sender is not told.
    fn refuse(&self, why: &'static str) -> Refused {
        tracing::debug!(issuer = %self.settings.issuer, why, "an outside token was refused");
        Refused::Invalid
    }
}

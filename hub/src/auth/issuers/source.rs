//! One issuer's keys as this node knows them: fetched at the start, again before they grow old, and when a token
//! names one that is not known.
//!
//! Owns when they are fetched and for how long they are good. All who wait for an unknown key share one
//! fetch, and such fetches are spaced, so that forged tokens can't make the hub knock at the issuer. While the
//! issuer is away the known keys go on for a bounded time. Never looks into claims.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use backplane::backoff::Backoff;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::discovery;
use super::fetch::{FetchError, Fetcher};
use super::jwks::{KeySet, Tried};
use super::token::Parts;
use crate::config::issuers::Issuer as Settings;

/// However short an issuer's `max-age` is, its keys are not fetched more often than that.
const LEAST_AGE: Duration = Duration::from_secs(30);
/// How long to wait after a first failed fetch, and at the most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the keys say of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The issuer signed it.
    Signed,
    /// It did not; why, for the log.
    Refused(&'static str),
    /// Its key is not among those that the issuer listed when it was last asked.
    Unknown,
    /// The issuer could not be asked: nobody knows.
    Stale,
}

#[derive(Clone, Default)]
struct State {
    keys: KeySet,
    /// When the last fetch that worked began.
    good: Option<Instant>,
    /// Whether the last fetch worked.
    answered: bool,
    /// For how long the issuer says that they may be kept.
    max_age: Option<Duration>,
}

/// The keys of one issuer.
pub(super) struct Source {
    settings: Arc<Settings>,
    fetcher: Fetcher,
    state: ArcSwap<State>,
    /// When the last fetch began; held while one is under way.
    flight: Mutex<Option<Instant>>,
}

impl Source {
    /// One without any key yet.
    ///
    /// # Errors
    /// The authorities that its server is checked by can't be read.
    pub(super) fn new(settings: Arc<Settings>) -> Result<Arc<Self>, FetchError> {
        let fetcher = discovery::fetcher(&settings)?;
        Ok(Arc::new(Self {
            settings,
            fetcher,
            state: ArcSwap::default(),
            flight: Mutex::new(None),
        }))
    }

    /// Whether one of the keys signed a token.
    pub(super) fn check(&self, parts: &Parts<'_>) -> Found {
        let (state, now) = (self.state.load(), Instant::now());
        let is_old = |good: Instant| now > good + self.settings.outage && !state.answered;
        if state.good.is_none_or(is_old) {
            return Found::Stale;
        }
        match state.keys.check(parts, now, self.settings.grace) {
            Tried::Signed => Found::Signed,
            Tried::Forged => Found::Refused("its signature is wrong"),
            Tried::Ambiguous => Found::Refused("it names no key, and there are several (kid)"),
            Tried::Unknown if state.answered => Found::Unknown,
            Tried::Unknown => Found::Stale,
        }
    }

    /// Fetches the keys because of a token, unless that was done a moment ago. Who comes while a fetch is
    /// under way waits for its end.
    pub(super) async fn refetch(self: &Arc<Self>) {
        let asked = Instant::now();
        let mut last = self.flight.lock().await;
        if last.is_some_and(|began| asked < began + self.settings.refetch) {
            return;
        }
        *last = Some(Instant::now());
        // Runs on if whoever asked goes away: the next may not ask so soon.
        let fetch = tokio::spawn(Arc::clone(self).fetch());
        drop(fetch.await);
    }

    /// Keeps the keys up to date until `stop`.
    pub(super) async fn tend(self: Arc<Self>, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1.min(self.settings.refresh));
        loop {
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch_now() => fetched,
            };
            let wait = if fetched {
                backoff.reset();
                self.keep_for()
            } else {
                backoff.delay()
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn fetch_now(self: &Arc<Self>) -> bool {
        let mut last = self.flight.lock().await;
        *last = Some(Instant::now());
        Arc::clone(self).fetch().await
    }

    /// How long to keep what was fetched last.
    fn keep_for(&self) -> Duration {
        let most = self.settings.refresh;
        let said = self.state.load().max_age.unwrap_or(most);
        said.clamp(LEAST_AGE.min(most), most)
    }

    /// Fetches the keys; whether that worked.
    async fn fetch(self: Arc<Self>) -> bool {
        let began = Instant::now();
        let fetched = discovery::key_set(&self.fetcher, &self.settings).await;
        let read = fetched.and_then(|(at, document)| {
            let read = discovery::read(&at, &document)?;
            Ok((read, document.max_age))
        });
        let before = self.state.load_full();
        if before.good.is_some_and(|good| good > began) {
            // One that began later was quicker.
            return before.answered;
        }
        let issuer = &self.settings.issuer;
        let (read, max_age) = match read {
            Ok(read) => read,
            Err(error) => {
                if before.answered || before.good.is_none() {
                    tracing::warn!(%issuer, %error, "an issuer's keys can't be read; those known go on for a while");
                }
                self.state.store(Arc::new(State {
                    answered: false,
                    ..State::clone(&before)
                }));
                return false;
            }
        };
        if !before.answered {
            let keys = read.usable(&self.settings.algorithms);
            tracing::info!(%issuer, keys, "an issuer's keys were read");
            for why in &read.left_out {
                tracing::debug!(%issuer, why, "a key of an issuer is left out");
            }
        }
        self.state.store(Arc::new(State {
            keys: before.keys.renewed(read.keys, began, self.settings.grace),
            good: Some(began),
            answered: true,
            max_age,
        }));
        true
    }
}

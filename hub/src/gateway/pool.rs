//! The upstreams of one service: which of them gets the next request.
//!
//! Owns their counts, health and breakers, the client with its connections, and the retry budget. A
//! request holds a [`Ticket`] of its upstream until its last byte has passed; dropping it lets go. Never
//! speaks to an upstream itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rand::Rng as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::breaker::{Breaker, Says};
use super::budget::Budget;
use super::health;
use crate::config::services::{Balance, Endpoint, Service};
use crate::metrics::table;

/// How long a connection waits for its next request: shorter than servers commonly do, so that a request
/// is seldom sent into one that is being closed.
const KEPT: Duration = Duration::from_secs(4);
/// Connections to one upstream that wait.
const KEPT_MOST: usize = 256;

/// What speaks to upstreams.
pub(super) type Caller = Client<HttpsConnector<HttpConnector>, Body>;

/// One upstream as this node sees it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) endpoint: Endpoint,
    in_flight: AtomicUsize,
    healthy: AtomicBool,
    breaker: Mutex<Breaker>,
}

impl Upstream {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its health checks say; `true` if that is news.
    pub(super) fn set_healthy(&self, healthy: bool) -> bool {
        self.healthy.swap(healthy, Ordering::Relaxed) != healthy
    }
}

/// A service: its configuration and its upstreams.
pub(super) struct Pool {
    name: Arc<str>,
    service: Service,
    upstreams: Arc<[Upstream]>,
    caller: Caller,
    budget: Budget,
    under_way: AtomicUsize,
    turn: AtomicUsize,
    /// Ends the health checks.
    _checks: DropGuard,
}

/// Why there is no upstream for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nobody {
    /// All are failing; one may work again after this time.
    Down(Duration),
    /// Too many requests are under way.
    Full,
}

impl Pool {
    /// A service whose upstreams count as healthy until they are found otherwise. Health checks begin.
    ///
    /// # Errors
    /// In words: certificates can't be used.
    pub(super) fn new(name: Arc<str>, service: Service) -> Result<Self, String> {
        let upstreams = service.upstreams.iter().map(|endpoint| Upstream {
            endpoint: endpoint.clone(),
            in_flight: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            breaker: Mutex::new(Breaker::new(service.breaker)),
        });
        let upstreams: Arc<[Upstream]> = upstreams.collect();
        let caller = caller(&service)?;
        let stop = CancellationToken::new();
        if let Some(check) = &service.health {
            health::start(&name, check, &upstreams, &caller, &stop);
        }
        Ok(Self {
            name,
            budget: Budget::new(service.retries.budget),
            service,
            upstreams,
            caller,
            under_way: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            _checks: stop.drop_guard(),
        })
    }

    /// The service's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What its file says.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// What speaks to its upstreams.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What its retries may cost.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes a place among the requests under way.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Entry, Nobody> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let entry = Entry(Arc::clone(self));
        if before >= self.service.concurrency {
            return Err(Nobody::Full);
        }
        Ok(entry)
    }

    /// The upstream for the next try: none that was `tried`, unless there is no other. One whose breaker
    /// lets one request try gets that if it can be repeated, or if nothing else is left.
    pub(super) fn pick(
        self: &Arc<Self>,
        tried: &[usize],
        is_repeatable: bool,
        now: Instant,
    ) -> Result<Ticket, Nobody> {
        let said: Vec<Option<Says>> = self
            .upstreams
            .iter()
            .map(|one| {
                let healthy = one.healthy.load(Ordering::Relaxed);
                healthy.then(|| one.breaker().says(now))
            })
            .collect();
        let that = |says: Says, again: bool| -> Vec<usize> {
            let fits = |at: &usize| said[*at] == Some(says) && tried.contains(at) == again;
            (0..said.len()).filter(fits).collect()
        };
        let passing = that(Says::Pass, false);
        if is_repeatable || passing.is_empty() {
            for at in that(Says::Try, false) {
                if self.begin_trial(at, now) {
                    return Ok(self.ticket(at, true));
                }
            }
        }
        let again = that(Says::Pass, true);
        let chosen = self.choose(&passing).or_else(|| self.choose(&again));
        chosen
            .map(|at| self.ticket(at, false))
            .ok_or_else(|| Nobody::Down(self.wait(&said, now)))
    }

    /// Another request may have been faster.
    fn begin_trial(&self, at: usize, now: Instant) -> bool {
        let mut breaker = self.upstreams[at].breaker();
        let may = breaker.says(now) == Says::Try;
        if may {
            breaker.begin_trial();
        }
        may
    }

    fn choose(&self, among: &[usize]) -> Option<usize> {
        let [first, ..] = among else {
            return None;
        };
        if among.len() == 1 {
            return Some(*first);
        }
        Some(match self.service.balance {
            Balance::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                among[turn % among.len()]
            }
            Balance::TwoChoices => {
                let mut random = rand::rng();
                let one = random.random_range(0..among.len());
                // Another one than that.
                let other = (one + random.random_range(1..among.len())) % among.len();
                let load = |at: usize| self.upstreams[among[at]].in_flight.load(Ordering::Relaxed);
                among[if load(other) < load(one) { other } else { one }]
            }
        })
    }

    fn ticket(self: &Arc<Self>, at: usize, is_trial: bool) -> Ticket {
        self.upstreams[at].in_flight.fetch_add(1, Ordering::Relaxed);
        Ticket {
            pool: Arc::clone(self),
            at,
            is_trial,
        }
    }

    /// After what time asking again may help.
    fn wait(&self, said: &[Option<Says>], now: Instant) -> Duration {
        let interval = self.service.health.as_ref().map(|check| check.interval);
        let unhealthy = interval.unwrap_or(self.service.breaker.cool_down);
        let waits = said.iter().map(|says| match says {
            None => unhealthy,
            Some(Says::No(until)) => until.saturating_duration_since(now),
            Some(Says::Pass | Says::Try | Says::Wait) => Duration::from_secs(1),
        });
        waits.min().unwrap_or(unhealthy)
    }
}

/// A place among the requests under way.
pub(super) struct Entry(Arc<Pool>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's hold on an upstream.
pub(super) struct Ticket {
    pool: Arc<Pool>,
    at: usize,
    /// The breaker waits for what becomes of it.
    is_trial: bool,
}

impl Ticket {
    /// Its number in the service.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The upstream.
    pub(super) fn upstream(&self) -> &Upstream {
        &self.pool.upstreams[self.at]
    }

    /// It has answered.
    pub(super) fn success(&mut self) {
        let is_trial = std::mem::take(&mut self.is_trial);
        self.upstream().breaker().success(is_trial);
        if is_trial {
            let (service, upstream) = (&self.pool.name, &self.upstream().endpoint);
            tracing::info!(%service, %upstream, "the upstream answers again");
        }
    }

    /// It has failed.
    pub(super) fn failure(&mut self) {
        let is_trial = std::mem::take(&mut self.is_trial);
        let service = &self.pool.name;
        metrics::counter!(table::GATEWAY_FAILURES, "service" => service.to_string()).increment(1);
        if self.upstream().breaker().failure(is_trial, Instant::now()) {
            let upstream = &self.upstream().endpoint;
            metrics::counter!(table::GATEWAY_BREAKERS, "service" => service.to_string())
                .increment(1);
            if !is_trial {
                tracing::warn!(%service, %upstream, "the upstream fails: it gets no requests for a while");
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let upstream = self.upstream();
        upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_trial {
            upstream.breaker().abandon(Instant::now());
        }
    }
}

fn caller(service: &Service) -> Result<Caller, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(service.timeouts.connect));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(service)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .pool_max_idle_per_host(KEPT_MOST)
        .build(https))
}

fn tls(service: &Service) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?;
    let builder = match &service.ca {
        Some(path) => builder.with_root_certificates(authority(path)?),
        None if service.upstreams.iter().any(Endpoint::is_tls) => builder
            .with_native_roots()
            .map_err(|error| format!("the system's certificates can't be used: {error}"))?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

fn authority(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: String| format!("{}: no certificates: {why}", path.display());
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut roots = RootCertStore::empty();
    for certificate in read.map_err(|error| wrong(error.to_string()))? {
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is none in it".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;

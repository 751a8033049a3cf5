//! The file of the gateway's services: what it may say, read whole, with every error at once.
//!
//! Owns the format ([`read`]) and the values that it is read into. `docs/gateway.md` explains it.
//! Never opens a connection and never decides about a request: `gateway` does.

mod endpoint;
mod route;
mod section;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use route::{Found, Methods, Pattern, Route, Takes};

use super::reader::Problem;
use super::rule::{Choice, bytes, choice, count, duration, flag, list, optional_path, parsed};
use section::Section;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// Services in one file.
const SERVICES: usize = 256;
/// Upstreams of one service.
const UPSTREAMS: usize = 64;
/// Rules of one service.
const RULES: usize = 256;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Every service, by name.
pub type Services = BTreeMap<Arc<str>, Service>;

/// How an upstream is chosen among those that take requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Of two at random the one with fewer requests under way.
    TwoChoices,
    /// Each in turn.
    RoundRobin,
}

impl Choice for Balance {
    const ALL: &'static [(&'static str, Self)] = &[
        ("two_choices", Self::TwoChoices),
        ("round_robin", Self::RoundRobin),
    ];
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Until a connection to an upstream stands.
    pub connect: Duration,
    /// Until the head of an answer, for one try; counted from the end of the request's body.
    pub answer: Duration,
    /// Until the head of the answer that is passed on, all tries together.
    pub deadline: Duration,
    /// Between two pieces of a body, and of a WebSocket's bytes in either direction.
    pub idle: Duration,
}

/// When a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// At most so often, after the first try.
    pub max: u32,
    /// Of the service's requests at most this many in a hundred, over a reserve.
    pub budget: u32,
}

/// The question whether an upstream works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked with GET; 2xx is healthy.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After so many good answers in a row it takes requests again.
    pub healthy: u32,
    /// After so many bad ones it takes none.
    pub unhealthy: u32,
}

/// When an upstream that fails gets no requests for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before one request tries again.
    pub cool_down: Duration,
}

/// One service behind the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Where its instances are.
    pub upstreams: Vec<Endpoint>,
    /// Which of them gets a request.
    pub balance: Balance,
    /// PEM file of the authority that signed the upstreams' certificates, if it is no public one.
    pub ca: Option<PathBuf>,
    /// Whether WebSockets pass.
    pub websocket: bool,
    /// Whether `Set-Cookie` of the upstreams passes.
    pub set_cookie: bool,
    /// Largest body of a request.
    pub body_bytes: usize,
    /// Requests, streams and sockets under way at once.
    pub concurrency: usize,
    /// Time limits.
    pub timeouts: TimeLimits,
    /// Retries.
    pub retries: Retries,
    /// Health checks, if any.
    pub health: Option<HealthCheck>,
    /// Circuit breaker.
    pub breaker: BreakerLimits,
    /// Who may what, in order; what no rule takes is refused.
    pub rules: Vec<Route>,
}

/// Reads the file. `audience` is that of the hub's own access tokens.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path, audience: &str) -> Result<Services, Vec<Problem>> {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &shown, audience),
        Err(error) => Err(vec![Problem {
            at: shown,
            why: format!("can't be read: {error}"),
        }]),
    }
}

/// Reads the text of a file that is called `name` in what is said of it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, name: &str, audience: &str) -> Result<Services, Vec<Problem>> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        vec![Problem {
            at: name.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        }]
    })?;
    let mut problems = Vec::new();
    let mut services = Services::new();
    let mut file = Section::new(String::new(), &table);
    for (key, table) in file.tables("services", SERVICES) {
        let at = format!("services.{key}");
        if let Err(why) = name_of(&key, audience) {
            file.wrong(&at, why);
        }
        let mut section = Section::new(at, table);
        let service = service(&mut section);
        problems.append(&mut section.end());
        if let Some(service) = service {
            services.insert(key.into(), service);
        }
    }
    problems.append(&mut file.end());
    if problems.is_empty() {
        return Ok(services);
    }
    for problem in &mut problems {
        problem.at = format!("{name}: {}", problem.at);
    }
    Err(problems)
}

/// A service's name is a part of a path and the audience of tokens.
fn name_of(name: &str, audience: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=63).contains(&name.len()) || !name.bytes().all(plain) || name.starts_with('-') {
        return Err(
            "has 1 to 63 small letters, digits and -, and does not begin with -".to_owned(),
        );
    }
    if name == audience {
        return Err(
            "is the value of auth.audience: the hub would take the service's tokens \
             for its own"
                .to_owned(),
        );
    }
    Ok(())
}

/// `None` if something was wrong; what it is stands in the section.
fn service(section: &mut Section<'_>) -> Option<Service> {
    let upstreams = section.need("upstreams", &list::<Endpoint>(endpoint::ALLOWED));
    let balance = section.take("balance", Balance::TwoChoices, &choice());
    let ca = section.take("ca", None, &optional_path());
    let websocket = section.take("websocket", false, &flag());
    let set_cookie = section.take("set_cookie", false, &flag());
    let body_bytes = section.take("body_bytes", 32 * MIB, &bytes(KIB, 16 * GIB));
    let concurrency = section.take("concurrency", 1024, &count(1, 1_000_000));
    let timeouts = section.table("timeouts", timeouts);
    let retries = section.table("retries", retries);
    let health = section.optional_table("health", health);
    let breaker = section.table("breaker", breaker);
    let mut rules = Vec::new();
    for (at, table) in section.list_of_tables("rules", RULES) {
        let mut inner = Section::new(at, table);
        rules.push(route(&mut inner));
        section.adopt(inner);
    }
    if rules.is_empty() {
        section.wrong_key(
            "rules",
            "is missing: without a rule nothing passes".to_owned(),
        );
    }
    let rules: Option<Vec<Route>> = rules.into_iter().collect();
    let service = Service {
        upstreams: upstreams?,
        balance: balance?,
        ca: ca?,
        websocket: websocket?,
        set_cookie: set_cookie?,
        body_bytes: body_bytes?,
        concurrency: concurrency?,
        timeouts: timeouts?,
        retries: retries?,
        health: health?,
        breaker: breaker?,
        rules: rules?,
    };
    check(&service, section);
    Some(service)
}

/// What no single key can see.
fn check(service: &Service, section: &mut Section<'_>) {
    let upstreams = &service.upstreams;
    if upstreams.is_empty() || upstreams.len() > UPSTREAMS {
        section.wrong_key("upstreams", format!("has 1 to {UPSTREAMS} addresses"));
    }
    let double = |one: &&Endpoint| upstreams.iter().filter(|other| other == one).count() > 1;
    if let Some(double) = upstreams.iter().find(double) {
        section.wrong_key("upstreams", format!("has {double} twice"));
    }
    if service.timeouts.answer > service.timeouts.deadline {
        section.wrong_key(
            "timeouts.answer",
            "is longer than timeouts.deadline".to_owned(),
        );
    }
    if let Some(health) = &service.health
        && health.timeout > health.interval
    {
        section.wrong_key(
            "health.timeout",
            "is longer than health.interval".to_owned(),
        );
    }
    if let Some(ca) = &service.ca
        && let Err(error) = std::fs::read(ca)
    {
        section.wrong_key("ca", format!("can't read {}: {error}", ca.display()));
    }
}

fn timeouts(section: &mut Section<'_>) -> Option<TimeLimits> {
    let connect = section.take("connect", secs(2), &duration(ms(10), secs(60)));
    let answer = section.take("answer", secs(15), &duration(ms(10), secs(3600)));
    let deadline = section.take("deadline", secs(30), &duration(ms(10), secs(3600)));
    let idle = section.take("idle", secs(60), &duration(ms(100), secs(86_400)));
    Some(TimeLimits {
        connect: connect?,
        answer: answer?,
        deadline: deadline?,
        idle: idle?,
    })
}

fn retries(section: &mut Section<'_>) -> Option<Retries> {
    let max = section.take("max", 2, &count(0, 10));
    let budget = section.take("budget", 20, &count(0, 100));
    Some(Retries {
        max: max?,
        budget: budget?,
    })
}

fn health(section: &mut Section<'_>) -> Option<HealthCheck> {
    let path = section.need(
        "path",
        &parsed::<endpoint::PlainPath>("a path like /healthz"),
    );
    let interval = section.take("interval", secs(5), &duration(ms(100), secs(3600)));
    let timeout = section.take("timeout", secs(2), &duration(ms(10), secs(60)));
    let healthy = section.take("healthy", 2, &count(1, 100));
    let unhealthy = section.take("unhealthy", 3, &count(1, 100));
    Some(HealthCheck {
        path: path?.0,
        interval: interval?,
        timeout: timeout?,
        healthy: healthy?,
        unhealthy: unhealthy?,
    })
}

fn breaker(section: &mut Section<'_>) -> Option<BreakerLimits> {
    let failures = section.take("failures", 5, &count(1, 10_000));
    let cool_down = section.take("cool_down", secs(10), &duration(ms(10), secs(3600)));
    Some(BreakerLimits {
        failures: failures?,
        cool_down: cool_down?,
    })
}

fn route(section: &mut Section<'_>) -> Option<Route> {
    let methods = section.need("methods", &list::<route::Method>(route::METHODS));
    let pattern = section.need("path", &parsed::<Pattern>(route::PATTERN));
    let takes = section.need("takes", &choice::<Takes>());
    let (methods, pattern, takes) = (methods?, pattern?, takes?);
    let route = Route::new(Methods::of(&methods), pattern, takes);
    if let Err(why) = &route {
        section.wrong_key("takes", (*why).to_owned());
    }
    route.ok()
}

#[cfg(test)]
mod tests;

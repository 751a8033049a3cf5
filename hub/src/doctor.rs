//! `tandem doctor`: tries every configured service as the hub would use it, and says in words what is
//! wrong and what to do.
//!
//! Owns the findings and how they are shown. Each service's own checks are in a file of its own. Leaves
//! nothing behind: what a check makes it takes away again. Never changes a setting of a service, and
//! never shows a password.

mod issuers;
mod postgres;
mod rabbit;
mod redis;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::{ConfigErrors, Settings};

/// How long one step may take before the service counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but less well, or less safely, than it could.
    Warn,
    /// The hub would not start, or could not keep what it promises.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The service: `settings`, `data`, `postgres`, `replica`, `redis`, `rabbitmq`, `nodes`,
    /// `issuers`.
    pub service: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// What was wrong with the settings; nothing else can be looked at then.
    #[must_use]
    pub fn of_settings(errors: &ConfigErrors) -> Self {
        let mut report = Self::default();
        for problem in &errors.0 {
            let says = format!("{}: {}", problem.at, problem.why);
            report
                .of("settings")
                .fail("configuration", says, "correct it, and try again");
        }
        report
    }

    /// The worst of it.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Ok)
    }

    /// As one JSON object: `verdict`, and `findings` with `service`, `check`, `verdict`, `says`, `hint`.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::json!({ "verdict": self.worst(), "findings": self.findings }).to_string()
    }

    /// Adds what is found about a service.
    fn of(&mut self, service: &'static str) -> Notes<'_> {
        Notes {
            report: self,
            service,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding {
                service,
                check,
                verdict,
                says,
                hint,
            } = finding;
            write!(f, "{verdict:<4}  {service:<8}  {check}: {says}")?;
            match hint {
                Some(hint) => writeln!(f, " ({hint})")?,
                None => writeln!(f)?,
            }
        }
        let count = |verdict| {
            let same = self.findings.iter().filter(|one| one.verdict == verdict);
            same.count()
        };
        write!(
            f,
            "{} ok, {} to look at, {} to be corrected",
            count(Verdict::Ok),
            count(Verdict::Warn),
            count(Verdict::Fail)
        )
    }
}

/// Where the findings about one service go.
struct Notes<'r> {
    report: &'r mut Report,
    service: &'static str,
}

impl Notes<'_> {
    fn add(&mut self, check: &'static str, verdict: Verdict, says: String, hint: Option<String>) {
        self.report.findings.push(Finding {
            service: self.service,
            check,
            verdict,
            says,
            hint,
        });
    }

    fn ok(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(check, Verdict::Ok, says.into(), None);
    }

    fn warn(&mut self, check: &'static str, says: impl Into<String>, hint: impl Into<String>) {
        self.add(check, Verdict::Warn, says.into(), Some(hint.into()));
    }

    fn fail(&mut self, check: &'static str, says: impl Into<String>, hint: impl Into<String>) {
        self.add(check, Verdict::Fail, says.into(), Some(hint.into()));
    }
}

/// Looks at everything that the settings name. A service that hangs costs a few seconds, not for ever.
pub async fn examine(settings: &Settings) -> Report {
    let mut report = Report::default();
    combination(&mut report.of("settings"), settings);
    let nodes = if settings.database.url.is_none() {
        data_dir(&mut report.of("data"), settings);
        Vec::new()
    } else {
        postgres::examine(&mut report, settings).await
    };
    let identity = redis::examine(&mut report, settings).await;
    rabbit::examine(&mut report, settings).await;
    living(&mut report.of("nodes"), &nodes, &identity);
    issuers::examine(&mut report, settings).await;
    report
}

/// What the services that are set add up to. What can't be was refused when the settings were read.
fn combination(notes: &mut Notes<'_>, settings: &Settings) {
    let database = settings.database.url.is_some();
    let redis = !settings.redis.url.is_empty();
    let amqp = settings.amqp.url.is_some();
    let bus = if amqp {
        "events through RabbitMQ"
    } else {
        "events inside the process"
    };
    match (database, redis) {
        (true, true) => notes.ok(
            "combination",
            format!("one node of many: PostgreSQL, channels through Redis, {bus}"),
        ),
        (true, false) => notes.ok(
            "combination",
            format!("one node alone on PostgreSQL: channels inside the process, {bus}"),
        ),
        _ => notes.ok(
            "combination",
            format!("one node alone: SQLite, channels inside the process, {bus}"),
        ),
    }
    if database && settings.auth.key_secret.is_none() {
        notes.warn(
            "key secret",
            "the private keys that tokens are signed with lie in the database as they are",
            "set auth.key_secret to 32 random bytes in base64, the same on every node",
        );
    }
}

/// Whether the embedded store could be written to.
fn data_dir(notes: &mut Notes<'_>, settings: &Settings) {
    let folder = &settings.data_dir;
    let shown = folder.display();
    let probe = folder.join(format!(".doctor-{}", uuid::Uuid::new_v4().simple()));
    let tried = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b"can this be written?"))
        .and_then(|()| std::fs::remove_file(&probe));
    match tried {
        Ok(()) => notes.ok("folder", format!("{shown} can be written to")),
        Err(error) => notes.fail(
            "folder",
            format!("{shown} can't be written to: {error}"),
            "let the user that runs the hub own it, or set data_dir",
        ),
    }
}

/// A living node, as the database knows it.
struct Living {
    id: String,
    address: String,
    broker: Option<String>,
    version: String,
}

/// Which Redis the settings lead to.
enum Identity {
    /// There is none in the settings.
    NoRedis,
    /// It could not be asked.
    Unknown,
    /// As the nodes on it know it; `None` if none has started on it yet.
    Known(Option<String>),
}

/// Whether this node could run beside those that live.
fn living(notes: &mut Notes<'_>, nodes: &[Living], identity: &Identity) {
    let own = match identity {
        Identity::NoRedis => None,
        Identity::Known(identity) => Some(identity.as_deref().unwrap_or_default()),
        Identity::Unknown if nodes.is_empty() => return,
        Identity::Unknown => {
            notes.warn(
                "neighbour",
                "others live on the database; whether this node would share their Redis can't be said",
                "correct what is said of Redis first",
            );
            return;
        }
    };
    for node in nodes {
        let who = format!("node {} at {}", node.id, node.address);
        let version = env!("CARGO_PKG_VERSION");
        match (own, node.broker.as_deref()) {
            (Some(own), Some(theirs)) if own == theirs && node.version == version => {
                notes.ok("neighbour", format!("{who} lives on the same Redis"));
            }
            (Some(own), Some(theirs)) if own == theirs => notes.warn(
                "neighbour",
                format!("{who} runs version {}, this one is {version}", node.version),
                "bring all nodes to one version",
            ),
            (Some(_), Some(_)) => notes.fail(
                "neighbour",
                format!("{who} uses another Redis, or another redis.prefix: the two would not hear each other"),
                "give every node on one database the same redis.url and redis.prefix",
            ),
            (None, Some(_)) => notes.fail(
                "neighbour",
                format!("{who} shares its channels through Redis, and this one has none"),
                "set redis.url as on the other nodes",
            ),
            (_, None) => notes.fail(
                "neighbour",
                format!("{who} has its channels inside its own process: nobody can run beside it"),
                "set redis.url on every node, or let only one run on this database",
            ),
        }
    }
}

//! The file of outside issuers: whose tokens are accepted besides the hub's own, and what they may say.
//!
//! Owns the file's keys, their bounds and defaults ([`Issuer`]). Every error is collected and named by its key.
//! Never opens a connection, and never looks into a token.

mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use protocol::Role;

use super::Problem;
use super::reader::nearest;
use super::rule::{Raw, Rule, choice, duration, flag, list, optional_path, parsed};
use super::text::Name;
pub use values::{Address, ClaimName, Expected};
use values::{Alg, ProjectId, expected};

/// Most issuers in one file.
const MOST: usize = 32;
/// Most rules that grant a role, per issuer.
const MOST_RULES: usize = 256;
/// Longest that a token may live: housekeeping keeps revocations for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An issuer whose tokens are accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// Its `iss`, to the letter.
    pub issuer: Address,
    /// Where its keys are found.
    pub keys: KeysAt,
    /// PEM file of the authority that signed its server's certificate, if it is no public one.
    pub ca: Option<PathBuf>,
    /// A token must be meant for one of these (`aud`).
    pub audience: Vec<String>,
    /// Clients that tokens may have been issued to (`azp`, `client_id`); empty: any, as long as the token has
    /// one audience.
    pub authorized_parties: Vec<String>,
    /// Signatures that are accepted; never a symmetric one.
    pub algorithms: Vec<Algorithm>,
    /// The claim that a new user's login is made of.
    pub login_claim: ClaimName,
    /// The claim that is the display name.
    pub name_claim: ClaimName,
    /// Whether somebody who is not known becomes a user.
    pub create_users: bool,
    /// Claims that a token must have, each with one of these values.
    pub require_claims: Vec<(ClaimName, Vec<Expected>)>,
    /// What grants roles.
    pub roles: Vec<RoleRule>,
    /// How far the issuer's clock may be ahead.
    pub clock_skew: Duration,
    /// How long a token may live from `iat` to `exp`.
    pub max_lifetime: Duration,
    /// How often the keys are read again at the least; `Cache-Control: max-age` may make it more often.
    pub refresh: Duration,
    /// How far apart readings lie that tokens with unknown keys cause.
    pub refetch: Duration,
    /// How long a key is accepted that the issuer no longer lists.
    pub grace: Duration,
    /// How long the known keys are good while the issuer can't be reached.
    pub outage: Duration,
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAt {
    /// Its discovery document says where (OpenID Connect Discovery 1.0).
    Discovery(Address),
    /// The key set itself (RFC 7517).
    Set(Address),
}

/// A role that tokens with some claim grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRule {
    /// The claim.
    pub claim: ClaimName,
    /// What it must be, or hold.
    pub value: Expected,
    /// The project.
    pub project: String,
    /// The role.
    pub role: Role,
}

/// Reads the issuers of a file.
///
/// # Errors
/// Everything that is wrong with it, each named by the file and its key.
pub fn load(path: &Path) -> Result<Vec<Issuer>, Vec<Problem>> {
    let shown = path.display();
    let problem = |why: String| {
        let at = shown.to_string();
        vec![Problem { at, why }]
    };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    read(&text).map_err(|problems| {
        let at = |at: String| match at.as_str() {
            "" => shown.to_string(),
            _ => format!("{shown}: {at}"),
        };
        let named = problems.into_iter().map(|one| Problem {
            at: at(one.at),
            why: one.why,
        });
        named.collect()
    })
}

/// Reads the issuers of a file's text.
///
/// # Errors
/// Everything that is wrong with it, each named by its key.
pub fn read(text: &str) -> Result<Vec<Issuer>, Vec<Problem>> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            return Err(vec![Problem {
                at: String::new(),
                why: error.to_string().trim_end().to_owned(),
            }]);
        }
    };
    let mut problems = Vec::new();
    let mut fields = Fields::new(&table, String::new(), &mut problems);
    let tables = fields.tables("issuers", MOST);
    fields.finish();
    if tables.is_empty() && problems.is_empty() {
        wrong(
            &mut problems,
            "issuers",
            "is missing: write [[issuers]] for each",
        );
    }
    let mut issuers: Vec<Issuer> = Vec::with_capacity(tables.len());
    for (n, table) in tables.into_iter().enumerate() {
        let at = format!("issuers[{n}]");
        let Some(issuer) = issuer(table, &at, &mut problems) else {
            continue;
        };
        if issuers.iter().any(|known| known.issuer == issuer.issuer) {
            wrong(&mut problems, &format!("{at}.issuer"), "is there twice");
        }
        issuers.push(issuer);
    }
    if problems.is_empty() {
        Ok(issuers)
    } else {
        Err(problems)
    }
}

fn wrong(problems: &mut Vec<Problem>, at: &str, why: impl Into<String>) {
    problems.push(Problem {
        at: at.to_owned(),
        why: why.into(),
    });
}

/// One issuer; `None` if what it can't do without is missing.
fn issuer(table: &toml::Table, at: &str, problems: &mut Vec<Problem>) -> Option<Issuer> {
    let mut fields = Fields::new(table, at.to_owned(), problems);
    let address = || parsed::<Address>("an address like https://id.example.org/realms/main");
    let names = || list::<Name>("1 to 128 characters without spaces");
    let claim = || parsed::<ClaimName>("the name of a claim");
    let own = fields.need("issuer", &address());
    if own.as_ref().is_some_and(Address::has_query) {
        fields.wrong("issuer", "must have no ? in it");
    }
    let discovery = fields.take("discovery", &address());
    let set = fields.take("jwks_uri", &address());
    if fields.has("discovery") && fields.has("jwks_uri") {
        fields.wrong("jwks_uri", "stands beside discovery: set one of the two");
    }
    let text = |names: Vec<Name>| names.iter().map(|name| name.as_str().to_owned()).collect();
    let audience: Option<Vec<String>> = fields.need("audience", &names()).map(text);
    if audience.as_ref().is_some_and(Vec::is_empty) {
        fields.wrong("audience", "must name at least one");
    }
    let algorithms = fields.take("algorithms", &list::<Alg>(Alg::BOUNDS));
    if algorithms.as_ref().is_some_and(Vec::is_empty) {
        fields.wrong("algorithms", "must name at least one");
    }
    let times = |low: u64, high: Duration| duration(secs(low), high);
    let issuer = Issuer {
        keys: match (discovery, set, &own) {
            (Some(address), _, _) => KeysAt::Discovery(address),
            (None, Some(address), _) => KeysAt::Set(address),
            (None, None, Some(own)) => KeysAt::Discovery(own.discovery()),
            (None, None, None) => KeysAt::Set(Address::nowhere()),
        },
        ca: fields.take("ca", &optional_path()).flatten(),
        authorized_parties: fields
            .take("authorized_parties", &names())
            .map(text)
            .unwrap_or_default(),
        algorithms: algorithms.map_or_else(Alg::defaults, |some| {
            some.into_iter().map(|one| one.0).collect()
        }),
        login_claim: fields.or(
            "login_claim",
            &claim(),
            ClaimName::from_static("preferred_username"),
        ),
        name_claim: fields.or("name_claim", &claim(), ClaimName::from_static("name")),
        create_users: fields.or("create_users", &flag(), true),
        require_claims: fields.require_claims(),
        roles: fields.roles(),
        clock_skew: fields.or("clock_skew", &times(0, secs(60)), secs(5)),
        max_lifetime: fields.or("max_lifetime", &times(60, LONGEST), LONGEST),
        refresh: fields.or("refresh", &times(1, LONGEST), secs(900)),
        refetch: fields.or("refetch", &times(1, secs(600)), secs(10)),
        grace: fields.or("grace", &times(0, secs(3600)), secs(300)),
        outage: fields.or("outage", &times(0, LONGEST), secs(3600)),
        issuer: own.clone().unwrap_or_else(Address::nowhere),
        audience: audience.clone().unwrap_or_default(),
    };
    if let Some(path) = &issuer.ca
        && let Err(error) = std::fs::read(path)
    {
        let why = format!("can't read {}: {error}", path.display());
        fields.wrong("ca", &why);
    }
    fields.finish();
    (own.is_some() && audience.is_some()).then_some(issuer)
}

/// One table of the file, with the keys that were asked for.
struct Fields<'t, 'p> {
    table: &'t toml::Table,
    at: String,
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl<'t, 'p> Fields<'t, 'p> {
    fn new(table: &'t toml::Table, at: String, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            table,
            at,
            known: Vec::new(),
            problems,
        }
    }

    fn key(&self, name: &str) -> String {
        if self.at.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.at)
        }
    }

    fn wrong(&mut self, name: &str, why: &str) {
        let key = self.key(name);
        wrong(self.problems, &key, why);
    }

    fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// The value of a key; `None` if it is not there, or wrong and told.
    fn take<T>(&mut self, name: &'static str, rule: &Rule<T>) -> Option<T> {
        self.known.push(name);
        match (rule.read)(Raw::Toml(self.table.get(name)?)) {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong(name, &why);
                None
            }
        }
    }

    fn or<T>(&mut self, name: &'static str, rule: &Rule<T>, default: T) -> T {
        self.take(name, rule).unwrap_or(default)
    }

    /// As [`Self::take`], of a key that has no default.
    fn need<T>(&mut self, name: &'static str, rule: &Rule<T>) -> Option<T> {
        if !self.has(name) {
            self.known.push(name);
            self.wrong(name, "is missing");
            return None;
        }
        self.take(name, rule)
    }

    /// The tables of a list.
    fn tables(&mut self, name: &'static str, most: usize) -> Vec<&'t toml::Table> {
        self.known.push(name);
        let items = match self.table.get(name) {
            None => return Vec::new(),
            Some(toml::Value::Array(items)) => items.as_slice(),
            Some(_) => {
                let why = format!("must be a list: write [[{}]] for each", self.key(name));
                self.wrong(name, &why);
                return Vec::new();
            }
        };
        if items.len() > most {
            self.wrong(
                name,
                &format!("has {} entries, {most} at most", items.len()),
            );
        }
        let tables: Vec<&toml::Table> = items.iter().filter_map(toml::Value::as_table).collect();
        if tables.len() < items.len() {
            self.wrong(name, "must hold nothing but tables");
        }
        tables
    }

    fn require_claims(&mut self) -> Vec<(ClaimName, Vec<Expected>)> {
        const NAME: &str = "require_claims";
        self.known.push(NAME);
        let table = match self.table.get(NAME) {
            None => return Vec::new(),
            Some(toml::Value::Table(table)) => table,
            Some(_) => {
                self.wrong(NAME, "must be a table of claims and their values");
                return Vec::new();
            }
        };
        let mut required = Vec::new();
        for (claim, value) in table {
            let key = format!("{NAME}.{claim}");
            let values = match value {
                toml::Value::Array(items) => items.iter().map(Expected::of).collect(),
                one => Expected::of(one).map(|one| vec![one]),
            };
            let values: Option<Vec<Expected>> = values;
            match (claim.parse::<ClaimName>(), values) {
                (Ok(claim), Some(values)) if !values.is_empty() => required.push((claim, values)),
                (Err(why), _) => self.wrong(&key, why),
                _ => self.wrong(
                    &key,
                    "must be a text, a whole number, true, false, or a list of them",
                ),
            }
        }
        required
    }

    fn roles(&mut self) -> Vec<RoleRule> {
        let mut rules = Vec::new();
        for (n, table) in self.tables("roles", MOST_RULES).into_iter().enumerate() {
            let at = format!("{}.roles[{n}]", self.at);
            let mut fields = Fields::new(table, at, self.problems);
            let claim = fields.need("claim", &parsed::<ClaimName>("the name of a claim"));
            let value = fields.need("value", &expected());
            let project = fields.need("project", &parsed::<ProjectId>("the id of a project"));
            let role = fields.need("role", &choice::<Role>());
            fields.finish();
            if let (Some(claim), Some(value), Some(project), Some(role)) =
                (claim, value, project, role)
            {
                rules.push(RoleRule {
                    claim,
                    value,
                    project: project.0,
                    role,
                });
            }
        }
        rules
    }

    /// Reports the keys that nothing asked for.
    fn finish(mut self) {
        for name in self.table.keys() {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let why = match nearest(name, self.known.iter().copied()) {
                Some((known, _)) => format!("is not a setting; did you mean `{known}`?"),
                None => "is not a setting".to_owned(),
            };
            self.wrong(name, &why);
        }
    }
}

#[cfg(test)]
mod tests;

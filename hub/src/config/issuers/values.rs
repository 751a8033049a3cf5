//! The values in the file of outside issuers: addresses, names of claims, values of claims, algorithms.
//!
//! Owns their syntax. Never compares anything with a token.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use jsonwebtoken::Algorithm;
use protocol::Role;

use super::super::rule::{Choice, Raw, Rule};
use crate::auth::names;

/// Longest address, in bytes.
const ADDRESS_BYTES: usize = 1024;
/// Longest name of a claim, in bytes.
const CLAIM_BYTES: usize = 256;

/// An address that is fetched over HTTPS, or over HTTP on this machine alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    uri: Uri,
}

impl Address {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// To be fetched.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it is fetched without TLS, on this machine.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.uri.scheme_str() == Some("http")
    }

    pub(super) fn has_query(&self) -> bool {
        self.uri.query().is_some()
    }

    /// Where an issuer of that address tells of itself (OpenID Connect Discovery 1.0 §4).
    pub(super) fn discovery(&self) -> Self {
        let text = format!(
            "{}/.well-known/openid-configuration",
            self.text.trim_end_matches('/')
        );
        // What comes of a good address is one.
        text.parse().unwrap_or_else(|_| self.clone())
    }

    /// Stands in for one that is missing, in what is thrown away for that reason.
    pub(super) fn nowhere() -> Self {
        Self {
            text: String::new(),
            uri: Uri::default(),
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > ADDRESS_BYTES {
            return Err("it is too long");
        }
        if text.contains('#') {
            return Err("it has a # in it");
        }
        let uri: Uri = text.parse().map_err(|_| "it is no address")?;
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user in it");
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or("it names no host")?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine(host) => {}
            Some("http") => return Err("it must be https, unless the host is this machine"),
            _ => return Err("it must start with https://"),
        }
        let text = text.to_owned();
        Ok(Self { text, uri })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The name of a claim, or a path to one inside of others: `realm_access.roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName(String);

impl ClaimName {
    pub(super) fn from_static(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClaimName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > CLAIM_BYTES {
            return Err("it must have 1 to 256 bytes");
        }
        if text.chars().any(char::is_control) {
            return Err("it has a control character");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a claim has to be, or to hold if it is a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
}

impl Expected {
    pub(super) fn of(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(text) => Some(Self::Text(text.clone())),
            toml::Value::Integer(number) => Some(Self::Number(*number)),
            toml::Value::Boolean(flag) => Some(Self::Flag(*flag)),
            _ => None,
        }
    }
}

/// A value that a claim may have.
pub(super) fn expected() -> Rule<Expected> {
    let wanted = "a text, a whole number, true or false";
    let read = move |raw: Raw<'_>| {
        let value = match raw {
            Raw::Toml(value) => Expected::of(value),
            Raw::Text(text) => Some(Expected::Text(text.to_owned())),
        };
        value.ok_or_else(|| format!("must be {wanted}"))
    };
    Rule {
        read: Box::new(read),
        show: |value| match value {
            Expected::Text(text) => text.clone(),
            Expected::Number(number) => number.to_string(),
            Expected::Flag(flag) => flag.to_string(),
        },
        bounds: wanted.to_owned(),
    }
}

/// A signature algorithm with a public key (RFC 7518 §3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alg(pub(super) Algorithm);

impl Alg {
    const ALL: [(&'static str, Algorithm); 9] = [
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("EdDSA", Algorithm::EdDSA),
    ];
    pub(super) const BOUNDS: &'static str =
        "one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

    pub(super) fn defaults() -> Vec<Algorithm> {
        vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
    }
}

impl FromStr for Alg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("none") {
            return Err("a token that nobody signed proves nothing");
        }
        if text.starts_with("HS") {
            return Err("whoever can check such a signature can also make it");
        }
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, algorithm)| Self(*algorithm))
            .ok_or("it is not known here")
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, known)| *known == self.0);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// The id of a project, as it would be made.
#[derive(Debug, Clone)]
pub(super) struct ProjectId(pub(super) String);

impl FromStr for ProjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        names::project(text).map_err(|why| format!("it {why}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Choice for Role {
    const ALL: &'static [(&'static str, Self)] = &[
        ("viewer", Role::Viewer),
        ("commenter", Role::Commenter),
        ("editor", Role::Editor),
        ("owner", Role::Owner),
    ];
}

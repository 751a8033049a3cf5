//! The address of an upstream, and plain paths of it.
//!
//! Owns their syntax and how a request's address is put together from them. Never opens a connection.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// What is allowed, in words.
pub(super) const ALLOWED: &str = "an address like http://10.0.0.5:9000 or https://host/base";

/// Where an instance of a service is: scheme, host and port, and what its paths begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty for none.
    base: String,
}

impl Endpoint {
    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The address of a path, which begins with a slash, and a query.
    ///
    /// # Errors
    /// They are no path and query of an address.
    pub fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, http::Error> {
        let whole = match query {
            Some(query) => format!("{}{path}?{query}", self.base),
            None => format!("{}{path}", self.base),
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(whole)?)
            .build()
    }

    /// The part of an address that lies within this endpoint, path and query, beginning with a slash.
    /// An address without a host is one of this endpoint.
    #[must_use]
    pub fn inside<'u>(&self, uri: &'u Uri) -> Option<&'u str> {
        let same_scheme = uri.scheme().is_none_or(|scheme| *scheme == self.scheme);
        let same_host = uri.authority().is_none_or(|other| self.is_same_host(other));
        if !same_scheme || !same_host {
            return None;
        }
        let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let rest = whole.strip_prefix(self.base.as_str())?;
        match rest.as_bytes().first() {
            Some(b'/') => Some(rest),
            None => Some("/"),
            Some(_) => None,
        }
    }

    fn is_same_host(&self, other: &Authority) -> bool {
        let default = if self.is_tls() { 443 } else { 80 };
        self.authority.host().eq_ignore_ascii_case(other.host())
            && self.authority.port_u16().unwrap_or(default) == other.port_u16().unwrap_or(default)
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('#') {
            return Err("it has a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "that is no address")?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .ok_or("it must start with http:// or https://")?;
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err("it must start with http:// or https://");
        }
        let authority = parts.authority.ok_or("it has no host")?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err("it has only a host and a port before its path");
        }
        let path = parts.path_and_query;
        if path.as_ref().is_some_and(|path| path.query().is_some()) {
            return Err("it has a query");
        }
        let base = path.as_ref().map_or("", PathAndQuery::path);
        let base = base.trim_end_matches('/');
        if !base.is_empty() {
            base.parse::<PlainPath>()?;
        }
        Ok(Self {
            scheme,
            authority,
            base: base.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base)
    }
}

/// A path without anything that would have to be escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainPath(pub(super) String);

impl FromStr for PlainPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        if !text.starts_with('/') || text.len() > 1024 || !text.bytes().all(plain) {
            return Err("it begins with / and has letters, digits and - . _ ~ /");
        }
        if text.contains("//") || text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("it has no empty part and no . or .. among its parts");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PlainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_upstreams() {
        for (text, shown) in [
            ("http://10.0.0.5:9000", "http://10.0.0.5:9000"),
            ("https://plans.example/", "https://plans.example"),
            ("http://[::1]:80/a/b/", "http://[::1]:80/a/b"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "10.0.0.5:9000",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x/?q",
            "http://x/#f",
            "http://x/a/../b",
            "http://x/a//b",
            "unix:/socket",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_go_below_the_base_and_come_back() {
        let endpoint: Endpoint = "http://plans:9000/v1".parse().unwrap();
        let uri = endpoint.uri("/a/b", Some("c=d")).unwrap();
        assert_eq!(uri, "http://plans:9000/v1/a/b?c=d");
        let inside = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            endpoint.inside(&uri).map(str::to_owned)
        };
        assert_eq!(inside("http://plans:9000/v1/x?y").as_deref(), Some("/x?y"));
        assert_eq!(inside("http://PLANS:9000/v1").as_deref(), Some("/"));
        assert_eq!(inside("/v1/x").as_deref(), Some("/x"));
        for outside in [
            "http://plans:9001/v1/x",
            "https://plans:9000/v1/x",
            "http://other:9000/v1/x",
            "/v12/x",
            "/other",
        ] {
            assert_eq!(inside(outside), None, "{outside}");
        }
        let plain: Endpoint = "http://plans".parse().unwrap();
        let uri: Uri = "http://plans:80/x".parse().unwrap();
        assert_eq!(plain.inside(&uri), Some("/x"));
    }
}

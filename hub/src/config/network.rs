//! The values of settings that are about the network: address ranges, origins, the public address.
//!
//! Owns their syntax and their matching. Never reads a request.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `::1`, `192.168.1.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl Network {
    /// This machine, and the addresses that are routed inside of a site only (RFC 1918, 3927, 4193, 4291).
    #[must_use]
    pub fn private() -> Vec<Self> {
        let v4 = |a, b, prefix| (IpAddr::from([a, b, 0, 0]), prefix);
        let v6 = |first, prefix| (IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0_u16]), prefix);
        let all = [
            v4(127, 0, 8),
            (IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128),
            v4(10, 0, 8),
            v4(172, 16, 12),
            v4(192, 168, 16),
            v4(169, 254, 16),
            v6(0xfc00, 7),
            v6(0xfe80, 10),
        ];
        all.map(|(address, prefix)| Self { address, prefix })
            .to_vec()
    }

    /// Whether `address` lies in this range. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_width) = bits(self.address);
        let (other, other_width) = bits(address.to_canonical());
        let mask = u128::MAX
            .checked_shl(128 - u32::from(self.prefix))
            .unwrap_or(0);
        own_width == other_width && own & mask == other & mask
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "that is no IP address")?;
        let width = bits(address).1;
        let prefix = match prefix {
            Some(digits) => digits
                .parse()
                .map_err(|_| "the part after / is no number")?,
            None => width,
        };
        if prefix > width {
            return Err("the part after / is larger than the address has bits");
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An http(s) address without a path: `https://ide.example.org`, `http://localhost:3000`.
/// As an allowed origin, `*` stands for every origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The address, in lower case, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self("*".to_owned()));
        }
        let uri: http::Uri = text.parse().map_err(|_| "that is no address")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it must start with http:// or https://");
        }
        if uri.path() != "/" || uri.query().is_some() || text.contains('@') {
            return Err("it has only a scheme, a host and a port");
        }
        Ok(Self(text.trim_end_matches('/').to_ascii_lowercase()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An http(s) address of an API, without a slash at its end: `https://api.example.com/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The address, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: http::Uri = text.parse().map_err(|_| "that is no address")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it must start with http:// or https://");
        }
        if uri.query().is_some() || text.contains(['@', '#']) {
            return Err("it has only a scheme, a host, a port and a path");
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a browser page of `origin` may speak to this hub: its origin is listed, or it is a page
/// of this host itself, or, while the list is empty, a page of this machine.
#[must_use]
pub fn origin_allowed(allowed: &[Origin], origin: &str, host: Option<&str>) -> bool {
    let origin = origin.to_ascii_lowercase();
    if allowed.iter().any(|one| one.0 == "*" || one.0 == origin) {
        return true;
    }
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return true;
    }
    allowed.is_empty() && is_loopback(authority)
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_should() {
        let inside = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(inside("0.0.0.0/0", "203.0.113.9"));
        assert!(!inside("0.0.0.0/0", "::1"));
        assert!(inside("::/0", "2001:db8::1"));
        assert!(inside("127.0.0.1", "127.0.0.1"));
        assert!(!inside("127.0.0.1", "127.0.0.2"));
        let private = Network::private();
        for (address, is_inside) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.3.4", true),
            ("192.169.0.0", false),
            ("fd12::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("203.0.113.9", false),
        ] {
            let address = address.parse().unwrap();
            let found = private.iter().any(|network| network.contains(address));
            assert_eq!(found, is_inside, "{address}");
        }
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/x", "example.org", "::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_are_strict() {
        let list = |text: &str| vec![text.parse::<Origin>().unwrap()];
        let none: Vec<Origin> = Vec::new();
        assert!(origin_allowed(
            &none,
            "http://127.0.0.1:9000",
            Some("127.0.0.1:8080")
        ));
        assert!(origin_allowed(&none, "http://[::1]:9000", None));
        assert!(origin_allowed(&none, "http://localhost", None));
        assert!(origin_allowed(
            &none,
            "https://ide.example.org",
            Some("ide.example.org")
        ));
        assert!(!origin_allowed(
            &none,
            "https://evil.example",
            Some("ide.example.org")
        ));
        assert!(!origin_allowed(&none, "null", None));
        assert!(!origin_allowed(
            &none,
            "http://127.0.0.1.evil.example",
            None
        ));
        assert!(!origin_allowed(
            &none,
            "http://user@localhost@evil.example",
            None
        ));
        let listed = list("https://IDE.example.org/");
        assert!(origin_allowed(&listed, "https://ide.example.org", None));
        assert!(!origin_allowed(&listed, "http://localhost", None));
        assert!(origin_allowed(&list("*"), "https://anything.example", None));
        for wrong in [
            "ide.example.org",
            "ftp://x",
            "https://x/path",
            "https://u@x",
            "",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}

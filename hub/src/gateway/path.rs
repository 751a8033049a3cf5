//! The path of a request: which service it is for, and what lies behind.
//!
//! Owns what is refused because an upstream might read it differently than the rules do: dot segments,
//! separators and control characters, however often they are encoded, empty parts and path parameters.
//! Never decides whether a path is allowed: the service's rules do.

use protocol::ErrorCode;

use crate::error::ApiError;

/// Longest path in bytes; with it what is passed on stays below what servers commonly take.
const MOST: usize = 8 * 1024;
/// So often an encoding may lie within another one.
const DEPTH: usize = 8;
const PREFIX: &str = "/svc/";

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The service's name.
    pub(super) service: String,
    /// The path behind it as it came, from the slash on.
    pub(super) path: String,
    /// Its parts, decoded once.
    pub(super) parts: Vec<String>,
}

impl Target {
    /// Takes the path of a request apart.
    ///
    /// # Errors
    /// `not_found` without a service, `bad_request` for what two readers may read differently.
    pub(super) fn of(path: &str) -> Result<Self, ApiError> {
        if path.len() > MOST {
            return Err(refused("the path is too long"));
        }
        let rest = path.strip_prefix(PREFIX).unwrap_or_default();
        let (service, behind) = rest.split_once('/').unwrap_or((rest, ""));
        if service.is_empty() {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                "the path names no service: /svc/{service}/…",
            ));
        }
        let raw: Vec<&str> = behind.split('/').collect();
        let last = raw.len() - 1;
        let mut parts = Vec::with_capacity(raw.len());
        for (at, part) in raw.iter().enumerate() {
            if part.is_empty() && at < last {
                return Err(refused("the path has an empty part"));
            }
            parts.push(decoded(part)?);
        }
        Ok(Self {
            service: service.to_owned(),
            path: format!("/{behind}"),
            parts,
        })
    }
}

fn refused(why: &'static str) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, why)
}

/// A part of a path, decoded once, if it means the same to everybody.
fn decoded(raw: &str) -> Result<String, ApiError> {
    let once = decode(raw).ok_or_else(|| refused("the path is not percent-encoded UTF-8"))?;
    let mut text = once.clone();
    for _ in 0..DEPTH {
        check(&text)?;
        match decode(&text) {
            Some(next) if next != text => text = next,
            _ => return Ok(once),
        }
    }
    Err(refused("the path is encoded too many times"))
}

fn check(text: &str) -> Result<(), ApiError> {
    if matches!(text, "." | "..") {
        return Err(refused("the path has a dot segment"));
    }
    if text.contains(['/', '\\']) {
        return Err(refused("the path has an encoded separator"));
    }
    if text.contains(';') {
        return Err(refused("the path has a parameter"));
    }
    if text.chars().any(char::is_control) {
        return Err(refused("the path has a control character"));
    }
    Ok(())
}

/// Undoes percent-encoding; `None` where it is none, or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_and_what_lies_behind() {
        let target = |path: &str| {
            let target = Target::of(path).unwrap();
            (target.service, target.path, target.parts.join("|"))
        };
        let is = |service: &str, path: &str, parts: &str| {
            (service.to_owned(), path.to_owned(), parts.to_owned())
        };
        assert_eq!(target("/svc/plans"), is("plans", "/", ""));
        assert_eq!(target("/svc/plans/"), is("plans", "/", ""));
        assert_eq!(target("/svc/plans/a/b/"), is("plans", "/a/b/", "a|b|"));
        assert_eq!(
            target("/svc/p/a%20b/%C3%BC/..."),
            is("p", "/a%20b/%C3%BC/...", "a b|ü|...")
        );
        assert_eq!(target("/svc/p/100%25"), is("p", "/100%25", "100%"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for wrong in [
            "/svc/p/../q",
            "/svc/p/./q",
            "/svc/p/..",
            "/svc/p/%2e%2e/q",
            "/svc/p/%2E./q",
            "/svc/p/%252e%252e/q",
            "/svc/p/%25252e./q",
            "/svc/p/a%2fb",
            "/svc/p/a%2Fb",
            "/svc/p/a%252Fb",
            "/svc/p/a%5cb",
            "/svc/p/a\\b",
            "/svc/p//q",
            "/svc/p//",
            "/svc//p/q//",
            "/svc/p/a;b",
            "/svc/p/..;/b",
            "/svc/p/a%3bb",
            "/svc/p/a%00",
            "/svc/p/a%0d%0ab",
            "/svc/p/a%7f",
            "/svc/p/%",
            "/svc/p/%zz",
            "/svc/p/%ff",
            "/svc/p/%c3",
        ] {
            let error = Target::of(wrong).unwrap_err();
            let known = [ErrorCode::BadRequest, ErrorCode::NotFound];
            assert!(known.contains(&error.code), "{wrong}: {error:?}");
        }
        let deep = format!("/svc/p/%{}2e", "25".repeat(DEPTH + 1));
        assert!(Target::of(&deep).is_err());
        assert!(Target::of(&format!("/svc/p/{}", "a".repeat(MOST))).is_err());
        for none in ["/svc", "/svc/", "/svc//a", "/other"] {
            let error = Target::of(none).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotFound, "{none}");
        }
    }
}

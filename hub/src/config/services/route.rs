//! The rules of a service: which requests they are about, and whom they take.
//!
//! Owns the syntax of patterns and their matching against the parts of a path. Never reads a request
//! and never asks for a role.

use std::fmt;
use std::str::FromStr;

use protocol::Role;

use super::super::rule::Choice;

/// What is allowed as methods, in words.
pub(super) const METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE or *";
/// What is allowed as a pattern, in words.
pub(super) const PATTERN: &str = "a path like /plans/{project}/* or /files/**";

const NAMES: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
/// Longest pattern in bytes.
const PATTERN_BYTES: usize = 1024;

/// One method of a rule, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Method(String);

impl FromStr for Method {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" || NAMES.contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("it is none of them (they are written in capitals)")
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The methods of a rule. GET brings HEAD with it; CONNECT and TRACE are in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    pub(super) fn of(written: &[Method]) -> Self {
        let bit = |name: &str| NAMES.iter().position(|one| *one == name).map(|n| 1 << n);
        let mut bits = 0;
        for Method(name) in written {
            match name.as_str() {
                "*" => bits = u8::MAX,
                "GET" => bits |= 0b11,
                other => bits |= bit(other).unwrap_or(0),
            }
        }
        Self(bits)
    }

    /// Whether that method is among them.
    #[must_use]
    pub fn has(self, method: &http::Method) -> bool {
        let at = NAMES.iter().position(|name| *name == method.as_str());
        at.is_some_and(|at| self.0 & (1 << at) != 0)
    }
}

/// Whom a rule takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Anybody, without a token.
    Public,
    /// Whoever is logged in.
    User,
    /// Members of the project in the path with at least this role.
    Role(Role),
}

impl Choice for Takes {
    const ALL: &'static [(&'static str, Self)] = &[
        ("public", Self::Public),
        ("user", Self::User),
        ("viewer", Self::Role(Role::Viewer)),
        ("commenter", Self::Role(Role::Commenter)),
        ("editor", Self::Role(Role::Editor)),
        ("owner", Self::Role(Role::Owner)),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `*`: any one part.
    Any,
    /// `{project}`: any one part, which names the project.
    Project,
}

/// A path with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    /// It ends with `**`: whatever follows, or nothing.
    open: bool,
}

impl Pattern {
    fn has_project(&self) -> bool {
        self.parts.contains(&Part::Project)
    }

    /// Matches the decoded parts of a path; the project in it, if the pattern has one.
    fn find<'p>(&self, path: &[&'p str]) -> Option<Option<&'p str>> {
        // What a slash at the end means is the upstream's business: it must not choose another rule.
        let path = match path {
            [before @ .., ""] => before,
            whole => whole,
        };
        if path.len() < self.parts.len() || (!self.open && path.len() > self.parts.len()) {
            return None;
        }
        let mut project = None;
        for (part, text) in self.parts.iter().zip(path) {
            match part {
                Part::Literal(literal) if literal == text => {}
                Part::Literal(_) => return None,
                Part::Any => {}
                Part::Project => project = Some(*text),
            }
        }
        Some(project)
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix('/').ok_or("it begins with a slash")?;
        if text.len() > PATTERN_BYTES {
            return Err("it is too long");
        }
        let mut parts = Vec::new();
        let mut open = false;
        for part in rest.split('/') {
            if open {
                return Err("nothing stands behind **");
            }
            match part {
                "" if rest.is_empty() => {}
                "" | "." | ".." => return Err("it has no empty part and no . or .. in it"),
                "**" => open = true,
                "*" => parts.push(Part::Any),
                "{project}" if parts.contains(&Part::Project) => {
                    return Err("{project} stands in it twice");
                }
                "{project}" => parts.push(Part::Project),
                other if other.contains(['*', '{', '}', '%', '?', '#', '\\']) => {
                    return Err("a part is text, *, {project} or, at the end, **");
                }
                other => parts.push(Part::Literal(other.to_owned())),
            }
        }
        Ok(Self { parts, open })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(text) => write!(f, "/{text}")?,
                Part::Any => f.write_str("/*")?,
                Part::Project => f.write_str("/{project}")?,
            }
        }
        if self.open {
            f.write_str("/**")
        } else if self.parts.is_empty() {
            f.write_str("/")
        } else {
            Ok(())
        }
    }
}

/// One rule of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    methods: Methods,
    pattern: Pattern,
    takes: Takes,
}

/// What a rule says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'p> {
    /// It takes those, in this project if it asks for a role.
    Taken(Takes, Option<&'p str>),
    /// It is about that path, but not about that method.
    OtherMethod,
    /// It is about another path.
    No,
}

impl Route {
    pub(super) fn new(
        methods: Methods,
        pattern: Pattern,
        takes: Takes,
    ) -> Result<Self, &'static str> {
        match (takes, pattern.has_project()) {
            (Takes::Role(_), false) => Err("asks for a role, but path has no {project}"),
            (Takes::Public | Takes::User, true) => {
                Err("asks for no role, so nothing would check the {project} in path: write * there")
            }
            _ => Ok(Self {
                methods,
                pattern,
                takes,
            }),
        }
    }

    /// What it says of a request with that method and those decoded parts of its path.
    #[must_use]
    pub fn find<'p>(&self, method: &http::Method, path: &[&'p str]) -> Found<'p> {
        match self.pattern.find(path) {
            Some(project) if self.methods.has(method) => Found::Taken(self.takes, project),
            Some(_) => Found::OtherMethod,
            None => Found::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, path: &str) -> Option<Option<String>> {
        let pattern: Pattern = pattern.parse().unwrap();
        let parts: Vec<&str> = path.strip_prefix('/').unwrap().split('/').collect();
        pattern.find(&parts).map(|found| found.map(str::to_owned))
    }

    #[test]
    fn patterns_match_whole_parts() {
        let project = |name: &str| Some(Some(name.to_owned()));
        assert_eq!(found("/", "/"), Some(None));
        assert_eq!(found("/", "/a"), None);
        assert_eq!(found("/**", "/"), Some(None));
        assert_eq!(found("/**", "/a/b"), Some(None));
        assert_eq!(found("/a", "/a"), Some(None));
        assert_eq!(found("/a", "/a/"), Some(None));
        assert_eq!(found("/a", "/ab"), None);
        assert_eq!(found("/a", "/A"), None);
        assert_eq!(found("/a/*", "/a/b"), Some(None));
        assert_eq!(found("/a/*", "/a"), None);
        assert_eq!(found("/a/*", "/a/"), None);
        assert_eq!(found("/a/**", "/a"), Some(None));
        assert_eq!(found("/p/{project}/**", "/p/x/y/z"), project("x"));
        assert_eq!(found("/p/{project}", "/p/x"), project("x"));
        assert_eq!(found("/p/{project}", "/p/"), None);
    }

    #[test]
    fn patterns_are_strict_and_shown_as_written() {
        for right in ["/", "/**", "/a/*/b", "/p/{project}/**"] {
            assert_eq!(right.parse::<Pattern>().unwrap().to_string(), right);
        }
        for wrong in [
            "",
            "a",
            "//",
            "/a//b",
            "/a/",
            "/../a",
            "/**/a",
            "/a*",
            "/{name}",
            "/%2e",
            "/{project}/{project}",
            "/a?b",
        ] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn get_brings_head_and_nothing_brings_trace() {
        let methods = |names: &[&str]| {
            let written: Vec<Method> = names.iter().map(|name| name.parse().unwrap()).collect();
            Methods::of(&written)
        };
        let get = methods(&["GET"]);
        assert!(get.has(&http::Method::GET) && get.has(&http::Method::HEAD));
        assert!(!get.has(&http::Method::POST));
        let head = methods(&["HEAD", "DELETE"]);
        assert!(!head.has(&http::Method::GET) && head.has(&http::Method::DELETE));
        let all = methods(&["*"]);
        assert!(NAMES.iter().all(|name| all.has(&name.parse().unwrap())));
        assert!(!all.has(&http::Method::TRACE) && !all.has(&http::Method::CONNECT));
        assert!("get".parse::<Method>().is_err());
    }

    #[test]
    fn a_role_and_a_project_go_together() {
        let route = |path: &str, takes: Takes| {
            Route::new(Methods(u8::MAX), path.parse().unwrap(), takes).is_ok()
        };
        assert!(route("/{project}", Takes::Role(Role::Viewer)));
        assert!(!route("/a", Takes::Role(Role::Viewer)));
        assert!(route("/a", Takes::User) && route("/a", Takes::Public));
        assert!(!route("/{project}", Takes::User));
    }
}

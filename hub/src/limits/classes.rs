//! Which class a request is counted in: one table, by path and method.
//!
//! The path is that of the route, with its variable parts in braces, so that no spelling of a URL leads around it.

use http::Method;

/// What kind of request it is; each kind has its own rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Where a password or another secret may be guessed.
    Auth,
    /// What only reads.
    Read,
    /// What changes something.
    Write,
    /// What opens a connection or waits on one: WebSockets, streams, long polls.
    Connect,
    /// What goes on to a service behind the gateway.
    Gateway,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 5] = [
        Self::Auth,
        Self::Read,
        Self::Write,
        Self::Connect,
        Self::Gateway,
    ];

    /// Its name in settings, headers and problem documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Read => "read",
            Self::Write => "write",
            Self::Connect => "connect",
            Self::Gateway => "gateway",
        }
    }
}

/// Which methods a row of the table is for.
#[derive(Clone, Copy)]
enum On {
    Any,
    /// All but GET, HEAD and OPTIONS.
    Change,
}

/// What a row says.
#[derive(Clone, Copy)]
enum Is {
    /// Never counted.
    Free,
    A(Class),
}

/// The first row that fits decides; a path that ends with `*` stands for all that begin so. What no row fits is
/// [`Class::Read`] or [`Class::Write`] by its method, also where there is no route.
const TABLE: &[(&str, On, Is)] = &[
    // What balancers and monitors ask, and what makes the page that people log in on.
    ("/healthz", On::Any, Is::Free),
    ("/readyz", On::Any, Is::Free),
    ("/", On::Any, Is::Free),
    ("/assets/*", On::Any, Is::Free),
    // There for conformance suites alone, which connect some hundred times.
    ("/echo", On::Any, Is::Free),
    ("/ws", On::Any, Is::A(Class::Connect)),
    ("/collab/*", On::Any, Is::A(Class::Connect)),
    ("/hocuspocus", On::Any, Is::A(Class::Connect)),
    ("/api/stream", On::Any, Is::A(Class::Connect)),
    ("/api/poll", On::Any, Is::A(Class::Connect)),
    ("/svc/*", On::Any, Is::A(Class::Gateway)),
    // Tokens of 32 random bytes are not guessed, and who is in must be able to stay in and to leave.
    ("/api/auth/refresh", On::Change, Is::A(Class::Write)),
    ("/api/auth/logout", On::Change, Is::A(Class::Write)),
    ("/api/auth/sessions/*", On::Change, Is::A(Class::Write)),
    ("/api/auth/*", On::Change, Is::A(Class::Auth)),
];

fn fits(row: &str, path: &str) -> bool {
    match row.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => row == path,
    }
}

/// The class of a request on the route `path` (empty if there is no such route); `None` if it is never counted.
#[must_use]
pub fn class_of(method: &Method, path: &str) -> Option<Class> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let row = TABLE.iter().find(|(row, on, _)| {
        let on = match on {
            On::Any => true,
            On::Change => !reads,
        };
        on && fits(row, path)
    });
    match row {
        Some((_, _, Is::Free)) => None,
        Some((_, _, Is::A(class))) => Some(*class),
        None if reads => Some(Class::Read),
        None => Some(Class::Write),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_their_class() {
        let (get, post) = (Method::GET, Method::POST);
        let delete = Method::DELETE;
        for (method, path, class) in [
            (&get, "/healthz", None),
            (&get, "/readyz", None),
            (&get, "/", None),
            (&Method::HEAD, "/", None),
            (&get, "/assets/{name}", None),
            (&get, "/echo", None),
            (&get, "/ws", Some(Class::Connect)),
            (&get, "/collab/{*document}", Some(Class::Connect)),
            (&get, "/hocuspocus", Some(Class::Connect)),
            (&get, "/api/stream", Some(Class::Connect)),
            (&get, "/api/poll", Some(Class::Connect)),
            (&get, "/svc/{service}/{*path}", Some(Class::Gateway)),
            (&post, "/svc/{service}/{*path}", Some(Class::Gateway)),
            (&post, "/api/auth/login", Some(Class::Auth)),
            (&post, "/api/auth/register", Some(Class::Auth)),
            (&post, "/api/auth/password", Some(Class::Auth)),
            (&post, "/api/auth/password-resets/redeem", Some(Class::Auth)),
            (&delete, "/api/auth/sessions/{id}", Some(Class::Write)),
            (&post, "/api/auth/refresh", Some(Class::Write)),
            (&post, "/api/auth/logout", Some(Class::Write)),
            (&get, "/api/auth/me", Some(Class::Read)),
            (&get, "/api/auth/jwks", Some(Class::Read)),
            (&get, "/.well-known/jwks.json", Some(Class::Read)),
            (&get, "/api/projects", Some(Class::Read)),
            (&Method::HEAD, "/api/projects", Some(Class::Read)),
            (&Method::OPTIONS, "/api/projects", Some(Class::Read)),
            (&post, "/api/projects", Some(Class::Write)),
            (&Method::PUT, "/api/documents/{id}/text", Some(Class::Write)),
            (&Method::PATCH, "/api/documents/{id}", Some(Class::Write)),
            (&delete, "/api/documents/{id}", Some(Class::Write)),
            (&get, "", Some(Class::Read)),
            (&post, "", Some(Class::Write)),
            (&get, "/websocket", Some(Class::Read)),
            (&get, "/healthz/deep", Some(Class::Read)),
        ] {
            assert_eq!(class_of(method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn every_row_can_be_reached() {
        for (n, (path, on, _)) in TABLE.iter().enumerate() {
            let path = path.replace('*', "x");
            let shadowed = TABLE[..n].iter().any(|(before, earlier, _)| {
                fits(before, &path) && matches!((earlier, on), (On::Any, _) | (_, On::Change))
            });
            assert!(!shadowed, "{path} is decided by an earlier row");
        }
    }
}

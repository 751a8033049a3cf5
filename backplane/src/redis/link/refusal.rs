//! What the redis crate's errors mean, in words for whoever runs the hub.
//!
//! Never repeats an address with its password: the crate's own texts hold none.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::LinkError;

/// Why no connection came about.
pub(super) fn connecting(error: &RedisError, address: &str) -> LinkError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => LinkError::Refused(format!(
            "{address} denies this user a permission it needs: {}",
            detail(error)
        )),
        ErrorKind::Server(ServerErrorKind::BusyLoading) => {
            LinkError::Unavailable(format!("{address} is still loading its data"))
        }
        ErrorKind::RESP3NotSupported => LinkError::Refused(format!(
            "{address} is older than Redis 6 and speaks no RESP3"
        )),
        ErrorKind::AuthenticationFailed => wrong_password(address, &text),
        _ if mentions(error, "WRONGPASS") || mentions(error, "NOAUTH") => {
            wrong_password(address, &text)
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            LinkError::Unavailable(format!("what answers at {address} is not Redis"))
        }
        ErrorKind::InvalidClientConfig => {
            LinkError::Unavailable(format!("the settings for {address} can't be used: {text}"))
        }
        _ if error.is_connection_refusal() => LinkError::Unavailable(format!(
            "{address} refuses connections; is Redis running there?"
        )),
        _ if error.is_timeout() => {
            LinkError::Unavailable(format!("{address} does not answer in time"))
        }
        ErrorKind::Server(_) | ErrorKind::Extension => {
            LinkError::Refused(format!("{address} says {}", detail(error)))
        }
        _ => LinkError::Unavailable(format!("{address}: {text}")),
    }
}

/// Why a command failed on a connection.
pub(super) fn commanding(error: &RedisError) -> LinkError {
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        )
        | ErrorKind::ClusterConnectionNotFound => LinkError::Unavailable(detail(error)),
        ErrorKind::Server(_) | ErrorKind::Extension => LinkError::Refused(detail(error)),
        _ if error.is_timeout() => LinkError::Unavailable("no answer in time".to_owned()),
        _ => LinkError::Unavailable(error.to_string()),
    }
}

/// Whether a failed command shows that the connection is of no use any more. A read-only answer comes of
/// a master that was demoted: the name may lead to the new one.
pub(super) fn is_fatal(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_timeout()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// The server's own words: code and text.
fn detail(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

fn mentions(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.contains(code))
}

fn wrong_password(address: &str, text: &str) -> LinkError {
    LinkError::Refused(format!(
        "{address} does not accept the user or password ({text})"
    ))
}

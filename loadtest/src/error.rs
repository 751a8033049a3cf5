//! What can stop a measurement. Owns the error type of the whole binary; never prints it.

use std::io;

/// Why a scenario gave no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An operation of the system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server could not be built, started or reached.
    #[error("server: {0}")]
    Server(String),
    /// The server refused a request.
    #[error("{what} was refused: {answer}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What it answered.
        answer: String,
    },
    /// The server sent what its protocol does not allow.
    #[error("protocol: {0}")]
    Protocol(String),
    /// An argument has a value that can't work.
    #[error("{0}")]
    Argument(String),
    /// The measurement ran, and what it checks does not hold.
    #[error("{0}")]
    Verdict(String),
    /// The recorded session can't be read or replayed.
    #[error("trace: {0}")]
    Trace(#[from] crate::trace::TraceError),
}

impl Error {
    /// For `map_err`: names what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        use std::error::Error as _;
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text.push_str(&format!(": {inner}"));
            cause = inner.source();
        }
        Self::Server(text)
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        Self::Protocol(format!("WebSocket: {error}"))
    }
}

/// What a scenario returns.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

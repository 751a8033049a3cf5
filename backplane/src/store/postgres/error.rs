//! What PostgreSQL's errors mean to callers of the store.
//!
//! Owns the reading of SQLSTATE codes. Never shows a statement's values.

use sqlx::Error;
use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// Two transactions waited for each other, or one could not be serialised: the same call may succeed at once.
const DEADLOCK: &str = "40P01";
const SERIALIZATION: &str = "40001";

/// Whether nothing happened and the same statement may go through right away.
pub(super) fn is_collision(error: &Error) -> bool {
    code(error).is_some_and(|code| code == DEADLOCK || code == SERIALIZATION)
}

pub(super) fn code(error: &Error) -> Option<String> {
    error.as_database_error()?.code().map(Into::into)
}

pub(super) fn store_error(error: Error) -> StoreError {
    match &error {
        Error::RowNotFound => StoreError::NotFound,
        Error::Database(_) => of_code(code(&error).as_deref().unwrap_or_default(), &error),
        Error::ColumnDecode { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::Decode(_)
        | Error::TypeNotFound { .. } => StoreError::Corrupt(error.to_string()),
        Error::PoolTimedOut => {
            StoreError::Unavailable("no connection to the database came free in time".into())
        }
        Error::PoolClosed => StoreError::Unavailable("the store is closed".into()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Classes and codes are those of the manual's appendix A.
fn of_code(code: &str, error: &Error) -> StoreError {
    match code {
        "23505" => StoreError::Conflict("it exists already"),
        "23503" | "23001" => {
            StoreError::Conflict("what it refers to does not exist, or refers to it")
        }
        "23502" | "23514" => StoreError::Conflict("a value is out of its bounds"),
        // The one character that PostgreSQL keeps in no text; Rust's strings may hold it.
        "22021" | "22P05" => StoreError::Conflict("a text holds a NUL character"),
        "54000" => StoreError::Conflict("a value is too large"),
        _ => match code.get(..2) {
            // A statement that doesn't fit the schema, and damage on the server's disk. A missing permission
            // is neither.
            Some("42") if code != "42501" => StoreError::Corrupt(error.to_string()),
            Some("22") => StoreError::Conflict("a value is out of its bounds"),
            Some("XX") => StoreError::Corrupt(error.to_string()),
            // Connections, resources, operators, timeouts, locks, a server that only reads: all pass.
            _ => StoreError::Unavailable(format!("{error} ({code})")),
        },
    }
}

pub(super) fn migrate_error(error: MigrateError, known: i64) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
            "the schema is newer than this build: it has migration {version}, this build knows {known}"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            store_error(error)
        }
        other => StoreError::Corrupt(other.to_string()),
    }
}

//! Why somebody is not let in, or may not: the one error of `auth`.
//!
//! Owns the words and codes of refusals. Never holds a password or a token.

use std::time::Duration;

use backplane::limiter::LimiterError;
use backplane::store::StoreError;
use protocol::ErrorCode;

use super::issuers::Refused;
use super::jwt::TokenError;
use super::password::PasswordError;
use crate::error::{ApiError, FieldError};
use crate::limits::TooMany;

/// Why somebody is not let in, or may not.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Login or password is wrong; which one is not said.
    #[error("login or password is wrong")]
    Credentials,
    /// The token was right and its time is over.
    #[error("the token has expired")]
    Expired,
    /// The token is none of this hub.
    #[error("the token is not valid")]
    Invalid,
    /// The login session was ended.
    #[error("the login was revoked")]
    Revoked,
    /// Nobody here stands for the subject of an outside token.
    #[error("the token is good, and nobody here is known by it")]
    Unknown,
    /// An outside token can't be checked.
    #[error("the issuer of the token can't be asked for its keys just now: try again")]
    IssuerUnavailable,
    /// A service's key where a user's token is needed.
    #[error("an API key speaks for no user: it is good for what services do alone")]
    NoUser,
    /// The key is none of this hub's, or no longer.
    #[error("the API key is not valid")]
    UnknownKey,
    /// The key does not have this permission.
    #[error("the API key lacks the permission `{0}`")]
    Permission(&'static str),
    /// It was there, and is used up or past its time; what.
    #[error("{0} is used up, withdrawn or past its time")]
    Gone(&'static str),
    /// The invitation is for somebody else.
    #[error("the invitation is for another login")]
    NotInvited,
    /// There are as many as there may be; of what.
    #[error("the project has as many {0} as it may")]
    LimitReached(&'static str),
    /// `auth.registration` is off.
    #[error("registration is closed here")]
    RegistrationClosed,
    /// Somebody has that login.
    #[error("the login is taken")]
    LoginTaken,
    /// Fields that are not allowed.
    #[error("some fields are not allowed")]
    Fields(Vec<FieldError>),
    /// Too many attempts; how long to wait.
    #[error("too many attempts: wait and try again")]
    RateLimited(Duration),
    /// Nobody can count the attempts, and none is let through uncounted.
    #[error("logins can't be counted just now: try again")]
    Uncounted(#[source] LimiterError),
    /// Too many passwords are being checked.
    #[error("too many logins at once: try again")]
    Busy,
    /// There is no such thing, or none that the user may see.
    #[error("there is no such thing, or none that you may see")]
    NotFound,
    /// The role does not allow it.
    #[error("your role does not allow this")]
    Forbidden,
    /// The project would be left without an owner.
    #[error("a project keeps at least one owner")]
    LastOwner,
    /// Whether rights have changed is not known here just now.
    #[error("rights can't be checked just now: try again")]
    Unsure,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else failed inside.
    #[error("internal: {0}")]
    Internal(String),
}

impl AuthError {
    /// The code that a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Credentials
            | Self::Expired
            | Self::Invalid
            | Self::Revoked
            | Self::Unknown
            | Self::NoUser
            | Self::UnknownKey => ErrorCode::Unauthorized,
            Self::RegistrationClosed | Self::Forbidden | Self::Permission(_) | Self::NotInvited => {
                ErrorCode::Forbidden
            }
            Self::Gone(_) => ErrorCode::Gone,
            Self::LimitReached(_) => ErrorCode::LimitReached,
            Self::LoginTaken | Self::LastOwner => ErrorCode::Conflict,
            Self::Fields(_) => ErrorCode::Invalid,
            Self::RateLimited(_) => ErrorCode::RateLimited,
            Self::Busy
            | Self::Unsure
            | Self::Uncounted(_)
            | Self::IssuerUnavailable
            | Self::Store(StoreError::Unavailable(_)) => ErrorCode::Unavailable,
            Self::NotFound | Self::Store(StoreError::NotFound) => ErrorCode::NotFound,
            Self::Store(StoreError::Conflict(_)) => ErrorCode::Conflict,
            Self::Store(StoreError::Changed) => ErrorCode::PreconditionFailed,
            Self::Store(StoreError::Corrupt(_)) | Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

impl AuthError {
    /// Whether the token or password itself was refused, rather than that something failed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.code() == ErrorCode::Unauthorized
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(inner) => inner.into(),
            AuthError::Internal(cause) => Self::internal(cause),
            AuthError::Fields(fields) => Self::invalid_fields(fields),
            AuthError::RateLimited(wait) => {
                Self::new(ErrorCode::RateLimited, error.to_string()).retry_after(wait)
            }
            AuthError::Busy | AuthError::Unsure | AuthError::IssuerUnavailable => {
                Self::new(ErrorCode::Unavailable, error.to_string())
                    .retry_after(Duration::from_secs(1))
            }
            AuthError::Uncounted(_) => Self::new(ErrorCode::Unavailable, error.to_string())
                .retry_after(Duration::from_secs(1))
                .caused_by(error),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

impl From<TooMany> for AuthError {
    fn from(refused: TooMany) -> Self {
        match refused {
            TooMany::Wait(wait) => Self::RateLimited(wait),
            TooMany::Uncounted(error) => Self::Uncounted(error),
        }
    }
}

impl From<PasswordError> for AuthError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Failed(why) => Self::Internal(why),
        }
    }
}

impl From<Refused> for AuthError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Expired => Self::Expired,
            Refused::Invalid => Self::Invalid,
            Refused::Unavailable => Self::IssuerUnavailable,
        }
    }
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired => Self::Expired,
            TokenError::Invalid | TokenError::UnknownKey => Self::Invalid,
        }
    }
}

//! Users, login sessions and refresh tokens (`auth_` tables).

use async_trait::async_trait;

use super::StoreError;

/// A person or service that can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UUID v7.
    pub id: String,
    /// What they log in with; unique, compared in lower case.
    pub login: String,
    /// Display name.
    pub name: String,
    /// PHC string of the password (argon2id); empty if there is none to log in with.
    pub password_hash: String,
    /// Created at.
    pub created_at: u64,
}

/// One login: the family of refresh tokens that grew from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSession {
    /// UUID v7; the `sid` claim.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// Logged in at.
    pub created_at: u64,
    /// Revoked at, by logout, by another change of the password, or because a refresh token was used twice.
    pub revoked_at: Option<u64>,
    /// How the client called itself when it logged in.
    pub user_agent: Option<String>,
    /// Where it came from then.
    pub address: Option<String>,
    /// Refreshed last; `None`: not since the login.
    pub refreshed_at: Option<u64>,
}

/// What became of a refresh token that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// It was the current one: replaced by the new one.
    Rotated {
        /// The login session it belongs to.
        session: LoginSession,
        /// Its user.
        user: User,
    },
    /// It had been used before: somebody has a copy. The login session is revoked now.
    Reused {
        /// The login session that was revoked.
        session: LoginSession,
    },
    /// Unknown, expired, or its login session is revoked.
    Refused,
}

/// Users and their logins.
#[async_trait]
pub trait Users {
    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the login is taken (compared in lower case).
    async fn add_user(&self, user: &User) -> Result<(), StoreError>;

    /// The user of that login (compared in lower case).
    async fn user_by_login(&self, login: &str) -> Result<Option<User>, StoreError>;

    /// The user of that id.
    async fn user(&self, id: &str) -> Result<Option<User>, StoreError>;

    /// Opens a login session with its first refresh token; `token_hash` is SHA-256 of the token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the user does not exist or the hash is taken.
    async fn open_login(
        &self,
        session: &LoginSession,
        token_hash: &[u8; 32],
        token_expires: u64,
    ) -> Result<(), StoreError>;

    /// Rotates a refresh token in one write transaction: of two concurrent calls with one token,
    /// exactly one is `Rotated`, the other `Reused`. A token that was used is told as reused even past
    /// its expiry, as long as housekeeping has left it and its login session stands. A reuse is a
    /// change of rights. A rotation is noted in its login session, as it is returned.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the new hash is taken; the old token stays good.
    async fn rotate_refresh(
        &self,
        old_hash: &[u8; 32],
        new_hash: &[u8; 32],
        new_expires: u64,
        now: u64,
    ) -> Result<Refreshed, StoreError>;

    /// The login sessions of a user that are not revoked and were opened or refreshed at `since` or later, by
    /// id, after `after`, at most `limit`.
    async fn logins_of(
        &self,
        user_id: &str,
        since: u64,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LoginSession>, StoreError>;

    /// The login session of that id.
    async fn login(&self, id: &str) -> Result<Option<LoginSession>, StoreError>;

    /// Revokes a login session; `false` if it was revoked already or never was, and then no change of
    /// rights is kept.
    async fn revoke_login(&self, id: &str, now: u64) -> Result<bool, StoreError>;

    /// Revokes all login sessions of a user; the ids of those that this call revoked. If there are none, no
    /// change of rights is kept. A user of an outside issuer gets in with tokens alone that are issued later.
    async fn revoke_logins_of(&self, user_id: &str, now: u64) -> Result<Vec<String>, StoreError>;
}

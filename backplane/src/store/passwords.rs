//! Passwords: their change, and the one-time tokens that reset one (`auth_` tables).
//!
//! Sees hashes alone, of passwords as of tokens.

use async_trait::async_trait;

use super::StoreError;

/// A token that resets a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Whose password.
    pub user_id: String,
    /// Good until then.
    pub expires_at: u64,
    /// Used at, or withdrawn at because the password was changed otherwise.
    pub used_at: Option<u64>,
}

/// What became of a change of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordChange {
    /// Done; the login sessions that it ended.
    Done(Vec<String>),
    /// The password is another one than the caller knew: nothing was changed.
    Stale,
}

/// What became of a token that was to reset a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// The password is another one now.
    Done {
        /// Whose.
        user_id: String,
        /// The login sessions that ended.
        logins: Vec<String>,
    },
    /// It was used, withdrawn, or its time is over.
    Gone,
    /// There is no such token.
    Unknown,
}

/// Changes of passwords. Each ends login sessions in its own transaction, and a login under way that checked
/// the old password either is ended with them or can tell: it opens its session and then still reads the hash
/// that it checked.
#[async_trait]
pub trait Passwords {
    /// Gives a user another password if the hash is still `from`, ends all login sessions but `keep`, and
    /// withdraws the tokens that could reset it. A session that ends is a change of rights.
    async fn change_password(
        &self,
        user_id: &str,
        from: &str,
        to: &str,
        keep: Option<&str>,
        now: u64,
    ) -> Result<PasswordChange, StoreError>;

    /// Adds a token of a user that is good until `expires`; `token_hash` is SHA-256 of the token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the user does not exist or the hash is taken.
    async fn add_reset(
        &self,
        user_id: &str,
        token_hash: &[u8; 32],
        expires: u64,
    ) -> Result<(), StoreError>;

    /// The token of that hash, used or not.
    async fn reset(&self, token_hash: &[u8; 32]) -> Result<Option<Reset>, StoreError>;

    /// Uses a token: gives its user another password, ends all login sessions, and withdraws the user's other
    /// tokens, in one transaction. Of concurrent calls with one token exactly one is `Done`. A session that ends
    /// is a change of rights.
    async fn redeem_reset(
        &self,
        token_hash: &[u8; 32],
        password_hash: &str,
        now: u64,
    ) -> Result<Redeemed, StoreError>;
}

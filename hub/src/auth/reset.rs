//! Another password: set by its owner, who knows the old one, or with a one-time token.
//!
//! Owns how long such a token is good and whom a change logs out. A token is made by the operator or by a
//! service that sends it to the user; the hub itself sends nothing.

use std::net::IpAddr;
use std::sync::Arc;

use backplane::store::{PasswordChange, Redeemed, Store, StoreError};

use super::opaque::{hash_of, new_token};
use super::rights::RightsChange;
use super::{Auth, AuthError, Principal, names, password, to_the_end};
use crate::config;
use crate::error::FieldError;
use crate::now_ms;

/// Where a token is redeemed.
pub const REDEEM: &str = "/api/auth/password-resets/redeem";

/// What is used up or past its time.
const WHAT: &str = "the token";

/// A token that resets a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetToken {
    /// For whoever is to set the password; shown once.
    pub token: String,
    /// Good until then.
    pub expires_at: u64,
}

/// Makes a token for the user of that login; `None` if there is none, or they have no password: whoever an
/// outside issuer vouches for comes in through it alone, else what ends there would go on here.
///
/// # Errors
/// The store failed.
pub async fn make_token(
    settings: &config::Auth,
    store: &dyn Store,
    login: &str,
    now: u64,
) -> Result<Option<ResetToken>, StoreError> {
    let user = store.user_by_login(login).await?;
    let Some(user) = user.filter(|user| !user.password_hash.is_empty()) else {
        return Ok(None);
    };
    let (token, hash) = new_token();
    let expires_at = now.saturating_add(settings.reset_ttl.as_millis() as u64);
    store.add_reset(&user.id, &hash, expires_at).await?;
    Ok(Some(ResetToken { token, expires_at }))
}

fn wrong(field: &'static str, reason: impl Into<std::borrow::Cow<'static, str>>) -> AuthError {
    AuthError::Fields(vec![FieldError {
        field: field.into(),
        reason: reason.into(),
    }])
}

impl Auth {
    /// Sets the caller's password and ends the caller's other login sessions. Counts as a login attempt.
    ///
    /// # Errors
    /// `current` is not the password, `new` is none that is allowed, or too many attempts.
    pub async fn change_password(
        self: &Arc<Self>,
        caller: &Principal,
        current: &str,
        new: &str,
        address: IpAddr,
    ) -> Result<(), AuthError> {
        names::password(new).map_err(|reason| wrong("new", reason))?;
        let refused = || wrong("current", "is not the password");
        let user = self.store.user(&caller.user).await?;
        let user = user.ok_or(AuthError::NotFound)?;
        self.attempts.count(Some(&user.login), address).await?;
        let is_long = current.len() > password::MAX_BYTES;
        let old = user.password_hash;
        if is_long || !self.passwords.verify(Some(&old), current).await? {
            return Err(refused());
        }
        let hash = self.passwords.hash(new).await?;
        let (auth, caller) = (self.clone(), caller.clone());
        to_the_end(async move {
            let (user, keep) = (&caller.user, Some(&*caller.login_session));
            let change = auth
                .store
                .change_password(user, &old, &hash, keep, now_ms());
            match change.await? {
                PasswordChange::Done(ended) => auth.ended(user, ended),
                // It was changed while this was under way, so `current` is wrong by now.
                PasswordChange::Stale => return Err(wrong("current", "is not the password")),
            }
            Ok(())
        })
        .await
    }

    /// Makes a token that resets the password of that login.
    ///
    /// # Errors
    /// [`AuthError::NotFound`], or the store failed.
    pub async fn make_reset(&self, login: &str) -> Result<ResetToken, AuthError> {
        let made = make_token(&self.settings, self.store.as_ref(), login, now_ms());
        made.await?.ok_or(AuthError::NotFound)
    }

    /// Sets a password by a token, which is used up then, and ends all of the user's login sessions. Counts as
    /// a login attempt of the address.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] for no token of ours, [`AuthError::Gone`] for one that is no longer good, the
    /// password is none that is allowed, or too many attempts.
    pub async fn redeem_reset(
        self: &Arc<Self>,
        token: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<(), AuthError> {
        self.attempts.count(None, address).await?;
        names::password(password).map_err(|reason| wrong("password", reason))?;
        let token = hash_of(token).ok_or(AuthError::NotFound)?;
        // Hashing is dear: only for a token that looks good. The store decides after it.
        let found = self.store.reset(&token).await?;
        let found = found.ok_or(AuthError::NotFound)?;
        if found.used_at.is_some() || found.expires_at <= now_ms() {
            return Err(AuthError::Gone(WHAT));
        }
        let hash = self.passwords.hash(password).await?;
        let auth = self.clone();
        to_the_end(async move {
            match auth.store.redeem_reset(&token, &hash, now_ms()).await? {
                Redeemed::Done { user_id, logins } => {
                    auth.ended(&user_id, logins);
                    Ok(())
                }
                Redeemed::Gone => Err(AuthError::Gone(WHAT)),
                Redeemed::Unknown => Err(AuthError::NotFound),
            }
        })
        .await
    }

    /// Login sessions of a user have ended: nobody is let in by them any more, and those who are go.
    fn ended(&self, user: &str, logins: Vec<String>) {
        if logins.is_empty() {
            return;
        }
        self.logins.note_all_revoked(logins, now_ms());
        self.announce(RightsChange::User {
            user: user.to_owned(),
        });
    }
}

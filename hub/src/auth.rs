//! Who is there, and what they may: logins, tokens, roles.
//!
//! Owns [`Auth`]: register, log in, refresh, log out; the check of a token ([`Auth::authenticate`])
//! and of a right ([`Auth::authorize`]); and the news of every change of them ([`RightsChange`]),
//! whichever node made it (`watch`). Never speaks HTTP. Whoever keeps a right for longer than a request
//! subscribes to [`Auth::changes`] *before* asking, so that no change falls between the two.

mod internal;
pub mod jwt;
pub mod keys;
mod logins;
pub mod names;
pub mod password;
pub mod rbac;
mod refusal;
mod rights;
mod seal;
pub mod watch;

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backplane::mesh::Mesh;
use backplane::store::{LoginSession, Store, StoreError, User};
use protocol::Claims;
use tokio::sync::{Mutex, broadcast};

use crate::config;
use crate::error::{ApiError, FieldError};
use crate::limits::KeyedRate;
use crate::now_ms;
pub use internal::Bearer;
use jwt::TokenError;
use keys::{KeyError, Keys};
use logins::{Logins, Rotated};
use password::Passwords;
pub use refusal::AuthError;
pub use rights::{News, RightsChange, Verdict};
use watch::Freshness;

/// Changes that a subscriber may lag behind before it is told so.
const CHANGES: usize = 1024;

/// Whom a valid token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// User id.
    pub user: Arc<str>,
    /// Display name.
    pub name: Arc<str>,
    /// The login session that the token belongs to.
    pub login_session: Arc<str>,
    /// When the token expires: refused from this millisecond on.
    pub expires_ms: u64,
}

/// What a successful login gives.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The user.
    pub user: User,
    /// For every request, until it expires.
    pub access_token: String,
    /// For one refresh.
    pub refresh_token: String,
    /// How long the access token lives.
    pub expires_in: Duration,
    /// The login session.
    pub session: String,
}

/// Logins, tokens and rights of one node. Share it in an `Arc`.
pub struct Auth {
    settings: config::Auth,
    store: Arc<dyn Store>,
    keys: Keys,
    passwords: Passwords,
    logins: Logins,
    accounts: KeyedRate<String>,
    addresses: KeyedRate<IpAddr>,
    /// Held over each change of rights and its announcement, so that both have one order.
    order: Mutex<()>,
    changes: broadcast::Sender<News>,
    freshness: Freshness,
}

impl Auth {
    /// Reads the signing keys of the store, making one on the first start of all; keys that an older
    /// hub left in `data_dir` are taken over. On a mesh with peers nothing may be written before
    /// [`watch::Watch::start`]; run [`Auth::tend_keys`] beside it.
    ///
    /// # Errors
    /// The store failed, or a key can't be read.
    pub async fn open(
        settings: &config::Auth,
        data_dir: &Path,
        store: Arc<dyn Store>,
        mesh: Arc<dyn Mesh>,
    ) -> Result<Self, KeyError> {
        let folder = data_dir.join("keys");
        let address_rate = settings.login_per_minute_address;
        Ok(Self {
            keys: Keys::open(settings, &folder, store.clone(), now_ms()).await?,
            passwords: Passwords::new(settings.password_concurrency),
            logins: Logins::new(store.clone(), settings.refresh_ttl, settings.access_ttl),
            accounts: KeyedRate::per_minute(settings.login_per_minute, settings.login_burst),
            addresses: KeyedRate::per_minute(address_rate, address_rate),
            order: Mutex::new(()),
            changes: broadcast::Sender::new(CHANGES),
            freshness: Freshness::new(mesh),
            settings: settings.clone(),
            store,
        })
    }

    /// Makes an account and logs it in. The display name defaults to the login.
    ///
    /// # Errors
    /// Registration is closed, a field is not allowed, the login is taken, or too many attempts.
    pub async fn register(
        &self,
        login: &str,
        password: &str,
        name: Option<&str>,
        address: IpAddr,
    ) -> Result<Tokens, AuthError> {
        if !self.settings.registration {
            return Err(AuthError::RegistrationClosed);
        }
        self.addresses
            .check(&network_of(address))
            .map_err(AuthError::RateLimited)?;
        let user = self
            .add_user(login, password, name.unwrap_or(login))
            .await?;
        self.open_login(user).await
    }

    /// Makes an account, if there is none of that login yet; for the demo users. No limits apply.
    ///
    /// # Errors
    /// A field is not allowed, or the store failed.
    pub async fn ensure_user(
        &self,
        login: &str,
        password: &str,
        name: &str,
    ) -> Result<User, AuthError> {
        if let Some(user) = self.store.user_by_login(login).await? {
            return Ok(user);
        }
        match self.add_user(login, password, name).await {
            Err(AuthError::LoginTaken) => self
                .store
                .user_by_login(login)
                .await?
                .ok_or(AuthError::NotFound),
            other => other,
        }
    }

    async fn add_user(&self, login: &str, password: &str, name: &str) -> Result<User, AuthError> {
        let name = name.trim();
        let checks = [
            ("login", names::login(login)),
            ("password", names::password(password)),
            ("name", names::display(name)),
        ];
        let wrong: Vec<FieldError> = checks
            .into_iter()
            .filter_map(|(field, check)| Some((field, check.err()?)))
            .map(|(field, reason)| FieldError {
                field: field.into(),
                reason,
            })
            .collect();
        if !wrong.is_empty() {
            return Err(AuthError::Fields(wrong));
        }
        // Hashing is dear: a login that is taken is refused before it. The store decides after it.
        if self.store.user_by_login(login).await?.is_some() {
            return Err(AuthError::LoginTaken);
        }
        let user = User {
            id: uuid::Uuid::now_v7().to_string(),
            login: login.to_owned(),
            name: name.to_owned(),
            password_hash: self.passwords.hash(password).await?,
            created_at: now_ms(),
        };
        match self.store.add_user(&user).await {
            Ok(()) => Ok(user),
            Err(StoreError::Conflict(_)) => Err(AuthError::LoginTaken),
            Err(other) => Err(other.into()),
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`AuthError::Credentials`], or too many attempts of this account or from this address.
    pub async fn login(
        &self,
        login: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<Tokens, AuthError> {
        self.addresses
            .check(&network_of(address))
            .map_err(AuthError::RateLimited)?;
        if names::login(login).is_err() || password.len() > password::MAX_BYTES {
            return Err(AuthError::Credentials);
        }
        let account = login.to_ascii_lowercase();
        self.accounts
            .check(&account)
            .map_err(AuthError::RateLimited)?;
        let user = self.store.user_by_login(login).await?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let matches = self.passwords.verify(hash, password).await?;
        match user {
            Some(user) if matches => self.open_login(user).await,
            _ => Err(AuthError::Credentials),
        }
    }

    async fn open_login(&self, user: User) -> Result<Tokens, AuthError> {
        let (session, refresh_token) = self.logins.open(&user.id, now_ms()).await?;
        self.tokens(user, session, refresh_token)
    }

    /// Trades a refresh token for new tokens. One that was used before ends its login session: two
    /// have it, and one of them stole it.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] or [`AuthError::Revoked`].
    pub async fn refresh(self: &Arc<Self>, refresh_token: &str) -> Result<Tokens, AuthError> {
        let (auth, presented) = (self.clone(), refresh_token.to_owned());
        to_the_end(async move {
            match auth.logins.rotate(&presented, now_ms()).await? {
                Rotated::Fresh {
                    session,
                    user,
                    token,
                } => auth.tokens(user, session, token),
                Rotated::Reused { sid } => {
                    tracing::warn!(session = %sid, "a refresh token was used twice: login revoked");
                    auth.announce(RightsChange::Login {
                        sid: sid.to_string(),
                    });
                    Err(AuthError::Revoked)
                }
                Rotated::Refused => Err(AuthError::Invalid),
            }
        })
        .await
    }

    /// Ends a login session: its tokens are refused from now on.
    ///
    /// # Errors
    /// The store failed; the login session may stand.
    pub async fn logout(self: &Arc<Self>, sid: &Arc<str>) -> Result<(), AuthError> {
        let (auth, sid) = (self.clone(), sid.clone());
        to_the_end(async move {
            auth.logins.revoke(&sid, now_ms()).await?;
            auth.announce(RightsChange::Login {
                sid: sid.to_string(),
            });
            Ok(())
        })
        .await
    }

    /// Ends every login session of a user.
    ///
    /// # Errors
    /// The store failed; login sessions may stand.
    pub async fn logout_all(self: &Arc<Self>, user: &Arc<str>) -> Result<(), AuthError> {
        let (auth, user) = (self.clone(), user.clone());
        to_the_end(async move {
            auth.logins.revoke_all(&user, now_ms()).await?;
            auth.announce(RightsChange::User {
                user: user.to_string(),
            });
            Ok(())
        })
        .await
    }

    /// Whom a token speaks for: signed by one of the nodes, not expired, its login session not revoked.
    ///
    /// # Errors
    /// [`AuthError::Expired`], [`AuthError::Invalid`], [`AuthError::Revoked`], or the store failed.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, AuthError> {
        let claims = match self.keys.verify(token, now_ms()) {
            Err(TokenError::UnknownKey) if self.freshness.mesh().has_peers() => {
                // One of them may have made it a moment ago.
                self.keys.learn().await?;
                self.keys.verify(token, now_ms())?
            }
            known => known?,
        };
        if !self.logins.stands(&claims.sid, &claims.sub).await? {
            return Err(AuthError::Revoked);
        }
        Ok(Principal {
            user: claims.sub.into(),
            name: claims.name.into(),
            login_session: claims.sid.into(),
            expires_ms: claims.exp.saturating_mul(1000),
        })
    }

    /// Whether a principal's login session still stands; for sessions that outlive a request.
    ///
    /// # Errors
    /// The store failed: nobody knows.
    pub async fn still_valid(&self, who: &Principal) -> Result<bool, ApiError> {
        Ok(self.logins.stands(&who.login_session, &who.user).await?)
    }

    /// The store that rights are kept in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The public keys that tokens are signed with (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Arc<serde_json::Value> {
        self.keys.jwks()
    }

    /// Drops what limits and revocations no longer need; call it now and then.
    pub fn sweep(&self) {
        self.accounts.sweep();
        self.addresses.sweep();
        self.logins.sweep(now_ms());
    }

    fn tokens(
        &self,
        user: User,
        session: LoginSession,
        refresh_token: String,
    ) -> Result<Tokens, AuthError> {
        let issued = now_ms() / 1000;
        let claims = Claims {
            iss: self.settings.issuer.as_str().to_owned(),
            aud: self.settings.audience.as_str().to_owned(),
            sub: user.id.clone(),
            name: user.name.clone(),
            sid: session.id.clone(),
            jti: uuid::Uuid::now_v7().to_string(),
            iat: issued,
            exp: issued + self.settings.access_ttl.as_secs(),
        };
        let signed = self.keys.sign(&claims, now_ms());
        let access_token = signed.map_err(|error| AuthError::Internal(error.to_string()))?;
        let expires_in = self.settings.access_ttl;
        Ok(Tokens {
            user,
            access_token,
            refresh_token,
            expires_in,
            session: session.id,
        })
    }
}

/// Runs `work` to its end even if the caller goes away: a change that is committed is announced too.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, AuthError>> + Send + 'static,
) -> Result<T, AuthError> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| Err(AuthError::Internal(error.to_string())))
}

/// What an address counts as: one IPv6 customer has a whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;

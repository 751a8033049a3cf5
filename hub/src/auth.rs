//! Who is there, and what they may: logins, tokens, roles.
//!
//! Owns [`Auth`]: register, log in, refresh, log out; the check of a token ([`Auth::authenticate`])
//! and of a right ([`Auth::authorize`]); and the news of every change of them ([`RightsChange`]),
//! whichever node made it (`watch`). Never speaks HTTP. Whoever keeps a right for longer than a request
//! subscribes to [`Auth::changes`] *before* asking, so that no change falls between the two.

mod internal;
pub mod invitations;
pub mod issuers;
pub mod jwt;
pub mod keys;
mod logins;
pub mod names;
mod opaque;
mod outside;
pub mod password;
pub mod rbac;
mod refusal;
pub mod reset;
mod rights;
mod seal;
pub mod services;
pub mod watch;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backplane::limiter::Limiter;
use backplane::mesh::Mesh;
use backplane::store::{LoginSession, Store, StoreError, User};
use protocol::Claims;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::error::{ApiError, FieldError};
use crate::limits::Attempts;
use crate::now_ms;
pub use internal::Bearer;
use issuers::Issuers;
use jwt::TokenError;
use keys::{KeyError, Keys};
use logins::{Logins, Rotated};
use outside::Taken;
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

/// Where a login comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself.
    pub user_agent: Option<String>,
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            user_agent: None,
        }
    }
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
    issuers: Issuers,
    /// Claims of outside tokens that were taken a moment ago.
    taken: Taken,
    passwords: Passwords,
    logins: Logins,
    attempts: Attempts,
    /// Held over each change of rights and its announcement, so that both have one order.
    order: Mutex<()>,
    changes: broadcast::Sender<News>,
    freshness: Freshness,
}

impl Auth {
    /// Reads the signing keys of the store, making one on the first start of all; keys that an older
    /// hub left in `data_dir` are taken over. Attempts to log in are counted by `limiter`. On a mesh with peers nothing may be written before
    /// [`watch::Watch::start`]; run [`Auth::tend_keys`] beside it.
    ///
    /// # Errors
    /// The store failed, or a key or the file of outside issuers can't be read.
    pub async fn open(
        settings: &config::Auth,
        data_dir: &Path,
        store: Arc<dyn Store>,
        mesh: Arc<dyn Mesh>,
        limiter: Arc<dyn Limiter>,
    ) -> Result<Self, KeyError> {
        let folder = data_dir.join("keys");
        let issuers = Issuers::open(settings.issuers_file.as_deref()).map_err(KeyError::Issuers)?;
        Ok(Self {
            keys: Keys::open(settings, &folder, store.clone(), now_ms()).await?,
            issuers,
            taken: Taken::default(),
            passwords: Passwords::new(settings.password_concurrency),
            logins: Logins::new(store.clone(), settings.refresh_ttl, settings.access_ttl),
            attempts: Attempts::new(limiter, settings),
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
    /// Registration is closed, a field is not allowed, the login is taken, too many attempts, or nobody can count them.
    pub async fn register(
        &self,
        login: &str,
        password: &str,
        name: Option<&str>,
        client: impl Into<Client>,
    ) -> Result<Tokens, AuthError> {
        let client = client.into();
        if !self.settings.registration {
            return Err(AuthError::RegistrationClosed);
        }
        self.attempts.count(None, client.address).await?;
        let user = self
            .add_user(login, password, name.unwrap_or(login))
            .await?;
        self.open_login(user, &client).await
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
        let user = self.new_user(login, password, name).await?;
        match self.store.add_user(&user).await {
            Ok(()) => Ok(user),
            Err(StoreError::Conflict(_)) => Err(AuthError::LoginTaken),
            Err(other) => Err(other.into()),
        }
    }

    /// A user who is not in the store yet.
    async fn new_user(&self, login: &str, password: &str, name: &str) -> Result<User, AuthError> {
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
        Ok(User {
            id: uuid::Uuid::now_v7().to_string(),
            login: login.to_owned(),
            name: name.to_owned(),
            password_hash: self.passwords.hash(password).await?,
            created_at: now_ms(),
        })
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`AuthError::Credentials`]; too many attempts on this account or from this address, or nobody can count
    /// them: the password is not looked at then.
    pub async fn login(
        &self,
        login: &str,
        password: &str,
        client: impl Into<Client>,
    ) -> Result<Tokens, AuthError> {
        let client = client.into();
        let is_possible = names::login(login).is_ok() && password.len() <= password::MAX_BYTES;
        // What can be no login names no account.
        let account = is_possible.then_some(login);
        self.attempts.count(account, client.address).await?;
        if !is_possible {
            return Err(AuthError::Credentials);
        }
        let user = self.store.user_by_login(login).await?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let matches = self.passwords.verify(hash, password).await?;
        match user {
            Some(user) if matches => self.open_login(user, &client).await,
            _ => Err(AuthError::Credentials),
        }
    }

    async fn open_login(&self, user: User, client: &Client) -> Result<Tokens, AuthError> {
        let (session, refresh_token) = self.logins.open(&user.id, client, now_ms()).await?;
        // Another password since the check: a change that came before this session did not end it.
        let now = self.store.user(&user.id).await?;
        if now.is_none_or(|now| now.password_hash != user.password_hash) {
            let sid = session.id.into();
            self.logins.revoke(&sid, now_ms()).await?;
            return Err(AuthError::Credentials);
        }
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
                } => auth.tokens(user, *session, token),
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

    /// A user's login sessions that can still be used, by id, after `after`, at most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn login_sessions(
        &self,
        user: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LoginSession>, AuthError> {
        Ok(self.logins.list(user, after, limit, now_ms()).await?)
    }

    /// Ends one of the caller's login sessions, as [`Auth::logout`] does.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] if the caller has no such session, or it has ended.
    pub async fn end_session(self: &Arc<Self>, caller: &str, sid: &str) -> Result<(), AuthError> {
        let session = self.logins.find(sid).await?;
        let session = session.filter(|one| one.user_id == caller && one.revoked_at.is_none());
        let session = session.ok_or(AuthError::NotFound)?;
        self.logout(&session.id.into()).await
    }

    /// Whom a token speaks for: signed by one of the nodes or by a configured issuer, not expired, its login
    /// session not revoked. Somebody whom an issuer vouches for the first time becomes a user.
    ///
    /// # Errors
    /// [`AuthError::Expired`], [`AuthError::Invalid`], [`AuthError::Revoked`], [`AuthError::NoUser`] for a service's key, for
    /// outside tokens also
    /// [`AuthError::Unknown`] and [`AuthError::IssuerUnavailable`], or the store failed.
    pub async fn authenticate(self: &Arc<Self>, token: &str) -> Result<Principal, AuthError> {
        if services::is_key(token) {
            return Err(AuthError::NoUser);
        }
        let verified = self.keys.verify(token, now_ms());
        if matches!(verified, Err(TokenError::Invalid | TokenError::UnknownKey))
            && let Some(issuer) = self.issuers.of(token)
        {
            // Boxed: few tokens come this way, and every session's future would carry its size.
            return Box::pin(self.admit_outsider(issuer, token)).await;
        }
        let claims = match verified {
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

    /// Keeps the keys of the outside issuers up to date until `stop`. One that can't be reached is asked
    /// again; its tokens are refused meanwhile.
    pub async fn tend_issuers(self: Arc<Self>, stop: CancellationToken) {
        self.issuers.tend(&stop).await;
    }

    /// The public keys that tokens are signed with (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Arc<serde_json::Value> {
        self.keys.jwks()
    }

    /// Drops revocations that no living token needs; call it now and then.
    pub fn sweep(&self) {
        self.logins.sweep(now_ms());
        self.taken.sweep();
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

#[cfg(test)]
mod tests;

//! Whom an outside token stands for here: the user of its subject, the login of its session, the roles that its
//! claims grant.
//!
//! The flow: `issuers` has verified the token → the store is asked once; if nothing about the token is new,
//! that was all → else a user is made, a login opened, name and grants brought to what the claims say. Owns
//! the choice of a login, and that nobody comes into an account that another door made: a name or an address
//! that is the same proves nothing. Never grants a role itself: `rights` does, under the order of all
//! changes.
//!
//! **Revocation.** A login session stands for a session at the issuer (`sid`; without one for all tokens of
//! the subject). Ended here, by whoever may end it, it refuses the tokens that were issued before; one that
//! was issued later opens another. As clocks differ, a token counts as issued `clock_skew` before its
//! `iat`. What ended at the issuer ends here when the token expires.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::store::{Entrance, Identity, Outsider as Known, StoreError, User};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;
use protocol::Role;
use sha2::{Digest as _, Sha256};

use super::issuers::{Issuer, Outsider, mapping};
use super::{Auth, AuthError, Principal};
use crate::now_ms;

/// How long claims that could not be taken whole (a project is not there yet, say) are left alone.
const RETRY: Duration = Duration::from_secs(60);
/// How many logins are tried for a new user.
const LOGIN_TRIES: u32 = 12;

/// What was done about somebody's claims a moment ago.
#[derive(Default)]
pub(super) struct Taken(DashMap<Arc<str>, (u64, Instant)>);

impl Taken {
    /// Whether these claims were taken less than [`RETRY`] ago.
    fn lately(&self, user: &str, claims: u64) -> bool {
        let taken = self.0.get(user).map(|entry| *entry);
        taken.is_some_and(|(known, at)| known == claims && at.elapsed() < RETRY)
    }

    fn note(&self, user: &Arc<str>, claims: u64) {
        self.0.insert(Arc::clone(user), (claims, Instant::now()));
    }

    /// Forgets what is past its time.
    pub(super) fn sweep(&self) {
        self.0.retain(|_, (_, at)| at.elapsed() < RETRY);
    }
}

/// What claims ask for.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) user: Arc<str>,
    /// The display name, if it is to become another one.
    pub(super) name: Option<String>,
    /// The roles to be granted by project; `None`: taken.
    pub(super) grants: BTreeMap<String, Option<Role>>,
    /// When the token was issued.
    pub(super) issued_ms: u64,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.name.is_none() && self.grants.is_empty()
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, &self.grants, self.issued_ms).hash(&mut hasher);
        hasher.finish()
    }
}

impl Auth {
    /// Whom an outside token speaks for.
    ///
    /// # Errors
    /// As [`Auth::authenticate`]; [`AuthError::IssuerUnavailable`] if the token can't be checked,
    /// [`AuthError::Unknown`] if nobody here stands for its subject and nobody is made to.
    pub(super) async fn admit_outsider(
        self: &Arc<Self>,
        issuer: &Issuer,
        token: &str,
    ) -> Result<Principal, AuthError> {
        let outsider = issuer.verify(token, now_ms()).await?;
        let identity = Identity {
            issuer: issuer.settings.issuer.as_str().to_owned(),
            subject: outsider.subject.clone(),
        };
        let session = session_key(outsider.session.as_deref());
        let skew = issuer.settings.clock_skew.as_millis() as u64;
        // At least one, as nothing was ever refused up to zero.
        let earliest = outsider.issued_ms.saturating_sub(skew).max(1);
        let known = match self.store.outsider(&identity, &session).await? {
            Some(known) => known,
            None => {
                let made = self.become_user(issuer, &identity, &outsider, &session);
                made.await?
            }
        };
        if known.refused_until > 0 && earliest <= known.refused_until {
            return Err(AuthError::Revoked);
        }
        let login = self.login_of(&known, &outsider, session, earliest).await?;
        let name = mapping::name(&outsider.claims, &issuer.settings);
        // The claims of a token that is not the newest are those of the past.
        let mut shown = known.name.clone();
        if outsider.issued_ms >= known.claims_at {
            shown = name.clone().unwrap_or(shown);
            self.take_claims(issuer, &known, &outsider, name).await?;
        }
        Ok(Principal {
            user: known.user_id.into(),
            name: shown.into(),
            login_session: login,
            expires_ms: outsider.expires_ms,
        })
    }

    /// The login session that a token belongs to, opened if need be.
    async fn login_of(
        &self,
        known: &Known,
        outsider: &Outsider,
        session: String,
        earliest: u64,
    ) -> Result<Arc<str>, AuthError> {
        if let Some(login) = &known.login {
            if login.revoked_at.is_some_and(|revoked| earliest <= revoked) {
                return Err(AuthError::Revoked);
            }
            let is_seen =
                login.seen_until >= outsider.expires_ms && known.claims_at >= outsider.issued_ms;
            if login.revoked_at.is_none() && is_seen {
                return Ok(login.id.as_str().into());
            }
        }
        let entrance = Entrance {
            user_id: known.user_id.clone(),
            session,
            issued_at: outsider.issued_ms,
            earliest,
            expires_at: outsider.expires_ms,
            new_login: uuid::Uuid::now_v7().to_string(),
        };
        match self.store.let_in(&entrance, now_ms()).await {
            Ok(Some(login)) => Ok(login.id.into()),
            // Revoked, or the user deleted, since the store was asked.
            Ok(None) | Err(StoreError::NotFound) => Err(AuthError::Revoked),
            Err(other) => Err(other.into()),
        }
    }

    /// Brings name and grants to what the newest token says, if they are not.
    async fn take_claims(
        self: &Arc<Self>,
        issuer: &Issuer,
        known: &Known,
        outsider: &Outsider,
        name: Option<String>,
    ) -> Result<(), AuthError> {
        let roles = mapping::roles(&outsider.claims, &issuer.settings);
        let granted: BTreeMap<&str, Role> = known
            .grants
            .iter()
            .map(|(project, role)| (project.as_str(), *role))
            .collect();
        let mut grants: BTreeMap<String, Option<Role>> = granted
            .keys()
            .filter(|project| !roles.contains_key(**project))
            .map(|project| ((*project).to_owned(), None))
            .collect();
        let fresh = roles
            .into_iter()
            .filter(|(project, role)| granted.get(project.as_str()) != Some(role));
        grants.extend(fresh.map(|(project, role)| (project, Some(role))));
        let wanted = Wanted {
            user: known.user_id.as_str().into(),
            name: name.filter(|name| *name != known.name),
            grants,
            issued_ms: outsider.issued_ms,
        };
        let digest = wanted.digest();
        if wanted.is_nothing() || self.taken.lately(&wanted.user, digest) {
            return Ok(());
        }
        let user = Arc::clone(&wanted.user);
        self.follow_claims(wanted).await?;
        self.taken.note(&user, digest);
        Ok(())
    }

    /// Makes the user who stands for an identity from now on. It has no password, and a login that nobody
    /// had: never one that is there already.
    async fn become_user(
        &self,
        issuer: &Issuer,
        identity: &Identity,
        outsider: &Outsider,
        session: &str,
    ) -> Result<Known, AuthError> {
        if !issuer.settings.create_users {
            return Err(AuthError::Unknown);
        }
        let base = mapping::login(&outsider.claims, &issuer.settings, &outsider.subject);
        let name = mapping::name(&outsider.claims, &issuer.settings);
        for n in 0..LOGIN_TRIES {
            let login = mapping::other_login(&base, n);
            let user = User {
                id: uuid::Uuid::now_v7().to_string(),
                name: name.clone().unwrap_or_else(|| login.clone()),
                login,
                password_hash: String::new(),
                created_at: now_ms(),
            };
            match self.store.add_identity(identity, &user).await {
                Ok(id) => {
                    if id == user.id {
                        tracing::info!(issuer = %identity.issuer, user = %id, "a user was made for an outside identity");
                    }
                    let known = self.store.outsider(identity, session).await?;
                    return known.ok_or(AuthError::Unknown);
                }
                Err(StoreError::Conflict(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(AuthError::Internal(format!("no login like {base} is free")))
    }
}

/// What the store knows a session by: it needs no more than to tell one from another.
fn session_key(session: Option<&str>) -> String {
    session.map_or_else(String::new, |sid| {
        URL_SAFE_NO_PAD.encode(Sha256::digest(sid))
    })
}

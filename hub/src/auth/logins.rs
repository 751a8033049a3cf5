//! Login sessions: refresh tokens, their rotation, and what is revoked.
//!
//! Owns the memory of revocations, which answers at once and also while the store is slow. Never sees a
//! password.

use std::sync::Arc;
use std::time::Duration;

use backplane::store::{LoginSession, Refreshed, Store, StoreError, User};
use dashmap::DashMap;

use super::Client;
use super::opaque::{hash_of, new_token};

/// What became of a refresh token, with the new one.
#[derive(Debug)]
pub(super) enum Rotated {
    /// It was good: use this one from now on.
    Fresh {
        session: Box<LoginSession>,
        user: User,
        token: String,
    },
    /// It was used before; the login session is revoked now.
    Reused { sid: Arc<str> },
    /// It is no token of ours, or no longer.
    Refused,
}

/// The login sessions.
pub(super) struct Logins {
    store: Arc<dyn Store>,
    refresh_ttl: Duration,
    access_ttl: Duration,
    /// Revoked sessions, until the last access token of them has expired.
    revoked: DashMap<Arc<str>, u64>,
}

impl Logins {
    pub(super) fn new(store: Arc<dyn Store>, refresh_ttl: Duration, access_ttl: Duration) -> Self {
        Self {
            store,
            refresh_ttl,
            access_ttl,
            revoked: DashMap::new(),
        }
    }

    /// Opens a login session; answers with its first refresh token.
    pub(super) async fn open(
        &self,
        user_id: &str,
        client: &Client,
        now: u64,
    ) -> Result<(LoginSession, String), StoreError> {
        let session = LoginSession {
            id: uuid::Uuid::now_v7().to_string(),
            user_id: user_id.to_owned(),
            created_at: now,
            revoked_at: None,
            user_agent: client.user_agent.clone(),
            address: Some(client.address.to_canonical().to_string()),
            refreshed_at: None,
        };
        let (token, hash) = new_token();
        self.store
            .open_login(&session, &hash, later(now, self.refresh_ttl))
            .await?;
        Ok((session, token))
    }

    /// Trades a refresh token for the next one.
    pub(super) async fn rotate(&self, token: &str, now: u64) -> Result<Rotated, StoreError> {
        let Some(old) = hash_of(token) else {
            return Ok(Rotated::Refused);
        };
        let (token, new) = new_token();
        let expires = later(now, self.refresh_ttl);
        Ok(
            match self.store.rotate_refresh(&old, &new, expires, now).await? {
                Refreshed::Rotated { session, user } => Rotated::Fresh {
                    session: Box::new(session),
                    user,
                    token,
                },
                Refreshed::Reused { session } => {
                    let sid: Arc<str> = session.id.into();
                    self.note_revoked(&sid, now);
                    Rotated::Reused { sid }
                }
                Refreshed::Refused => Rotated::Refused,
            },
        )
    }

    /// Revokes a login session, durably and at once.
    pub(super) async fn revoke(&self, sid: &Arc<str>, now: u64) -> Result<(), StoreError> {
        self.store.revoke_login(sid, now).await?;
        self.note_revoked(sid, now);
        Ok(())
    }

    /// Revokes every login session of a user.
    pub(super) async fn revoke_all(&self, user_id: &str, now: u64) -> Result<(), StoreError> {
        let ended = self.store.revoke_logins_of(user_id, now).await?;
        self.note_all_revoked(ended, now);
        Ok(())
    }

    /// The login sessions of a user that can still be used, by id.
    pub(super) async fn list(
        &self,
        user_id: &str,
        after: &str,
        limit: u32,
        now: u64,
    ) -> Result<Vec<LoginSession>, StoreError> {
        let since = now.saturating_sub(self.refresh_ttl.as_millis() as u64);
        self.store.logins_of(user_id, since, after, limit).await
    }

    /// The login session of that id.
    pub(super) async fn find(&self, sid: &str) -> Result<Option<LoginSession>, StoreError> {
        self.store.login(sid).await
    }

    /// Whether that login session of that user stands.
    pub(super) async fn stands(&self, sid: &str, user_id: &str) -> Result<bool, StoreError> {
        if self.revoked.contains_key(sid) {
            return Ok(false);
        }
        let session = self.store.login(sid).await?;
        // Asked again: it may have been revoked while the store answered.
        let stands = session.is_some_and(|s| s.revoked_at.is_none() && s.user_id == user_id);
        Ok(stands && !self.revoked.contains_key(sid))
    }

    /// Forgets the revocations that no living token needs.
    pub(super) fn sweep(&self, now: u64) {
        self.revoked.retain(|_, until| *until > now);
    }

    /// [`Logins::note_revoked`] for several.
    pub(super) fn note_all_revoked(&self, sids: Vec<String>, now: u64) {
        for sid in sids {
            self.note_revoked(&sid.into(), now);
        }
    }

    /// Remembers that a login session was revoked, until its last access token has expired.
    pub(super) fn note_revoked(&self, sid: &Arc<str>, now: u64) {
        // A second more than needed: tokens count in whole seconds.
        let until = later(now, self.access_ttl + Duration::from_secs(1));
        self.revoked.insert(sid.clone(), until);
    }
}

fn later(now: u64, by: Duration) -> u64 {
    now.saturating_add(by.as_millis() as u64)
}

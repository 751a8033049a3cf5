//! Users, login sessions and refresh tokens in PostgreSQL.
//!
//! Owns the rotation of refresh tokens and its reuse detection. Never sees a token or password, only
//! their hashes.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::rights::note_change;
use super::tx::{Statement, Tx};
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::{Change, LoginSession, Refreshed, StoreError, User, Users};

type UserRow = (String, String, String, String, i64);
type LoginRow = (
    String,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

fn user((id, login, name, password_hash, created_at): UserRow) -> Result<User, StoreError> {
    Ok(User {
        id,
        login,
        name,
        password_hash,
        created_at: number(created_at)?,
    })
}

fn login(
    (id, user_id, created_at, revoked_at, user_agent, address, refreshed_at): LoginRow,
) -> Result<LoginSession, StoreError> {
    Ok(LoginSession {
        id,
        user_id,
        created_at: number(created_at)?,
        revoked_at: revoked_at.map(number).transpose()?,
        user_agent,
        address,
        refreshed_at: refreshed_at.map(number).transpose()?,
    })
}

#[async_trait]
impl Users for PostgresStore {
    async fn add_user(&self, user: &User) -> Result<(), StoreError> {
        self.run(add_user(user)).await.map(drop)
    }

    async fn user_by_login(&self, login: &str) -> Result<Option<User>, StoreError> {
        if !may_be_stored(login) {
            return Ok(None);
        }
        let row = query_as(sql::USER_BY_LOGIN).bind(login.to_lowercase());
        self.first(row).await?.map(user).transpose()
    }

    async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        self.first(query_as(sql::USER).bind(id))
            .await?
            .map(user)
            .transpose()
    }

    async fn open_login(
        &self,
        session: &LoginSession,
        token_hash: &[u8; 32],
        token_expires: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let add = query(sql::ADD_LOGIN)
            .bind(&session.id)
            .bind(&session.user_id)
            .bind(int(session.created_at))
            .bind(session.revoked_at.map(int))
            .bind(&session.user_agent)
            .bind(&session.address)
            .bind(session.refreshed_at.map(int));
        tx.run(add).await?;
        add_token(&mut tx, token_hash, &session.id, token_expires).await?;
        self.commit(tx).await
    }

    async fn rotate_refresh(
        &self,
        old_hash: &[u8; 32],
        new_hash: &[u8; 32],
        new_expires: u64,
        now: u64,
    ) -> Result<Refreshed, StoreError> {
        type Row = (String, i64, Option<i64>);
        let mut tx = self.write().await?;
        let row: Option<Row> = tx.first(query_as(sql::TOKEN).bind(&old_hash[..])).await?;
        let Some((login_id, expires_at, used_at)) = row else {
            return Ok(Refreshed::Refused);
        };
        // Locked with the token.
        let session = tx
            .first(query_as(sql::LOGIN).bind(&login_id))
            .await?
            .ok_or_else(|| StoreError::Corrupt("a token of no login session".into()))
            .and_then(login)?;
        if session.revoked_at.is_some() {
            return Ok(Refreshed::Refused);
        }
        if used_at.is_some() {
            revoke(&mut tx, &session.id, now).await?;
            self.commit(tx).await?;
            return Ok(Refreshed::Reused {
                session: LoginSession {
                    revoked_at: Some(now),
                    ..session
                },
            });
        }
        if number(expires_at)? <= now {
            return Ok(Refreshed::Refused);
        }
        let used = query(sql::USE_TOKEN).bind(&old_hash[..]).bind(int(now));
        tx.run(used).await?;
        let touch = query(sql::TOUCH_LOGIN).bind(&session.id).bind(int(now));
        tx.run(touch).await?;
        let session = LoginSession {
            refreshed_at: Some(now),
            ..session
        };
        add_token(&mut tx, new_hash, &session.id, new_expires).await?;
        let user = tx
            .first(query_as(sql::USER).bind(&session.user_id))
            .await?
            .ok_or_else(|| StoreError::Corrupt("a login session of nobody".into()))
            .and_then(user)?;
        self.commit(tx).await?;
        Ok(Refreshed::Rotated { session, user })
    }

    async fn logins_of(
        &self,
        user_id: &str,
        since: u64,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LoginSession>, StoreError> {
        if !may_be_stored(user_id) || !may_be_stored(after) {
            return Ok(Vec::new());
        }
        let rows = query_as(sql::LOGINS_OF)
            .bind(user_id)
            .bind(int(since))
            .bind(after)
            .bind(i64::from(limit));
        let rows: Vec<LoginRow> = self.all(rows).await?;
        rows.into_iter().map(login).collect()
    }

    async fn login(&self, id: &str) -> Result<Option<LoginSession>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        self.first(query_as(sql::LOGIN).bind(id))
            .await?
            .map(login)
            .transpose()
    }

    async fn revoke_login(&self, id: &str, now: u64) -> Result<bool, StoreError> {
        if !may_be_stored(id) {
            return Ok(false);
        }
        let mut tx = self.write().await?;
        let revoked = revoke(&mut tx, id, now).await?;
        self.commit(tx).await?;
        Ok(revoked)
    }

    async fn revoke_logins_of(&self, user_id: &str, now: u64) -> Result<Vec<String>, StoreError> {
        if !may_be_stored(user_id) {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        // First, as whoever enters locks it first; also tokens that nobody has seen yet are refused.
        let refuse = query(sql::REFUSE_OUTSIDER).bind(user_id).bind(int(now));
        tx.run(refuse).await?;
        let ids = revoke_all(&mut tx, user_id, None, now).await?;
        self.commit(tx).await?;
        Ok(ids)
    }
}

pub(super) fn add_user(user: &User) -> Statement<'_> {
    query(sql::ADD_USER)
        .bind(&user.id)
        .bind(&user.login)
        .bind(user.login.to_lowercase())
        .bind(&user.name)
        .bind(&user.password_hash)
        .bind(int(user.created_at))
}

/// Revokes all login sessions of a user but `keep`, and notes the change if there were any, so it comes last;
/// their ids.
pub(super) async fn revoke_all(
    tx: &mut Tx,
    user_id: &str,
    keep: Option<&str>,
    now: u64,
) -> Result<Vec<String>, StoreError> {
    let revoke = query_as(sql::REVOKE_LOGINS_OF)
        .bind(user_id)
        .bind(int(now))
        .bind(keep);
    let ids: Vec<(String,)> = tx.all(revoke).await?;
    if !ids.is_empty() {
        let user = user_id.to_owned();
        note_change(tx, &Change::User { user }).await?;
    }
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

async fn add_token(
    tx: &mut Tx,
    hash: &[u8; 32],
    login_id: &str,
    expires: u64,
) -> Result<(), StoreError> {
    let add = query(sql::ADD_TOKEN)
        .bind(&hash[..])
        .bind(login_id)
        .bind(int(expires));
    tx.run(add).await.map(drop)
}

/// Revokes a login session and notes the change; whether there was something to revoke.
async fn revoke(tx: &mut Tx, login_id: &str, now: u64) -> Result<bool, StoreError> {
    let revoke = query(sql::REVOKE_LOGIN).bind(login_id).bind(int(now));
    if tx.run(revoke).await? == 0 {
        return Ok(false);
    }
    let sid = login_id.to_owned();
    note_change(tx, &Change::Login { sid }).await?;
    Ok(true)
}

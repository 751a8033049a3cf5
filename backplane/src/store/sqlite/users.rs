//! Users, login sessions and refresh tokens in SQLite.
//!
//! Owns the rotation of refresh tokens and its reuse detection. Never sees a token or password, only
//! their hashes.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::rights::note_change;
use super::{SqliteStore, int, sql, store_error};
use crate::store::{Change, LoginSession, Refreshed, StoreError, User, Users};

type UserRow = (String, String, String, String, u64);
type LoginRow = (
    String,
    String,
    u64,
    Option<u64>,
    Option<String>,
    Option<String>,
    Option<u64>,
);

fn user((id, login, name, password_hash, created_at): UserRow) -> User {
    User {
        id,
        login,
        name,
        password_hash,
        created_at,
    }
}

fn login(
    (id, user_id, created_at, revoked_at, user_agent, address, refreshed_at): LoginRow,
) -> LoginSession {
    LoginSession {
        id,
        user_id,
        created_at,
        revoked_at,
        user_agent,
        address,
        refreshed_at,
    }
}

#[async_trait]
impl Users for SqliteStore {
    async fn add_user(&self, user: &User) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        insert_user(&mut tx, user).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn user_by_login(&self, login: &str) -> Result<Option<User>, StoreError> {
        let row = sqlx::query_as(sql::USER_BY_LOGIN)
            .bind(login.to_lowercase())
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(user))
    }

    async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        let row = sqlx::query_as(sql::USER)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(user))
    }

    async fn open_login(
        &self,
        session: &LoginSession,
        token_hash: &[u8; 32],
        token_expires: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_LOGIN)
            .bind(&session.id)
            .bind(&session.user_id)
            .bind(int(session.created_at))
            .bind(session.revoked_at.map(int))
            .bind(&session.user_agent)
            .bind(&session.address)
            .bind(session.refreshed_at.map(int))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        add_token(&mut tx, token_hash, &session.id, token_expires).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn rotate_refresh(
        &self,
        old_hash: &[u8; 32],
        new_hash: &[u8; 32],
        new_expires: u64,
        now: u64,
    ) -> Result<Refreshed, StoreError> {
        let mut tx = self.write().await?;
        let token: Option<(String, u64, Option<u64>)> = sqlx::query_as(sql::TOKEN)
            .bind(&old_hash[..])
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some((login_id, expires_at, used_at)) = token else {
            return Ok(Refreshed::Refused);
        };
        let session = sqlx::query_as(sql::LOGIN)
            .bind(&login_id)
            .fetch_one(&mut *tx)
            .await
            .map(login)
            .map_err(store_error)?;
        if session.revoked_at.is_some() {
            return Ok(Refreshed::Refused);
        }
        if used_at.is_some() {
            revoke(&mut tx, &login_id, now).await?;
            tx.commit().await.map_err(store_error)?;
            return Ok(Refreshed::Reused {
                session: LoginSession {
                    revoked_at: Some(now),
                    ..session
                },
            });
        }
        if expires_at <= now {
            return Ok(Refreshed::Refused);
        }
        sqlx::query(sql::USE_TOKEN)
            .bind(&old_hash[..])
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        add_token(&mut tx, new_hash, &login_id, new_expires).await?;
        sqlx::query(sql::TOUCH_LOGIN)
            .bind(&login_id)
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        let session = LoginSession {
            refreshed_at: Some(now),
            ..session
        };
        let user = sqlx::query_as(sql::USER)
            .bind(&session.user_id)
            .fetch_one(&mut *tx)
            .await
            .map(user)
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(Refreshed::Rotated { session, user })
    }

    async fn logins_of(
        &self,
        user_id: &str,
        since: u64,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LoginSession>, StoreError> {
        let rows: Vec<LoginRow> = sqlx::query_as(sql::LOGINS_OF)
            .bind(user_id)
            .bind(int(since))
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(rows.into_iter().map(login).collect())
    }

    async fn login(&self, id: &str) -> Result<Option<LoginSession>, StoreError> {
        let row = sqlx::query_as(sql::LOGIN)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(login))
    }

    async fn revoke_login(&self, id: &str, now: u64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let revoked = revoke(&mut tx, id, now).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(revoked)
    }

    async fn revoke_logins_of(&self, user_id: &str, now: u64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.write().await?;
        // Also tokens that nobody has seen yet.
        sqlx::query(sql::REFUSE_OUTSIDER)
            .bind(user_id)
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        let ids = revoke_all(&mut tx, user_id, None, now).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(ids)
    }
}

impl SqliteStore {
    /// Deletes tokens that expired, and logins that were revoked or ran out of tokens, before then; those
    /// that outside tokens opened count as long as one of them has been seen that lives.
    pub(super) async fn drop_ended_logins(&self, before: u64) -> Result<u64, StoreError> {
        let before = int(before);
        let mut tx = self.write().await?;
        let of_revoked = sqlx::query(sql::DROP_TOKENS_OF_REVOKED)
            .bind(before)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        let revoked = sqlx::query(sql::DROP_REVOKED_LOGINS)
            .bind(before)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        let expired: Vec<String> = sqlx::query_scalar(sql::DROP_EXPIRED_TOKENS)
            .bind(before)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let empty = sqlx::query(sql::DROP_EMPTY_LOGINS)
            .bind(serde_json::Value::from(expired.clone()).to_string())
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        let outside = sqlx::query(sql::DROP_OUTSIDE_LOGINS)
            .bind(before)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        tx.commit().await.map_err(store_error)?;
        Ok(of_revoked + revoked + expired.len() as u64 + empty + outside)
    }
}

pub(super) async fn insert_user(
    tx: &mut Transaction<'static, Sqlite>,
    user: &User,
) -> Result<(), StoreError> {
    sqlx::query(sql::ADD_USER)
        .bind(&user.id)
        .bind(&user.login)
        .bind(user.login.to_lowercase())
        .bind(&user.name)
        .bind(&user.password_hash)
        .bind(int(user.created_at))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Revokes all login sessions of a user but `keep`, and notes the change if there were any; their ids.
pub(super) async fn revoke_all(
    tx: &mut Transaction<'static, Sqlite>,
    user_id: &str,
    keep: Option<&str>,
    now: u64,
) -> Result<Vec<String>, StoreError> {
    let ids: Vec<String> = sqlx::query_scalar(sql::REVOKE_LOGINS_OF)
        .bind(user_id)
        .bind(int(now))
        .bind(keep)
        .fetch_all(&mut **tx)
        .await
        .map_err(store_error)?;
    if !ids.is_empty() {
        let user = user_id.to_owned();
        note_change(tx, &Change::User { user }).await?;
    }
    Ok(ids)
}

async fn add_token(
    tx: &mut Transaction<'static, Sqlite>,
    hash: &[u8; 32],
    login_id: &str,
    expires: u64,
) -> Result<(), StoreError> {
    sqlx::query(sql::ADD_TOKEN)
        .bind(&hash[..])
        .bind(login_id)
        .bind(int(expires))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Revokes a login session and notes the change; whether there was something to revoke.
async fn revoke(
    tx: &mut Transaction<'static, Sqlite>,
    login_id: &str,
    now: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(sql::REVOKE_LOGIN)
        .bind(login_id)
        .bind(int(now))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let sid = login_id.to_owned();
    note_change(tx, &Change::Login { sid }).await?;
    Ok(true)
}

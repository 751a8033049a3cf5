//! Changes of passwords in SQLite, and the tokens that reset one.
//!
//! Never sees a token or password, only their hashes.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::users::revoke_all;
use super::{SqliteStore, int, sql, store_error};
use crate::store::{PasswordChange, Passwords, Redeemed, Reset, StoreError};

type ResetRow = (String, u64, Option<u64>);

fn reset((user_id, expires_at, used_at): ResetRow) -> Reset {
    Reset {
        user_id,
        expires_at,
        used_at,
    }
}

#[async_trait]
impl Passwords for SqliteStore {
    async fn change_password(
        &self,
        user_id: &str,
        from: &str,
        to: &str,
        keep: Option<&str>,
        now: u64,
    ) -> Result<PasswordChange, StoreError> {
        type Row = (String, String, String, String, u64);
        let mut tx = self.write().await?;
        let user: Option<Row> = sqlx::query_as(sql::USER)
            .bind(user_id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if user.is_none_or(|(.., hash, _)| hash != from) {
            return Ok(PasswordChange::Stale);
        }
        let ended = set(&mut tx, user_id, to, keep, now).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(PasswordChange::Done(ended))
    }

    async fn add_reset(
        &self,
        user_id: &str,
        token_hash: &[u8; 32],
        expires: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_RESET)
            .bind(&token_hash[..])
            .bind(user_id)
            .bind(int(expires))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn reset(&self, token_hash: &[u8; 32]) -> Result<Option<Reset>, StoreError> {
        let row: Option<ResetRow> = sqlx::query_as(sql::RESET)
            .bind(&token_hash[..])
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(reset))
    }

    async fn redeem_reset(
        &self,
        token_hash: &[u8; 32],
        password_hash: &str,
        now: u64,
    ) -> Result<Redeemed, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<ResetRow> = sqlx::query_as(sql::RESET)
            .bind(&token_hash[..])
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(token) = row.map(reset) else {
            return Ok(Redeemed::Unknown);
        };
        if token.used_at.is_some() || token.expires_at <= now {
            return Ok(Redeemed::Gone);
        }
        let logins = set(&mut tx, &token.user_id, password_hash, None, now).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(Redeemed::Done {
            user_id: token.user_id,
            logins,
        })
    }
}

/// Sets a password with all that follows from it; the login sessions that ended.
async fn set(
    tx: &mut Transaction<'static, Sqlite>,
    user_id: &str,
    hash: &str,
    keep: Option<&str>,
    now: u64,
) -> Result<Vec<String>, StoreError> {
    sqlx::query(sql::SET_PASSWORD)
        .bind(user_id)
        .bind(hash)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    sqlx::query(sql::USE_RESETS_OF)
        .bind(user_id)
        .bind(int(now))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    revoke_all(tx, user_id, keep, now).await
}

//! Changes of passwords in PostgreSQL, and the tokens that reset one: all under the lock of the user's row.
//!
//! Never sees a token or password, only their hashes.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::tx::Tx;
use super::users::revoke_all;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::{PasswordChange, Passwords, Redeemed, Reset, StoreError};

type ResetRow = (String, i64, Option<i64>);

fn reset((user_id, expires_at, used_at): ResetRow) -> Result<Reset, StoreError> {
    Ok(Reset {
        user_id,
        expires_at: number(expires_at)?,
        used_at: used_at.map(number).transpose()?,
    })
}

#[async_trait]
impl Passwords for PostgresStore {
    async fn change_password(
        &self,
        user_id: &str,
        from: &str,
        to: &str,
        keep: Option<&str>,
        now: u64,
    ) -> Result<PasswordChange, StoreError> {
        if !may_be_stored(user_id) {
            return Ok(PasswordChange::Stale);
        }
        let mut tx = self.write().await?;
        if lock(&mut tx, user_id).await?.as_deref() != Some(from) {
            return Ok(PasswordChange::Stale);
        }
        let ended = set(&mut tx, user_id, to, keep, now).await?;
        self.commit(tx).await?;
        Ok(PasswordChange::Done(ended))
    }

    async fn add_reset(
        &self,
        user_id: &str,
        token_hash: &[u8; 32],
        expires: u64,
    ) -> Result<(), StoreError> {
        let add = query(sql::ADD_RESET)
            .bind(&token_hash[..])
            .bind(user_id)
            .bind(int(expires));
        self.run(add).await.map(drop)
    }

    async fn reset(&self, token_hash: &[u8; 32]) -> Result<Option<Reset>, StoreError> {
        let row: Option<ResetRow> = self
            .first(query_as(sql::RESET).bind(&token_hash[..]))
            .await?;
        row.map(reset).transpose()
    }

    async fn redeem_reset(
        &self,
        token_hash: &[u8; 32],
        password_hash: &str,
        now: u64,
    ) -> Result<Redeemed, StoreError> {
        let mut tx = self.write().await?;
        let find = || query_as(sql::RESET).bind(&token_hash[..]);
        let row: Option<ResetRow> = tx.first(find()).await?;
        let Some(found) = row.map(reset).transpose()? else {
            return Ok(Redeemed::Unknown);
        };
        lock(&mut tx, &found.user_id).await?;
        // Whoever had the lock before may have used it.
        let row: Option<ResetRow> = tx.first(find()).await?;
        let token = row.map(reset).transpose()?;
        let Some(token) = token.filter(|token| token.used_at.is_none() && token.expires_at > now)
        else {
            return Ok(Redeemed::Gone);
        };
        let logins = set(&mut tx, &token.user_id, password_hash, None, now).await?;
        self.commit(tx).await?;
        Ok(Redeemed::Done {
            user_id: token.user_id,
            logins,
        })
    }
}

/// The hash of a user's password, which stays until the transaction ends, as does the number of logins.
async fn lock(tx: &mut Tx, user_id: &str) -> Result<Option<String>, StoreError> {
    let row: Option<(String,)> = tx.first(query_as(sql::LOCK_USER).bind(user_id)).await?;
    Ok(row.map(|(hash,)| hash))
}

/// Sets a password with all that follows from it; the login sessions that ended.
async fn set(
    tx: &mut Tx,
    user_id: &str,
    hash: &str,
    keep: Option<&str>,
    now: u64,
) -> Result<Vec<String>, StoreError> {
    tx.run(query(sql::SET_PASSWORD).bind(user_id).bind(hash))
        .await?;
    tx.run(query(sql::USE_RESETS_OF).bind(user_id).bind(int(now)))
        .await?;
    revoke_all(tx, user_id, keep, now).await
}

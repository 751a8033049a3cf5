//! Invitations in SQLite.
//!
//! Who may be let in is decided by `invitations::refusal`, here in the transaction that lets them in.

use async_trait::async_trait;
use protocol::Event;

use super::events::put_events;
use super::projects::{disown, note_member, put_member, role_in};
use super::users::insert_user;
use super::{SqliteStore, int, sql, store_error};
use crate::store::invitations::{count, refusal};
use crate::store::projects::stored_role;
use crate::store::{Accepted, Invitation, Invitations, Joining, StoreError};

type Row = (
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    String,
    u64,
    u64,
);

fn invitation(row: Row) -> Result<Invitation, StoreError> {
    let (id, project_id, role, login, uses, used, inviter_id, created_at, expires_at) = row;
    Ok(Invitation {
        id,
        project_id,
        role: stored_role(&role)?,
        login,
        uses: count(uses)?,
        used: count(used)?,
        inviter_id,
        created_at,
        expires_at,
    })
}

#[async_trait]
impl Invitations for SqliteStore {
    async fn add_invitation(
        &self,
        invitation: &Invitation,
        token_hash: &[u8; 32],
        most: u32,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let there: u32 = sqlx::query_scalar(sql::COUNT_INVITATIONS)
            .bind(&invitation.project_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(store_error)?;
        if there >= most {
            return Ok(false);
        }
        sqlx::query(sql::ADD_INVITATION)
            .bind(&invitation.id)
            .bind(&invitation.project_id)
            .bind(&token_hash[..])
            .bind(invitation.role.as_str())
            .bind(&invitation.login)
            .bind(invitation.uses)
            .bind(&invitation.inviter_id)
            .bind(int(invitation.created_at))
            .bind(int(invitation.expires_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn invitations(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(sql::INVITATIONS)
            .bind(project_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(invitation).collect()
    }

    async fn invitation(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError> {
        let row: Option<Row> = sqlx::query_as(sql::INVITATION)
            .bind(&token_hash[..])
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        row.map(invitation).transpose()
    }

    async fn drop_invitation(&self, project_id: &str, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::DROP_INVITATION)
            .bind(project_id)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected() > 0)
    }

    async fn accept_invitation(
        &self,
        token_hash: &[u8; 32],
        who: Joining<'_>,
        now: u64,
        events: &[Event],
    ) -> Result<Accepted, StoreError> {
        type User = (String, String, String, String, u64);
        let mut tx = self.write().await?;
        let row: Option<Row> = sqlx::query_as(sql::INVITATION)
            .bind(&token_hash[..])
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(invitation) = row.map(invitation).transpose()? else {
            return Ok(Accepted::Unknown);
        };
        let (user_id, login) = match who {
            Joining::New(user) => {
                insert_user(&mut tx, user).await?;
                (user.id.clone(), user.login.clone())
            }
            Joining::User(id) => {
                let user: Option<User> = sqlx::query_as(sql::USER)
                    .bind(id)
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(store_error)?;
                let user = user.map(|(id, login, ..)| (id, login));
                user.ok_or(StoreError::Conflict("there is no such user"))?
            }
        };
        let project = &invitation.project_id;
        let before = role_in(&mut tx, project, &user_id).await?;
        let inviter = role_in(&mut tx, project, &invitation.inviter_id).await?;
        if let Some(refused) = refusal(&invitation, &login, before, inviter, now) {
            return Ok(refused);
        }
        sqlx::query(sql::USE_INVITATION)
            .bind(&invitation.id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        disown(&mut tx, project, &user_id).await?;
        put_member(&mut tx, project, &user_id, invitation.role, now).await?;
        note_member(&mut tx, project, &user_id, Some(invitation.role)).await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(Accepted::Joined(before))
    }
}

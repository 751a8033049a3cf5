//! Invitations in PostgreSQL: accepted, as members change, under the lock of their project's row.
//!
//! Who may be let in is decided by `invitations::refusal`, here in the transaction that lets them in.

use async_trait::async_trait;
use protocol::Event;
use sqlx::{query, query_as};

use super::events::put_events;
use super::projects::{disown, lock, note_member, put_member, role_in};
use super::tx::Tx;
use super::users::add_user;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::invitations::{count, refusal};
use crate::store::projects::stored_role;
use crate::store::{Accepted, Invitation, Invitations, Joining, StoreError};

type InvitationRow = (
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    String,
    i64,
    i64,
);

fn invitation(row: InvitationRow) -> Result<Invitation, StoreError> {
    let (id, project_id, role, login, uses, used, inviter_id, created_at, expires_at) = row;
    Ok(Invitation {
        id,
        project_id,
        role: stored_role(&role)?,
        login,
        uses: count(uses)?,
        used: count(used)?,
        inviter_id,
        created_at: number(created_at)?,
        expires_at: number(expires_at)?,
    })
}

#[async_trait]
impl Invitations for PostgresStore {
    async fn add_invitation(
        &self,
        invitation: &Invitation,
        token_hash: &[u8; 32],
        most: u32,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if !lock(&mut tx, &invitation.project_id).await? {
            return Err(StoreError::Conflict("there is no such project"));
        }
        let there = query_as(sql::COUNT_INVITATIONS).bind(&invitation.project_id);
        let there: Option<(i64,)> = tx.first(there).await?;
        if there.is_some_and(|(there,)| there >= i64::from(most)) {
            return Ok(false);
        }
        let add = query(sql::ADD_INVITATION)
            .bind(&invitation.id)
            .bind(&invitation.project_id)
            .bind(&token_hash[..])
            .bind(invitation.role.as_str())
            .bind(&invitation.login)
            .bind(i64::from(invitation.uses))
            .bind(&invitation.inviter_id)
            .bind(int(invitation.created_at))
            .bind(int(invitation.expires_at));
        tx.run(add).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn invitations(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        if !may_be_stored(project_id) || !may_be_stored(after) {
            return Ok(Vec::new());
        }
        let rows = query_as(sql::INVITATIONS)
            .bind(project_id)
            .bind(after)
            .bind(i64::from(limit));
        let rows: Vec<InvitationRow> = self.all(rows).await?;
        rows.into_iter().map(invitation).collect()
    }

    async fn invitation(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError> {
        let row = query_as(sql::INVITATION).bind(&token_hash[..]);
        self.first(row).await?.map(invitation).transpose()
    }

    async fn drop_invitation(&self, project_id: &str, id: &str) -> Result<bool, StoreError> {
        if !may_be_stored(project_id) || !may_be_stored(id) {
            return Ok(false);
        }
        let drop = query(sql::DROP_INVITATION).bind(project_id).bind(id);
        Ok(self.run(drop).await? > 0)
    }

    async fn accept_invitation(
        &self,
        token_hash: &[u8; 32],
        who: Joining<'_>,
        now: u64,
        events: &[Event],
    ) -> Result<Accepted, StoreError> {
        let mut tx = self.write().await?;
        let find = || query_as(sql::INVITATION).bind(&token_hash[..]);
        let found: Option<InvitationRow> = tx.first(find()).await?;
        let Some(found) = found.map(invitation).transpose()? else {
            return Ok(Accepted::Unknown);
        };
        let (user_id, login) = join(&mut tx, who).await?;
        lock(&mut tx, &found.project_id).await?;
        // Whoever had the lock before may have used or withdrawn it.
        let found: Option<InvitationRow> = tx.first(find()).await?;
        let Some(invitation) = found.map(invitation).transpose()? else {
            return Ok(Accepted::Unknown);
        };
        let project = &invitation.project_id;
        let before = role_in(&mut tx, project, &user_id).await?;
        let inviter = role_in(&mut tx, project, &invitation.inviter_id).await?;
        if let Some(refused) = refusal(&invitation, &login, before, inviter, now) {
            return Ok(refused);
        }
        let used = query(sql::USE_INVITATION).bind(&invitation.id);
        if tx.run(used).await? == 0 {
            // It was withdrawn meanwhile, which takes no lock of the project.
            return Ok(Accepted::Unknown);
        }
        disown(&mut tx, project, &user_id).await?;
        put_member(&mut tx, project, &user_id, invitation.role, now).await?;
        put_events(&mut tx, events).await?;
        note_member(&mut tx, project, &user_id, Some(invitation.role)).await?;
        self.commit(tx).await?;
        Ok(Accepted::Joined(before))
    }
}

/// The id and login of whoever joins, added if they are new.
async fn join(tx: &mut Tx, who: Joining<'_>) -> Result<(String, String), StoreError> {
    type UserRow = (String, String, String, String, i64);
    match who {
        Joining::New(user) => {
            tx.run(add_user(user)).await?;
            Ok((user.id.clone(), user.login.clone()))
        }
        Joining::User(id) => {
            let missing = StoreError::Conflict("there is no such user");
            if !may_be_stored(id) {
                return Err(missing);
            }
            let user: Option<UserRow> = tx.first(query_as(sql::USER).bind(id)).await?;
            user.map(|(id, login, ..)| (id, login)).ok_or(missing)
        }
    }
}

//! Whom outside issuers vouch for, in SQLite.
//!
//! Owns which login session a token belongs to. How a granted role and one given by hand meet is
//! `store::identities`'.

use async_trait::async_trait;
use protocol::Role;
use sqlx::{Sqlite, Transaction};

use super::events::put_events;
use super::projects::{drop_member, has_other_owner, note_member, put_member, role_in};
use super::{SqliteStore, int, sql, store_error};
use crate::store::identities::{Grant, Settled, Tell, grants_of, settle};
use crate::store::projects::stored_role;
use crate::store::{
    Entrance, Identities, Identity, LoginSession, OutsideLogin, Outsider, StoreError, User,
};

type OutsiderRow = (
    String,
    String,
    u64,
    u64,
    Option<String>,
    Option<u64>,
    Option<u64>,
    String,
);
type LoginRow = (String, String, u64, Option<u64>, u64);

#[async_trait]
impl Identities for SqliteStore {
    async fn outsider(
        &self,
        identity: &Identity,
        session: &str,
    ) -> Result<Option<Outsider>, StoreError> {
        let row: Option<OutsiderRow> = sqlx::query_as(sql::OUTSIDER)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(session)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        let Some((user_id, name, claims_at, refused_until, login, revoked_at, seen, grants)) = row
        else {
            return Ok(None);
        };
        Ok(Some(Outsider {
            user_id,
            name,
            claims_at,
            refused_until,
            login: login.map(|id| OutsideLogin {
                id,
                revoked_at,
                seen_until: seen.unwrap_or_default(),
            }),
            grants: grants_of(&grants)?,
        }))
    }

    async fn add_identity(&self, identity: &Identity, user: &User) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        let known: Option<String> = sqlx::query_scalar(sql::USER_OF_IDENTITY)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if let Some(known) = known {
            return Ok(known);
        }
        sqlx::query(sql::ADD_USER)
            .bind(&user.id)
            .bind(&user.login)
            .bind(user.login.to_lowercase())
            .bind(&user.name)
            .bind(&user.password_hash)
            .bind(int(user.created_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        sqlx::query(sql::ADD_IDENTITY)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(&user.id)
            .bind(int(user.created_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(user.id.clone())
    }

    async fn let_in(
        &self,
        entrance: &Entrance,
        now: u64,
    ) -> Result<Option<LoginSession>, StoreError> {
        let mut tx = self.write().await?;
        let (_, refused_until) = identity_of(&mut tx, &entrance.user_id).await?;
        if entrance.is_refused(refused_until) {
            return Ok(None);
        }
        let row: Option<LoginRow> = sqlx::query_as(sql::OUTSIDE_LOGIN)
            .bind(&entrance.user_id)
            .bind(&entrance.session)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let (standing, refused_until) = match row {
            Some((id, user_id, created_at, revoked_at, refused_until)) => {
                let refused_until = refused_until.max(revoked_at.unwrap_or_default());
                let login = LoginSession {
                    id,
                    user_id,
                    created_at,
                    revoked_at,
                    user_agent: None,
                    address: None,
                    refreshed_at: Some(now),
                };
                (revoked_at.is_none().then_some(login), refused_until)
            }
            None => (None, 0),
        };
        if entrance.is_refused(refused_until) {
            return Ok(None);
        }
        let login = match standing {
            Some(login) => {
                // Lists of logins show those that were used lately.
                sqlx::query(sql::TOUCH_LOGIN)
                    .bind(&login.id)
                    .bind(int(now))
                    .execute(&mut *tx)
                    .await
                    .map_err(store_error)?;
                login
            }
            None => open(&mut tx, entrance, now).await?,
        };
        sqlx::query(sql::PUT_OUTSIDE_LOGIN)
            .bind(&entrance.user_id)
            .bind(&entrance.session)
            .bind(&login.id)
            .bind(int(refused_until))
            .bind(int(entrance.expires_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        sqlx::query(sql::SEE_CLAIMS)
            .bind(&entrance.user_id)
            .bind(int(entrance.issued_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(Some(login))
    }

    async fn follow_name(
        &self,
        user_id: &str,
        name: &str,
        issued_at: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let (claims_at, _) = identity_of(&mut tx, user_id).await?;
        if claims_at > issued_at {
            return Ok(false);
        }
        sqlx::query(sql::NAME_USER)
            .bind(user_id)
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn settle_grant(
        &self,
        user_id: &str,
        project_id: &str,
        wanted: Option<Role>,
        issued_at: u64,
        now: u64,
        tell: Tell<'_>,
    ) -> Result<Settled, StoreError> {
        let mut tx = self.write().await?;
        let (claims_at, _) = identity_of(&mut tx, user_id).await?;
        if claims_at > issued_at {
            return Ok(Settled::Outdated);
        }
        let project: Option<(String, String, u64)> = sqlx::query_as(sql::PROJECT)
            .bind(project_id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if project.is_none() {
            return Ok(Settled::NoProject);
        }
        let before = role_in(&mut tx, project_id, user_id).await?;
        let grant = grant_in(&mut tx, project_id, user_id).await?;
        let outcome = settle(before, grant, wanted);
        let loses_owner = before == Some(Role::Owner) && outcome.role != before;
        if loses_owner && !has_other_owner(&mut tx, project_id, user_id).await? {
            return Ok(Settled::LastOwner);
        }
        put_grant(&mut tx, project_id, user_id, outcome.grant).await?;
        if outcome.role == before {
            tx.commit().await.map_err(store_error)?;
            return Ok(Settled::Kept);
        }
        match outcome.role {
            Some(role) => put_member(&mut tx, project_id, user_id, role, now).await?,
            None => drop_member(&mut tx, project_id, user_id).await?,
        }
        note_member(&mut tx, project_id, user_id, outcome.role).await?;
        put_events(&mut tx, &[tell(before, outcome.role)]).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(Settled::Changed(outcome.role))
    }
}

/// Of whom the user stands for: when the newest claims were issued, and until when tokens are refused.
async fn identity_of(
    tx: &mut Transaction<'static, Sqlite>,
    user_id: &str,
) -> Result<(u64, u64), StoreError> {
    sqlx::query_as(sql::IDENTITY_OF)
        .bind(user_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?
        .ok_or(StoreError::NotFound)
}

/// Opens a login session for a token.
async fn open(
    tx: &mut Transaction<'static, Sqlite>,
    entrance: &Entrance,
    now: u64,
) -> Result<LoginSession, StoreError> {
    let login = LoginSession {
        id: entrance.new_login.clone(),
        user_id: entrance.user_id.clone(),
        created_at: now,
        revoked_at: None,
        user_agent: None,
        address: None,
        refreshed_at: None,
    };
    sqlx::query(sql::ADD_LOGIN)
        .bind(&login.id)
        .bind(&login.user_id)
        .bind(int(login.created_at))
        .bind(None::<i64>)
        .bind(None::<String>)
        .bind(None::<String>)
        .bind(None::<i64>)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(login)
}

async fn grant_in(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
) -> Result<Option<Grant>, StoreError> {
    let row: Option<(String, Option<String>, bool)> = sqlx::query_as(sql::GRANT)
        .bind(user_id)
        .bind(project_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    let Some((role, base, mine)) = row else {
        return Ok(None);
    };
    Ok(Some(Grant {
        role: stored_role(&role)?,
        base: base.as_deref().map(stored_role).transpose()?,
        mine,
    }))
}

async fn put_grant(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
    grant: Option<Grant>,
) -> Result<(), StoreError> {
    let query = match grant {
        Some(grant) => sqlx::query(sql::PUT_GRANT)
            .bind(user_id)
            .bind(project_id)
            .bind(grant.role.as_str())
            .bind(grant.base.map(Role::as_str))
            .bind(grant.mine),
        None => sqlx::query(sql::DROP_GRANT).bind(user_id).bind(project_id),
    };
    query.execute(&mut **tx).await.map_err(store_error)?;
    Ok(())
}

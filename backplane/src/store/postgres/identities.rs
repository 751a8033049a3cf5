//! Whom outside issuers vouch for, in PostgreSQL.
//!
//! Owns which login session a token belongs to. A subject's tokens come in under the lock of its row, which
//! is taken before every other. How a granted role and one given by hand meet is `store::identities`'.

use async_trait::async_trait;
use protocol::Role;
use sqlx::{query, query_as};

use super::events::put_events;
use super::projects::{drop_member, has_other_owner, lock, note_member, put_member, role_in};
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::identities::{Grant, Settled, Tell, grants_of, settle};
use crate::store::projects::stored_role;
use crate::store::{
    Entrance, Identities, Identity, LoginSession, OutsideLogin, Outsider, StoreError, User,
};

type OutsiderRow = (
    String,
    String,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    String,
);
type LoginRow = (String, String, i64, Option<i64>, i64);

#[async_trait]
impl Identities for PostgresStore {
    async fn outsider(
        &self,
        identity: &Identity,
        session: &str,
    ) -> Result<Option<Outsider>, StoreError> {
        if !may_be_stored(&identity.subject) {
            return Ok(None);
        }
        let row = query_as(sql::OUTSIDER)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(session);
        let row: Option<OutsiderRow> = self.first(row).await?;
        let Some((user_id, name, claims_at, refused_until, login, revoked_at, seen, grants)) = row
        else {
            return Ok(None);
        };
        let login = match login {
            Some(id) => Some(OutsideLogin {
                id,
                revoked_at: revoked_at.map(number).transpose()?,
                seen_until: number(seen.unwrap_or_default())?,
            }),
            None => None,
        };
        Ok(Some(Outsider {
            user_id,
            name,
            claims_at: number(claims_at)?,
            refused_until: number(refused_until)?,
            login,
            grants: grants_of(&grants)?,
        }))
    }

    async fn add_identity(&self, identity: &Identity, user: &User) -> Result<String, StoreError> {
        if let Some(known) = self.user_of(identity).await? {
            return Ok(known);
        }
        let mut tx = self.write().await?;
        let add = query(sql::ADD_USER)
            .bind(&user.id)
            .bind(&user.login)
            .bind(user.login.to_lowercase())
            .bind(&user.name)
            .bind(&user.password_hash)
            .bind(int(user.created_at));
        match tx.run(add).await {
            Ok(_) => {}
            // Whoever has the login may be who was quicker with the identity.
            Err(conflict @ StoreError::Conflict(_)) => {
                drop(tx);
                return self.user_of(identity).await?.ok_or(conflict);
            }
            Err(other) => return Err(other),
        }
        let add = query(sql::ADD_IDENTITY)
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(&user.id)
            .bind(int(user.created_at));
        if tx.run(add).await? == 0 {
            drop(tx);
            return self.user_of(identity).await?.ok_or(StoreError::NotFound);
        }
        self.commit(tx).await?;
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
        let row = query_as(sql::OUTSIDE_LOGIN)
            .bind(&entrance.user_id)
            .bind(&entrance.session);
        let row: Option<LoginRow> = tx.first(row).await?;
        let (standing, refused_until) = match row {
            Some((id, user_id, created_at, revoked_at, refused_until)) => {
                let revoked_at = revoked_at.map(number).transpose()?;
                let refused_until = number(refused_until)?.max(revoked_at.unwrap_or_default());
                let login = LoginSession {
                    id,
                    user_id,
                    created_at: number(created_at)?,
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
                let touch = query(sql::TOUCH_LOGIN).bind(&login.id).bind(int(now));
                tx.run(touch).await?;
                login
            }
            None => open(&mut tx, entrance, now).await?,
        };
        let put = query(sql::PUT_OUTSIDE_LOGIN)
            .bind(&entrance.user_id)
            .bind(&entrance.session)
            .bind(&login.id)
            .bind(int(refused_until))
            .bind(int(entrance.expires_at));
        tx.run(put).await?;
        let see = query(sql::SEE_CLAIMS)
            .bind(&entrance.user_id)
            .bind(int(entrance.issued_at));
        tx.run(see).await?;
        self.commit(tx).await?;
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
        tx.run(query(sql::NAME_USER).bind(user_id).bind(name))
            .await?;
        self.commit(tx).await?;
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
        if !lock(&mut tx, project_id).await? {
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
            self.commit(tx).await?;
            return Ok(Settled::Kept);
        }
        match outcome.role {
            Some(role) => put_member(&mut tx, project_id, user_id, role, now).await?,
            None => drop_member(&mut tx, project_id, user_id).await?,
        }
        put_events(&mut tx, &[tell(before, outcome.role)]).await?;
        note_member(&mut tx, project_id, user_id, outcome.role).await?;
        self.commit(tx).await?;
        Ok(Settled::Changed(outcome.role))
    }
}

impl PostgresStore {
    async fn user_of(&self, identity: &Identity) -> Result<Option<String>, StoreError> {
        let row = query_as(sql::USER_OF_IDENTITY)
            .bind(&identity.issuer)
            .bind(&identity.subject);
        let row: Option<(String,)> = self.first(row).await?;
        Ok(row.map(|(id,)| id))
    }
}

/// Of whom the user stands for: when the newest claims were issued, and until when tokens are refused.
async fn identity_of(tx: &mut Tx, user_id: &str) -> Result<(u64, u64), StoreError> {
    let row: Option<(i64, i64)> = tx.first(query_as(sql::IDENTITY_OF).bind(user_id)).await?;
    let (claims_at, refused_until) = row.ok_or(StoreError::NotFound)?;
    Ok((number(claims_at)?, number(refused_until)?))
}

/// Opens a login session for a token.
async fn open(tx: &mut Tx, entrance: &Entrance, now: u64) -> Result<LoginSession, StoreError> {
    let login = LoginSession {
        id: entrance.new_login.clone(),
        user_id: entrance.user_id.clone(),
        created_at: now,
        revoked_at: None,
        user_agent: None,
        address: None,
        refreshed_at: None,
    };
    let add = query(sql::ADD_LOGIN)
        .bind(&login.id)
        .bind(&login.user_id)
        .bind(int(login.created_at))
        .bind(None::<i64>)
        .bind(None::<String>)
        .bind(None::<String>)
        .bind(None::<i64>);
    tx.run(add).await?;
    Ok(login)
}

async fn grant_in(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
) -> Result<Option<Grant>, StoreError> {
    let row = query_as(sql::GRANT).bind(user_id).bind(project_id);
    let row: Option<(String, Option<String>, bool)> = tx.first(row).await?;
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
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
    grant: Option<Grant>,
) -> Result<(), StoreError> {
    let query = match grant {
        Some(grant) => query(sql::PUT_GRANT)
            .bind(user_id)
            .bind(project_id)
            .bind(grant.role.as_str())
            .bind(grant.base.map(Role::as_str))
            .bind(grant.mine),
        None => query(sql::DROP_GRANT).bind(user_id).bind(project_id),
    };
    tx.run(query).await.map(drop)
}

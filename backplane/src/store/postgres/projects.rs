//! Projects and members in PostgreSQL.
//!
//! Owns the rule that a project keeps an owner: members change under the lock of their project's row.
//! Never decides what a role may do.

use std::time::Duration;

use async_trait::async_trait;
use protocol::{Event, Role};
use sqlx::{query, query_as};

use super::events::put_events;
use super::rights::note_change;
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number, sql};
use crate::store::projects::{MemberChange, stored_role};
use crate::store::{Change, Member, Project, Projects, StoreError};

/// How long the deletion of a project may take: it may hold documents and versions by the thousand.
const DELETION: Duration = Duration::from_secs(300);

fn project((id, name, created_at): (String, String, i64)) -> Result<Project, StoreError> {
    Ok(Project {
        id,
        name,
        created_at: number(created_at)?,
    })
}

#[async_trait]
impl Projects for PostgresStore {
    async fn add_project(
        &self,
        project: &Project,
        owner_id: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let add = query(sql::ADD_PROJECT)
            .bind(&project.id)
            .bind(&project.name)
            .bind(int(project.created_at));
        tx.run(add).await?;
        put_member(
            &mut tx,
            &project.id,
            owner_id,
            Role::Owner,
            project.created_at,
        )
        .await?;
        put_events(&mut tx, events).await?;
        self.commit(tx).await
    }

    async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        self.first(query_as(sql::PROJECT).bind(id))
            .await?
            .map(project)
            .transpose()
    }

    async fn delete_project(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        if !may_be_stored(id) {
            return Ok(false);
        }
        let mut tx = self.write().await?;
        tx.allow(DELETION).await?;
        let locked: Option<(String,)> =
            tx.first(query_as(sql::LOCK_PROJECT_WHOLE).bind(id)).await?;
        if locked.is_none() {
            return Ok(false);
        }
        tx.run(query(sql::LOCK_DOCUMENTS_OF).bind(id)).await?;
        let members: Vec<(String,)> = tx.all(query_as(sql::MEMBER_IDS).bind(id)).await?;
        tx.run(query(sql::DROP_PROJECT).bind(id)).await?;
        put_events(&mut tx, events).await?;
        let change = Change::Project {
            project: id.to_owned(),
            members: members.into_iter().map(|(id,)| id).collect(),
        };
        note_change(&mut tx, &change).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn projects_of(
        &self,
        user_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Role)>, StoreError> {
        let list = || {
            query_as(sql::PROJECTS_OF)
                .bind(user_id)
                .bind(after)
                .bind(i64::from(limit))
        };
        let rows: Vec<(String, String, i64, String)> = self.list(list).await?;
        rows.into_iter()
            .map(|(id, name, created_at, role)| {
                Ok((project((id, name, created_at))?, stored_role(&role)?))
            })
            .collect()
    }

    async fn role(&self, project_id: &str, user_id: &str) -> Result<Option<Role>, StoreError> {
        if !may_be_stored(project_id) || !may_be_stored(user_id) {
            return Ok(None);
        }
        let row = query_as(sql::ROLE).bind(project_id).bind(user_id);
        let row: Option<(String,)> = self.first(row).await?;
        row.map(|(name,)| stored_role(&name)).transpose()
    }

    async fn members(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        let list = || {
            query_as(sql::MEMBERS)
                .bind(project_id)
                .bind(after)
                .bind(i64::from(limit))
        };
        let rows: Vec<(String, String, String, String)> = self.list(list).await?;
        rows.into_iter()
            .map(|(user_id, login, name, role)| {
                Ok(Member {
                    user_id,
                    login,
                    name,
                    role: stored_role(&role)?,
                })
            })
            .collect()
    }

    async fn set_member(
        &self,
        project_id: &str,
        user_id: &str,
        role: Role,
        now: u64,
        events: &[Event],
    ) -> Result<MemberChange, StoreError> {
        let mut tx = self.write().await?;
        if !lock(&mut tx, project_id).await? {
            return Err(StoreError::Conflict("there is no such project"));
        }
        let before = role_in(&mut tx, project_id, user_id).await?;
        if before == Some(role) {
            if disown(&mut tx, project_id, user_id).await? {
                self.commit(tx).await?;
            }
            return Ok(MemberChange::Done(before));
        }
        if before == Some(Role::Owner) && !has_other_owner(&mut tx, project_id, user_id).await? {
            return Ok(MemberChange::LastOwner);
        }
        disown(&mut tx, project_id, user_id).await?;
        put_member(&mut tx, project_id, user_id, role, now).await?;
        put_events(&mut tx, events).await?;
        note_member(&mut tx, project_id, user_id, Some(role)).await?;
        self.commit(tx).await?;
        Ok(MemberChange::Done(before))
    }

    async fn remove_member(
        &self,
        project_id: &str,
        user_id: &str,
        events: &[Event],
    ) -> Result<MemberChange, StoreError> {
        if !may_be_stored(project_id) || !may_be_stored(user_id) {
            return Ok(MemberChange::NotMember);
        }
        let mut tx = self.write().await?;
        lock(&mut tx, project_id).await?;
        let Some(before) = role_in(&mut tx, project_id, user_id).await? else {
            return Ok(MemberChange::NotMember);
        };
        if before == Role::Owner && !has_other_owner(&mut tx, project_id, user_id).await? {
            return Ok(MemberChange::LastOwner);
        }
        drop_member(&mut tx, project_id, user_id).await?;
        disown(&mut tx, project_id, user_id).await?;
        put_events(&mut tx, events).await?;
        note_member(&mut tx, project_id, user_id, None).await?;
        self.commit(tx).await?;
        Ok(MemberChange::Done(Some(before)))
    }

    async fn project_of_plan(&self, plan_id: &str) -> Result<Option<String>, StoreError> {
        if !may_be_stored(plan_id) {
            return Ok(None);
        }
        let row: Option<(String,)> = self
            .first(query_as(sql::PROJECT_OF_PLAN).bind(plan_id))
            .await?;
        Ok(row.map(|(id,)| id))
    }
}

/// Whether there is such a project; its members stay as they are until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, project_id: &str) -> Result<bool, StoreError> {
    let row: Option<(String,)> = tx
        .first(query_as(sql::LOCK_PROJECT).bind(project_id))
        .await?;
    Ok(row.is_some())
}

pub(super) async fn role_in(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
) -> Result<Option<Role>, StoreError> {
    let row = query_as(sql::ROLE).bind(project_id).bind(user_id);
    let row: Option<(String,)> = tx.first(row).await?;
    row.map(|(name,)| stored_role(&name)).transpose()
}

pub(super) async fn has_other_owner(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
) -> Result<bool, StoreError> {
    let row = query_as(sql::OTHER_OWNER).bind(project_id).bind(user_id);
    let other: Option<(String,)> = tx.first(row).await?;
    Ok(other.is_some())
}

/// Takes a membership out of the hands of an outside issuer; whether it was in them.
pub(super) async fn disown(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
) -> Result<bool, StoreError> {
    let disown = query(sql::DISOWN_GRANT).bind(user_id).bind(project_id);
    Ok(tx.run(disown).await? > 0)
}

pub(super) async fn drop_member(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
) -> Result<(), StoreError> {
    let drop = query(sql::DROP_MEMBER).bind(project_id).bind(user_id);
    tx.run(drop).await.map(std::mem::drop)
}

pub(super) async fn put_member(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
    role: Role,
    now: u64,
) -> Result<(), StoreError> {
    let put = query(sql::PUT_MEMBER)
        .bind(project_id)
        .bind(user_id)
        .bind(role.as_str())
        .bind(int(now));
    tx.run(put).await.map(drop)
}

pub(super) async fn note_member(
    tx: &mut Tx,
    project_id: &str,
    user_id: &str,
    role: Option<Role>,
) -> Result<(), StoreError> {
    let change = Change::Member {
        project: project_id.to_owned(),
        user: user_id.to_owned(),
        role,
    };
    note_change(tx, &change).await
}

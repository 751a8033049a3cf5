//! Projects and members in SQLite.
//!
//! Owns the rule that a project keeps an owner. Never decides what a role may do.

use async_trait::async_trait;
use protocol::{Event, Role};
use sqlx::{Sqlite, Transaction};

use super::events::put_events;
use super::rights::note_change;
use super::{SqliteStore, int, sql, store_error};
use crate::store::projects::{MemberChange, stored_role};
use crate::store::{Change, Member, Project, Projects, StoreError};

#[async_trait]
impl Projects for SqliteStore {
    async fn add_project(
        &self,
        project: &Project,
        owner_id: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::ADD_PROJECT)
            .bind(&project.id)
            .bind(&project.name)
            .bind(int(project.created_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        put_member(
            &mut tx,
            &project.id,
            owner_id,
            Role::Owner,
            project.created_at,
        )
        .await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)
    }

    async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        let row: Option<(String, String, u64)> = sqlx::query_as(sql::PROJECT)
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        Ok(row.map(|(id, name, created_at)| Project {
            id,
            name,
            created_at,
        }))
    }

    async fn delete_project(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let members: Vec<String> = sqlx::query_scalar(sql::MEMBER_IDS)
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let done = sqlx::query(sql::DROP_PROJECT)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let project = id.to_owned();
        note_change(&mut tx, &Change::Project { project, members }).await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn projects_of(
        &self,
        user_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Role)>, StoreError> {
        let rows: Vec<(String, String, u64, String)> = sqlx::query_as(sql::PROJECTS_OF)
            .bind(user_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.into_iter()
            .map(|(id, name, created_at, role)| {
                Ok((
                    Project {
                        id,
                        name,
                        created_at,
                    },
                    stored_role(&role)?,
                ))
            })
            .collect()
    }

    async fn role(&self, project_id: &str, user_id: &str) -> Result<Option<Role>, StoreError> {
        let name: Option<String> = sqlx::query_scalar(sql::ROLE)
            .bind(project_id)
            .bind(user_id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)?;
        name.as_deref().map(stored_role).transpose()
    }

    async fn members(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        let rows: Vec<(String, String, String, String)> = sqlx::query_as(sql::MEMBERS)
            .bind(project_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
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
        let before = role_in(&mut tx, project_id, user_id).await?;
        if before == Some(Role::Owner)
            && role != Role::Owner
            && !has_other_owner(&mut tx, project_id, user_id).await?
        {
            return Ok(MemberChange::LastOwner);
        }
        let disowned = disown(&mut tx, project_id, user_id).await?;
        if before == Some(role) {
            if disowned {
                tx.commit().await.map_err(store_error)?;
            }
            return Ok(MemberChange::Done(before));
        }
        put_member(&mut tx, project_id, user_id, role, now).await?;
        note_member(&mut tx, project_id, user_id, Some(role)).await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(MemberChange::Done(before))
    }

    async fn remove_member(
        &self,
        project_id: &str,
        user_id: &str,
        events: &[Event],
    ) -> Result<MemberChange, StoreError> {
        let mut tx = self.write().await?;
        let Some(before) = role_in(&mut tx, project_id, user_id).await? else {
            return Ok(MemberChange::NotMember);
        };
        if before == Role::Owner && !has_other_owner(&mut tx, project_id, user_id).await? {
            return Ok(MemberChange::LastOwner);
        }
        drop_member(&mut tx, project_id, user_id).await?;
        disown(&mut tx, project_id, user_id).await?;
        note_member(&mut tx, project_id, user_id, None).await?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(MemberChange::Done(Some(before)))
    }

    async fn project_of_plan(&self, plan_id: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(sql::PROJECT_OF_PLAN)
            .bind(plan_id)
            .fetch_optional(&self.readers)
            .await
            .map_err(store_error)
    }
}

pub(super) async fn role_in(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
) -> Result<Option<Role>, StoreError> {
    let name: Option<String> = sqlx::query_scalar(sql::ROLE)
        .bind(project_id)
        .bind(user_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    name.as_deref().map(stored_role).transpose()
}

pub(super) async fn has_other_owner(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
) -> Result<bool, StoreError> {
    let other: Option<i64> = sqlx::query_scalar(sql::OTHER_OWNER)
        .bind(project_id)
        .bind(user_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(other.is_some())
}

pub(super) async fn note_member(
    tx: &mut Transaction<'static, Sqlite>,
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

/// Takes a membership out of the hands of an outside issuer; whether it was in them.
pub(super) async fn disown(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query(sql::DISOWN_GRANT)
        .bind(user_id)
        .bind(project_id)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn drop_member(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
) -> Result<(), StoreError> {
    sqlx::query(sql::DROP_MEMBER)
        .bind(project_id)
        .bind(user_id)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(super) async fn put_member(
    tx: &mut Transaction<'static, Sqlite>,
    project_id: &str,
    user_id: &str,
    role: Role,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(sql::PUT_MEMBER)
        .bind(project_id)
        .bind(user_id)
        .bind(role.as_str())
        .bind(int(now))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

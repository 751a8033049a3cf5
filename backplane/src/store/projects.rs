//! Projects and their members (`project_` tables).

use async_trait::async_trait;
use protocol::{Event, Role};

use super::StoreError;

/// A project: the border that nothing crosses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Short id chosen at creation: letters, digits and `-`; unique, never changes.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Created at.
    pub created_at: u64,
}

/// A user in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// User id.
    pub user_id: String,
    /// Login, for display.
    pub login: String,
    /// Display name.
    pub name: String,
    /// What they may.
    pub role: Role,
}

/// The role of that name, as a store has it.
pub(crate) fn stored_role(name: &str) -> Result<Role, StoreError> {
    Role::parse(name).ok_or_else(|| StoreError::Corrupt(format!("unknown role `{name}`")))
}

/// What became of a change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// Done; the role before, if there was one.
    Done(Option<Role>),
    /// Refused: the project would be left without an owner.
    LastOwner,
    /// The user was not a member (removal).
    NotMember,
}

/// Projects and who may what in them.
#[async_trait]
pub trait Projects {
    /// Adds a project with its first owner, and the events to the outbox, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the id is taken or the owner does not exist.
    async fn add_project(
        &self,
        project: &Project,
        owner_id: &str,
        events: &[Event],
    ) -> Result<(), StoreError>;

    /// The project of that id.
    async fn project(&self, id: &str) -> Result<Option<Project>, StoreError>;

    /// Deletes a project with all that is in it (documents, members, plans); `false` if it was not there,
    /// and then neither the events nor a change of rights are kept.
    async fn delete_project(&self, id: &str, events: &[Event]) -> Result<bool, StoreError>;

    /// The projects that a user is a member of, with the role, by id, after `after`, at most `limit`.
    async fn projects_of(
        &self,
        user_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Role)>, StoreError>;

    /// A user's role in a project; `None` if the project does not exist or the user is no member.
    /// Reads its own writes: what a finished `set_member` wrote is seen.
    async fn role(&self, project_id: &str, user_id: &str) -> Result<Option<Role>, StoreError>;

    /// The members of a project, by user id, after `after`, at most `limit`.
    async fn members(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError>;

    /// Adds a member or changes the role; never leaves the project without an owner. The events and
    /// a change of rights are kept if the role is another one than before. Whoever sets a role takes it out
    /// of the hands of an outside issuer that granted it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the project or user does not exist.
    async fn set_member(
        &self,
        project_id: &str,
        user_id: &str,
        role: Role,
        now: u64,
        events: &[Event],
    ) -> Result<MemberChange, StoreError>;

    /// Removes a member; never leaves the project without an owner. The events and a change of rights
    /// are kept if there was one to remove.
    async fn remove_member(
        &self,
        project_id: &str,
        user_id: &str,
        events: &[Event],
    ) -> Result<MemberChange, StoreError>;

    /// The project that a plan belongs to.
    async fn project_of_plan(&self, plan_id: &str) -> Result<Option<String>, StoreError>;
}

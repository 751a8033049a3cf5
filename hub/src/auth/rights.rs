//! Rights in projects: the check, the changes, and their announcement.
//!
//! Owns [`RightsChange`] and the order of changes: each is checked, committed and announced under
//! one lock, so that whoever listens hears them in the order in which they took effect, and nobody
//! acts on a right that was taken a moment before. Never closes a session: it tells those who do.

use std::sync::Arc;

use backplane::store::projects::MemberChange;
use backplane::store::{Document, StoreError};
use protocol::Role;
use tokio::sync::broadcast;

use super::rbac::{Operation, allows};
use super::{Auth, AuthError, Principal, to_the_end};
use crate::now_ms;

/// A right that changed, after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RightsChange {
    /// A login session ended.
    Login {
        /// Its id.
        sid: Arc<str>,
    },
    /// Every login session of a user ended.
    User {
        /// The user's id.
        user: Arc<str>,
    },
    /// A member has another role now.
    Member {
        /// The project.
        project: Arc<str>,
        /// The user's id.
        user: Arc<str>,
        /// The role; `None`: no longer a member.
        role: Option<Role>,
    },
    /// A project was deleted, with all that was in it.
    Project {
        /// The project.
        project: Arc<str>,
        /// The ids of those who were its members.
        members: Arc<[Arc<str>]>,
    },
    /// A document was deleted.
    Document {
        /// The document's id.
        id: Arc<str>,
        /// The project that it was in.
        project: Arc<str>,
    },
}

impl Auth {
    /// Hears every change of rights from now on. A listener that lags behind checks all it holds anew.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<RightsChange> {
        self.changes.subscribe()
    }

    pub(super) fn announce(&self, change: RightsChange) {
        tracing::debug!(?change, "rights changed");
        // It fails only when nobody listens.
        let _ = self.changes.send(change);
    }

    /// The user's role in the project, if it allows the operation.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] for those who are no members (so that nobody learns which projects
    /// exist), [`AuthError::Forbidden`] for members whose role is too weak.
    pub async fn authorize(
        &self,
        user: &str,
        project: &str,
        operation: Operation,
    ) -> Result<Role, AuthError> {
        let role = self
            .store
            .role(project, user)
            .await?
            .ok_or(AuthError::NotFound)?;
        if allows(role, operation) {
            Ok(role)
        } else {
            Err(AuthError::Forbidden)
        }
    }

    /// The document, if the user may do that with it.
    ///
    /// # Errors
    /// As [`Auth::authorize`]; a document that is not there is not found either.
    pub async fn authorize_document(
        &self,
        user: &str,
        id: &str,
        operation: Operation,
    ) -> Result<(Document, Role), AuthError> {
        let document = self.store.document(id).await?.ok_or(AuthError::NotFound)?;
        let role = self
            .authorize(user, &document.project_id, operation)
            .await?;
        Ok((document, role))
    }

    /// Adds a member or changes the role.
    ///
    /// # Errors
    /// The caller may not, there is no such user, or the project would lose its last owner.
    pub async fn set_member(
        self: &Arc<Self>,
        caller: &Principal,
        project: &str,
        user: &str,
        role: Role,
    ) -> Result<(), AuthError> {
        let (auth, caller) = (self.clone(), caller.clone());
        let (project, user) = (Arc::<str>::from(project), Arc::<str>::from(user));
        to_the_end(async move {
            let _order = auth.order.lock().await;
            auth.authorize(&caller.user, &project, Operation::ManageMembers)
                .await?;
            match auth.store.set_member(&project, &user, role, now_ms()).await {
                Ok(MemberChange::Done(before)) => {
                    if before != Some(role) {
                        auth.announce(RightsChange::Member {
                            project,
                            user,
                            role: Some(role),
                        });
                    }
                    Ok(())
                }
                Ok(MemberChange::LastOwner) => Err(AuthError::LastOwner),
                Ok(MemberChange::NotMember) | Err(StoreError::Conflict(_)) => {
                    Err(AuthError::NotFound)
                }
                Err(other) => Err(other.into()),
            }
        })
        .await
    }

    /// Removes a member. Everybody may leave by themself.
    ///
    /// # Errors
    /// The caller may not, the user is no member, or the project would lose its last owner.
    pub async fn remove_member(
        self: &Arc<Self>,
        caller: &Principal,
        project: &str,
        user: &str,
    ) -> Result<(), AuthError> {
        let (auth, caller) = (self.clone(), caller.clone());
        let (project, user) = (Arc::<str>::from(project), Arc::<str>::from(user));
        to_the_end(async move {
            let _order = auth.order.lock().await;
            let leaves = caller.user == user;
            let operation = if leaves {
                Operation::ReadProject
            } else {
                Operation::ManageMembers
            };
            auth.authorize(&caller.user, &project, operation).await?;
            match auth.store.remove_member(&project, &user).await? {
                MemberChange::Done(_) => {
                    auth.announce(RightsChange::Member {
                        project,
                        user,
                        role: None,
                    });
                    Ok(())
                }
                MemberChange::LastOwner => Err(AuthError::LastOwner),
                MemberChange::NotMember => Err(AuthError::NotFound),
            }
        })
        .await
    }

    /// Deletes a project with all that is in it.
    ///
    /// # Errors
    /// The caller may not, or it is gone already.
    pub async fn delete_project(
        self: &Arc<Self>,
        caller: &Principal,
        project: &str,
    ) -> Result<(), AuthError> {
        let (auth, caller, project) = (self.clone(), caller.clone(), Arc::<str>::from(project));
        to_the_end(async move {
            let _order = auth.order.lock().await;
            auth.authorize(&caller.user, &project, Operation::DeleteProject)
                .await?;
            let members = auth.all_members(&project).await?;
            if !auth.store.delete_project(&project).await? {
                return Err(AuthError::NotFound);
            }
            auth.announce(RightsChange::Project { project, members });
            Ok(())
        })
        .await
    }

    async fn all_members(&self, project: &str) -> Result<Arc<[Arc<str>]>, AuthError> {
        const PAGE: u32 = 500;
        let mut ids: Vec<Arc<str>> = Vec::new();
        loop {
            let after = ids.last().cloned().unwrap_or_default();
            let page = self.store.members(project, &after, PAGE).await?;
            let last = page.len() < PAGE as usize;
            ids.extend(page.into_iter().map(|member| member.user_id.into()));
            if last {
                return Ok(ids.into());
            }
        }
    }

    /// Deletes a document with its versions.
    ///
    /// # Errors
    /// The caller may not, or it is gone already.
    pub async fn delete_document(
        self: &Arc<Self>,
        caller: &Principal,
        id: &str,
    ) -> Result<(), AuthError> {
        let (auth, caller, id) = (self.clone(), caller.clone(), Arc::<str>::from(id));
        to_the_end(async move {
            let _order = auth.order.lock().await;
            let operation = Operation::DeleteDocument;
            let (document, _) = auth
                .authorize_document(&caller.user, &id, operation)
                .await?;
            if !auth.store.delete_document(&id).await? {
                return Err(AuthError::NotFound);
            }
            let project = document.project_id.into();
            auth.announce(RightsChange::Document { id, project });
            Ok(())
        })
        .await
    }
}

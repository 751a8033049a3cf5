//! Rights in projects: the check, the changes, and their announcement.
//!
//! Owns the order of the changes that are made here: each is checked, committed and announced under
//! one lock, so that whoever listens hears them in the order in which they took effect, and nobody
//! acts on a right that was taken a moment before; and the one check that everything which outlives a
//! request makes after a change ([`Auth::recheck`]). Never closes a session: it tells those who do.

use std::sync::Arc;
use std::time::Instant;

pub use backplane::store::Change as RightsChange;
use backplane::store::projects::MemberChange;
use backplane::store::{Document, Settled, StoreError};
use protocol::Role;
use tokio::sync::broadcast;

use super::outside::Wanted;
use super::rbac::{Operation, allows};
use super::{Auth, AuthError, Principal, to_the_end};
use crate::error::ApiError;
use crate::events;
use crate::now_ms;

/// What those who keep a right are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The change, after its commit; `None`: changes were missed, and everything is to be checked anew.
    pub change: Option<RightsChange>,
    /// The change is not older than this: what it takes is refused [`super::watch::PATIENCE`] later at
    /// the latest.
    pub since: Instant,
}

/// What is left of a right that was given before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it.
    Allowed,
    /// Reading, no longer changing.
    Lowered,
    /// Nothing; why, for a person.
    Gone(&'static str),
}

impl Verdict {
    /// What an answer about reading says of the right to do `changes` as well.
    ///
    /// # Errors
    /// The store failed: nobody knows.
    pub fn of(answer: Result<Role, ApiError>, changes: Operation) -> Result<Self, ApiError> {
        match answer {
            Ok(role) if allows(role, changes) => Ok(Self::Allowed),
            Ok(_) => Ok(Self::Lowered),
            Err(error) if error.is_refusal() => {
                Ok(Self::Gone("you are no longer a member of the project"))
            }
            Err(error) => Err(error),
        }
    }
}

impl Auth {
    /// Hears every change of rights from now on. A listener that lags behind checks all it holds anew.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<News> {
        self.changes.subscribe()
    }

    /// Tells a change that was made here a moment ago, on this node at once, the others by a hint.
    pub(super) fn announce(&self, change: RightsChange) {
        self.freshness.hint();
        self.tell(News {
            change: Some(change),
            since: Instant::now(),
        });
    }

    /// Tells a change that was read from the store.
    pub(super) fn take_in(&self, change: RightsChange, since: Instant) {
        if let RightsChange::Login { sid } = &change {
            self.logins.note_revoked(&sid.as_str().into(), now_ms());
        }
        self.tell(News {
            change: Some(change),
            since,
        });
    }

    pub(super) fn tell(&self, news: News) {
        tracing::debug!(change = ?news.change, "rights changed");
        // It fails only when nobody listens.
        let _ = self.changes.send(news);
    }

    /// Whether rights that were read before may still be gone by: this node would have heard of a
    /// change within the last second. While it is `false` nothing is written on the strength of them.
    #[must_use]
    pub fn writes_allowed(&self) -> bool {
        self.freshness.holds()
    }

    /// [`Auth::writes_allowed`] as an answer to whoever asked to write.
    ///
    /// # Errors
    /// [`AuthError::Unsure`].
    pub fn check_writes(&self) -> Result<(), AuthError> {
        if self.writes_allowed() {
            Ok(())
        } else {
            Err(AuthError::Unsure)
        }
    }

    /// What is left of somebody's right to read and edit the documents of a project: the check that
    /// everything which outlives a request makes after a change.
    ///
    /// # Errors
    /// The store failed: nobody knows, and rights that can't be checked are none.
    pub async fn recheck(&self, who: &Principal, project: &str) -> Result<Verdict, ApiError> {
        if !self.still_valid(who).await? {
            return Ok(Verdict::Gone("the login was revoked"));
        }
        self.recheck_project(&who.user, project).await
    }

    /// [`Auth::recheck`] for a user whose login was found to stand.
    ///
    /// # Errors
    /// As there.
    pub async fn recheck_project(&self, user: &str, project: &str) -> Result<Verdict, ApiError> {
        let role = self.authorize(user, project, Operation::ReadDocument).await;
        Verdict::of(role.map_err(ApiError::from), Operation::EditDocument)
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

    /// The user's role in the project.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] for those who are no members.
    pub async fn role_in(&self, user: &str, project: &str) -> Result<Role, AuthError> {
        let role = self.store.role(project, user).await?;
        role.ok_or(AuthError::NotFound)
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
            // For the event alone: what the store finds is what counts.
            let before = auth.store.role(&project, &user).await?;
            let told = [events::member_set(
                &project,
                &user,
                role,
                before,
                &caller.user,
            )];
            let set = auth
                .store
                .set_member(&project, &user, role, now_ms(), &told);
            match set.await {
                Ok(MemberChange::Done(before)) => {
                    if before != Some(role) {
                        auth.announce(RightsChange::Member {
                            project: project.to_string(),
                            user: user.to_string(),
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
            let told = [events::member_removed(&project, &user, &caller.user)];
            match auth.store.remove_member(&project, &user, &told).await? {
                MemberChange::Done(_) => {
                    auth.announce(RightsChange::Member {
                        project: project.to_string(),
                        user: user.to_string(),
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
            let told = [events::project_deleted(&project, &caller.user)];
            if !auth.store.delete_project(&project, &told).await? {
                return Err(AuthError::NotFound);
            }
            auth.announce(RightsChange::Project {
                project: project.to_string(),
                members,
            });
            Ok(())
        })
        .await
    }

    /// Brings the name and the memberships of somebody whom an outside issuer vouches for to what the claims
    /// of a token say. What can't be (there is no such project, it would lose its last owner) stays undone.
    ///
    /// # Errors
    /// The store failed; a part may be done.
    pub(super) async fn follow_claims(self: &Arc<Self>, wanted: Wanted) -> Result<(), AuthError> {
        let auth = self.clone();
        to_the_end(async move {
            let Wanted {
                user,
                name,
                grants,
                issued_ms,
            } = wanted;
            let _order = auth.order.lock().await;
            if let Some(name) = name {
                auth.store.follow_name(&user, &name, issued_ms).await?;
            }
            for (project, role) in grants {
                let tell = |before: Option<Role>, after: Option<Role>| match after {
                    Some(role) => events::member_set(&project, &user, role, before, &user),
                    None => events::member_removed(&project, &user, &user),
                };
                let settled = auth
                    .store
                    .settle_grant(&user, &project, role, issued_ms, now_ms(), &tell)
                    .await?;
                match settled {
                    Settled::Changed(role) => auth.announce(RightsChange::Member {
                        project,
                        user: user.to_string(),
                        role,
                    }),
                    Settled::Kept | Settled::Outdated => {}
                    Settled::NoProject => {
                        tracing::debug!(project, "claims grant a role in a project that is not there");
                    }
                    Settled::LastOwner => {
                        tracing::warn!(project, %user, "claims no longer grant a role, and it is kept: the last owner's");
                    }
                }
            }
            Ok(())
        })
        .await
    }

    async fn all_members(&self, project: &str) -> Result<Vec<String>, AuthError> {
        const PAGE: u32 = 500;
        let mut ids: Vec<String> = Vec::new();
        // A replica may lack one whom another node has added.
        let primary = Arc::clone(&self.store).on_primary();
        loop {
            let after = ids.last().cloned().unwrap_or_default();
            let page = primary.members(project, &after, PAGE).await?;
            let last = page.len() < PAGE as usize;
            ids.extend(page.into_iter().map(|member| member.user_id));
            if last {
                return Ok(ids);
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
            let told = [events::document_deleted(&document, &caller.user)];
            if !auth.store.delete_document(&id, &told).await? {
                return Err(AuthError::NotFound);
            }
            auth.announce(RightsChange::Document {
                id: id.to_string(),
                project: document.project_id,
            });
            Ok(())
        })
        .await
    }
}

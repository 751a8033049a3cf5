//! Invitations: made by owners, good for whoever has the token or for one login, a bounded number of times.
//!
//! Owns their bounds and the walk of an acceptance: it goes through the same order and the same announcement as
//! every change of members (`rights`). Who may be let in is decided in the store's transaction.

use std::sync::Arc;
use std::time::Duration;

use backplane::store::{Accepted, Invitation, Joining, StoreError, User};
use protocol::Role;

use super::opaque::{hash_of, new_token};
use super::rbac::Operation;
use super::rights::RightsChange;
use super::{Auth, AuthError, Client, Principal, Tokens, names, to_the_end};
use crate::error::FieldError;
use crate::events;
use crate::now_ms;

/// Invitations of one project, those that are over included until they are forgotten.
pub const MOST: u32 = 1000;
/// How many may accept one.
pub const MOST_USES: u32 = 1000;
/// How long one is good, unless it says otherwise; and the bounds of what it may say.
pub const TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest.
pub const LEAST_TTL: Duration = Duration::from_secs(60);
/// Longest.
pub const MOST_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is used up or past its time.
const WHAT: &str = "the invitation";

/// What an owner asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What who accepts becomes.
    pub role: Role,
    /// Who alone may; `None`: whoever has the token.
    pub login: Option<String>,
    /// How many may, 1 to [`MOST_USES`].
    pub uses: u32,
    /// For how long, [`LEAST_TTL`] to [`MOST_TTL`].
    pub ttl: Duration,
}

impl Terms {
    fn check(&self) -> Result<(), AuthError> {
        let mut wrong: Vec<FieldError> = Vec::new();
        let mut say = |field: &'static str, reason| {
            wrong.push(FieldError {
                field: field.into(),
                reason,
            });
        };
        if let Some(Err(reason)) = self.login.as_deref().map(names::login) {
            say("login", reason);
        }
        if !(1..=MOST_USES).contains(&self.uses) {
            say("uses", format!("must be 1 to {MOST_USES}").into());
        }
        if !(LEAST_TTL..=MOST_TTL).contains(&self.ttl) {
            let (least, most) = (LEAST_TTL.as_secs(), MOST_TTL.as_secs());
            say("expires_in", format!("must be {least} to {most}").into());
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(AuthError::Fields(wrong)),
        }
    }
}

/// What an invitation is for, as whoever has its token may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The invitation.
    pub invitation: Invitation,
    /// The project's display name.
    pub project: String,
    /// The display name of who invites.
    pub inviter: String,
}

impl Auth {
    /// Makes an invitation; it, and its token, which is shown this once.
    ///
    /// # Errors
    /// The caller may not, a term is out of bounds, or the project has too many.
    pub async fn invite(
        &self,
        caller: &Principal,
        project: &str,
        terms: Terms,
    ) -> Result<(Invitation, String), AuthError> {
        self.authorize(&caller.user, project, Operation::ManageMembers)
            .await?;
        terms.check()?;
        let now = now_ms();
        let invitation = Invitation {
            id: uuid::Uuid::now_v7().to_string(),
            project_id: project.to_owned(),
            role: terms.role,
            login: terms.login.map(|login| login.to_lowercase()),
            uses: terms.uses,
            used: 0,
            inviter_id: caller.user.to_string(),
            created_at: now,
            expires_at: now.saturating_add(terms.ttl.as_millis() as u64),
        };
        let (token, hash) = new_token();
        match self.store.add_invitation(&invitation, &hash, MOST).await {
            Ok(true) => Ok((invitation, token)),
            Ok(false) => Err(AuthError::LimitReached("invitations")),
            Err(StoreError::Conflict(_)) => Err(AuthError::NotFound),
            Err(other) => Err(other.into()),
        }
    }

    /// What an invitation is for.
    ///
    /// # Errors
    /// [`AuthError::NotFound`] for no token of ours, [`AuthError::Gone`] for one that is no longer good.
    pub async fn offer(&self, token: &str) -> Result<Offer, AuthError> {
        let hash = hash_of(token).ok_or(AuthError::NotFound)?;
        let invitation = self.store.invitation(&hash).await?;
        let invitation = invitation.ok_or(AuthError::NotFound)?;
        let (project, inviter) = (&invitation.project_id, &invitation.inviter_id);
        let is_over = invitation.used >= invitation.uses || invitation.expires_at <= now_ms();
        if is_over || self.store.role(project, inviter).await? != Some(Role::Owner) {
            return Err(AuthError::Gone(WHAT));
        }
        let project = self.store.project(project).await?;
        let inviter = self.store.user(inviter).await?;
        let (Some(project), Some(inviter)) = (project, inviter) else {
            return Err(AuthError::NotFound);
        };
        Ok(Offer {
            invitation,
            project: project.name,
            inviter: inviter.name,
        })
    }

    /// Makes the caller a member by an invitation; the project and the role that the caller has now, which is
    /// the one before if that is as strong.
    ///
    /// # Errors
    /// As [`Auth::offer`]; [`AuthError::NotInvited`] if it is for another login.
    pub async fn accept_invitation(
        self: &Arc<Self>,
        caller: &Principal,
        token: &str,
    ) -> Result<(String, Role), AuthError> {
        let hash = hash_of(token).ok_or(AuthError::NotFound)?;
        let invitation = self.store.invitation(&hash).await?;
        let invitation = invitation.ok_or(AuthError::NotFound)?;
        let (auth, user) = (self.clone(), caller.user.clone());
        to_the_end(async move {
            let role = auth.join(&hash, &invitation, &user, None).await?;
            Ok((invitation.project_id, role))
        })
        .await
    }

    /// Makes an account that is a member from the start, also where registration is closed, and logs it in.
    ///
    /// # Errors
    /// As [`Auth::register`] and [`Auth::accept_invitation`]; no account is left then.
    pub async fn register_invited(
        self: &Arc<Self>,
        login: &str,
        password: &str,
        name: Option<&str>,
        token: &str,
        client: impl Into<Client>,
    ) -> Result<Tokens, AuthError> {
        let client = client.into();
        self.attempts.count(None, client.address).await?;
        // Before the password is hashed, which is dear. The store decides after it.
        let Offer { invitation, .. } = self.offer(token).await?;
        let theirs = invitation.login.as_deref();
        if theirs.is_some_and(|theirs| theirs != login.to_lowercase()) {
            return Err(AuthError::NotInvited);
        }
        let hash = hash_of(token).ok_or(AuthError::NotFound)?;
        let user = self
            .new_user(login, password, name.unwrap_or(login))
            .await?;
        let (auth, new) = (self.clone(), user.clone());
        to_the_end(async move {
            auth.join(&hash, &invitation, &new.id, Some(&new)).await?;
            Ok(())
        })
        .await?;
        self.open_login(user, &client).await
    }

    /// Lets a user in, a new one or one who is there; the role that they have now.
    async fn join(
        &self,
        hash: &[u8; 32],
        invitation: &Invitation,
        user: &str,
        new: Option<&User>,
    ) -> Result<Role, AuthError> {
        let _order = self.order.lock().await;
        let (project, role) = (invitation.project_id.as_str(), invitation.role);
        // For the event alone: what the store finds is what counts.
        let before = match new {
            Some(_) => None,
            None => self.store.role(project, user).await?,
        };
        let told = [events::member_set(project, user, role, before, user)];
        let who = new.map_or(Joining::User(user), Joining::New);
        let accepted = self.store.accept_invitation(hash, who, now_ms(), &told);
        match accepted.await {
            Ok(Accepted::Joined(_)) => {
                self.announce(RightsChange::Member {
                    project: project.to_owned(),
                    user: user.to_owned(),
                    role: Some(role),
                });
                Ok(role)
            }
            Ok(Accepted::Member(role)) => Ok(role),
            Ok(Accepted::NotTheirs) => Err(AuthError::NotInvited),
            Ok(Accepted::Gone) => Err(AuthError::Gone(WHAT)),
            Ok(Accepted::Unknown) => Err(AuthError::NotFound),
            Err(StoreError::Conflict(_)) if new.is_some() => Err(AuthError::LoginTaken),
            Err(StoreError::Conflict(_)) => Err(AuthError::NotFound),
            Err(other) => Err(other.into()),
        }
    }
}

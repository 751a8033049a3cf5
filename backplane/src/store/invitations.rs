//! Invitations into projects (`project_` tables).

use async_trait::async_trait;
use protocol::{Event, Role};

use super::{StoreError, User};

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// UUID v7.
    pub id: String,
    /// Where to.
    pub project_id: String,
    /// What who accepts becomes there.
    pub role: Role,
    /// The only login that may accept it, in lower case; `None`: anybody who has the token.
    pub login: Option<String>,
    /// How many may accept it, at least one.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Who invites. The invitation is good only while that user owns the project.
    pub inviter_id: String,
    /// Made at.
    pub created_at: u64,
    /// Good until then.
    pub expires_at: u64,
}

/// Who accepts an invitation.
#[derive(Debug, Clone, Copy)]
pub enum Joining<'a> {
    /// The user of that id.
    User(&'a str),
    /// A user who is added in the same transaction, and only if the invitation lets them in.
    New(&'a User),
}

/// What became of an invitation that somebody accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// They have its role now; the role before, if they had one.
    Joined(Option<Role>),
    /// They had this role, which is as strong: nothing changed, and no use was counted.
    Member(Role),
    /// It is for another login.
    NotTheirs,
    /// It was accepted as often as it may be, its time is over, or who invited owns the project no longer.
    Gone,
    /// There is no such invitation.
    Unknown,
}

/// Invitations.
#[async_trait]
pub trait Invitations {
    /// Adds an invitation; `token_hash` is SHA-256 of its token. `false`, and nothing was added, if its project
    /// has `most` of them; of concurrent calls no more are added than that.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the project or the inviter does not exist, or the hash is taken.
    async fn add_invitation(
        &self,
        invitation: &Invitation,
        token_hash: &[u8; 32],
        most: u32,
    ) -> Result<bool, StoreError>;

    /// The invitations of a project, used up and expired ones too until housekeeping has removed them, by id,
    /// after `after`, at most `limit`.
    async fn invitations(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError>;

    /// The invitation of that token, whether it is good or not.
    async fn invitation(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError>;

    /// Withdraws an invitation of that project; `false` if it was not there.
    async fn drop_invitation(&self, project_id: &str, id: &str) -> Result<bool, StoreError>;

    /// Lets somebody in, in one transaction: a use is counted, the role is given, the events and the change of
    /// rights are kept, and a new user is added, all or nothing. Of concurrent calls as many are `Joined` as
    /// there are uses. No role is lowered.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a new user's login is taken, or the user does not exist.
    async fn accept_invitation(
        &self,
        token_hash: &[u8; 32],
        who: Joining<'_>,
        now: u64,
        events: &[Event],
    ) -> Result<Accepted, StoreError>;
}

/// Whether and why an invitation is not to be accepted now; `None`: it is.
pub(crate) fn refusal(
    invitation: &Invitation,
    login: &str,
    before: Option<Role>,
    inviter: Option<Role>,
    now: u64,
) -> Option<Accepted> {
    let theirs = invitation.login.as_deref();
    if theirs.is_some_and(|theirs| theirs != login.to_lowercase()) {
        return Some(Accepted::NotTheirs);
    }
    if let Some(before) = before.filter(|before| *before >= invitation.role) {
        return Some(Accepted::Member(before));
    }
    let is_over = invitation.used >= invitation.uses || invitation.expires_at <= now;
    (is_over || inviter != Some(Role::Owner)).then_some(Accepted::Gone)
}

/// A count that the schema keeps small.
pub(crate) fn count(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| StoreError::Corrupt(format!("{stored} uses")))
}

//! Whom outside issuers vouch for: the user that stands for a subject, its logins, and the roles that its
//! claims grant (`auth_` tables).
//!
//! Owns the rule by which a granted role and one that was given by hand meet. Never looks into a token:
//! whoever calls has verified it.

use async_trait::async_trait;
use protocol::{Event, Role};

use super::projects::stored_role;
use super::{LoginSession, StoreError, User};

/// Somebody as an issuer names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer's `iss`.
    pub issuer: String,
    /// The `sub` that it gives them.
    pub subject: String,
}

/// What is known of somebody whom an issuer vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outsider {
    /// The user that stands for them.
    pub user_id: String,
    /// Display name.
    pub name: String,
    /// When the newest token seen was issued.
    pub claims_at: u64,
    /// Tokens that were issued by then are refused, in this session at least.
    pub refused_until: u64,
    /// The login that stands for the session, if there is one; it may be revoked.
    pub login: Option<OutsideLogin>,
    /// What claims have granted, by project.
    pub grants: Vec<(String, Role)>,
}

/// The login that stands for a session at an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideLogin {
    /// Id of the login session.
    pub id: String,
    /// Revoked at.
    pub revoked_at: Option<u64>,
    /// When the last token seen expires.
    pub seen_until: u64,
}

/// A token that comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// The user that stands for its subject.
    pub user_id: String,
    /// Its session at the issuer; empty where the issuer names none.
    pub session: String,
    /// When it says that it was issued.
    pub issued_at: u64,
    /// When it was issued at the earliest, whatever the issuer's clock says.
    pub earliest: u64,
    /// When it expires.
    pub expires_at: u64,
    /// Id of the login session, if one has to be opened.
    pub new_login: String,
}

impl Entrance {
    /// Whether the token may have been issued before tokens began to be accepted again; 0: none was
    /// ever refused.
    pub(crate) fn is_refused(&self, refused_until: u64) -> bool {
        refused_until > 0 && self.earliest <= refused_until
    }
}

/// What became of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The membership is another one now: the role, or none.
    Changed(Option<Role>),
    /// The membership stays as it was.
    Kept,
    /// A newer token's claims count: nothing was done.
    Outdated,
    /// There is no such project: nothing was done.
    NoProject,
    /// The project would be left without an owner: nothing was done.
    LastOwner,
}

/// Makes the event of a changed membership out of the role before and after.
pub type Tell<'a> = &'a (dyn Fn(Option<Role>, Option<Role>) -> Event + Send + Sync);

/// Identities, their logins and their grants.
#[async_trait]
pub trait Identities {
    /// What is known of somebody, and of one of their sessions. Reads its own writes.
    async fn outsider(
        &self,
        identity: &Identity,
        session: &str,
    ) -> Result<Option<Outsider>, StoreError>;

    /// Adds a user that stands for an identity; the id of the user that does: another one's if somebody
    /// was quicker, and then nothing is added.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the login is taken (compared in lower case) and nobody was quicker.
    async fn add_identity(&self, identity: &Identity, user: &User) -> Result<String, StoreError>;

    /// The login session that a token belongs to: the one that stands for its session, or a new one if
    /// there is none, or that one was revoked before the token was issued. `None` if the token was
    /// issued before a revocation of its login, or of all logins of the user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the user stands for nobody.
    async fn let_in(
        &self,
        entrance: &Entrance,
        now: u64,
    ) -> Result<Option<LoginSession>, StoreError>;

    /// Gives a user the name that a token issued at `issued_at` says; `false` if a newer one has come in,
    /// and then nothing changes.
    async fn follow_name(
        &self,
        user_id: &str,
        name: &str,
        issued_at: u64,
    ) -> Result<bool, StoreError>;

    /// Brings a membership to what a token issued at `issued_at` grants in the project: `wanted`, or
    /// nothing. A role given by hand is never lowered or removed, and what was set by hand after a grant
    /// stays until the grant is another one. The event and a change of rights are kept if the
    /// membership changes. Never leaves the project without an owner.
    async fn settle_grant(
        &self,
        user_id: &str,
        project_id: &str,
        wanted: Option<Role>,
        issued_at: u64,
        now: u64,
        tell: Tell<'_>,
    ) -> Result<Settled, StoreError>;
}

/// The grants in a store's JSON: pairs of project and role.
pub(crate) fn grants_of(json: &str) -> Result<Vec<(String, Role)>, StoreError> {
    let pairs: Vec<(String, String)> = serde_json::from_str(json)
        .map_err(|error| StoreError::Corrupt(format!("grants: {error}")))?;
    pairs
        .into_iter()
        .map(|(project, role)| Ok((project, stored_role(&role)?)))
        .collect()
}

/// A grant as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// What the claims granted.
    pub(crate) role: Role,
    /// What the member had by hand.
    pub(crate) base: Option<Role>,
    /// Whether the membership is as the grant made it.
    pub(crate) mine: bool,
}

/// What a membership and its grant are to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) role: Option<Role>,
    pub(crate) grant: Option<Grant>,
}

/// What comes of a membership with that role and that grant if the claims grant `wanted` now.
pub(crate) fn settle(current: Option<Role>, grant: Option<Grant>, wanted: Option<Role>) -> Outcome {
    if grant.map(|grant| grant.role) == wanted {
        return Outcome {
            role: current,
            grant,
        };
    }
    let by_hand = match grant {
        Some(Grant {
            base, mine: true, ..
        }) => base,
        _ => current,
    };
    let grant = wanted.map(|role| Grant {
        role,
        base: by_hand,
        mine: by_hand < Some(role),
    });
    Outcome {
        role: by_hand.max(wanted),
        grant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Editor, Owner, Viewer};

    fn grant(role: Role, base: Option<Role>, mine: bool) -> Option<Grant> {
        Some(Grant { role, base, mine })
    }

    #[test]
    fn a_grant_comes_changes_and_goes() {
        let given = settle(None, None, Some(Editor));
        assert_eq!(
            (given.role, given.grant),
            (Some(Editor), grant(Editor, None, true))
        );
        assert_eq!(settle(given.role, given.grant, Some(Editor)), given);
        let lower = settle(given.role, given.grant, Some(Viewer));
        assert_eq!(
            (lower.role, lower.grant),
            (Some(Viewer), grant(Viewer, None, true))
        );
        let gone = settle(lower.role, lower.grant, None);
        assert_eq!((gone.role, gone.grant), (None, None));
        assert_eq!(settle(None, None, None), gone);
    }

    #[test]
    fn what_was_given_by_hand_is_raised_and_comes_back() {
        let raised = settle(Some(Viewer), None, Some(Owner));
        assert_eq!(
            (raised.role, raised.grant),
            (Some(Owner), grant(Owner, Some(Viewer), true))
        );
        let less = settle(raised.role, raised.grant, Some(Editor));
        assert_eq!(
            (less.role, less.grant),
            (Some(Editor), grant(Editor, Some(Viewer), true))
        );
        let back = settle(less.role, less.grant, None);
        assert_eq!((back.role, back.grant), (Some(Viewer), None));
    }

    #[test]
    fn what_was_given_by_hand_is_never_lowered() {
        let kept = settle(Some(Owner), None, Some(Editor));
        assert_eq!(
            (kept.role, kept.grant),
            (Some(Owner), grant(Editor, Some(Owner), false))
        );
        assert_eq!(settle(kept.role, kept.grant, None).role, Some(Owner));
        // Set by hand after the grant: it stays, until the grant is another one.
        let by_hand = grant(Editor, None, false);
        assert_eq!(
            settle(Some(Viewer), by_hand, Some(Editor)).role,
            Some(Viewer)
        );
        assert_eq!(settle(None, by_hand, Some(Editor)).role, None);
        assert_eq!(settle(Some(Viewer), by_hand, None).role, Some(Viewer));
        assert_eq!(settle(Some(Viewer), by_hand, Some(Owner)).role, Some(Owner));
    }
}

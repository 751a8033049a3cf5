//! Who becomes a member by an invitation or by an outside issuer's word: the two writes beside those of `Projects` that
//! make member lists and project lists old.

use async_trait::async_trait;
use backplane::store::identities::Tell;
use backplane::store::*;
use protocol::{Event, Role};

use super::{Watched, list};
use crate::config::Cached;

#[async_trait]
impl Invitations for Watched {
    async fn add_invitation(
        &self,
        invitation: &Invitation,
        token_hash: &[u8; 32],
        most: u32,
    ) -> Result<bool, StoreError> {
        self.inner
            .add_invitation(invitation, token_hash, most)
            .await
    }

    async fn invitations(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Invitation>, StoreError> {
        self.inner.invitations(project_id, after, limit).await
    }

    async fn invitation(&self, token_hash: &[u8; 32]) -> Result<Option<Invitation>, StoreError> {
        self.inner.invitation(token_hash).await
    }

    async fn drop_invitation(&self, project_id: &str, id: &str) -> Result<bool, StoreError> {
        self.inner.drop_invitation(project_id, id).await
    }

    async fn accept_invitation(
        &self,
        token_hash: &[u8; 32],
        who: Joining<'_>,
        now: u64,
        events: &[Event],
    ) -> Result<Accepted, StoreError> {
        let user = match &who {
            Joining::User(id) => (*id).to_owned(),
            Joining::New(user) => user.id.clone(),
        };
        let invitation = self.inner.invitation(token_hash).await?;
        let what = invitation.map_or_else(Vec::new, |invitation| {
            vec![
                list(Cached::Members, &invitation.project_id),
                list(Cached::Projects, &user),
            ]
        });
        let accepted = self.inner.accept_invitation(token_hash, who, now, events);
        self.then_forget(what, accepted).await
    }
}

#[async_trait]
impl Identities for Watched {
    async fn outsider(
        &self,
        identity: &Identity,
        session: &str,
    ) -> Result<Option<Outsider>, StoreError> {
        self.inner.outsider(identity, session).await
    }

    async fn add_identity(&self, identity: &Identity, user: &User) -> Result<String, StoreError> {
        self.inner.add_identity(identity, user).await
    }

    async fn let_in(
        &self,
        entrance: &Entrance,
        now: u64,
    ) -> Result<Option<LoginSession>, StoreError> {
        self.inner.let_in(entrance, now).await
    }

    /// Lists of members show the old name for their time to live.
    async fn follow_name(
        &self,
        user_id: &str,
        name: &str,
        issued_at: u64,
    ) -> Result<bool, StoreError> {
        self.inner.follow_name(user_id, name, issued_at).await
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
        let what = vec![
            list(Cached::Members, project_id),
            list(Cached::Projects, user_id),
        ];
        let settled = self
            .inner
            .settle_grant(user_id, project_id, wanted, issued_at, now, tell);
        self.then_forget(what, settled).await
    }
}

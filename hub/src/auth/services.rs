//! Services: the API keys that they authenticate with, and what a key may.
//!
//! Owns the form of keys, `tdk_<id>_<secret>`, and the list of permissions. A service is no user: nothing that a
//! user may do is open to it. Keys are read from the store at each use, so that a revoked one is refused at once
//! on every node. A key is the project's, not its maker's: it stays when its maker leaves.

pub mod tool;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use backplane::store::{ApiKey, Store, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::opaque::{hash_of, new_token};
use super::rbac::Operation;
use super::{Auth, AuthError, Principal};
use crate::now_ms;

/// Keys of one project.
pub const MOST: u32 = 100;
/// What every key begins with.
const PREFIX: &str = "tdk_";
/// No key is longer.
const MAX_KEY_BYTES: usize = 128;
/// How exactly the last use of a key is kept.
const NOTED: Duration = Duration::from_secs(60);

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Send a message to a channel.
    Publish,
    /// Send one to many channels.
    Broadcast,
    /// Have a user's sessions follow a channel, or no longer.
    Subscribe,
    /// Close a user's sockets.
    Disconnect,
    /// End a user's logins; of the hub's keys alone.
    Revoke,
    /// See who is in a channel, and how many sessions a user has.
    Presence,
    /// Read a channel's history.
    History,
    /// Publish domain events.
    Events,
    /// Make tokens that reset passwords; of the hub's keys alone.
    PasswordReset,
}

impl Permission {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Publish,
        Self::Broadcast,
        Self::Subscribe,
        Self::Disconnect,
        Self::Revoke,
        Self::Presence,
        Self::History,
        Self::Events,
        Self::PasswordReset,
    ];

    /// Its name, on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Subscribe => "subscribe",
            Self::Disconnect => "disconnect",
            Self::Revoke => "revoke",
            Self::Presence => "presence",
            Self::History => "history",
            Self::Events => "events",
            Self::PasswordReset => "password_reset",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// Whether it reaches beyond any project, so that no project's key can have it: logins and passwords are
    /// the user's in all of them.
    #[must_use]
    pub fn is_of_the_hub(self) -> bool {
        matches!(self, Self::Revoke | Self::PasswordReset)
    }
}

/// A service that has authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKey {
    /// The key's id.
    pub id: Arc<str>,
    /// The key's name.
    pub name: Arc<str>,
    /// The project that it is good for; `None`: all of the hub.
    pub project: Option<Arc<str>>,
    permissions: Vec<Permission>,
}

impl ServiceKey {
    /// Refuses what the key does not allow.
    ///
    /// # Errors
    /// [`AuthError::Permission`].
    pub fn check(&self, permission: Permission) -> Result<(), AuthError> {
        match self.permissions.contains(&permission) {
            true => Ok(()),
            false => Err(AuthError::Permission(permission.as_str())),
        }
    }

    /// Whether what belongs to that project, or to none, lies within what the key is good for.
    #[must_use]
    pub fn covers(&self, project: Option<&str>) -> bool {
        self.project.is_none() || self.project.as_deref() == project
    }

    /// What its messages are from.
    #[must_use]
    pub fn sender(&self) -> Arc<str> {
        format!("key:{}", self.id).into()
    }
}

/// Whether that is a key and no token of a user.
pub(super) fn is_key(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// What a key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The project that it is good for; `None`: all of the hub.
    pub project: Option<String>,
    /// For people.
    pub name: String,
    /// What it allows, at least one.
    pub permissions: Vec<Permission>,
    /// Its maker's user id.
    pub created_by: Option<String>,
    /// Refused from then on; `None`: never.
    pub expires_at: Option<u64>,
}

/// Makes a key; it, and what a service sends, which is shown this once. Its fields are checked before.
///
/// # Errors
/// [`AuthError::LimitReached`], [`AuthError::NotFound`] without the project, or the store failed.
pub async fn make_key(
    store: &dyn Store,
    new: NewKey,
    now: u64,
) -> Result<(ApiKey, String), AuthError> {
    let (secret, secret_hash) = new_token();
    let mut permissions: Vec<String> = Vec::new();
    for permission in Permission::ALL {
        if new.permissions.contains(&permission) {
            permissions.push(permission.as_str().to_owned());
        }
    }
    let key = ApiKey {
        id: uuid::Uuid::now_v7().simple().to_string(),
        project_id: new.project,
        name: new.name.trim().to_owned(),
        secret_hash,
        permissions,
        created_by: new.created_by,
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
    };
    match store.add_api_key(&key, MOST).await {
        Ok(true) => {
            let shown = format!("{PREFIX}{}_{secret}", key.id);
            Ok((key, shown))
        }
        Ok(false) => Err(AuthError::LimitReached("keys")),
        Err(StoreError::Conflict(_)) => Err(AuthError::NotFound),
        Err(other) => Err(other.into()),
    }
}

/// Id and secret's hash of a key.
fn parse(key: &str) -> Option<(&str, [u8; 32])> {
    if key.len() > MAX_KEY_BYTES {
        return None;
    }
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    Some((id, hash_of(secret)?))
}

impl Auth {
    /// The service that a key speaks for.
    ///
    /// # Errors
    /// [`AuthError::UnknownKey`], [`AuthError::Expired`], or the store failed.
    pub async fn authenticate_service(&self, key: &str) -> Result<ServiceKey, AuthError> {
        let (id, presented) = parse(key).ok_or(AuthError::UnknownKey)?;
        let now = now_ms();
        let key = self.store.api_key(id).await?.ok_or(AuthError::UnknownKey)?;
        verify_slices_are_equal(&presented, &key.secret_hash).map_err(|_| AuthError::UnknownKey)?;
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthError::Expired);
        }
        let since = now.saturating_sub(NOTED.as_millis() as u64);
        if key.last_used_at.is_none_or(|at| at <= since)
            && let Err(error) = self.store.touch_api_key(id, now, since).await
        {
            // For people who look at the list: no reason to refuse.
            tracing::debug!(%error, "the use of a key could not be noted");
        }
        let permissions = key.permissions.iter();
        Ok(ServiceKey {
            // What a newer hub has written and this one does not know allows nothing here.
            permissions: permissions
                .filter_map(|name| Permission::parse(name))
                .collect(),
            id: key.id.into(),
            name: key.name.into(),
            project: key.project_id.map(Into::into),
        })
    }

    /// Makes a key of a project; it, and what a service sends.
    ///
    /// # Errors
    /// The caller may not, or the project has too many. Its fields are checked before.
    pub async fn make_project_key(
        &self,
        caller: &Principal,
        project: &str,
        name: String,
        permissions: Vec<Permission>,
        expires_at: Option<u64>,
    ) -> Result<(ApiKey, String), AuthError> {
        self.authorize(&caller.user, project, Operation::ManageKeys)
            .await?;
        let new = NewKey {
            project: Some(project.to_owned()),
            name,
            permissions,
            created_by: Some(caller.user.to_string()),
            expires_at,
        };
        make_key(self.store.as_ref(), new, now_ms()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_have_one_name_everywhere() {
        for permission in Permission::ALL {
            let name = permission.as_str();
            assert_eq!(Permission::parse(name), Some(permission));
            assert_eq!(serde_json::to_value(permission).unwrap(), name);
        }
        assert_eq!(Permission::parse("Publish"), None);
    }

    #[test]
    fn a_key_is_taken_apart_or_refused() {
        let (secret, hash) = new_token();
        let key = format!("tdk_0199_{secret}");
        assert!(is_key(&key));
        assert_eq!(parse(&key), Some(("0199", hash)));
        let long = format!("tdk_{}_{secret}", "0".repeat(200));
        for wrong in ["", "tdk_", "tdk_0199", "tdk_0199_", &key[1..], &long] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&key[..key.len() - 1]), None);
    }

    #[test]
    fn a_key_covers_its_project_alone() {
        let key = |project: Option<&str>| ServiceKey {
            id: "1".into(),
            name: "n".into(),
            project: project.map(Into::into),
            permissions: vec![Permission::Publish],
        };
        let (own, hub) = (key(Some("p1")), key(None));
        assert!(own.covers(Some("p1")) && !own.covers(Some("p2")) && !own.covers(None));
        assert!(hub.covers(Some("p1")) && hub.covers(None));
        assert!(own.check(Permission::Publish).is_ok());
        let refused = own.check(Permission::Broadcast);
        assert!(matches!(refused, Err(AuthError::Permission("broadcast"))));
    }
}

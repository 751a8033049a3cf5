//! Changes of rights in the order in which they took effect, and the keys that tokens are signed with
//! (`auth_` tables).
//!
//! The store itself writes a change in the transaction that makes it (logout, role, deletion), under one lock, so
//! that whoever reads change n has all up to n.

use async_trait::async_trait;
use protocol::Role;
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A right that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum Change {
    /// A login session ended: by its user, or because a refresh token was used twice.
    Login {
        /// Its id.
        sid: String,
    },
    /// Login sessions of a user ended: every one, or all but the one that a new password was set from.
    User {
        /// The user's id.
        user: String,
    },
    /// A member has another role now.
    Member {
        /// The project.
        project: String,
        /// The user's id.
        user: String,
        /// The role; `None`: no longer a member.
        role: Option<Role>,
    },
    /// A project was deleted.
    Project {
        /// The project.
        project: String,
        /// The ids of those who were its members.
        members: Vec<String>,
    },
    /// A document was deleted.
    Document {
        /// The document's id.
        id: String,
        /// The project that it was in.
        project: String,
    },
}

/// A key that tokens are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// RFC 7638 thumbprint of its public key.
    pub kid: String,
    /// PKCS#8 of the private key, sealed if the hub has a secret for that.
    pub private: Vec<u8>,
    /// Made at.
    pub created_at: u64,
    /// Signs from then on, unless a newer one does.
    pub active_from: u64,
}

/// Changes of rights, and keys.
#[async_trait]
pub trait Rights {
    /// The newest change's number; 0 if there was none.
    async fn rights_head(&self) -> Result<u64, StoreError>;

    /// The changes after `seq`, in order, gapless, at most `limit`. Housekeeping may have removed the
    /// oldest: then the first that comes is not `seq + 1`, and everything is to be checked anew.
    async fn rights_after(&self, seq: u64, limit: u32) -> Result<Vec<(u64, Change)>, StoreError>;

    /// The signing keys, oldest first.
    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// Adds a key; one of that id stays as it is.
    async fn add_signing_key(&self, key: &SigningKey) -> Result<(), StoreError>;

    /// Removes a key: its tokens are refused from then on. `false` if it was not there.
    async fn drop_signing_key(&self, kid: &str) -> Result<bool, StoreError>;
}

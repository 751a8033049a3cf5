//! API keys of services (`auth_` tables).
//!
//! What a permission's name means is not known here.

use async_trait::async_trait;

use super::StoreError;

/// A key that a service authenticates with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Unique; a part of what the service sends.
    pub id: String,
    /// The project that it is good for; `None`: all of the hub.
    pub project_id: Option<String>,
    /// For people.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// Names of what it may, at least one.
    pub permissions: Vec<String>,
    /// Its maker's user id; `None` if it was made on the command line.
    pub created_by: Option<String>,
    /// Made at.
    pub created_at: u64,
    /// Refused from then on; `None`: never.
    pub expires_at: Option<u64>,
    /// Used last, to a minute or so.
    pub last_used_at: Option<u64>,
}

/// Keys of services.
#[async_trait]
pub trait ApiKeys {
    /// Adds a key; `false`, and nothing was added, if its project has `most` keys. Of concurrent calls no more
    /// are added than that.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the project or the maker does not exist, or the id is taken.
    async fn add_api_key(&self, key: &ApiKey, most: u32) -> Result<bool, StoreError>;

    /// The key of that id. Reads what is committed when it is called: a key that was dropped is not seen.
    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError>;

    /// The keys of a project, or those of the hub, by id, after `after`, at most `limit`.
    async fn api_keys(
        &self,
        project_id: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError>;

    /// Drops a key of that project, or one of the hub: it is refused from then on. `false` if it was not there.
    async fn drop_api_key(&self, project_id: Option<&str>, id: &str) -> Result<bool, StoreError>;

    /// Notes a use at `now`, unless one after `since` is noted.
    async fn touch_api_key(&self, id: &str, now: u64, since: u64) -> Result<(), StoreError>;
}

/// Permissions as one text.
pub(crate) fn joined(permissions: &[String]) -> String {
    permissions.join(" ")
}

/// The permissions of such a text.
pub(crate) fn split(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A hash as a store has it.
pub(crate) fn hash(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    let hash = bytes.try_into();
    hash.map_err(|_| StoreError::Corrupt(format!("a hash of {} bytes", bytes.len())))
}

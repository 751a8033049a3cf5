//! `tandem key`: the keys of the whole hub, which nobody makes over the network.
//!
//! Works on the store alone, beside running nodes. Shows a key's secret once.

use std::fmt::Write as _;

use backplane::store::{ApiKey, Store};

use super::super::AuthError;
use super::{NewKey, Permission, make_key};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Keys that are read at once.
const PAGE: u32 = 500;

/// Makes a key, and says it.
///
/// # Errors
/// The store failed.
pub async fn create(
    store: &dyn Store,
    name: String,
    permissions: Vec<Permission>,
    days: Option<u16>,
    now: u64,
) -> Result<String, AuthError> {
    let new = NewKey {
        project: None,
        name,
        permissions,
        created_by: None,
        expires_at: days.map(|days| now + u64::from(days) * DAY_MS),
    };
    let (_, shown) = make_key(store, new, now).await?;
    Ok(shown)
}

/// One line per key, oldest first.
///
/// # Errors
/// The store failed.
pub async fn list(store: &dyn Store, now: u64) -> Result<String, AuthError> {
    let mut keys: Vec<ApiKey> = Vec::new();
    loop {
        let after = keys.last().map_or("", |key| &key.id).to_owned();
        let page = store.api_keys(None, &after, PAGE).await?;
        let last = page.len() < PAGE as usize;
        keys.extend(page);
        if last {
            break;
        }
    }
    if keys.is_empty() {
        return Ok("there is no key of the whole hub".to_owned());
    }
    let mut text = String::new();
    for key in &keys {
        let ends = match key.expires_at {
            None => "never expires".to_owned(),
            Some(at) if at <= now => "has expired".to_owned(),
            Some(at) => format!("expires in {} days", (at - now).div_ceil(DAY_MS)),
        };
        let used = match key.last_used_at {
            None => "never used".to_owned(),
            Some(at) => format!("used {} min ago", now.saturating_sub(at) / 60_000),
        };
        let (id, name, permissions) = (&key.id, &key.name, key.permissions.join(" "));
        // Writing to a string can't fail.
        let _ = writeln!(text, "{id}  {name}  ({permissions})  {ends}, {used}");
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Revokes a key of the hub.
///
/// # Errors
/// [`AuthError::NotFound`] if there is none of that id, or the store failed.
pub async fn revoke(store: &dyn Store, id: &str) -> Result<String, AuthError> {
    match store.drop_api_key(None, id).await? {
        true => Ok(format!("key {id} is revoked")),
        false => Err(AuthError::NotFound),
    }
}

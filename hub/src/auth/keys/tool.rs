//! `tandem keys`: what the operator is told of the signing keys, and a new one by hand.
//!
//! Works on the store alone, beside running nodes. Never shows a private part.

use std::fmt::Write as _;
use std::time::Duration;

use backplane::store::Store;

use super::{KeyError, MARGIN, later, make, read_all, seal_of};
use crate::auth::seal::is_sealed;
use crate::config;

/// How long a key made by hand lies in the store before it signs. Nodes that have not read it by then
/// do so at its first token.
const SHORT_LEAD: Duration = Duration::from_secs(10);

/// One line per key, oldest first.
///
/// # Errors
/// The store failed.
pub async fn list(
    settings: &config::Auth,
    store: &dyn Store,
    now_ms: u64,
) -> Result<String, KeyError> {
    let mut keys = store.signing_keys().await?;
    keys.sort_by(|a, b| (a.active_from, &a.kid).cmp(&(b.active_from, &b.kid)));
    if keys.is_empty() {
        return Ok("there is no signing key yet: the first node to start makes one".to_owned());
    }
    let signs = keys.iter().rposition(|key| key.active_from <= now_ms);
    let mut text = String::new();
    for (at, key) in keys.iter().enumerate() {
        let does = if Some(at) == signs {
            format!("signs, for {}", span(key.active_from, now_ms))
        } else if key.active_from > now_ms {
            format!("signs in {}", span(now_ms, key.active_from))
        } else {
            let stopped = keys.get(at + 1).map_or(now_ms, |next| next.active_from);
            let until = later(stopped, settings.access_ttl + MARGIN);
            format!("verifies for another {}", span(now_ms, until))
        };
        let kept = if is_sealed(&key.private) {
            "sealed"
        } else {
            "not sealed"
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}  {kept}, {does}", key.kid);
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// Makes a key that signs in ten seconds; its id.
///
/// # Errors
/// The store failed, or the secret that is set is not the one of the keys that are there.
pub async fn rotate(
    settings: &config::Auth,
    store: &dyn Store,
    now_ms: u64,
) -> Result<String, KeyError> {
    let seal = seal_of(settings)?;
    // A key that the nodes could not read would stop them.
    read_all(&store.signing_keys().await?, seal.as_ref())?;
    let from = later(now_ms, SHORT_LEAD);
    make(store, seal.as_ref(), now_ms, from).await
}

/// The time between two moments, for people.
fn span(from_ms: u64, to_ms: u64) -> String {
    let seconds = to_ms.saturating_sub(from_ms) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

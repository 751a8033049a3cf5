//! The names under which things lie in the cache, and how they are forgotten.
//!
//! Owns the form of keys. Ids come first and the text that a client chose (a cursor) last, hashed, so that no
//! two things share a key and none is long.

use std::fmt::Write as _;

use backplane::cache::Cache;
use bytes::Bytes;
use futures::future::join_all;
use sha2::{Digest as _, Sha256};

use crate::auth::RightsChange;
use crate::config::Cached;
use crate::metrics;

/// Rises whenever what is kept changes its form, so that nodes of two versions never read each other's.
const FORMAT: u32 = 1;
/// Ids are shorter; what is longer is nobody's id.
const ID_BYTES: usize = 200;

/// The key of a row.
pub(super) fn row(kind: Cached, id: &str) -> String {
    named(kind, "row", id)
}

/// The key of a list's generation.
fn generation(kind: Cached, id: &str) -> String {
    named(kind, "generation", id)
}

/// The key of the text of a state.
pub(super) fn text(state: &[u8], root: &str) -> String {
    let hash = Sha256::new()
        .chain_update(Sha256::digest(state))
        .chain_update(root);
    named(Cached::Text, "state", &hex(&hash.finalize()))
}

fn named(kind: Cached, what: &str, id: &str) -> String {
    if id.len() > ID_BYTES {
        let hash = hex(&Sha256::digest(id));
        return format!("{FORMAT}:{kind}:{what}:#{hash}");
    }
    format!("{FORMAT}:{kind}:{what}:{id}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A page of a list.
pub(super) struct Page<'a> {
    pub(super) kind: Cached,
    id: &'a str,
    after: &'a str,
    limit: u32,
}

impl<'a> Page<'a> {
    pub(super) fn new(kind: Cached, id: &'a str, after: &'a str, limit: u32) -> Self {
        Self {
            kind,
            id,
            after,
            limit,
        }
    }

    pub(super) fn generation(&self) -> String {
        generation(self.kind, self.id)
    }

    /// Its key under a generation, which no other list has.
    pub(super) fn key(&self, generation: &Bytes) -> String {
        let after = match self.after {
            "" => String::new(),
            after => hex(&Sha256::digest(after)),
        };
        let (kind, limit) = (self.kind, self.limit);
        format!("{FORMAT}:{kind}:page:{}:{limit}:{after}", hex(generation))
    }
}

/// All that belongs to a project.
pub(super) fn of_project(project: &str) -> Vec<(Cached, String)> {
    [Cached::Project, Cached::Members, Cached::Documents]
        .map(|kind| (kind, project.to_owned()))
        .to_vec()
}

/// What a change of rights makes old.
pub(super) fn touched(change: &RightsChange) -> Vec<(Cached, String)> {
    match change {
        // Logins are not cached.
        RightsChange::Login { .. } | RightsChange::User { .. } => Vec::new(),
        RightsChange::Member { project, user, .. } => vec![
            (Cached::Members, project.clone()),
            (Cached::Projects, user.clone()),
        ],
        RightsChange::Project { project, members } => {
            let mut all = of_project(project);
            all.extend(members.iter().map(|user| (Cached::Projects, user.clone())));
            all
        }
        RightsChange::Document { id, project } => vec![
            (Cached::Documents, project.clone()),
            (Cached::Versions, id.clone()),
        ],
    }
}

/// Forgets rows and lists.
pub(super) async fn forget(cache: &dyn Cache, what: &[(Cached, String)]) {
    // A few at a time: a project may have members by the thousand.
    const AT_ONCE: usize = 64;
    for some in what.chunks(AT_ONCE) {
        let removals = some.iter().map(|(kind, id)| async move {
            metrics::cache_removal(kind.as_str());
            let key = match kind {
                Cached::Project => row(*kind, id),
                _ => generation(*kind, id),
            };
            cache.remove(&key).await;
        });
        join_all(removals).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_share_a_key() {
        let generation = Bytes::from_static(b"g");
        let page = |after, limit| Page::new(Cached::Members, "p", after, limit).key(&generation);
        let all = [
            row(Cached::Project, "p"),
            super::generation(Cached::Members, "p"),
            super::generation(Cached::Documents, "p"),
            page("", 1),
            page("", 11),
            page("1", 1),
            page(&"x".repeat(10_000), 1),
            text(b"state", "root"),
            text(b"stat", "eroot"),
            row(Cached::Project, &"p".repeat(10_000)),
        ];
        for (n, key) in all.iter().enumerate() {
            assert!(key.len() < 300, "{key}");
            assert!(!all[n + 1..].contains(key), "{key}");
        }
    }
}

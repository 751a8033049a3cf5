//! The signing keys of all nodes: kept in the store, read again now and then, replaced in time.
//!
//! Owns when a key is made, begins to sign and is dropped. A new key lies in the store [`LEAD`] before
//! it signs, so that every node and whoever keeps a copy of the public set knows it by then; one that
//! has stopped signing stays until its last token has expired. A token with a key that this node has
//! not read yet makes it read at once. Keys that hubs before this one kept as files in
//! `<data_dir>/keys` are taken over. Never looks into a token.

mod files;
pub mod tool;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use backplane::store::{SigningKey, Store, StoreError};
use protocol::Claims;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Auth;
use super::jwt::{Key, Ring, TokenError};
use super::seal::{self, Seal};
use crate::config;
use crate::now_ms;

/// How long a key is known before it signs: longer than [`REREAD`] and than caches keep the public set.
pub const LEAD: Duration = Duration::from_secs(600);
/// How often every node reads the keys again.
pub const REREAD: Duration = Duration::from_secs(60);
/// How much longer than its tokens a key is kept: a node may have read late, or its clock is behind.
const MARGIN: Duration = Duration::from_secs(120);
/// Unknown keys are looked up at most this often, for all tokens together.
const LEARN_EVERY: Duration = Duration::from_secs(1);
/// How long looking up may take.
const LEARN_TIMEOUT: Duration = Duration::from_secs(2);
/// Who holds it replaces keys.
const LEASE: &str = "key-rotation";
/// Replacing takes two short writes.
const LEASE_TTL: Duration = Duration::from_secs(30);

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or folder could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file in the folder is not a key.
    #[error("{0}: not an Ed25519 key in PKCS#8 (DER)")]
    NotAKey(PathBuf),
    /// What the store has is not a key.
    #[error("key {0} in the store is not an Ed25519 key in PKCS#8 (DER)")]
    Broken(String),
    /// A key is sealed and there is no secret.
    #[error("key {0} in the store is sealed, and auth.key_secret is not set")]
    Sealed(String),
    /// A key is sealed with another secret.
    #[error("key {0} in the store was sealed with another secret than auth.key_secret")]
    OtherSecret(String),
    /// The secret is none.
    #[error("auth.key_secret is not 32 bytes in base64")]
    Secret,
    /// The system gave no randomness.
    #[error("a key could not be made")]
    Generate,
    /// The outside issuers can't be set up.
    #[error("the outside issuers: {0}")]
    Issuers(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The signing keys as this node knows them.
pub struct Keys {
    store: Arc<dyn Store>,
    settings: config::Auth,
    seal: Option<Seal>,
    ring: ArcSwap<Ring>,
    /// The last look at the store for an unknown key; held while there is one.
    learned: Mutex<Option<Look>>,
}

/// A look at the store.
struct Look {
    began: Instant,
    answered: bool,
}

impl Keys {
    /// Reads the keys of the store. The first start takes over those in `folder`, or makes one.
    ///
    /// # Errors
    /// The store failed, a key can't be read with the secret that is set, or a file is no key.
    pub async fn open(
        settings: &config::Auth,
        folder: &Path,
        store: Arc<dyn Store>,
        now_ms: u64,
    ) -> Result<Self, KeyError> {
        let seal = seal_of(settings)?;
        let mut stored = store.signing_keys().await?;
        if stored.is_empty() {
            first_keys(folder, store.as_ref(), seal.as_ref(), now_ms).await?;
            stored = store.signing_keys().await?;
        }
        let keys = read_all(&stored, seal.as_ref())?;
        let plain = stored.iter().filter(|key| !seal::is_sealed(&key.private));
        if seal.is_some() && plain.count() > 0 {
            tracing::warn!(
                "auth.key_secret is set, and a signing key made before lies unsealed in the store: \
                 `tandem keys rotate` replaces it"
            );
        }
        let ring = ring_of(settings, keys).ok_or(KeyError::Generate)?;
        Ok(Self {
            store,
            settings: settings.clone(),
            seal,
            ring: ArcSwap::from_pointee(ring),
            learned: Mutex::new(None),
        })
    }

    /// The public keys, newest first (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Arc<Value> {
        Arc::clone(self.ring.load().jwks())
    }

    /// Signs a token with the key whose turn it is.
    ///
    /// # Errors
    /// The key is unusable, which its reading rules out.
    pub fn sign(
        &self,
        claims: &impl Serialize,
        now_ms: u64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.ring.load().sign(claims, now_ms)
    }

    /// The claims of a token that is good at `now_ms`, by the keys that this node knows.
    ///
    /// # Errors
    /// [`TokenError`]; on [`TokenError::UnknownKey`] call [`Keys::learn`] and ask again.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        self.ring.load().verify(token, now_ms)
    }

    /// Reads the keys again because a token names one that is not known. All who ask meanwhile share
    /// one look, at most one a second.
    ///
    /// # Errors
    /// The store failed or was too slow: nobody knows.
    pub async fn learn(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let silent = || StoreError::Unavailable("the signing keys can't be read now".to_owned());
        let mut learned = self.learned.lock().await;
        match &*learned {
            Some(last) if last.began > asked => {
                return if last.answered { Ok(()) } else { Err(silent()) };
            }
            Some(last) => tokio::time::sleep_until(last.began + LEARN_EVERY).await,
            None => {}
        }
        let look = learned.insert(Look {
            began: Instant::now(),
            answered: false,
        });
        let read = tokio::time::timeout(LEARN_TIMEOUT, self.reread()).await;
        read.map_err(|_| silent())??;
        look.answered = true;
        Ok(())
    }

    /// Reads the keys again. One that can't be read is told and left out: a node with another secret
    /// must not stop this one.
    ///
    /// # Errors
    /// The store failed; the keys known before stay.
    pub async fn reread(&self) -> Result<(), StoreError> {
        let stored = self.store.signing_keys().await?;
        let mut keys = Vec::with_capacity(stored.len());
        for key in &stored {
            match read(key, self.seal.as_ref()) {
                Ok(key) => keys.push(key),
                Err(error) => tracing::error!(%error, "a signing key is left out"),
            }
        }
        match ring_of(&self.settings, keys) {
            Some(ring) => self.ring.store(Arc::new(ring)),
            None => tracing::error!("the store has no signing key: those known before stay"),
        }
        Ok(())
    }

    /// Reads the keys again, then replaces one whose time has come and drops those that no living
    /// token needs, if no other node is doing that. `owner` is this node.
    ///
    /// # Errors
    /// The store failed, or no key could be made; the next call goes on.
    pub async fn tend(&self, owner: &str, now_ms: u64) -> Result<(), KeyError> {
        self.reread().await?;
        if !self.is_due(now_ms) {
            return Ok(());
        }
        let lease = self.store.lease(LEASE, owner, LEASE_TTL).await?;
        if lease.is_none() {
            return Ok(());
        }
        let replaced = self.replace(now_ms).await;
        self.store.release(LEASE, owner).await?;
        replaced
    }

    async fn replace(&self, now_ms: u64) -> Result<(), KeyError> {
        // The holder before may have done it already.
        self.reread().await?;
        if self.wants_new(now_ms) {
            let from = later(now_ms, LEAD);
            let kid = make(self.store.as_ref(), self.seal.as_ref(), now_ms, from).await?;
            tracing::info!(kid, "a new signing key was made; it signs in ten minutes");
        }
        let ring = self.ring.load_full();
        for kid in ring.spent(self.outlive_ms(), now_ms) {
            self.store.drop_signing_key(kid).await?;
            tracing::info!(kid, "a signing key was dropped: its last token has expired");
        }
        self.reread().await?;
        Ok(())
    }

    fn is_due(&self, now_ms: u64) -> bool {
        let ring = self.ring.load();
        let spent = ring.spent(self.outlive_ms(), now_ms).next().is_some();
        spent || self.wants_new(now_ms)
    }

    fn wants_new(&self, now_ms: u64) -> bool {
        let signs_for = self.settings.key_rotation;
        let over = later(self.ring.load().newest_from(), signs_for);
        !signs_for.is_zero() && over <= later(now_ms, LEAD)
    }

    fn outlive_ms(&self) -> u64 {
        (self.settings.access_ttl + MARGIN).as_millis() as u64
    }
}

impl Auth {
    /// Keeps the signing keys up to date until `stop`: those of other nodes are read, and one whose time
    /// has come is replaced.
    pub async fn tend_keys(self: Arc<Self>, stop: CancellationToken) {
        let owner = Arc::clone(self.freshness.mesh().node());
        loop {
            if let Err(error) = self.keys.tend(&owner, now_ms()).await {
                tracing::warn!(%error, "the signing keys could not be looked after");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REREAD) => {}
            }
        }
    }
}

fn later(time_ms: u64, by: Duration) -> u64 {
    time_ms.saturating_add(by.as_millis() as u64)
}

fn seal_of(settings: &config::Auth) -> Result<Option<Seal>, KeyError> {
    let secret = settings.key_secret.as_ref();
    secret
        .map(|secret| Seal::from_secret(secret.expose()))
        .transpose()
}

fn ring_of(settings: &config::Auth, keys: Vec<Key>) -> Option<Ring> {
    Ring::new(keys, settings.issuer.as_str(), settings.audience.as_str())
}

fn read(stored: &SigningKey, seal: Option<&Seal>) -> Result<Key, KeyError> {
    let private = seal::open(seal, &stored.kid, &stored.private)?;
    let key = Key::from_pkcs8(&private, stored.active_from);
    key.filter(|key| key.kid() == stored.kid)
        .ok_or_else(|| KeyError::Broken(stored.kid.clone()))
}

fn read_all(stored: &[SigningKey], seal: Option<&Seal>) -> Result<Vec<Key>, KeyError> {
    stored.iter().map(|key| read(key, seal)).collect()
}

/// Puts a key into the store.
async fn add(
    store: &dyn Store,
    seal: Option<&Seal>,
    private: &[u8],
    created_at: u64,
    active_from: u64,
) -> Result<String, KeyError> {
    let key = Key::from_pkcs8(private, active_from).ok_or(KeyError::Generate)?;
    let kid = key.kid().to_owned();
    let private = match seal {
        Some(seal) => seal.seal(&kid, private)?,
        None => private.to_vec(),
    };
    let key = SigningKey {
        kid,
        private,
        created_at,
        active_from,
    };
    store.add_signing_key(&key).await?;
    Ok(key.kid)
}

/// Makes a key that signs from `active_from` on; its id.
async fn make(
    store: &dyn Store,
    seal: Option<&Seal>,
    now_ms: u64,
    active_from: u64,
) -> Result<String, KeyError> {
    let private = Key::generate().ok_or(KeyError::Generate)?;
    add(store, seal, &private, now_ms, active_from).await
}

/// The first keys of a store: those of the files, in their order, or a new one.
async fn first_keys(
    folder: &Path,
    store: &dyn Store,
    seal: Option<&Seal>,
    now_ms: u64,
) -> Result<(), KeyError> {
    let found = files::read(folder)?;
    if found.is_empty() {
        make(store, seal, now_ms, now_ms).await?;
        return Ok(());
    }
    let count = found.len() as u64;
    for (file, before) in found.iter().zip((0..count).rev()) {
        // None has stopped signing before now: their tokens live on.
        let from = now_ms.saturating_sub(before);
        add(store, seal, &file.private, file.created_at, from).await?;
    }
    tracing::info!(
        count,
        "signing keys were taken over from {}",
        folder.display()
    );
    files::set_aside(&found);
    Ok(())
}

#[cfg(test)]
mod tests;

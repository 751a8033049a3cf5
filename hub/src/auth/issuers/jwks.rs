//! An issuer's public keys (RFC 7517): read from its key set, merged with those known before, tried on a
//! signature.
//!
//! Pure. Owns which key goes with which algorithm: the kind of the key decides, never the token alone, so that a
//! public key can't be taken for a secret. Keys that have left the set stay for a time of grace. Never
//! fetches anything.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::time::Instant;

use super::token::Parts;

/// Most keys that are taken of a set, and most that go on beside it.
const MOST_KEYS: usize = 64;

/// What a key can check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn of(algorithm: Algorithm) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match algorithm {
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => Some(Self::Rsa),
            ES256 => Some(Self::P256),
            ES384 => Some(Self::P384),
            EdDSA => Some(Self::Ed25519),
            _ => None,
        }
    }
}

/// A public key.
#[derive(Clone)]
pub(super) struct PublicKey {
    kid: Option<String>,
    kind: Kind,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<String>,
    /// What it is made of, as the set has it: two keys of one id may differ.
    material: String,
    verifying: DecodingKey,
}

impl PublicKey {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let named = self.algorithm.as_deref();
        Kind::of(algorithm) == Some(self.kind)
            && named.is_none_or(|name| name == format!("{algorithm:?}"))
    }

    fn is(&self, other: &Self) -> bool {
        self.kid == other.kid && self.kind == other.kind && self.material == other.material
    }

    fn signed(&self, parts: &Parts<'_>) -> bool {
        let (message, algorithm) = (parts.message.as_bytes(), parts.algorithm);
        let signed =
            jsonwebtoken::crypto::verify(parts.signature, message, &self.verifying, algorithm);
        signed.unwrap_or(false)
    }
}

/// A key as the set has it; only what is public is read.
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// The key, or why it is none to check signatures with here.
    fn key(self) -> Result<PublicKey, &'static str> {
        if self.r#use.as_deref().is_some_and(|end| end != "sig") {
            return Err("it is not for signatures (use)");
        }
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !self.key_ops.as_ref().is_none_or(verifies) {
            return Err("it is not for checking signatures (key_ops)");
        }
        let curve = self.crv.as_deref().unwrap_or_default();
        let kind = match (self.kty.as_deref(), curve) {
            (Some("RSA"), _) => Kind::Rsa,
            (Some("EC"), "P-256") => Kind::P256,
            (Some("EC"), "P-384") => Kind::P384,
            (Some("OKP"), "Ed25519") => Kind::Ed25519,
            _ => return Err("its kind is not known here (kty, crv)"),
        };
        let (first, second) = match kind {
            Kind::Rsa => (self.n, self.e),
            Kind::P256 | Kind::P384 => (self.x, self.y),
            Kind::Ed25519 => (self.x, Some(String::new())),
        };
        let (first, second) = first.zip(second).ok_or("a part of it is missing")?;
        let verifying = match kind {
            Kind::Rsa => DecodingKey::from_rsa_components(&first, &second),
            Kind::P256 | Kind::P384 => DecodingKey::from_ec_components(&first, &second),
            Kind::Ed25519 => DecodingKey::from_ed_components(&first),
        };
        Ok(PublicKey {
            kid: self.kid,
            kind,
            algorithm: self.alg,
            material: format!("{first}.{second}"),
            verifying: verifying.map_err(|_| "a part of it is not base64")?,
        })
    }
}

/// A key set as it was read: what is of use, and why the rest is not.
pub(super) struct Read {
    pub(super) keys: Vec<PublicKey>,
    pub(super) left_out: Vec<String>,
}

/// Reads a key set. Keys that are of no use here are left out: a set may hold keys for other ends.
pub(super) fn read(bytes: &[u8]) -> Result<Read, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if set.keys.len() > MOST_KEYS {
        return Err(format!(
            "it has {} keys, {MOST_KEYS} at most",
            set.keys.len()
        ));
    }
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for value in set.keys {
        let named = value.get("kid").and_then(serde_json::Value::as_str);
        let named = named.unwrap_or("without id").to_owned();
        let read = serde_json::from_value::<Jwk>(value).map_err(|_| "it is no key");
        match read.and_then(Jwk::key) {
            Ok(key) => keys.push(key),
            Err(why) => left_out.push(format!("key {named}: {why}")),
        }
    }
    Ok(Read { keys, left_out })
}

impl Read {
    /// How many of the keys can check a signature of one of these algorithms.
    pub(super) fn usable(&self, algorithms: &[Algorithm]) -> usize {
        let fits = |key: &&PublicKey| algorithms.iter().any(|one| key.fits(*one));
        self.keys.iter().filter(fits).count()
    }
}

/// Which keys there are for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// One of them made the signature.
    Signed,
    /// None did.
    Forged,
    /// It names a key that is not there.
    Unknown,
    /// It names no key, and there is more than one that it could be.
    Ambiguous,
}

#[derive(Clone)]
struct Known {
    key: PublicKey,
    /// When it was first missing in the set.
    gone: Option<Instant>,
}

/// The keys of an issuer at a moment: those of its set, then those that have left it.
#[derive(Clone, Default)]
pub(super) struct KeySet(Vec<Known>);

impl KeySet {
    /// With the keys that were read at `now`; of those known before the ones that have left go on for
    /// `grace`.
    pub(super) fn renewed(&self, keys: Vec<PublicKey>, now: Instant, grace: Duration) -> Self {
        let left = self
            .0
            .iter()
            .filter(|known| !keys.iter().any(|key| key.is(&known.key)));
        let left: Vec<Known> = left
            .map(|known| Known {
                key: known.key.clone(),
                gone: Some(known.gone.unwrap_or(now)),
            })
            .filter(|known| is_accepted(known, now, grace))
            .take(MOST_KEYS)
            .collect();
        let current = keys.into_iter().map(|key| Known { key, gone: None });
        Self(current.chain(left).collect())
    }

    /// Tries the keys that a token may have been signed with.
    pub(super) fn check(&self, parts: &Parts<'_>, now: Instant, grace: Duration) -> Tried {
        let fits = |known: &&Known| known.key.fits(parts.algorithm);
        let Some(kid) = &parts.kid else {
            let mut current = self
                .0
                .iter()
                .filter(|known| known.gone.is_none())
                .filter(fits);
            return match (current.next(), current.next()) {
                (Some(only), None) if only.key.signed(parts) => Tried::Signed,
                (Some(_), None) => Tried::Forged,
                (Some(_), Some(_)) => Tried::Ambiguous,
                (None, _) => Tried::Unknown,
            };
        };
        let named = |known: &&Known| known.key.kid.as_ref() == Some(kid);
        let mut named = self
            .0
            .iter()
            .filter(named)
            .filter(|known| is_accepted(known, now, grace))
            .peekable();
        if named.peek().is_none() {
            return Tried::Unknown;
        }
        // A key of another kind than the token's algorithm is never tried.
        if named.filter(fits).any(|known| known.key.signed(parts)) {
            Tried::Signed
        } else {
            Tried::Forged
        }
    }
}

fn is_accepted(known: &Known, now: Instant, grace: Duration) -> bool {
    known.gone.is_none_or(|gone| now < gone + grace)
}

//! Access tokens: signing and verification with a ring of Ed25519 keys, and the public key set.
//!
//! Of the keys in a ring the newest whose time has come signs, and all verify, so that a key is
//! replaced by adding one and removed when its last token has expired. Pure but for its memory of what it found good:
//! claims and keys go in, claims come out; never knows users, sessions or the store, and never reads a clock.

mod known;

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::Claims;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use known::Known;

/// No token of ours comes near; nothing longer is looked at.
const MAX_TOKEN_BYTES: usize = 4096;
/// Length of a key id: a SHA-256 in base64.
const KID_BYTES: usize = 43;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was right, and its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is no token of this hub.
    #[error("the token is not valid")]
    Invalid,
    /// It names a key that is not in the ring; another node may have made it a moment ago.
    #[error("the token is not valid")]
    UnknownKey,
}

/// A key that signs and verifies.
pub(super) struct Key {
    kid: String,
    /// When it begins to sign, in milliseconds since the Unix epoch.
    active_from: u64,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwk: Value,
}

impl Key {
    /// The key in that PKCS#8 document; `None` if there is no Ed25519 key in it.
    pub(super) fn from_pkcs8(der: &[u8], active_from: u64) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
        let public = pair.public_key().as_ref();
        let (kid, jwk) = describe(public);
        Some(Self {
            kid,
            active_from,
            signing: EncodingKey::from_ed_der(der),
            verifying: DecodingKey::from_ed_der(public),
            jwk,
        })
    }

    /// A new private key, as PKCS#8; `None` if the system gave no randomness.
    pub(super) fn generate() -> Option<Vec<u8>> {
        let pair = Ed25519KeyPair::generate().ok()?;
        Some(pair.to_pkcs8().ok()?.as_ref().to_vec())
    }

    /// RFC 7638 thumbprint of the public key.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }
}

/// The keys of a moment, and what a token must say.
pub(super) struct Ring {
    /// By the time from which they sign.
    keys: Vec<Key>,
    jwks: Arc<Value>,
    validation: Validation,
    known: Known,
}

impl Ring {
    /// A ring of these keys; `None` if there is none.
    pub(super) fn new(mut keys: Vec<Key>, issuer: &str, audience: &str) -> Option<Self> {
        // Every node sorts equally, whatever order the store answers in.
        keys.sort_by(|a, b| (a.active_from, &a.kid).cmp(&(b.active_from, &b.kid)));
        if keys.is_empty() {
            return None;
        }
        let set: Vec<&Value> = keys.iter().rev().map(|key| &key.jwk).collect();
        let jwks = Arc::new(json!({ "keys": set }));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library accepts the second of expiry itself; `verify` does not, by its own clock.
        validation.validate_exp = false;
        Some(Self {
            keys,
            jwks,
            validation,
            known: Known::default(),
        })
    }

    /// The public keys, newest first (RFC 7517); those that do not sign yet too, so that whoever keeps
    /// a copy knows them in time.
    pub(super) fn jwks(&self) -> &Arc<Value> {
        &self.jwks
    }

    /// The key that signs at that time.
    fn signer(&self, now_ms: u64) -> &Key {
        let active = self.keys.iter().rfind(|key| key.active_from <= now_ms);
        // By this clock none has begun: then it is the first one's turn all the same.
        active.unwrap_or(&self.keys[0])
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key is unusable, which its making rules out.
    pub(super) fn sign(
        &self,
        claims: &impl Serialize,
        now_ms: u64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let key = self.signer(now_ms);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid.clone());
        jsonwebtoken::encode(&header, claims, &key.signing)
    }

    /// The claims of a token that one of the keys signed for this issuer and audience, and that has
    /// not expired at `now_ms`. No leeway: nodes keep their clocks together.
    ///
    /// # Errors
    /// Whether it is expired or wrong; no more, so that an attacker learns nothing.
    pub(super) fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let print = Known::print(token);
        let claims = match self.known.get(&print) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.verify_signed(token)?);
                self.known.put(print, Arc::clone(&claims));
                claims
            }
        };
        match claims.exp.checked_mul(1000) {
            Some(expires) if now_ms < expires => Ok(Arc::unwrap_or_clone(claims)),
            Some(_) => Err(TokenError::Expired),
            None => Err(TokenError::Invalid),
        }
    }

    /// The claims of a token that one of the keys signed, whenever it expires.
    fn verify_signed(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.filter(|kid| is_kid(kid));
        let kid = kid.ok_or(TokenError::Invalid)?;
        let key = self.keys.iter().find(|key| key.kid == kid);
        let key = key.ok_or(TokenError::UnknownKey)?;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.verifying, &self.validation);
        Ok(decoded.map_err(|_| TokenError::Invalid)?.claims)
    }

    /// From when on the newest key signs.
    pub(super) fn newest_from(&self) -> u64 {
        self.keys.last().map_or(0, |key| key.active_from)
    }

    /// The keys that stopped signing `outlive_ms` ago or earlier: no token of theirs is alive.
    pub(super) fn spent(&self, outlive_ms: u64, now_ms: u64) -> impl Iterator<Item = &str> {
        let successors = self.keys.iter().skip(1);
        let pairs = self.keys.iter().zip(successors);
        let over = move |(_, next): &(&Key, &Key)| {
            next.active_from
                .checked_add(outlive_ms)
                .is_some_and(|until| until <= now_ms)
        };
        pairs.filter(over).map(|(key, _)| key.kid())
    }
}

fn is_kid(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == KID_BYTES && text.bytes().all(plain)
}

/// The key id (RFC 7638 thumbprint) and the JWK of a public key.
fn describe(public: &[u8]) -> (String, Value) {
    let x = URL_SAFE_NO_PAD.encode(public);
    // The thumbprint's input: the required members alone, in this order, without spaces.
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x,
    });
    (kid, jwk)
}

#[cfg(test)]
mod tests;

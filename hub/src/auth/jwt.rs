//! Access tokens: Ed25519 keys on disk, signing, verification, the public key set.
//!
//! Owns `<data_dir>/keys`: one PKCS#8 file per key, mode 0600, named by its time of making. The
//! newest signs, all verify, so that a key is replaced by adding one and removed when its last token
//! has expired. Never knows users or sessions: claims go in, claims come out.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::Claims;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const EXTENSION: &str = "pk8";
/// No token of ours comes near; nothing longer is looked at.
const MAX_TOKEN_BYTES: usize = 4096;

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in the folder is not a key.
    #[error("{0}: not an Ed25519 key in PKCS#8 (DER)")]
    NotAKey(PathBuf),
    /// The system gave no randomness.
    #[error("a key could not be made")]
    Generate,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was right, and its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is no token of this hub.
    #[error("the token is not valid")]
    Invalid,
}

/// The signing key, the verifying keys, and what a token must say.
pub struct Keys {
    signing: EncodingKey,
    kid: String,
    verifying: HashMap<String, DecodingKey>,
    jwks: Value,
    validation: Validation,
}

impl Keys {
    /// Reads the keys of `folder`; makes the folder and a first key if there is none.
    ///
    /// # Errors
    /// The folder can't be read or written, or holds something that is not a key.
    pub fn open(folder: &Path, issuer: &str, audience: &str) -> Result<Self, KeyError> {
        make_folder(folder)?;
        let mut files = key_files(folder)?;
        if files.is_empty() {
            files.push(make_key(folder)?);
        }
        let mut verifying = HashMap::new();
        let mut set = Vec::new();
        let mut newest = None;
        for path in files {
            let der = fs::read(&path).map_err(|source| io_error(&path, source))?;
            warn_if_open(&path);
            let pair =
                Ed25519KeyPair::from_pkcs8(&der).map_err(|_| KeyError::NotAKey(path.clone()))?;
            let public = pair.public_key().as_ref();
            let (kid, jwk) = describe(public);
            verifying.insert(kid.clone(), DecodingKey::from_ed_der(public));
            set.push(jwk);
            newest = Some((kid, EncodingKey::from_ed_der(&der)));
        }
        let (kid, signing) = newest.ok_or(KeyError::Generate)?;
        set.reverse();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library accepts the second of expiry itself; `verify` does not, by its own clock.
        validation.validate_exp = false;
        Ok(Self {
            signing,
            kid,
            verifying,
            jwks: json!({ "keys": set }),
            validation,
        })
    }

    /// The public keys, newest first (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Signs a token.
    ///
    /// # Errors
    /// The key is unusable, which `open` rules out.
    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The claims of a token that one of the keys signed for this issuer and audience, and that has
    /// not expired at `now_ms`. No leeway: the clock that signed is the clock that checks.
    ///
    /// # Errors
    /// Whether it is expired or wrong; no more, so that an attacker learns nothing.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = self.verifying.get(&kid).ok_or(TokenError::Invalid)?;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        let claims = decoded.map_err(|_| TokenError::Invalid)?.claims;
        match claims.exp.checked_mul(1000) {
            Some(expires) if now_ms < expires => Ok(claims),
            Some(_) => Err(TokenError::Expired),
            None => Err(TokenError::Invalid),
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        path: path.to_path_buf(),
        source,
    }
}

fn make_folder(folder: &Path) -> Result<(), KeyError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|source| io_error(folder, source))
}

/// The key files, oldest first: their names begin with the time of making.
fn key_files(folder: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let entries = fs::read_dir(folder).map_err(|source| io_error(folder, source))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| io_error(folder, source))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Makes a key and puts it there whole or not at all.
fn make_key(folder: &Path) -> Result<PathBuf, KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
    let der = pair.to_pkcs8().map_err(|_| KeyError::Generate)?;
    // Version 7 identifiers sort by time.
    let name = uuid::Uuid::now_v7();
    let (path, part) = (
        folder.join(format!("{name}.{EXTENSION}")),
        folder.join(format!("{name}.part")),
    );
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        file.write_all(der.as_ref())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| io_error(&path, source))?;
    Ok(path)
}

fn warn_if_open(path: &Path) {
    // A mounted secret may have any mode, so this is no error.
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "others on this machine can read the signing key");
    }
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

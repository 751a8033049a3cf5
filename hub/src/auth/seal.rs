//! Private keys as the store keeps them: plain PKCS#8, or sealed with the operator's secret.
//!
//! Owns the sealed form: a mark, a nonce, then AES-256-GCM over the key with its id as associated
//! data, so that no sealed key passes for another. Never reads the store.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::keys::KeyError;

/// What a sealed key begins with; PKCS#8 begins with another byte.
const MARK: &[u8] = b"TKS1";
/// Length of the secret.
const SECRET_BYTES: usize = 32;

/// The operator's secret.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    /// Reads the secret: 32 bytes in base64, of either alphabet.
    pub(super) fn from_secret(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let plain = STANDARD.decode(text).ok();
        let bytes = plain.or_else(|| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == SECRET_BYTES);
        let key = bytes.and_then(|bytes| RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok());
        key.map(Self).ok_or(KeyError::Secret)
    }

    /// Seals a key.
    pub(super) fn seal(&self, kid: &str, private: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut body = private.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut body)
            .map_err(|_| KeyError::Generate)?;
        Ok([MARK, nonce.as_ref().as_slice(), &body].concat())
    }

    fn open(&self, kid: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let aad = Aad::from(kid.as_bytes());
        let opened = self.0.open_in_place(nonce, aad, &mut body).ok()?;
        Some(opened.to_vec())
    }
}

/// Whether a stored key is sealed.
pub(super) fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(MARK)
}

/// The private key behind what is stored. A plain one needs no secret.
pub(super) fn open(seal: Option<&Seal>, kid: &str, stored: &[u8]) -> Result<Vec<u8>, KeyError> {
    let Some(sealed) = stored.strip_prefix(MARK) else {
        return Ok(stored.to_vec());
    };
    let wanted = || KeyError::Sealed(kid.to_owned());
    let seal = seal.ok_or_else(wanted)?;
    let opened = seal.open(kid, sealed);
    opened.ok_or_else(|| KeyError::OtherSecret(kid.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(byte: u8) -> Seal {
        Seal::from_secret(&STANDARD.encode([byte; SECRET_BYTES])).unwrap()
    }

    #[test]
    fn a_sealed_key_opens_with_its_secret_and_its_id_alone() {
        let sealed = seal(1).seal("k1", b"private").unwrap();
        assert!(is_sealed(&sealed));
        assert!(!sealed.windows(7).any(|part| part == b"private"));
        assert_eq!(open(Some(&seal(1)), "k1", &sealed).unwrap(), b"private");
        assert_ne!(
            seal(1).seal("k1", b"private").unwrap(),
            sealed,
            "each has a nonce of its own"
        );
        let refused = |result: Result<Vec<u8>, KeyError>| result.unwrap_err().to_string();
        assert!(refused(open(None, "k1", &sealed)).contains("auth.key_secret is not set"));
        for (secret, kid) in [(2, "k1"), (1, "k2")] {
            let words = refused(open(Some(&seal(secret)), kid, &sealed));
            assert!(words.contains("another secret"), "{words}");
        }
        for end in 0..sealed.len() {
            let cut = open(Some(&seal(1)), "k1", &sealed[..end]);
            assert!(cut.is_err() || end < MARK.len());
        }
    }

    #[test]
    fn a_secret_is_32_bytes_in_base64() {
        let bytes = [0xfb; SECRET_BYTES];
        assert!(Seal::from_secret(&STANDARD.encode(bytes)).is_ok());
        assert!(Seal::from_secret(&format!("{}\n", URL_SAFE_NO_PAD.encode(bytes))).is_ok());
        for wrong in ["", "secret", &STANDARD.encode([1; 31]), &"?".repeat(44)] {
            assert!(matches!(Seal::from_secret(wrong), Err(KeyError::Secret)));
        }
    }
}

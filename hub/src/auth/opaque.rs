//! Opaque tokens: refresh tokens, and those that reset a password, invite, or authenticate a service.
//!
//! Owns their form: 32 random bytes in base64url, of which the store has the SHA-256 alone. Enough randomness
//! that a plain hash hides them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const TOKEN_BYTES: usize = 32;

/// A new token and its hash.
pub(super) fn new_token() -> (String, [u8; 32]) {
    let bytes: [u8; TOKEN_BYTES] = rand::random();
    (URL_SAFE_NO_PAD.encode(bytes), Sha256::digest(bytes).into())
}

/// The hash of a token; `None` if it is none.
pub(super) fn hash_of(token: &str) -> Option<[u8; 32]> {
    // Longer text is not decoded at all.
    let bytes = (token.len() < 64)
        .then(|| URL_SAFE_NO_PAD.decode(token).ok())
        .flatten()?;
    (bytes.len() == TOKEN_BYTES).then(|| Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_hashed_by_what_they_say() {
        let (token, hash) = new_token();
        assert_eq!(hash_of(&token), Some(hash));
        assert_ne!(new_token().0, token);
        for wrong in [
            "",
            "x",
            &token[1..],
            &format!("{token}A"),
            &"A".repeat(10_000),
        ] {
            assert_eq!(hash_of(wrong), None, "{wrong}");
        }
    }
}

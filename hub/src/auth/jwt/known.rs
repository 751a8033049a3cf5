//! Tokens that a ring of keys has found good: the signature of one that comes again is not computed again.
//!
//! Owns the memory alone. It belongs to one ring, so that it ends with its keys; whether a token has expired is asked of
//! its claims each time, and whether its login stands is the store's. Keeps hashes, never a token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::Claims;
use sha2::{Digest as _, Sha256};

/// Tokens that are remembered: about 2 MiB. Beyond it all are forgotten, and found good again as they come.
const MOST: usize = 4096;

/// The SHA-256 of a token.
pub(super) type Print = [u8; 32];

/// What is remembered.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Print, Arc<Claims>>>);

impl Known {
    pub(super) fn print(token: &str) -> Print {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, print: &Print) -> Option<Arc<Claims>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(print).map(Arc::clone)
    }

    pub(super) fn put(&self, print: Print, claims: Arc<Claims>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(print, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let known = Known::default();
        let claims = Arc::new(Claims {
            iss: "tandem".into(),
            aud: "tandem".into(),
            sub: "u".into(),
            name: "n".into(),
            sid: "s".into(),
            jti: "j".into(),
            iat: 0,
            exp: 1,
        });
        for n in 0..MOST + 1 {
            known.put(Known::print(&n.to_string()), Arc::clone(&claims));
        }
        assert!(known.get(&Known::print("0")).is_none());
        let last = Known::print(&MOST.to_string());
        assert_eq!(known.get(&last), Some(claims));
        assert_eq!(known.0.lock().unwrap().len(), 1);
    }
}

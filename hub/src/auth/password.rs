//! Passwords: argon2id, off the runtime's threads, few at a time.
//!
//! Owns the hashing parameters and how many hashes run at once. A check of an unknown user takes as
//! long as one of a known user. Never stores or logs a password.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// Shortest password in bytes.
pub const MIN_BYTES: usize = 8;
/// Longest password in bytes: hashing takes time by length.
pub const MAX_BYTES: usize = 128;
/// How long a caller waits for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// A hash that nothing matches, checked for users that are not there. A test holds its parameters to
/// those of real hashes.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm9ibw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many others are being hashed.
    #[error("too many logins at once")]
    Busy,
    /// Hashing failed, or what is stored is not a hash.
    #[error("hashing failed: {0}")]
    Failed(String),
}

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    patience: Duration,
}

fn argon2() -> Argon2<'static> {
    // 19 MiB, two passes, one lane: the library's default and OWASP's advice.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

impl Passwords {
    /// At most `concurrency` hashes at a time.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(concurrency)),
            patience: PATIENCE,
        }
    }

    /// The PHC string of a password, with a fresh salt.
    ///
    /// # Errors
    /// Too many at once, or the system gave no randomness.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.run(move || {
            let hash = argon2().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(failed)
        })
        .await
    }

    /// Whether the password is the one that was hashed; `None` (no such user) and an empty hash (a user
    /// without a password) take as long and are never right.
    ///
    /// # Errors
    /// Too many at once, or `hash` is not a PHC string.
    pub async fn verify(&self, hash: Option<&str>, password: &str) -> Result<bool, PasswordError> {
        let hash = hash.filter(|hash| !hash.is_empty());
        let known = hash.is_some();
        let hash = hash.unwrap_or(NOBODY).to_owned();
        let password = password.to_owned();
        let matches = self
            .run(move || {
                let parsed = PasswordHash::new(&hash).map_err(failed)?;
                Ok(argon2()
                    .verify_password(password.as_bytes(), &parsed)
                    .is_ok())
            })
            .await?;
        Ok(matches && known)
    }

    /// Runs `work` on a blocking thread. The permit goes with it, so that a caller who hangs up does
    /// not make room before the work is done.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = tokio::time::timeout(self.patience, self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = turn else {
            return Err(PasswordError::Busy);
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.map_err(failed)?
    }
}

fn failed(error: impl ToString) -> PasswordError {
    PasswordError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_wrong_and_nobody() {
        let passwords = Passwords::new(1);
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(
            passwords
                .verify(Some(&hash), "correct horse")
                .await
                .unwrap()
        );
        assert!(!passwords.verify(Some(&hash), "wrong horse").await.unwrap());
        assert!(!passwords.verify(None, "correct horse").await.unwrap());
        assert!(passwords.verify(Some("not a hash"), "x").await.is_err());
        for password in ["", "correct horse"] {
            let none = passwords.verify(Some(""), password).await;
            assert!(!none.unwrap(), "a user without a password");
        }
        assert_ne!(
            hash,
            passwords.hash("correct horse").await.unwrap(),
            "salted"
        );
    }

    #[tokio::test]
    async fn nobody_costs_what_somebody_costs() {
        let hash = Passwords::new(1).hash("correct horse").await.unwrap();
        let (real, nobody) = (
            PasswordHash::new(&hash).unwrap(),
            PasswordHash::new(NOBODY).unwrap(),
        );
        assert_eq!(real.algorithm, nobody.algorithm);
        assert_eq!(real.version, nobody.version);
        assert_eq!(real.params, nobody.params);
        assert_eq!(
            real.hash.map(|hash| hash.len()),
            nobody.hash.map(|hash| hash.len())
        );
        assert_eq!(
            real.salt.map(|salt| salt.len()),
            nobody.salt.map(|salt| salt.len())
        );
    }

    #[tokio::test]
    async fn the_wait_is_bounded() {
        let passwords = Passwords {
            patience: Duration::from_millis(10),
            ..Passwords::new(1)
        };
        let _held = passwords.permits.clone().acquire_owned().await.unwrap();
        assert!(matches!(
            passwords.hash("x").await,
            Err(PasswordError::Busy)
        ));
    }
}

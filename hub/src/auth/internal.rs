//! The tokens that services behind the gateway get: for whom a request is, said for half a minute.
//!
//! Owns what such a token says. It is signed with the keys of access tokens, so that a service checks it
//! with the same public set, but its audience is the service: the hub refuses it, and a service refuses
//! access tokens. Never verifies one: that is the services' business.

use std::time::Duration;

use protocol::{Role, ServiceClaims};

use super::{Auth, AuthError, Principal};
use crate::now_ms;

/// How long such a token lives: a request that waits for a connection must still be believed, one that
/// leaks must be of little use.
const TTL: Duration = Duration::from_secs(30);

/// For whom a request is passed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bearer<'a> {
    /// Who sent it; nobody where anybody may.
    pub who: Option<&'a Principal>,
    /// The project that it is about, and the sender's role there.
    pub role: Option<(&'a str, Role)>,
}

impl Auth {
    /// A token for one request to that service.
    ///
    /// # Errors
    /// [`AuthError::Internal`]: the key is unusable, which its reading rules out.
    pub fn service_token(&self, service: &str, bearer: Bearer<'_>) -> Result<String, AuthError> {
        let issued = now_ms() / 1000;
        let claims = ServiceClaims {
            iss: self.settings.issuer.as_str().to_owned(),
            aud: service.to_owned(),
            sub: bearer.who.map(|who| who.user.as_ref().to_owned()),
            name: bearer.who.map(|who| who.name.as_ref().to_owned()),
            project: bearer.role.map(|(project, _)| project.to_owned()),
            role: bearer.role.map(|(_, role)| role),
            jti: uuid::Uuid::now_v7().to_string(),
            iat: issued,
            exp: issued + TTL.as_secs(),
        };
        let signed = self.keys.sign(&claims, now_ms());
        signed.map_err(|error| AuthError::Internal(error.to_string()))
    }
}

//! Who a token speaks for, and what a member of a project may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The claims of a Tandem access token (RFC 7519 names). Signed with EdDSA; lives at most 15 minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the configured `auth.issuer`.
    pub iss: String,
    /// Audience: the configured `auth.audience`.
    pub aud: String,
    /// User id.
    pub sub: String,
    /// Display name at the time of issue.
    pub name: String,
    /// Login session id: what logout and refresh-token reuse revoke.
    pub sid: String,
    /// Token id.
    pub jti: String,
    /// Issued at, seconds since the Unix epoch.
    pub iat: u64,
    /// Expires at, seconds since the Unix epoch; the token is refused from this second on.
    pub exp: u64,
}

/// The claims of the token that a service behind the gateway gets with a request (RFC 7519 names). Signed
/// as access tokens are; lives 30 seconds, and says of one request who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceClaims {
    /// Issuer: the configured `auth.issuer`.
    pub iss: String,
    /// Audience: the service's name. A service accepts its own alone.
    pub aud: String,
    /// User id; none where the route takes anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Display name of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The project that the path names, where the route asks for a role in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The user's role there, at the time of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Token id.
    pub jti: String,
    /// Issued at, seconds since the Unix epoch.
    pub iat: u64,
    /// Expires at, seconds since the Unix epoch.
    pub exp: u64,
}

/// A member's role in a project, weakest first: `Viewer < Commenter < Editor < Owner`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads documents and channels.
    Viewer,
    /// Also publishes to rooms.
    Commenter,
    /// Also creates and edits documents.
    Editor,
    /// Also manages members and deletes the project.
    Owner,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Commenter, Role::Editor, Role::Owner];

    /// The name used on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Commenter => "commenter",
            Role::Editor => "editor",
            Role::Owner => "owner",
        }
    }

    /// The role of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

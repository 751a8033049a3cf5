//! Who sent a request and what the service's rules say to it, at its beginning and while it streams.
//!
//! Owns the decision ([`Access::decide`]) and its watch ([`ended`]). A rule that asks for a role asks the
//! store: never a token, never a cache.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::Method;
use protocol::{CloseCode, ErrorCode, Role};
use tokio::sync::broadcast::error::RecvError;

use super::path::Target;
use crate::app::App;
use crate::auth::{Auth, Bearer, News, Principal, RightsChange, names};
use crate::config::services::{Found, Service, Takes};
use crate::error::ApiError;
use crate::now_ms;
use crate::rest::bearer;
use crate::session::handshake;

/// How long a check while streaming may take: what can't be checked is over then.
const CHECK: Duration = Duration::from_secs(1);
/// A sleep of this length at most, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(3600);

/// What a request was let through by.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Who; nobody where the rule takes anybody.
    who: Option<Principal>,
    /// The project, the role at the time, and the one that the rule asks for.
    role: Option<(String, Role, Role)>,
}

impl Access {
    /// Finds the rule, the sender and the role. A token comes with whom it speaks for, if that was found out on the
    /// request's way here.
    ///
    /// # Errors
    /// `not_found` where no rule is about the path or the sender is no member, `forbidden` for another
    /// method or too weak a role, `unauthorized`, or rights can't be checked.
    pub(super) async fn decide(
        app: &App,
        service: &Service,
        method: &Method,
        target: &Target,
        token: Option<(String, Option<Principal>)>,
        is_socket: bool,
    ) -> Result<Self, ApiError> {
        let (takes, project) = rule(service, method, target)?;
        if takes == Takes::Public {
            return Ok(Self {
                who: None,
                role: None,
            });
        }
        let Some((token, known)) = token else {
            let code = ErrorCode::Unauthorized;
            return Err(ApiError::new(code, "an access token is needed"));
        };
        let who = match known {
            Some(who) => who,
            None => app.auth.authenticate(&token).await?,
        };
        if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || is_socket {
            app.auth.check_writes()?;
        }
        let role = match (takes, project) {
            (Takes::Role(needed), Some(project)) => {
                // What can't be a project's name is asked of nobody.
                names::project(project).map_err(|_| ApiError::not_found())?;
                let role = app.auth.role_in(&who.user, project).await?;
                if role < needed {
                    let code = ErrorCode::Forbidden;
                    return Err(ApiError::new(code, "your role does not allow this"));
                }
                Some((project.to_owned(), role, needed))
            }
            _ => None,
        };
        Ok(Self {
            who: Some(who),
            role,
        })
    }

    /// Who sent it.
    pub(super) fn who(&self) -> Option<&Principal> {
        self.who.as_ref()
    }

    /// What the service is told of it.
    pub(super) fn bearer(&self) -> Bearer<'_> {
        let role = self.role.as_ref();
        Bearer {
            who: self.who.as_ref(),
            role: role.map(|(project, role, _)| (project.as_str(), *role)),
        }
    }

    /// Whether it would still be let through.
    async fn stands(&self, auth: &Auth) -> Result<bool, ApiError> {
        let Some(who) = &self.who else {
            return Ok(true);
        };
        if !auth.still_valid(who).await? {
            return Ok(false);
        }
        let Some((project, _, needed)) = &self.role else {
            return Ok(true);
        };
        match auth
            .role_in(&who.user, project)
            .await
            .map_err(ApiError::from)
        {
            Ok(role) => Ok(role >= *needed),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_concerned(&self, news: &News) -> bool {
        let Some(who) = &self.who else {
            return false;
        };
        let project = self.role.as_ref().map(|(project, ..)| project);
        match &news.change {
            None => true,
            Some(RightsChange::Login { sid }) => *sid == *who.login_session,
            Some(RightsChange::User { user }) => *user == *who.user,
            Some(RightsChange::Member {
                project: whose,
                user,
                ..
            }) => *user == *who.user && Some(whose) == project,
            Some(RightsChange::Project { project: whose, .. }) => Some(whose) == project,
            // What a service makes of documents is its own.
            Some(RightsChange::Document { .. }) => false,
        }
    }
}

/// The token of a request. A browser can't set a header on a WebSocket: it offers a subprotocol.
pub(super) fn token_of(request: &Request, is_socket: bool) -> Option<String> {
    if is_socket {
        handshake::token_of(request, false)
    } else {
        bearer(request.headers()).map(str::to_owned)
    }
}

/// The first rule that takes the request.
fn rule<'t>(
    service: &Service,
    method: &Method,
    target: &'t Target,
) -> Result<(Takes, Option<&'t str>), ApiError> {
    let parts: Vec<&str> = target.parts.iter().map(String::as_str).collect();
    let mut other_method = false;
    for route in &service.rules {
        match route.find(method, &parts) {
            Found::Taken(takes, project) => return Ok((takes, project)),
            Found::OtherMethod => other_method = true,
            Found::No => {}
        }
    }
    Err(if other_method {
        let code = ErrorCode::Forbidden;
        ApiError::new(code, "no rule of the service takes this method here")
    } else {
        let code = ErrorCode::NotFound;
        ApiError::new(code, "no rule of the service takes this path")
    })
}

/// Resolves when what a request was let through by is over: with the code that tells why. `drains` says
/// whether it ends when the node is stopped.
pub(super) async fn ended(app: Arc<App>, access: Arc<Access>, drains: bool) -> CloseCode {
    // Heard from now on, and asked once: a change before was told to nobody here.
    let mut changes = app.auth.changes();
    let mut unsure = true;
    loop {
        if unsure {
            match tokio::time::timeout(CHECK, access.stands(&app.auth)).await {
                Ok(Ok(true)) => unsure = false,
                Ok(Ok(false)) => return CloseCode::Revoked,
                Ok(Err(_)) | Err(_) => return CloseCode::Failed,
            }
        }
        let left = access.who.as_ref().map(|who| {
            let left = who.expires_ms.saturating_sub(now_ms());
            Duration::from_millis(left)
        });
        if left == Some(Duration::ZERO) {
            return CloseCode::TokenExpired;
        }
        tokio::select! {
            () = app.gateway.leaving.cancelled(), if drains => return CloseCode::Draining,
            () = tokio::time::sleep(left.unwrap_or(NAP).min(NAP)) => {}
            news = changes.recv() => match news {
                Ok(news) => unsure = access.is_concerned(&news),
                Err(RecvError::Lagged(_)) => unsure = true,
                Err(RecvError::Closed) => return CloseCode::Failed,
            },
        }
    }
}

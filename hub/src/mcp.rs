//! Tools for agents: the Model Context Protocol at `/mcp`, over streamable HTTP.
//!
//! Owns who gets in and what an MCP session is. The flow: `http`'s layers (rate, time limit) → origin, access token, the
//! session's owner → the protocol itself (`rmcp`, without sessions of its own, an answer per request) → `handler` →
//! `tools`, which call what REST calls. The user is whom the request's own token speaks for, each time. The hub keeps
//! nothing of a session: its id says who opened it and what the client calls itself, so any node serves it, there is
//! none to count, and none to end.

mod handler;
pub mod stdio;
mod tools;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use protocol::ErrorCode;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

use crate::app::App;
use crate::error::ApiError;
use crate::rest::Caller;
use crate::session::handshake;
use handler::Tools;
use visit::{Opened, Visit};

/// Where it is served.
pub const PATH: &str = "/mcp";
/// The header that carries a session's id.
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

#[derive(Clone)]
struct Door {
    app: Arc<App>,
    service: StreamableHttpService<Tools, NeverSessionManager>,
}

/// The route, if it is to be served.
pub fn routes(app: &Arc<App>) -> Router {
    let settings = &app.settings;
    if !settings.mcp.enabled {
        return Router::new();
    }
    let most = settings.http.body_bytes.max(settings.collab.update_bytes);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(None)
        .with_max_request_body_bytes(most)
        // The hub has a rule of its own for pages, and every request needs a token that no browser adds by itself.
        .disable_allowed_hosts()
        .disable_allowed_origins();
    let tools = Tools(Arc::clone(app));
    let service = StreamableHttpService::new(
        move || Ok(tools.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let door = Door {
        app: Arc::clone(app),
        service,
    };
    Router::new().route(PATH, post(serve).with_state(door))
}

async fn serve(State(door): State<Door>, request: Request) -> Result<Response, ApiError> {
    let Door { app, service } = door;
    handshake::check_origin(&app.sessions, request.headers())?;
    let (mut parts, body) = request.into_parts();
    let Caller(caller) = Caller::from_request_parts(&mut parts, &app).await?;
    let client = client_of(&parts.headers, &caller.user)?;
    let visit = Visit::new(caller, client);
    let opened = visit.opened();
    parts.extensions.insert(visit);
    let answer = service.handle(Request::from_parts(parts, body)).await;
    let mut answer = answer.map(Body::new);
    if let Some(id) = opened.id()
        && let Ok(id) = HeaderValue::from_str(&id)
    {
        answer.headers_mut().insert(SESSION, id);
    }
    Ok(answer)
}

/// What the client of the request's session calls itself, if there is a session; one of somebody else is none.
fn client_of(headers: &HeaderMap, user: &str) -> Result<Option<String>, ApiError> {
    let Some(id) = headers.get(SESSION) else {
        return Ok(None);
    };
    let opened = id.to_str().ok().and_then(Opened::read);
    match opened.filter(|opened| opened.user == user) {
        Some(opened) => Ok(opened.client),
        None => Err(ApiError::new(
            ErrorCode::NotFound,
            "there is no such session: begin anew",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_users_own() {
        let id = Opened::new("ada", Some("Claude".into())).id();
        let headers = HeaderMap::from_iter([(SESSION, id.parse().unwrap())]);
        let client = client_of(&headers, "ada").unwrap();
        assert_eq!(client.as_deref(), Some("Claude"));
        let error = client_of(&headers, "bob").unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        assert_eq!(client_of(&HeaderMap::new(), "ada").unwrap(), None);
        for wrong in ["", "x", "e30"] {
            let headers = HeaderMap::from_iter([(SESSION, wrong.parse().unwrap())]);
            assert!(client_of(&headers, "ada").is_err(), "{wrong}");
        }
    }
}

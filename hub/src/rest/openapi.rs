//! The OpenAPI document of all of this room: made from the handlers, completed by rule, served with a page to
//! browse it.
//!
//! Owns what no single handler knows: who the API is by, how one authenticates, and the refusals that every
//! operation of a kind can answer with. Never describes an operation by hand.

use std::sync::Arc;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use protocol::ErrorCode;
use serde_json::{Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, RefOr, Response, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::idempotency;
use crate::app::App;
use crate::error::Problem;

/// Where the document is served.
pub const PATH: &str = "/api/openapi.json";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tandem",
        description = "Everything that a session can do, without one. Refusals are problem documents (RFC 9457) with a stable `code`; \
            lists are read on with the cursor `next`; times are milliseconds since the Unix epoch.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "auth", description = "Accounts, logins and tokens."),
        (name = "projects", description = "Projects, their members and invitations."),
        (name = "documents", description = "Documents: names, text, Yjs state, versions."),
        (name = "channels", description = "Messages: publish, history, presence."),
        (name = "fallback", description = "Channels and documents for clients that can't hold a WebSocket."),
        (name = "plans", description = "Plans."),
        (name = "notifications", description = "A user's notifications."),
        (name = "search", description = "What is known of a project's code."),
        (name = "usage", description = "What was used."),
        (name = "server", description = "What services do with an API key."),
        (name = "hub", description = "About this hub.")
    )
)]
struct Base;

/// The document before the handlers' parts are merged in.
pub(super) fn base() -> OpenApi {
    let mut api = Base::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut api.info.version);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An access token of `/api/auth/login`; for `/api/server` a service's API key.",
        ))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    api
}

/// Adds what every operation of its kind can answer.
pub(super) fn complete(mut api: OpenApi) -> OpenApi {
    for (path, item) in &mut api.paths.paths {
        let has_parts = path.contains('{');
        if let Some(operation) = &mut item.get {
            complete_read(operation);
        }
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation, has_parts);
        }
        if !idempotency::takes_keys(path) {
            continue;
        }
        let changes = [
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in changes.into_iter().flatten() {
            take_keys(operation);
        }
    }
    api
}

/// An answer of JSON has a tag, and who has it already is told so.
fn complete_read(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    let is_json = responses.get("200").is_some_and(|success| {
        matches!(success, RefOr::T(success) if success.content.contains_key("application/json"))
    });
    if !is_json || responses.contains_key("304") {
        return;
    }
    let current = ResponseBuilder::new().description("What `If-None-Match` names is current.");
    responses.insert("304".to_owned(), RefOr::T(current.build()));
    let tag = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .description(Some("The `ETag` of an earlier answer."))
        .schema(Some(Object::with_type(Type::String)))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::T(tag));
}

/// Says that an operation takes an `Idempotency-Key`, as all do that change something for somebody who is known.
fn take_keys(operation: &mut Operation) {
    let schema = utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .pattern(Some("^[!#-~][!-~]{0,254}$"));
    let key = utoipa::openapi::path::ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "Whoever sends the request again with this key, which is the user's own, is told what the first was told.",
        ))
        .schema(Some(schema))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(key.into());
    let responses = &mut operation.responses.responses;
    for code in [ErrorCode::Conflict, ErrorCode::IdempotencyConflict] {
        responses
            .entry(code.http_status().to_string())
            .or_insert_with(|| RefOr::T(refusal(code)));
    }
}

fn complete_operation(operation: &mut Operation, has_parts: bool) {
    // Handlers of two rooms may have one name; an operation's is its own.
    if let (Some(name), Some(tags)) = (&operation.operation_id, &operation.tags) {
        operation.operation_id = tags.first().map(|tag| format!("{tag}_{name}"));
    }
    // What says `security(())` is open to everybody.
    let is_open = operation.security.is_some();
    if !is_open {
        let needs = utoipa::openapi::SecurityRequirement::new("token", Vec::<String>::new());
        operation.security = Some(vec![needs]);
    }
    let mut codes = vec![
        ErrorCode::BadRequest,
        ErrorCode::RateLimited,
        ErrorCode::Internal,
        ErrorCode::Unavailable,
        ErrorCode::Timeout,
    ];
    if !is_open {
        codes.extend([
            ErrorCode::Unauthorized,
            ErrorCode::Forbidden,
            ErrorCode::NotFound,
        ]);
    } else if has_parts {
        codes.push(ErrorCode::NotFound);
    }
    let has_query = operation.parameters.as_ref().is_some_and(|all| {
        let in_query = |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.parameter_in == ParameterIn::Query);
        all.iter().any(in_query)
    });
    if operation.request_body.is_some() {
        codes.extend([
            ErrorCode::TooLarge,
            ErrorCode::UnsupportedMedia,
            ErrorCode::Invalid,
        ]);
    } else if has_query || has_parts {
        codes.push(ErrorCode::Invalid);
    }
    for code in codes {
        let status = code.http_status().to_string();
        let responses = &mut operation.responses.responses;
        responses
            .entry(status)
            .or_insert_with(|| RefOr::T(refusal(code)));
    }
}

/// A refusal of that code, with an example.
fn refusal(code: ErrorCode) -> Response {
    let schema = utoipa::openapi::Ref::from_schema_name("Problem");
    let mut content = Content::new(Some(schema));
    content.example = Some(example(code));
    ResponseBuilder::new()
        .description(code.meaning())
        .content("application/problem+json", content)
        .build()
}

fn example(code: ErrorCode) -> Value {
    let mut problem = json!({
        "type": format!("urn:tandem:problem:{}", code.as_str()),
        "title": code.meaning(),
        "status": code.http_status(),
        "code": code.as_str(),
        "detail": code.meaning(),
        "request_id": "0198c0de-0000-7000-8000-000000000001",
    });
    if code == ErrorCode::Invalid {
        problem["detail"] = json!("limit: must be 1 to 1000");
        problem["errors"] = json!([{ "field": "limit", "reason": "must be 1 to 1000" }]);
    }
    problem
}

/// Serves the document, and the page at `/docs`.
pub(super) fn serve(api: OpenApi) -> Router<Arc<App>> {
    let document: Arc<OpenApi> = Arc::new(api);
    let page = SwaggerUi::new("/docs").config(
        Config::from(PATH)
            .try_it_out_enabled(true)
            .validator_url("none")
            .doc_expansion("none"),
    );
    Router::new().merge(page).route(
        PATH,
        get(move || {
            let document = Arc::clone(&document);
            async move { ([(header::CACHE_CONTROL, "no-cache")], Json(&*document)).into_response() }
        }),
    )
}

#[cfg(test)]
mod tests;

//! The protocol's side: what the server is, which tools it has, and the call of one.
//!
//! Owns how a call ends for the agent: a refusal is an answer of the tool with the hub's own code and words, told with
//! `isError`; what really happened goes into the log. Never knows what a tool does.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    InitializeRequestParams, InitializeResult, JsonObject, ListToolsResult, MetaObject,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;
use tracing::Instrument as _;

use super::tools::{self, Call};
use super::visit::Visit;
use crate::app::App;
use crate::error::ApiError;

const INSTRUCTIONS: &str = "Tandem is a workspace in which people and agents edit the same documents at the same time. \
    Your edits are seen at once, with a caret under your name; read what you are about to change, make small edits \
    (`replace_text`, `insert`, `append`) rather than replacing a whole text, and pass the `etag` that you have read as \
    `if_match` where nobody may have changed the document meanwhile. Times are milliseconds since the Unix epoch; lists \
    are read on by passing their `next` as `after`.";

/// The tools, for one request or many.
#[derive(Clone)]
pub(super) struct Tools(pub(super) Arc<App>);

fn visit(context: &RequestContext<RoleServer>) -> Result<&Visit, ErrorData> {
    let parts = context.extensions.get::<http::request::Parts>();
    let visit = parts.and_then(|parts| parts.extensions.get::<Visit>());
    visit.ok_or_else(|| ErrorData::internal_error("nobody knows who asks", None))
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new("tandem", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name.with_title("Tandem"))
            .with_instructions(INSTRUCTIONS)
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let answer = self.negotiate_initialize(&request)?;
        visit(&context)?.open(&request.client_info);
        context.peer.set_peer_info(request);
        Ok(answer)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all().to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let visit = visit(&context)?;
        let Some(tool) = tools::find(&request.name) else {
            return Err(ErrorData::invalid_params("there is no such tool", None));
        };
        let agent = visit.agent(context.meta.client_info().as_ref());
        let call = Call::new(Arc::clone(&self.0), visit.caller.clone(), agent);
        let arguments = request.arguments.unwrap_or_default();
        // To its end, also when the client goes: what was done is to be told.
        let work = carry_out(call, tool, arguments).instrument(visit.span.clone());
        match tokio::spawn(work).await {
            Ok(result) => Ok(result.into()),
            Err(failed) => Ok(refusal(&ApiError::internal(failed)).into()),
        }
    }
}

async fn carry_out(call: Call, tool: &Tool, arguments: JsonObject) -> CallToolResult {
    let limit = call.app().settings.http.request_timeout;
    let done = Box::pin(tools::run(&call, &tool.name, arguments));
    let done = match tokio::time::timeout(limit, done).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::new(protocol::ErrorCode::Timeout, "")),
    };
    let code = done.as_ref().err().map(|error| error.code.as_str());
    call.tell(&tool.name, code).await;
    match done {
        Ok(value) => CallToolResult::structured(value),
        Err(error) => refusal(&error),
    }
}

/// What the agent is told of a failure.
fn refusal(error: &ApiError) -> CallToolResult {
    error.log();
    let code = error.code.as_str();
    let mut meta = JsonObject::new();
    meta.insert("tandem/code".into(), json!(code));
    let mut text = format!("{code}: {}", error.words());
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        meta.insert("tandem/retry_after_seconds".into(), json!(seconds));
        text = format!("{text} (try again in {seconds} s)");
    }
    let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
    result.meta = Some(MetaObject(meta));
    result
}

#[cfg(test)]
mod tests {
    use protocol::ErrorCode;

    use super::*;

    #[test]
    fn a_refusal_has_its_code_and_nothing_from_inside() {
        let error = ApiError::new(ErrorCode::Unavailable, "")
            .caused_by("secret at 10.0.0.1")
            .retry_after(std::time::Duration::from_millis(1500));
        let told = serde_json::to_value(refusal(&error)).unwrap();
        assert_eq!(told["isError"], true);
        assert_eq!(told["_meta"]["tandem/code"], "unavailable");
        assert_eq!(told["_meta"]["tandem/retry_after_seconds"], 2);
        assert!(!told.to_string().contains("secret"));
        let text = told["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("unavailable: "), "{text}");
    }
}

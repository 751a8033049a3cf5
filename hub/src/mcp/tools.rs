//! The tools: what each is called, takes and gives, and the one place where a call finds its own.
//!
//! Owns the table and what calls share. A tool asks for its right in each call, and does what REST does, by the same
//! functions. What was called is told by an event, to the project only if the caller was found to belong to it.

mod documents;
mod lists;
mod part;
mod plans;
mod search;

use std::sync::{Arc, LazyLock, OnceLock};

use protocol::ErrorCode;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::events;
use crate::rest::{Page, PageQuery};

/// Most items of a list in one call.
const ITEMS: u32 = 200;
/// Items of a list if nothing is said.
const DEFAULT_ITEMS: u32 = 50;

/// A call under way.
pub(super) struct Call {
    app: Arc<App>,
    caller: Principal,
    /// What the agent is called.
    agent: String,
    /// The project and the subject that it is about, once the caller is known to have a right there.
    about: OnceLock<(String, String)>,
}

impl Call {
    pub(super) fn new(app: Arc<App>, caller: Principal, agent: String) -> Self {
        Self {
            app,
            caller,
            agent,
            about: OnceLock::new(),
        }
    }

    pub(super) fn app(&self) -> &Arc<App> {
        &self.app
    }

    fn user(&self) -> &str {
        &self.caller.user
    }

    /// Notes what it is about; the caller has a right there.
    fn is_about(&self, project: &str, subject: String) {
        // What was noted first stands.
        let _ = self.about.set((project.to_owned(), subject));
    }

    /// Tells that it was made, and the code with which it failed.
    pub(super) async fn tell(&self, tool: &str, error: Option<&str>) {
        let about = self.about.get();
        let about = about.map(|(project, subject)| (project.as_str(), subject.as_str()));
        let event = events::mcp_called(self.user(), about, &self.agent, tool, error);
        if let Err(error) = self.app.store.emit(&[event]).await {
            tracing::warn!(tool, %error, "a call of a tool is not told");
        }
    }
}

/// What a call is given, if it is what the tool takes.
fn taken<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, ApiError> {
    let taken = serde_json::from_value(Value::Object(arguments));
    taken.map_err(|error| ApiError::invalid("arguments", error.to_string()))
}

/// What a call gives.
fn given(value: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(ApiError::internal)
}

/// Which part of a list is asked for.
fn page(limit: Option<u32>, after: Option<String>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_ITEMS);
    if limit > ITEMS {
        let reason = format!("must be 1 to {ITEMS}");
        return Err(ApiError::invalid("limit", reason));
    }
    PageQuery::new(Some(limit), after).page()
}

/// Carries a call out.
pub(super) async fn run(call: &Call, tool: &str, arguments: JsonObject) -> Result<Value, ApiError> {
    match tool {
        "list_projects" => given(&lists::projects(call, taken(arguments)?).await?),
        "search_context" => given(&search::search(call, taken(arguments)?).await?),
        "list_documents" => given(&lists::documents(call, taken(arguments)?).await?),
        "read_document" => given(&documents::read(call, taken(arguments)?).await?),
        "edit_document" => documents::edit(call, arguments).await,
        "create_plan" => given(&plans::create(call, taken(arguments)?).await?),
        "get_plan" => given(&plans::get(call, taken(arguments)?).await?),
        "cancel_plan" => given(&plans::cancel(call, taken(arguments)?).await?),
        "list_notifications" => given(&lists::notifications(call, taken(arguments)?).await?),
        _ => Err(ApiError::new(ErrorCode::NotFound, "there is no such tool")),
    }
}

/// What a tool does to the world, for those who ask people before they let it.
#[derive(Clone, Copy)]
enum Does {
    /// Nothing.
    Reads,
    /// Adds something; the same again adds it again.
    Adds,
    /// May take something away; the same again does it again.
    Changes,
    /// Takes something away; the same again changes nothing more.
    Ends,
}

fn tool<I, O>(name: &'static str, title: &str, what: &'static str, does: Does) -> Tool
where
    I: JsonSchema + 'static,
    O: JsonSchema + 'static,
{
    let (reads, destroys, same) = match does {
        Does::Reads => (true, false, true),
        Does::Adds => (false, false, false),
        Does::Changes => (false, true, false),
        Does::Ends => (false, true, true),
    };
    let hints = ToolAnnotations::with_title(title)
        .read_only(reads)
        .destructive(destroys)
        .idempotent(same)
        .open_world(false);
    let mut tool = Tool::new(name, what, JsonObject::new())
        .with_title(title)
        .with_input_schema::<I>()
        .with_output_schema::<O>()
        .with_annotations(hints);
    Arc::make_mut(&mut tool.input_schema)
        .values_mut()
        .for_each(without_null);
    tool
}

/// What may be left out is left out: many clients take the first of several types, or none.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let kinds = object.get("type").and_then(Value::as_array);
            let others = kinds.map(|kinds| {
                let other = kinds.iter().filter(|kind| *kind != "null");
                other.cloned().collect::<Vec<Value>>()
            });
            if let Some([only]) = others.as_deref() {
                object.insert("type".to_owned(), only.clone());
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
    vec![
        tool::<lists::ProjectsArgs, lists::Projects>(
            "list_projects",
            "List projects",
            "Lists the projects that the user is a member of, with the user's role in each: viewers and commenters \
             read, editors and owners also edit and ask for plans.",
            Does::Reads,
        ),
        tool::<search::SearchArgs, search::Pieces>(
            "search_context",
            "Search a project's code",
            "Finds the pieces of a project's documents and repository that fit words best, with path and lines. What \
             has just been typed may take a moment to be found.",
            Does::Reads,
        ),
        tool::<lists::DocumentsArgs, lists::Documents>(
            "list_documents",
            "List documents",
            "Lists the documents of a project by path.",
            Does::Reads,
        ),
        tool::<documents::ReadArgs, documents::Read>(
            "read_document",
            "Read a document",
            "Reads lines of a document's text, as it is now, with what others are typing. Name it by its id, or by \
             project and path. `etag` stands for exactly this content.",
            Does::Reads,
        ),
        tool::<documents::EditArgs, documents::Edited>(
            "edit_document",
            "Edit a document",
            "Changes a document's text, live, whole or not at all: with a list of edits, a unified diff, or a whole \
             new text, exactly one of the three. People who are in the document see it at once. Name the document by \
             its id, or by project and path.",
            Does::Changes,
        ),
        tool::<plans::CreateArgs, plans::PlanShape>(
            "create_plan",
            "Ask for a plan",
            "Asks for a plan of how to do something in a project. It is queued and worked out in the background: \
             read it with `get_plan` until its status is done, failed or cancelled.",
            Does::Adds,
        ),
        tool::<plans::PlanArgs, plans::PlanShape>(
            "get_plan",
            "Read a plan",
            "Reads a plan with its steps as far as they are worked out.",
            Does::Reads,
        ),
        tool::<plans::PlanArgs, plans::PlanShape>(
            "cancel_plan",
            "Cancel a plan",
            "Cancels a plan that has not ended. One that is cancelled already stays so.",
            Does::Ends,
        ),
        tool::<lists::NotificationsArgs, lists::Notifications>(
            "list_notifications",
            "List notifications",
            "Lists the user's own notifications, newest first, and how many are unread. Marks none as read.",
            Does::Reads,
        ),
    ]
});

/// Every tool.
pub(super) fn all() -> &'static [Tool] {
    &TOOLS
}

/// The tool of that name.
pub(super) fn find(name: &str) -> Option<&'static Tool> {
    all().iter().find(|tool| tool.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_takes_and_gives() {
        for tool in all() {
            let name = &tool.name;
            assert!(tool.title.is_some() && tool.description.is_some(), "{name}");
            assert_eq!(tool.input_schema["type"], "object", "{name}");
            assert_eq!(tool.input_schema["additionalProperties"], false, "{name}");
            let output = tool.output_schema.as_ref().expect("an output schema");
            assert_eq!(output["type"], "object", "{name}");
            let hints = tool.annotations.as_ref().expect("annotations");
            assert!(hints.read_only_hint.is_some() && hints.destructive_hint.is_some());
            assert_eq!(hints.open_world_hint, Some(false));
            let properties = tool.input_schema["properties"].as_object().unwrap();
            for (field, schema) in properties {
                assert!(schema["description"].is_string(), "{name}: {field}");
                assert!(schema["type"].is_string(), "{name}: {field}: {schema}");
            }
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page(None, None).unwrap().limit, DEFAULT_ITEMS);
        assert_eq!(page(Some(ITEMS), None).unwrap().limit, ITEMS);
        for (limit, after) in [(Some(0), None), (Some(ITEMS + 1), None), (None, Some("%"))] {
            assert!(page(limit, after.map(str::to_owned)).is_err());
        }
    }
}

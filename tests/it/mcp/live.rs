//! What others see of an agent: its edits with its caret, and the events that tell what it called.

use protocol::ysync::parse_awareness;
use serde_json::{Value, json};

use super::{call, code, given, initialize, post, request};
use crate::world::people::{self, workspace};
use crate::world::{Editor, Kind, TestHub, eventually};

/// The newest state of the agent of that name that an editor has heard of: `None` if none, `Some(None)` if it is gone.
fn agent(editor: &Editor, name: &str) -> Option<Option<Value>> {
    let mut known = None;
    let mut newest = None;
    for update in &editor.awareness {
        for entry in parse_awareness(update, 100).expect("an update of awareness") {
            let state: Value = serde_json::from_str(entry.state).expect("JSON");
            if state["user"]["name"] == name {
                known = Some(entry.client);
                newest = Some(Some(state));
            } else if known == Some(entry.client) && state.is_null() {
                newest = Some(None);
            }
        }
    }
    newest
}

#[tokio::test]
async fn people_see_an_agent_edit_under_its_own_name() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let opened = post(&hub, Some(&owner.token), &[], &initialize("Claude")).await;
    let session = opened.headers["mcp-session-id"].to_str().expect("an id");
    for (kind, key) in [
        (Kind::Collab, None),
        (Kind::Json, Some("k-1")),
        (Kind::Hocuspocus, None),
    ] {
        let mut editor = Editor::join(kind, &hub, &owner, &document).await;
        let text = format!("hello {kind:?}\n");
        let mut arguments = json!({ "id": document, "text": text });
        if let Some(key) = key {
            arguments["idempotency_key"] = json!(key);
        }
        let params = json!({ "name": "edit_document", "arguments": arguments });
        let session = [("mcp-session-id", session)];
        let edited = post(
            &hub,
            Some(&owner.token),
            &session,
            &request("tools/call", params),
        )
        .await;
        given(&edited.json()["result"]);
        editor.reads(&text).await;
        let name = "Claude (owner)";
        editor
            .until("the agent is seen", |editor| {
                matches!(agent(editor, name), Some(Some(_)))
            })
            .await;
        let state = agent(&editor, name).flatten().expect("a state");
        assert_eq!(state["agent"], true);
        assert_eq!(state["cursor"]["anchor"], state["cursor"]["head"]);
        assert_eq!(state["cursor"]["head"]["tname"], "text");
        let colour = state["user"]["color"].as_str().expect("a colour");
        assert_eq!(state["user"]["colorLight"], format!("{colour}33"));
        editor
            .until("the agent goes", |editor| agent(editor, name) == Some(None))
            .await;
        editor.leave().await;
    }
}

/// The events of a page of the log.
fn told(answer: &people::Answer) -> Vec<Value> {
    let items = answer.json()["items"].as_array().cloned();
    items.expect("a list")
}

#[tokio::test]
async fn calls_are_told_to_the_project_they_are_about() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    let read = json!({ "id": document });
    code(&call(&hub, &stranger, "read_document", read.clone()).await);
    given(&call(&hub, &owner, "read_document", read).await);
    let twice = json!([{ "op": "replace_text", "find": "none", "replace": "b" }]);
    let edit = json!({ "id": document, "edits": twice });
    code(&call(&hub, &owner, "edit_document", edit).await);
    let path = "/api/projects/p1/events?type=mcp.called";
    eventually("both calls are told", || async {
        told(&owner.get(&hub, path).await).len() == 2
    })
    .await;
    let mut told = told(&owner.get(&hub, path).await);
    told.reverse();
    for event in &told {
        assert_eq!(event["actor"], owner.id.as_str());
        assert_eq!(event["subject"], format!("doc:{document}"));
    }
    let told: Vec<&Value> = told.iter().map(|event| &event["data"]).collect();
    assert_eq!(
        *told[0],
        json!({ "agent": "Agent", "tool": "read_document" })
    );
    assert_eq!(told[1]["error"], "conflict");
}

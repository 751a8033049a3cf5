//! Tools for agents: the official client and inspector use every tool over HTTP and over stdio, rights are those of
//! the user, and people see an agent edit.

mod live;

use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{HeaderMap, ORIGIN, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::npm::{clients, install, node};
use crate::world::people::workspace;
use crate::world::{Person, Service, TestHub, binary, soon, within};

/// Every tool.
const TOOLS: [&str; 9] = [
    "list_projects",
    "search_context",
    "list_documents",
    "read_document",
    "edit_document",
    "create_plan",
    "get_plan",
    "cancel_plan",
    "list_notifications",
];
/// How long the inspector may take, which starts three processes.
const INSPECTOR: Duration = Duration::from_secs(120);

/// An answer of `/mcp`.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.status, self.text))
    }
}

/// Posts a message with these headers.
async fn post(
    hub: &TestHub,
    token: Option<&str>,
    headers: &[(&str, &str)],
    message: &Value,
) -> Answer {
    let mut request = Client::new()
        .post(hub.url("/mcp"))
        .header("accept", "application/json, text/event-stream")
        .json(message);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = soon("an answer", request.send()).await.expect("an answer");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: soon("a body", answer.text()).await.expect("a body"),
    }
}

fn request(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn initialize(name: &str) -> Value {
    let client = json!({ "name": name, "version": "1" });
    let params =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    request("initialize", params)
}

/// The result of a call, whether it failed or not.
async fn call(hub: &TestHub, who: &Person, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    let answer = post(hub, Some(&who.token), &[], &request("tools/call", params)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let result = answer.json()["result"].clone();
    assert!(result.is_object(), "{}", answer.text);
    result
}

/// What a call gives that must succeed.
#[track_caller]
fn given(result: &Value) -> &Value {
    assert_ne!(result["isError"], true, "{result}");
    let given = &result["structuredContent"];
    let text = result["content"][0]["text"].as_str().expect("a text");
    let same: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(*given, same);
    given
}

/// The code of a call that must fail.
#[track_caller]
fn code(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    assert!(result["structuredContent"].is_null(), "{result}");
    let code = result["_meta"]["tandem/code"].as_str().expect("a code");
    let text = result["content"][0]["text"].as_str().expect("a text");
    assert!(text.starts_with(&format!("{code}: ")), "{text}");
    code
}

#[tokio::test]
async fn the_official_client_uses_every_tool_over_http() {
    install().await;
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let calls = json!([
        ["list_projects", {}],
        ["list_documents", { "project": "p1" }],
        ["edit_document", { "id": document, "text": "one\ntwo\nthree\n" }],
        ["read_document", { "project": "p1", "path": "main.rs", "first_line": 2, "lines": 1 }],
        ["create_plan", { "project": "p1", "request": "a dark theme", "idempotency_key": "k" }],
        ["list_notifications", { "unread_only": true }],
        ["search_context", { "project": "p1", "query": "dark theme" }],
    ]);
    let hub_url = hub.url("");
    let said = node(
        "mcp.mjs",
        &[&hub_url, &owner.token, "Claude", &calls.to_string()],
    )
    .await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["server"]["name"], "tandem");
    assert!(said["session"].is_string());
    let tools = said["tools"].as_array().expect("tools");
    let names: Vec<&str> = tools
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    for tool in TOOLS {
        assert!(names.contains(&tool), "{tool} is not among {names:?}");
    }
    let results = said["results"].as_array().expect("results");
    let results: Vec<&Value> = results.iter().map(given).collect();
    assert_eq!(results[0]["items"][0]["role"], "owner");
    assert_eq!(results[1]["items"][0]["path"], "main.rs");
    assert_eq!(results[2]["updates"], 1);
    assert_eq!(results[3]["text"], "two\n");
    assert_eq!(results[3]["total_lines"], 3);
    assert_eq!(results[3]["etag"], results[2]["etag"]);
    assert_eq!(results[5]["items"], json!([]));
    assert!(results[6]["items"].is_array());
    let id = results[4]["id"].as_str().expect("an id");
    let calls = json!([["get_plan", { "id": id }], ["cancel_plan", { "id": id }]]);
    let said = node(
        "mcp.mjs",
        &[&hub_url, &owner.token, "Claude", &calls.to_string()],
    )
    .await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(given(&said["results"][0])["request"], "a dark theme");
    assert_eq!(said["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(owner.text(&hub, &document).await, "one\ntwo\nthree\n");
}

/// Runs the inspector on the real binary's stdio server; what it prints.
async fn inspect(hub: &TestHub, token: &str, arguments: &[&str]) -> Value {
    let inspector = "node_modules/@modelcontextprotocol/inspector/cli/build/cli.js";
    let mut command = Command::new("node");
    command
        .arg(inspector)
        .arg("--cli")
        .arg(binary::path())
        .arg("mcp")
        .args(arguments)
        .env("TANDEM_URL", hub.url(""))
        .env("TANDEM_TOKEN", token)
        .current_dir(clients())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within(INSPECTOR, "the inspector", command.output()).await;
    let output = output.expect("node is not there: install Node 20 or later");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!(
            "{error}: {said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[tokio::test]
async fn the_inspector_uses_the_tools_over_stdio() {
    install().await;
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let listed = inspect(&hub, &owner.token, &["--method", "tools/list"]).await;
    let tools = listed["tools"].as_array().expect("tools");
    let names: Vec<&str> = tools
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert!(TOOLS.iter().all(|tool| names.contains(tool)), "{names:?}");
    let id = format!("id={document}");
    let edits = "edits=[{\"op\":\"append\",\"text\":\"from an agent\\n\"}]";
    for (tool, arguments) in [
        ("list_projects", vec!["limit=5"]),
        ("list_documents", vec!["project=p1"]),
        ("search_context", vec!["project=p1", "query=agent"]),
        ("edit_document", vec![id.as_str(), edits]),
        ("read_document", vec![id.as_str(), "lines=3"]),
        ("create_plan", vec!["project=p1", "request=a dark theme"]),
        ("list_notifications", vec!["unread_only=true"]),
    ] {
        let mut all = vec!["--method", "tools/call", "--tool-name", tool];
        for argument in arguments {
            all.extend(["--tool-arg", argument]);
        }
        let result = inspect(&hub, &owner.token, &all).await;
        given(&result);
        if tool == "create_plan" {
            let id = format!("id={}", given(&result)["id"].as_str().expect("an id"));
            for tool in ["get_plan", "cancel_plan"] {
                let all = [
                    "--method",
                    "tools/call",
                    "--tool-name",
                    tool,
                    "--tool-arg",
                    &id,
                ];
                let result = inspect(&hub, &owner.token, &all).await;
                assert!(result["content"][0]["text"].is_string(), "{result}");
            }
        }
    }
    assert_eq!(owner.text(&hub, &document).await, "from an agent\n");
}

#[tokio::test]
async fn rights_are_the_users_own() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let (viewer, stranger) = (hub.person("viewer").await, hub.person("stranger").await);
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let plan = call(
        &hub,
        &owner,
        "create_plan",
        json!({ "project": "p1", "request": "x" }),
    )
    .await;
    let plan = given(&plan)["id"].clone();
    let edit = json!({ "id": document, "text": "x" });
    for (tool, arguments, of_viewer) in [
        ("list_documents", json!({ "project": "p1" }), None),
        (
            "search_context",
            json!({ "project": "p1", "query": "x" }),
            None,
        ),
        ("read_document", json!({ "id": document }), None),
        (
            "read_document",
            json!({ "project": "p1", "path": "main.rs" }),
            None,
        ),
        ("edit_document", edit.clone(), Some("forbidden")),
        (
            "create_plan",
            json!({ "project": "p1", "request": "x" }),
            Some("forbidden"),
        ),
        ("get_plan", json!({ "id": plan }), None),
        ("cancel_plan", json!({ "id": plan }), Some("forbidden")),
    ] {
        let told = call(&hub, &stranger, tool, arguments.clone()).await;
        assert_eq!(code(&told), "not_found", "{tool}");
        let told = call(&hub, &viewer, tool, arguments).await;
        match of_viewer {
            Some(refusal) => assert_eq!(code(&told), refusal, "{tool}"),
            None => assert!(given(&told).is_object(), "{tool}"),
        }
    }
    let projects = call(&hub, &stranger, "list_projects", json!({})).await;
    assert_eq!(given(&projects)["items"], json!([]));
    // A right that is taken away is gone with the next call.
    let editor = hub.person("editor").await;
    owner.give(&hub, "p1", &editor, "editor").await;
    given(&call(&hub, &editor, "edit_document", edit.clone()).await);
    owner.remove(&hub, "p1", &editor).await;
    let told = call(&hub, &editor, "edit_document", edit).await;
    assert_eq!(code(&told), "not_found");
}

#[tokio::test]
async fn nobody_gets_in_without_a_users_token_or_from_another_page() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let other = hub.person("other").await;
    let list = request("tools/list", json!({}));
    let refused = post(&hub, None, &[], &list).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.headers[WWW_AUTHENTICATE], "Bearer");
    assert_eq!(refused.json()["code"], "unauthorized");
    let (service, _) = Service::of_project(&hub, &owner, "p1", &["publish"]).await;
    assert_eq!(post(&hub, Some(&service.key), &[], &list).await.status, 401);
    let away = [(ORIGIN.as_str(), "https://evil.example")];
    assert_eq!(
        post(&hub, Some(&owner.token), &away, &list).await.status,
        403
    );
    let opened = post(&hub, Some(&owner.token), &[], &initialize("Claude")).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let session = opened.headers["mcp-session-id"].to_str().expect("an id");
    let session = [("mcp-session-id", session)];
    assert_eq!(
        post(&hub, Some(&owner.token), &session, &list).await.status,
        200
    );
    assert_eq!(
        post(&hub, Some(&other.token), &session, &list).await.status,
        404
    );
    let made_up = [("mcp-session-id", "made-up")];
    assert_eq!(
        post(&hub, Some(&owner.token), &made_up, &list).await.status,
        404
    );
    for answer in [
        owner.get(&hub, "/mcp").await,
        owner.delete(&hub, "/mcp").await,
    ] {
        assert_eq!(answer.status, 405);
    }
    let off = TestHub::start(&[("TANDEM_MCP_ENABLED", "false")]).await;
    let someone = off.person("someone").await;
    assert_eq!(
        post(&off, Some(&someone.token), &[], &list).await.status,
        404
    );
}

#[tokio::test]
async fn what_can_not_be_done_is_said_by_the_tool() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let first = call(
        &hub,
        &owner,
        "edit_document",
        json!({ "id": document, "text": "a a\n" }),
    )
    .await;
    let etag = given(&first)["etag"].clone();
    let twice = json!([{ "op": "replace_text", "find": "a", "replace": "b" }]);
    for (tool, arguments, wanted) in [
        (
            "edit_document",
            json!({ "id": document, "edits": twice }),
            "conflict",
        ),
        ("edit_document", json!({ "id": document }), "invalid"),
        (
            "edit_document",
            json!({ "id": document, "text": "x", "patch": "y" }),
            "invalid",
        ),
        (
            "edit_document",
            json!({ "id": document, "text": "x", "more": 1 }),
            "invalid",
        ),
        (
            "edit_document",
            json!({ "id": document, "text": "x", "idempotency_key": "a b" }),
            "invalid",
        ),
        (
            "edit_document",
            json!({ "id": document, "text": "x", "if_match": "\"c-0000000000000000\"" }),
            "precondition_failed",
        ),
        (
            "read_document",
            json!({ "id": document, "project": "p1" }),
            "invalid",
        ),
        (
            "read_document",
            json!({ "id": document, "max_bytes": 1_000_000 }),
            "invalid",
        ),
        (
            "read_document",
            json!({ "project": "p1", "path": "none" }),
            "not_found",
        ),
        ("list_projects", json!({ "limit": 1000 }), "invalid"),
        (
            "create_plan",
            json!({ "project": "p1", "request": "" }),
            "invalid",
        ),
        ("get_plan", json!({ "id": "none" }), "not_found"),
    ] {
        let told = call(&hub, &owner, tool, arguments.clone()).await;
        assert_eq!(code(&told), wanted, "{tool} {arguments}");
    }
    // The same call with a key is one edit; what was read is what is edited.
    let keyed = json!({ "id": document, "edits": [{ "op": "append", "text": "once\n" }], "if_match": etag, "idempotency_key": "k-1" });
    let once = call(&hub, &owner, "edit_document", keyed.clone()).await;
    let again = call(&hub, &owner, "edit_document", keyed).await;
    assert_eq!(given(&once), given(&again));
    assert_eq!(owner.text(&hub, &document).await, "a a\nonce\n");
    let params = json!({ "name": "no_such_tool", "arguments": {} });
    let answer = post(
        &hub,
        Some(&owner.token),
        &[],
        &request("tools/call", params),
    )
    .await;
    assert_eq!(answer.json()["error"]["code"], -32602);
}

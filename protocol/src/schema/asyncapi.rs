//! `asyncapi.json`: an AsyncAPI 3.0 document of the hub's three WebSocket endpoints.

use serde_json::{Map, Value, json};

use super::definitions;
use crate::{CloseCode, ErrorCode};

/// The whole document.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tandem hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description(),
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "The address of a hub that nothing is configured for.",
                "security": [{ "$ref": "#/components/securitySchemes/bearer" }],
            },
        },
        "channels": {
            "session": session(),
            "collab": collab(),
            "hocuspocus": hocuspocus(),
        },
        "operations": operations(),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Or the subprotocol `bearer.<jwt>`; on /ws the `connect` frame; on /collab the query parameter `token`; on /hocuspocus the Auth message.",
                },
            },
            "messages": messages(),
            "schemas": definitions("/components/schemas"),
        },
    })
}

fn session() -> Value {
    json!({
        "address": "/ws",
        "title": "Session",
        "description": "Channels, presence, history and documents over one socket. The subprotocol chooses the encoding: `tandem.v1.json` (text messages) or `tandem.v1.msgpack` (binary messages).",
        "servers": [{ "$ref": "#/servers/local" }],
        "messages": {
            "clientFrame": { "$ref": "#/components/messages/clientFrame" },
            "serverFrame": { "$ref": "#/components/messages/serverFrame" },
        },
        "bindings": { "ws": { "method": "GET" } },
    })
}

fn collab() -> Value {
    json!({
        "address": "/collab/{document}",
        "title": "One document, y-websocket protocol",
        "description": "For an unmodified y-websocket provider. A bad token does not fail the upgrade: a permission-denied message and close code 4401 follow.",
        "servers": [{ "$ref": "#/servers/local" }],
        "parameters": {
            "document": { "description": "A document's id, or `project/path` (slashes allowed)." },
        },
        "messages": { "ySync": { "$ref": "#/components/messages/ySync" } },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "token": { "type": "string", "description": "An access token." },
                    },
                },
            },
        },
    })
}

fn hocuspocus() -> Value {
    json!({
        "address": "/hocuspocus",
        "title": "Many documents, Hocuspocus protocol",
        "description": "For an unmodified Hocuspocus provider. Refusals are told in band; the socket stays open.",
        "servers": [{ "$ref": "#/servers/local" }],
        "messages": { "hocuspocus": { "$ref": "#/components/messages/hocuspocus" } },
        "bindings": { "ws": { "method": "GET" } },
    })
}

/// For each channel what the hub receives and what it sends.
fn operations() -> Map<String, Value> {
    let operation = |action: &str, channel: &str, message: &str, summary: &str| {
        json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
            "summary": summary,
        })
    };
    [
        (
            "receiveFrame",
            "receive",
            "session",
            "clientFrame",
            "A request of a client; one with an id gets one reply.",
        ),
        (
            "sendFrame",
            "send",
            "session",
            "serverFrame",
            "A reply, or something that happened.",
        ),
        (
            "receiveSync",
            "receive",
            "collab",
            "ySync",
            "State vector, update or awareness of a client.",
        ),
        (
            "sendSync",
            "send",
            "collab",
            "ySync",
            "State vector, update or awareness of the others.",
        ),
        (
            "receiveHocuspocus",
            "receive",
            "hocuspocus",
            "hocuspocus",
            "A message about one document, or a bare ping.",
        ),
        (
            "sendHocuspocus",
            "send",
            "hocuspocus",
            "hocuspocus",
            "A message about one document, or a bare pong.",
        ),
    ]
    .into_iter()
    .map(|(name, action, channel, message, summary)| {
        (
            name.to_owned(),
            operation(action, channel, message, summary),
        )
    })
    .collect()
}

fn messages() -> Value {
    json!({
        "clientFrame": {
            "title": "Frame of a client",
            "contentType": "application/json",
            "payload": { "$ref": "#/components/schemas/ClientFrame" },
        },
        "serverFrame": {
            "title": "Frame of the hub",
            "contentType": "application/json",
            "payload": { "$ref": "#/components/schemas/ServerFrame" },
        },
        "ySync": {
            "title": "y-websocket message",
            "contentType": "application/octet-stream",
            "payload": {
                "type": "string",
                "format": "binary",
                "description": "lib0: `00 00 buf(stateVector)` Step1; `00 01 buf(update)` Step2; `00 02 buf(update)` Update; `01 buf(awareness)`; `02 00 str(reason)` permission denied, hub to client; `03` query awareness. One message per WebSocket message.",
            },
        },
        "hocuspocus": {
            "title": "Hocuspocus message",
            "contentType": "application/octet-stream",
            "payload": {
                "type": "string",
                "format": "binary",
                "description": "lib0: `str(address) varUint(type) payload`. Types: 0 Sync; 1 Awareness; 2 Auth; 3 QueryAwareness; 5 Stateless; 7 Close; 8 SyncStatus, hub to client. The single bytes `09` and `0A` are Ping and Pong.",
            },
        },
    })
}

/// What the document can say only in words: both tables of codes.
fn description() -> String {
    let mut text = String::from(
        "The real-time hub of a collaborative code IDE.\n\n## Close codes\n\n| code | name | reconnect | meaning |\n|---|---|---|---|\n",
    );
    for code in CloseCode::ALL {
        let again = if code.should_reconnect() { "yes" } else { "no" };
        text += &format!(
            "| {} | {code:?} | {again} | {} |\n",
            code.code(),
            code.meaning()
        );
    }
    text += "\n## Error codes\n\n| code | HTTP | temporary | meaning |\n|---|---|---|---|\n";
    for code in ErrorCode::ALL {
        let temporary = if code.is_temporary() { "yes" } else { "no" };
        text += &format!(
            "| {} | {} | {temporary} | {} |\n",
            code.as_str(),
            code.http_status(),
            code.meaning()
        );
    }
    text
}

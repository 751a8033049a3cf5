//! The forwarder against a real HTTP server that answers in every way that a hub may.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::post;

use super::*;

async fn answer(request: Request) -> Answer {
    let headers = request.headers().clone();
    let session = headers.get(SESSION).is_some_and(|id| id == "s-1");
    let body = axum::body::to_bytes(request.into_body(), MESSAGE).await;
    let message: Value = serde_json::from_slice(&body.unwrap()).unwrap();
    let json = |value: &str| ([(CONTENT_TYPE, "application/json")], value.to_owned());
    match message["method"].as_str().unwrap() {
        "initialize" => {
            let said =
                "{\n\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-11-25\"}}";
            ([(SESSION, "s-1")], json(said)).into_response()
        }
        "stream" => {
            let said = ": hello\n\ndata: {\"a\":1}\r\n\r\nid: 7\ndata: {\"b\":\ndata: 2}\n\n";
            ([(CONTENT_TYPE, "text/event-stream")], said.to_owned()).into_response()
        }
        "refused" => {
            let problem = json("{\"detail\":\"no such token\"}");
            (StatusCode::UNAUTHORIZED, problem).into_response()
        }
        "seen" => {
            let version = headers.get(VERSION).is_some_and(|it| it == "2025-11-25");
            json(&json!({ "seen": session && version }).to_string()).into_response()
        }
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

async fn said(lines: &str) -> Vec<Value> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let routes = Router::new().route("/mcp", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let hub = Hub::new(&url, Token::Given("t".into())).unwrap();
    let (output, mut read) = tokio::io::duplex(1 << 20);
    serve(Arc::new(hub), lines.as_bytes(), output)
        .await
        .unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[tokio::test]
async fn messages_go_both_ways() {
    let all = said(
        "{\"id\":1,\"method\":\"initialize\"}\n{\"method\":\"notifications/initialized\"}\n\n{\"id\":2,\"method\":\"seen\"}",
    )
    .await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(all[1]["seen"], true);
}

#[tokio::test]
async fn streams_are_read() {
    let all = said("{\"id\":1,\"method\":\"stream\"}\n").await;
    assert_eq!(all, [json!({ "a": 1 }), json!({ "b": 2 })]);
}

#[tokio::test]
async fn refusals_answer_whoever_waits() {
    let all = said("no json\n{\"id\":\"x\",\"method\":\"refused\"}\n").await;
    assert_eq!(all[0]["error"]["code"], PARSE_ERROR);
    assert_eq!(all[1]["id"], "x");
    let words = all[1]["error"]["message"].as_str().unwrap();
    assert!(words.contains("no such token"), "{words}");
}

#[tokio::test]
async fn a_hub_that_is_away_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let hub = Hub::new(&url, Token::Given("t".into())).unwrap();
    let (output, mut read) = tokio::io::duplex(1 << 16);
    let line = &b"{\"id\":1,\"method\":\"tools/list\"}"[..];
    serve(Arc::new(hub), line, output).await.unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("can't be reached"), "{text}");
    assert!(Hub::new("ftp://x", Token::Given("t".into())).is_err());
}
